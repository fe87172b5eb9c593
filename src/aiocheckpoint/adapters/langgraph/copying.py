"""Copying a thread to another, checkpoint by checkpoint, in their order."""

from __future__ import annotations

from aiocheckpoint import BlobStore, SessionId
from aiocheckpoint.adapters.langgraph.listing import blobs_of, sessions
from aiocheckpoint.adapters.langgraph.reading import PAGE
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, session_of


async def copy_thread(store: BlobStore[ThreadRecord], source: str, target: str) -> None:
    """Copy all checkpoints and writes of a thread, in all namespaces, keeping ids."""
    async for session_id in sessions(store, {"thread_id": source}):
        await _copy_session(store, session_id, target)


async def _copy_session(store: BlobStore[ThreadRecord], session_id: SessionId, target: str) -> None:
    ids = (await store.read(session_id, lambda reader: reader.saved_ids()))[::-1]
    for start in range(0, len(ids), PAGE):
        for record in await store.load_many(session_id, ids[start : start + PAGE]):
            await copy_record(store, record, target)


async def copy_record(store: BlobStore[ThreadRecord], record: ThreadRecord, target: str) -> None:
    """Store a record of one thread in another."""
    blobs = await blobs_of(store, record.session_id, record.blob_digests)
    record.thread_id = target
    record.session_id = session_of(target, record.checkpoint_ns)
    await store.save(record, blobs=blobs)
