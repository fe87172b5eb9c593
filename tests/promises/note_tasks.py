"""What a worker can be told to do with records that refer to a blob, in many sessions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

from aiocheckpoint import AsyncCheckpointWriter
from tests.promises.records import Note, by_digest, note

ResultT = TypeVar("ResultT")


class NoteCall(NamedTuple):
    """
    A change of a session of notes.

    Attributes:
        kind: `"save"`, `"delete"` or `"drop"`.
        checkpoint_id: of which note.
        has_blob: whether what is saved refers to the blob.
    """

    kind: str
    checkpoint_id: str = ""
    has_blob: bool = False


_BLOB = b"what notes refer to " * 200


def _note(session_id: str, call: NoteCall) -> Note:
    return note(session_id, call.checkpoint_id, *([_BLOB] if call.has_blob else []))


async def act_on_notes(
    writer: AsyncCheckpointWriter[Note], changes: list[tuple[str, tuple[NoteCall, ...]]]
) -> None:
    """Make changes of sessions, those of one session one after the other."""

    async def act(session_id: str, calls: tuple[NoteCall, ...]) -> None:
        for call in calls:
            match call.kind:
                case "save":
                    blobs = by_digest(_BLOB) if call.has_blob else {}
                    await writer.save(_note(session_id, call), blobs=blobs)
                case "delete":
                    await writer.delete(session_id, call.checkpoint_id)
                case _:
                    await writer.delete_session(session_id)

    await asyncio.gather(*(act(session_id, calls) for session_id, calls in changes))


async def look_at_notes(
    writer: AsyncCheckpointWriter[Note], session_ids: list[str]
) -> list[dict[str, bool] | str]:
    """Return, for each session, by id whether the note has the blob, or what went wrong."""

    async def look(session_id: str) -> dict[str, bool]:
        seen = {}
        for meta in await writer.list(session_id):
            found = await writer.load(session_id, meta.checkpoint_id)
            assert found is not None, f"{meta.checkpoint_id} is listed and does not load"
            blobs = await writer.load_blobs(session_id, found.blob_digests)
            assert blobs in ({}, by_digest(_BLOB)), "the blob is not what was saved"
            seen[meta.checkpoint_id] = bool(blobs)
        return seen

    looks = [await _result_or_error(look(session_id)) for session_id in session_ids]
    return [look if isinstance(look, dict) else f"{type(look).__name__}: {look}" for look in looks]


async def _result_or_error(call: Awaitable[ResultT]) -> ResultT | Exception:
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - told with what it was about
        return error
