"""The order of the calls on a session within a process: over tasks, event loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar

from aiocheckpoint.errors import NestedCallError
from aiocheckpoint.models import SessionId


class _Waiter:
    """A call that waits; on its own event loop."""

    def __init__(self, *, is_exclusive: bool) -> None:
        self.is_exclusive = is_exclusive
        self.is_granted = False
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def grant(self) -> None:
        """Wake it. Of a loop that was closed nobody comes, and nobody gives back."""
        self.is_granted = True
        self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Turn:
    """Who is in, and who waits, the one that came first first."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiter] = deque()
        self.shared = 0
        self.is_exclusive = False

    @property
    def is_free(self) -> bool:
        return not (self.waiting or self.shared or self.is_exclusive)

    def enter(self, *, is_exclusive: bool) -> bool:
        """Go in, if that is possible by now."""
        if self.is_exclusive or (is_exclusive and self.shared):
            return False
        self.is_exclusive = is_exclusive
        self.shared += not is_exclusive
        return True

    def leave(self, *, is_exclusive: bool) -> None:
        if is_exclusive:
            self.is_exclusive = False
        else:
            self.shared -= 1
        self.wake()

    def wake(self) -> None:
        """Let in whose turn it is."""
        while self.waiting and self.enter(is_exclusive=self.waiting[0].is_exclusive):
            waiter = self.waiting.popleft()
            try:
                waiter.grant()
            except RuntimeError:  # its loop was closed
                self.leave(is_exclusive=waiter.is_exclusive)


class Turns:
    """
    A lock for each key, first come, first served; over tasks, event loops and threads.

    Those that share go in together, one that is exclusive goes in alone.
    """

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._mutex = threading.Lock()

    async def take(
        self, key: str, *, is_exclusive: bool = True, timeout_seconds: float | None = None
    ) -> bool:
        """
        Wait until it is one's turn; without a suspension if it is.

        Args:
            key: of the lock.
            is_exclusive: whether to go in alone.
            timeout_seconds: how long to wait; None for as long as it takes.

        Returns:
            False when it took too long; else call `give`.
        """
        with self._mutex:
            turn = self._turns.setdefault(key, _Turn())
            if not turn.waiting and turn.enter(is_exclusive=is_exclusive):
                return True
            if timeout_seconds == 0:
                return False
            waiter = _Waiter(is_exclusive=is_exclusive)
            turn.waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter.future
        except BaseException as error:
            self._withdraw(key, turn, waiter)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def _withdraw(self, key: str, turn: _Turn, waiter: _Waiter) -> None:
        with self._mutex:
            if waiter.is_granted:
                turn.leave(is_exclusive=waiter.is_exclusive)
            else:
                turn.waiting.remove(waiter)
                turn.wake()  # it may have been all that held others up
            self._forget(key, turn)

    def give(self, key: str, *, is_exclusive: bool = True) -> None:
        """Let the next ones in."""
        with self._mutex:
            turn = self._turns[key]
            turn.leave(is_exclusive=is_exclusive)
            self._forget(key, turn)

    def _forget(self, key: str, turn: _Turn) -> None:
        if turn.is_free:
            self._turns.pop(key, None)


class _Running:
    """An update that goes on, as the calls that its work makes see it."""

    def __init__(self, turns: SessionTurns, session_ids: frozenset[SessionId]) -> None:
        self.turns: SessionTurns | None = turns
        self.session_ids = session_ids


_running: ContextVar[tuple[_Running, ...]] = ContextVar("running updates", default=())


class SessionTurns:
    """
    What `update` promises within a process, for a store to build upon.

    Updates of a session run one after the other, in the order of the calls; other changes that are
    called meanwhile wait. Changes that no update holds up go in side by side: their order is the
    store's affair.
    """

    def __init__(self) -> None:
        self._turns = Turns()

    def require_outside(self, session_id: SessionId, operation: str) -> None:
        """
        Refuse a call made by the work of an update for its own session.

        Raises:
            NestedCallError: it is.
        """
        for running in _running.get():
            if running.turns is self and session_id in running.session_ids:
                raise NestedCallError(session_id, operation)

    @contextlib.asynccontextmanager
    async def change(self, session_id: SessionId, operation: str) -> AsyncIterator[None]:
        """
        Hold a session's updates up while a change is made.

        Args:
            session_id: the session.
            operation: the method that was called, for the error.

        Raises:
            NestedCallError: the work of an update calls it for its own session.
        """
        self.require_outside(session_id, operation)
        await self._turns.take(session_id, is_exclusive=False)
        try:
            yield
        finally:
            self._turns.give(session_id, is_exclusive=False)

    @contextlib.asynccontextmanager
    async def update(
        self, session_ids: Iterable[SessionId], operation: str = "update"
    ) -> AsyncIterator[None]:
        """
        Hold everything else up that changes sessions, while an update reads, decides and writes.

        Args:
            session_ids: the sessions.
            operation: the method that was called, for the error.

        Raises:
            NestedCallError: the work of an update calls it for its own session.
        """
        wanted = sorted(set(session_ids))  # in one order, or two updates would wait for each other
        for session_id in wanted:
            self.require_outside(session_id, operation)
        running = _Running(self, frozenset(wanted))
        token = None
        taken: list[SessionId] = []
        try:
            for session_id in wanted:
                await self._turns.take(session_id)
                taken.append(session_id)
            token = _running.set((*_running.get(), running))
            yield
        finally:
            running.turns = None  # for tasks that the work has left behind
            if token is not None:
                _running.reset(token)
            for session_id in taken:
                self._turns.give(session_id)
