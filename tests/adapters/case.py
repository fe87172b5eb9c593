"""What the tests of adapters need to know of one: how it is used, and where it keeps sessions."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest

from aiocheckpoint import BlobStore, CheckpointError, open_store
from aiocheckpoint.testing import MemoryStore

KINDS = ("directory", "text", "url", "open store", "memory", "postgresql", "bucket")
SERVERS = {"postgresql": "postgres_url", "bucket": "bucket_url"}

OddCall: TypeAlias = Callable[[], Awaitable[Any]]


class AdapterCase:
    """
    An adapter that is tested.

    A subclass says how its adapter is opened, how something is stored in one of its sessions, and
    what is there.
    """

    record_type: ClassVar[Any]
    """What the adapter stores; a union may stand here."""

    allows_retention: ClassVar[bool] = False
    """Whether a store with `max_checkpoints` may be given, since each record is a whole state."""

    @abstractmethod
    def opened(self, storage: Any) -> AbstractAsyncContextManager[Any]:
        """Return the adapter, or what the framework has in its place, on a storage."""

    @abstractmethod
    async def add(self, adapter: Any, session: str, text: str) -> None:
        """Store one more text in a session, by the framework's own call; make the session first."""

    @abstractmethod
    async def texts(self, adapter: Any, session: str) -> list[str]:
        """Return the texts of a session, oldest first, by the framework's own call; [] for none."""

    async def listed(self, adapter: Any) -> list[str]:
        """Return the sessions, by the framework's own call; [] where it has none."""
        return []

    async def give_up(self, root: Path, session: str) -> None:
        """Let go of a session that is damaged, in the way that the error advises."""
        async with self.opened(root) as adapter:
            await self.remove(adapter, session)

    async def remove(self, adapter: Any, session: str) -> None:
        """Remove a session, by the framework's own call where it has one."""
        raise NotImplementedError

    refusals: ClassVar[tuple[type[Exception], ...]] = (CheckpointError,)
    """By what odd arguments are refused: ours, and what the framework's own classes raise."""

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        """Yield calls with arguments that are none, each of which has to be refused."""
        yield from ()

    def stored_as(self, odd: Any) -> list[Any]:
        """Return what comes back of something that is no text, where that is not refused."""
        return [odd]

    def through_json(self, odd: Any) -> list[Any]:
        """Return what JSON makes of it, and of the rest its text."""
        listed = [*odd] if isinstance(odd, set) else odd
        return [json.loads(json.dumps(listed, default=str))]

    @pytest.fixture(name="kind", params=KINDS)
    def _kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(name="location")
    def _location(self, root: Path, kind: str, request: pytest.FixtureRequest) -> Any:
        """Return where the sessions are: a directory, or the URL of a server that was started."""
        server = SERVERS.get(kind)
        return root if server is None else request.getfixturevalue(server)

    @pytest.fixture(name="storage")
    async def _storage(self, location: Any, kind: str) -> AsyncIterator[Any]:
        match kind:
            case "text":
                yield str(location)
            case "url":
                yield location.as_uri()
            case "open store":
                store: BlobStore[Any] = open_store(location, record_type=self.record_type)
                async with store:
                    yield store
            case "memory":
                yield MemoryStore(self.record_type)
            case _:
                yield location
