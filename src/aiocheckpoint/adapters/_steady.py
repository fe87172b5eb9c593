"""Reads of a record and of the blobs that it leads to, beside others who change them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from aiocheckpoint import BlobStore, CheckpointMeta, MissingBlobError, SessionId, SessionReader

ResultT = TypeVar("ResultT")


class _Missing(NamedTuple):
    """What a read has missed, and what the session had then."""

    error: MissingBlobError
    metas: tuple[CheckpointMeta, ...]


async def read_steadily(
    store: BlobStore[Any],
    session_id: SessionId,
    work: Callable[[SessionReader[Any]], Awaitable[ResultT]],
) -> ResultT:
    """
    Do `read` of a store, again where others have removed a blob of what was read.

    Args:
        store: which.
        session_id: of the session.
        work: as of `read`: it may run in a thread, and awaits the reads alone.

    Raises:
        MissingBlobError: a blob is gone, though nobody has changed the session.
        CheckpointError: what `read` of the store raises.
    """
    seen: tuple[CheckpointMeta, ...] | None = None

    async def tried(session: SessionReader[Any]) -> tuple[ResultT] | _Missing:
        try:
            return (await work(session),)
        except MissingBlobError as error:
            return _Missing(error, await session.list())

    while isinstance(found := await store.read(session_id, tried), _Missing):
        if found.metas == seen:
            raise found.error
        seen = found.metas
    return found[0]
