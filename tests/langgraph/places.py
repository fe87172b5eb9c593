"""Where savers keep threads besides a directory of the test: one place for each kind of store."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aiocheckpoint import BlobStore, open_store
from aiocheckpoint.adapters.langgraph import ThreadRecord
from aiocheckpoint.testing import MemoryStore
from tests.stores.postgres.server import PostgresServer, reason_to_skip

SERVERS = ("bucket", "ceph", "postgresql")
_numbers = itertools.count()


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
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ENDPOINT_URL_S3", endpoint_url)
    patch.setenv("AWS_ACCESS_KEY_ID", "tkey")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "tsecret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return Place(f"s3://bucket/{os.getpid()}-{next(_numbers)}")


@contextmanager
def fake_bucket(patch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Start the tests' own server of a bucket."""
    from tests.stores.s3.fake_s3 import FakeS3

    patch.setattr("aiocheckpoint.stores.s3.bucket._LONGEST_PAUSE_SECONDS", 0.02)
    server = FakeS3().start()
    yield bucket(server.url, patch)
    server.stop()


@contextmanager
def ceph() -> Iterator[str]:
    """Start Ceph's gateway, and yield its URL."""
    from tests.stores.s3.ceph import Ceph, missing_programs

    if os.environ.get("AIOCHECKPOINT_CEPH") != "yes":
        pytest.skip("set AIOCHECKPOINT_CEPH=yes, as .ci/run does")
    if missing := missing_programs():
        pytest.skip(f"not installed: {' '.join(missing)}")
    server = Ceph().start()
    yield server.url
    server.stop()


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    parent = os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")  # in memory, if there is room
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir=parent))
    server = PostgresServer(directory, fsync="on")  # or the store warns of it
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
