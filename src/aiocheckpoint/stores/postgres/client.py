"""What one event loop has of a store: connections, the queue of changes, what is going on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, TypeVar

from aiocheckpoint.kit import RecordKit, RecordT, result_of
from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres.bodies import Bodies
from aiocheckpoint.stores.postgres.commits import Commits
from aiocheckpoint.stores.postgres.health import Health
from aiocheckpoint.stores.postgres.identity import Identity
from aiocheckpoint.stores.postgres.options import Options
from aiocheckpoint.stores.postgres.reads import Reads
from aiocheckpoint.stores.postgres.server import Server
from aiocheckpoint.stores.postgres.sessions import Reading
from aiocheckpoint.stores.postgres.updates import Updates

ResultT = TypeVar("ResultT")
ValueT = TypeVar("ValueT")

_ENDING_SECONDS = 5.0


class Client(Generic[RecordT]):
    """
    A store, as one event loop uses it.

    Args:
        source: a URL, or a pool of the application's.
        options: how to use the server.
        kit: what bodies are.
        max_checkpoints: how many to keep in a session; None for all.
        identity: of the schema, which must be there; None where it need not.
        was_connected: as of `Server`.

    Attributes:
        loop: the event loop.
        server: its connections.
        commits: the queue of changes.
        reads: reads outside of updates.
        updates: updates.
        health: `check` and `recover`.
    """

    def __init__(
        self,
        source: Any,
        options: Options,
        kit: RecordKit[RecordT],
        max_checkpoints: int | None,
        identity: Identity | None,
        was_connected: threading.Event,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = Server(source, options, identity, was_connected)
        bodies = Bodies(compressed=options.compressed)
        self.commits = Commits(self.server, bodies, max_checkpoints)
        self.reads: Reads[RecordT] = Reads(self.server, kit, bodies)
        self.updates: Updates[RecordT] = Updates(self.server, kit, self.commits)
        self.health = Health(self.server, kit, self.reads)
        self._calls = _GoingOn(self)
        self._updates = _GoingOn(self)
        self._is_closed = False
        self._keeper = asyncio.ensure_future(self._close_with_the_loop())

    async def _close_with_the_loop(self) -> None:
        """Let go of the connections when the loop ends, which cancels whatever goes on."""
        try:
            await asyncio.Event().wait()
        finally:
            if not self._is_closed:
                await self._end_with_the_loop()

    async def _end_with_the_loop(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECONDS):
                await self._updates.ended()
                await self._calls.ended()
                await self.commits.drained()
        self.server.terminate()

    def let_go(self) -> None:
        """Let go of the connections, soon; from any thread, of a loop that may have ended."""
        with contextlib.suppress(RuntimeError):  # it has ended, and they with it
            self.loop.call_soon_threadsafe(self._keeper.cancel)

    def call(self) -> AbstractContextManager[Client[RecordT]]:
        """Note that a call is going on in the block, which `aclose` waits for."""
        return self._calls

    def update(self) -> AbstractContextManager[Client[RecordT]]:
        """Note an update, whose `work` is the caller's and may never end."""
        return self._updates

    async def read(
        self, session_id: SessionId, work: Callable[[Reading[RecordT]], Awaitable[ResultT]]
    ) -> ResultT:
        """Do several reads of a session, each on any connection."""
        return await result_of(work, Reading(session_id, self.reads))

    @contextlib.asynccontextmanager
    async def entered(self, block: AbstractAsyncContextManager[ResultT]) -> AsyncIterator[ResultT]:
        """Enter a block as a call; what runs in it is the caller's, and not waited for."""
        async with contextlib.AsyncExitStack() as stack:
            with self.call():
                value = await stack.enter_async_context(block)
            yield value

    async def exists(self) -> bool:
        """Tell whether there is a schema."""
        with self.call():
            return await self.health.exists()

    def marked(self) -> AbstractAsyncContextManager[str]:
        """Leave a mark while the block runs."""
        return self.entered(self.health.marked())

    async def has_mark(self, mark: str) -> bool:
        """Tell whether a mark is there."""
        with self.call():
            return await self.health.has_mark(mark)

    async def aclose(self) -> None:
        """
        Wait for the calls that go on, and let go of the connections.

        Updates are waited for as long as for a lock; those that have not ended then have failed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.server.options.lock_timeout_seconds):
                await self._updates.ended()
        await self._calls.ended()
        await self.commits.drained()
        await self.server.aclose()
        self._is_closed = True
        self._keeper.cancel()
        await asyncio.wait([self._keeper])


class _GoingOn(Generic[ValueT]):
    """
    Counts the blocks that are going on, for whoever waits for their end.

    Args:
        value: what they are given.
    """

    def __init__(self, value: ValueT) -> None:
        self._value = value
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> ValueT:
        self._count += 1
        self._none.clear()
        return self._value

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def ended(self) -> None:
        """Wait until there is none."""
        await self._none.wait()
