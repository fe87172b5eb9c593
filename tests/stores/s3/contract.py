"""The whole contract of a store, on a server that a subclass gives."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, Protocol

import pytest

from aiocheckpoint import CheckpointData, CheckpointStore
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import (
    LargeValue,
)
from aiocheckpoint.testing.machine import StoreMachine
from tests.contract.whole import Blobs, Damage, Reopen, WholeContract

Open = Callable[..., S3Store[Any]]


class Server(Protocol):
    """A server with one bucket, whose objects a test may look at and change."""

    url: str

    def keys(self, part: str = "") -> list[str]:
        """Return the keys that hold a text, in order."""
        ...

    def read(self, key: str) -> bytes:
        """Return an object."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Put an object."""
        ...


class ServerMachine(StoreMachine):
    """Any calls in any order, against the model, on a server that a test gives."""

    server: ClassVar[Server]

    def __init__(self) -> None:
        self._place = f"s3://bucket/{secrets.token_hex(4)}"
        super().__init__()

    async def connect(self) -> CheckpointStore[CheckpointData]:
        """Return a store of this run's prefix."""
        store: CheckpointStore[CheckpointData] = S3Store(self._place, endpoint_url=self.server.url)
        return store


class ServerContract(WholeContract):
    """All parts, in a prefix for each test; a subclass gives the fixture `server`."""

    checkpoints_of_a_page = sessions_of_a_page = 100
    blobs_of_a_page = 20  # each is a request of its own, and no query tells of them in parts

    @pytest.fixture(name="opened")
    async def _opened(self, server: Server) -> AsyncIterator[Open]:
        made: list[S3Store[Any]] = []
        url = f"s3://bucket/{secrets.token_hex(4)}"

        def opened(record_type: type[Any] = CheckpointData, **options: Any) -> S3Store[Any]:
            options |= {"record_type": record_type, "endpoint_url": server.url}
            made.append(S3Store(url, **options))
            return made[-1]

        yield opened
        for store in made:
            await store.aclose()

    @pytest.fixture(name="reopen")
    def _reopen(self, opened: Open, request: pytest.FixtureRequest) -> Reopen:
        """Leave the store as it is, as a crash would, and take another one."""
        record_type = LargeValue if "blob_store" in request.fixturenames else CheckpointData

        async def reopen(store: S3Store[Any]) -> S3Store[Any]:
            return opened(record_type)

        return reopen

    @pytest.fixture(name="damage")
    def _damage(self, opened: Open, server: Server) -> Damage:
        async def damage(session_id: str, checkpoint_id: str) -> None:
            for meta in await opened().list(session_id):
                if meta.checkpoint_id == checkpoint_id:
                    key = meta.location.partition("#")[0].removeprefix("s3://bucket/")
                    _flip(server, key, b'"checkpoint_id":"%s"' % checkpoint_id.encode())

        return damage

    @pytest.fixture(name="damage_blob")
    def _damage_blob(self, blob_store: Blobs, server: Server) -> Damage:
        async def damage(session_id: str, digest: str) -> None:
            (meta, *_) = await blob_store.list(session_id)
            prefix, _, _ = meta.location.removeprefix("s3://bucket/").partition("/")
            begin = f"{prefix}/blobs/{session_id}/"
            (key,) = [key for key in server.keys(digest) if key.startswith(begin)]
            server.write(key, b"?" + server.read(key)[1:])

        return damage


def _flip(server: Server, key: str, part: bytes) -> None:
    data = server.read(key)
    assert data.count(part) == 1
    server.write(key, data.replace(part, part.replace(b'"checkpoint_id"', b'"checkpoint_ID"')))
