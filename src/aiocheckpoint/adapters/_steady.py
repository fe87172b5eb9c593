"""Reads of a record and of the blobs that it leads to, beside others who change them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from aiocheckpoint import (
    BlobStore,
    CheckpointCorruptError,
    CheckpointMeta,
    JournalCorruptError,
    SessionId,
    SessionReader,
    StorageError,
)
from aiocheckpoint.adapters._lists import session_names
from aiocheckpoint.kit import Reads, raise_all

_MOST_TRIES = 20  # beside others who change the session without a pause
ResultT = TypeVar("ResultT")


class _Missing(NamedTuple):
    """What a read has missed, and what the session had then."""

    error: CheckpointCorruptError
    metas: tuple[CheckpointMeta, ...]


async def read_steadily(
    store: Reads[Any],
    session_id: SessionId,
    work: Callable[[SessionReader[Any]], Awaitable[ResultT]],
) -> ResultT:
    """
    Do `read` of a store, again where others have removed something between two of its reads.

    Args:
        store: which.
        session_id: of the session.
        work: as of `read`: it may run in a thread, and awaits the reads alone.

    Raises:
        CheckpointCorruptError: what belongs together does not fit, or is damaged, though nobody has
            changed the session, or again and again; a `MissingBlobError` is one.
        CheckpointError: what `read` of the store raises.
    """
    seen: tuple[CheckpointMeta, ...] | None = None

    async def tried(session: SessionReader[Any]) -> tuple[ResultT] | _Missing:
        try:
            return (await work(session),)
        except CheckpointCorruptError as error:
            return _Missing(error, await session.list())

    tries = 0
    while True:
        found = await store.read(session_id, tried)
        if not isinstance(found, _Missing):
            return found[0]
        tries += 1
        if found.metas == seen or tries == _MOST_TRIES:
            raise found.error
        seen = found.metas


async def find_steadily(
    store: BlobStore[Any],
    prefix: str,
    work: Callable[[SessionReader[Any]], Awaitable[ResultT | None]],
) -> ResultT | None:
    """
    Do `read_steadily` of the sessions whose ids begin so, until one returns something.

    Args:
        store: which; by `find`, where it has that.
        prefix: of their ids.
        work: as of `read_steadily`.

    Raises:
        CheckpointError: what `read_steadily`, and `sessions` of the store, raise; where it is that
            a session cannot be looked into, once none of the others has returned something.
    """
    find = getattr(store, "find", None)
    if find is not None:
        with contextlib.suppress(CheckpointCorruptError, StorageError):  # looked at one by one
            found: ResultT | None = await find(work, prefix=prefix)
            return found
    names, refused = await session_names(store, prefix)
    for session_id in names:
        try:
            found = await read_steadily(store, session_id, work)
        except (JournalCorruptError, StorageError) as error:  # another one may have it
            refused.append(error)
        else:
            if found is not None:
                return found
    raise_all(refused)
    return None
