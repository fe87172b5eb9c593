"""Where savers keep threads besides a directory of the test: one place for each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from aiocheckpoint import BlobStore, open_store
from aiocheckpoint.adapters.langgraph import ThreadRecord
from aiocheckpoint.testing import MemoryStore
from tests.stores import locations

SERVERS = (*locations.SERVERS, "ceph")


class Place(NamedTuple):
    """
    A place that is empty at the beginning of a test.

    Attributes:
        url: of it; None in memory.
        memory: the store in memory.
    """

    url: str | None
    memory: MemoryStore[ThreadRecord] | None = None

    def storage(self) -> str | BlobStore[ThreadRecord]:
        """Return what a saver is given: a URL, or another client of the store in memory."""
        if self.url is None:
            return MemoryStore(ThreadRecord, beside=self.memory)
        return self.url

    async def checked(self) -> None:
        """See that the store is sound, and empty it."""
        storage = self.storage()
        store: BlobStore[ThreadRecord]
        if isinstance(storage, str):
            store = open_store(storage, record_type=ThreadRecord)
        else:
            store = storage
        async with store:
            assert await store.check() == ()
            async for session_id in store.sessions():
                await store.delete_session(session_id)


def memory() -> Place:
    """Return a place in memory."""
    return Place(None, MemoryStore(ThreadRecord))


def bucket(endpoint_url: str, patch: pytest.MonkeyPatch) -> Place:
    """Return a place in a bucket, whose server is named by the environment alone."""
    return Place(locations.bucket(endpoint_url, patch))


@contextmanager
def fake_bucket(patch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Start the tests' own server of a bucket."""
    with locations.fake_bucket(patch) as url:
        yield Place(url)
