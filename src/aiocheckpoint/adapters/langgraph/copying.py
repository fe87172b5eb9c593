"""Copying a thread to another, record by record, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from aiocheckpoint import BlobStore, CheckpointId, InvalidArgumentError, SessionId
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.listing import blobs_of, sessions
from aiocheckpoint.adapters.langgraph.reading import PAGE
from aiocheckpoint.adapters.langgraph.records import ThreadRecord


async def copy_thread(store: BlobStore[ThreadRecord], source: str, target: str) -> None:
    """
    Copy all checkpoints and writes of a thread, in all namespaces, keeping ids.

    Raises:
        InvalidArgumentError: the target is neither empty nor the first part of a copy.
        SessionChangedError: somebody has stored in the target meanwhile.
    """
    prefixes = records.thread_prefix(source), records.thread_prefix(target)
    names = [found async for found in sessions(store, {"thread_id": source})]
    copies = {prefixes[1] + name.removeprefix(prefixes[0]): name for name in names}
    if not copies:
        return
    for session_id in [found async for found in sessions(store, {"thread_id": target})]:
        if session_id not in copies and await _ids(store, session_id):
            raise _refused(source, target)
    parts = [await _part(store, name, target, copied) for copied, name in copies.items()]
    if None in parts:
        raise _refused(source, target)
    for part in filter(None, parts):
        await _copy(store, part, target)


def _refused(source: str, target: str) -> InvalidArgumentError:
    wanted = (
        f"the id of a thread that is empty, or the first part of a copy of {source!r}: it has what "
        "that has not, or in another order; delete it first if it may go"
    )
    return InvalidArgumentError("target_thread_id", target, wanted)


class _Part(NamedTuple):
    """
    A session, and what of it is still to be copied.

    Attributes:
        source_id: the session.
        last: what was copied last; None where nothing was.
        rest: the ids of the records that follow it.
    """

    source_id: SessionId
    last: CheckpointId | None
    rest: Sequence[CheckpointId]


async def _part(
    store: BlobStore[ThreadRecord], source_id: SessionId, target: str, target_id: SessionId
) -> _Part | None:
    """Return what is to be copied of a session; None if the target is no first part of it."""
    wanted, there = await _ids(store, source_id), await _ids(store, target_id)
    if there != wanted[: len(there)]:
        return None
    for start in range(0, len(there), PAGE):
        page = there[start : start + PAGE]
        copies = [_copied(record, target) for record in await store.load_many(source_id, page)]
        if copies != [*await store.load_many(target_id, page)]:
            return None
    return _Part(source_id, there[-1] if there else None, wanted[len(there) :])


async def _ids(store: BlobStore[ThreadRecord], session_id: SessionId) -> Sequence[CheckpointId]:
    """Return the ids of all records of a session, stored first first."""
    return (await store.read(session_id, lambda reader: reader.saved_ids()))[::-1]


async def _copy(store: BlobStore[ThreadRecord], part: _Part, target: str) -> None:
    last = part.last
    async for record in _records(store, part):
        blobs = await blobs_of(store, part.source_id, record.blob_digests)
        last = await store.save(_copied(record, target), blobs=blobs, expected=last)


async def _records(store: BlobStore[ThreadRecord], part: _Part) -> AsyncIterator[ThreadRecord]:
    for start in range(0, len(part.rest), PAGE):
        for record in await store.load_many(part.source_id, part.rest[start : start + PAGE]):
            yield record


def _copied(record: ThreadRecord, target: str) -> ThreadRecord:
    """Return a record of one thread as one of another."""
    record.thread_id = target
    record.session_id = records.session_of(target, record.checkpoint_ns)
    return record
