"""What one event loop has of a store: connections, the queue of changes, what is going on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Generic

from aiocheckpoint.kit import RecordKit, RecordT
from aiocheckpoint.stores.postgres.commits import Commits
from aiocheckpoint.stores.postgres.health import Health
from aiocheckpoint.stores.postgres.reads import Reads
from aiocheckpoint.stores.postgres.server import Options, Server
from aiocheckpoint.stores.postgres.updates import Updates

_ENDING_SECONDS = 5.0


class Client(Generic[RecordT]):
    """
    A store, as one event loop uses it.

    Args:
        source: a URL, or a pool of the application's.
        options: how to use the server.
        kit: what bodies are.
        max_checkpoints: how many to keep in a session; None for all.

    Attributes:
        loop: the event loop.
        server: its connections.
        commits: the queue of changes.
        reads: reads outside of updates.
        updates: updates.
        health: `check` and `recover`.
    """

    def __init__(
        self, source: Any, options: Options, kit: RecordKit[RecordT], max_checkpoints: int | None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server(source, options)
        self.commits = Commits(self.server, max_checkpoints)
        self.reads: Reads[RecordT] = Reads(self.server, kit)
        self.updates: Updates[RecordT] = Updates(self.server, kit, self.commits)
        self.health = Health(self.server, kit, self.reads)
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._keeper = asyncio.ensure_future(self._close_with_the_loop())

    async def _close_with_the_loop(self) -> None:
        """Let go of the connections when the loop ends, which cancels whatever goes on."""
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENDING_SECONDS):
                    await self._idle.wait()
                    await self.commits.drained()
            self.server.terminate()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Note that a call is going on, which `aclose` waits for."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def aclose(self) -> None:
        """Wait for the calls that go on, and let go of the connections."""
        await self._idle.wait()
        await self.commits.drained()
        await self.server.aclose()
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
