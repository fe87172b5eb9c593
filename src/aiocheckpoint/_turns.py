"""The order of the calls on a session within a process: over tasks, event loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextvars import ContextVar
from typing import Any

from aiocheckpoint._patience import Patience
from aiocheckpoint.errors import NestedCallError, SessionOwnedError, StoreBusyError
from aiocheckpoint.models import SessionId


class _Caller:
    """A call that waits, or goes on, for one lock or for several."""

    def __init__(self, keys: Collection[str], *, is_exclusive: bool) -> None:
        self.keys = keys
        self.is_exclusive = is_exclusive
        self.missing = len(keys)
        self.is_momentary = False

    def grant(self) -> None:
        """
        Take notice that all locks are held.

        Raises:
            RuntimeError: nobody is there any more to give them back.
        """


class _Waiter(_Caller):
    """One that waits on its own event loop, if it has to."""

    def __init__(self, keys: Collection[str], *, is_exclusive: bool) -> None:
        super().__init__(keys, is_exclusive=is_exclusive)
        self._future: asyncio.Future[None] | None = None

    def future(self) -> asyncio.Future[None]:
        """Return what is done when it is granted; for one that is not yet."""
        self._future = asyncio.get_running_loop().create_future()
        return self._future

    def grant(self) -> None:
        """Wake it, if it waits. Of a loop that was closed nobody comes, and nobody gives back."""
        if self._future is not None:
            self._future.get_loop().call_soon_threadsafe(_settle, self._future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Deferred(_Caller):
    """Something to be called when it has its turn, by whichever thread comes by; it holds none."""

    def __init__(self, key: str, call: Callable[[], None]) -> None:
        super().__init__((key,), is_exclusive=False)
        self.is_momentary = True
        self.grant = call  # type: ignore[method-assign]  # it is what is to be done


class _Turn:
    """Who is in, and who waits, the one that came first first."""

    def __init__(self) -> None:
        self.waiting: deque[_Caller] = deque()
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
        """Go out."""
        if is_exclusive:
            self.is_exclusive = False
        else:
            self.shared -= 1


class Turns:
    """
    A lock for each key, first come, first served; over tasks, event loops and threads.

    Those that share go in together, one that is exclusive goes in alone. Who wants several locks
    waits for all of them from the same moment, so that nobody can wait for each other.
    """

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}
        self._mutex = threading.RLock()

    def is_free(self, key: str) -> bool:
        """Tell whether nobody holds a lock, or waits for it."""
        return key not in self._turns

    async def take(
        self,
        keys: str | Collection[str],
        *,
        is_exclusive: bool = True,
        timeout_seconds: float | None = None,
    ) -> bool:
        """
        Wait until it is one's turn; without a suspension if it is.

        Args:
            keys: of the lock, or of several, which are taken together.
            is_exclusive: whether to go in alone.
            timeout_seconds: how long to wait; None for as long as it takes.

        Returns:
            False when it took too long; else call `give`.
        """
        waiter = _Waiter(_as_keys(keys), is_exclusive=is_exclusive)
        with self._mutex:
            self._line_up(waiter)
            if not waiter.missing:
                return True
            if timeout_seconds == 0:
                self._withdraw(waiter)
                return False
            granted = waiter.future()
        try:
            async with asyncio.timeout(timeout_seconds):
                await granted
        except BaseException as error:
            with self._mutex:
                self._withdraw(waiter)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def call(self, key: str, function: Callable[[], None]) -> Callable[[], bool] | None:
        """
        Call a function at once, or when all have given back who came before.

        Args:
            key: of the lock, which nobody holds afterwards.
            function: called by any thread; it must not raise.

        Returns:
            what tells whether it was called; None where it was at once.
        """
        if key not in self._turns:
            function()
            return None
        caller = _Deferred(key, function)
        with self._mutex:
            self._line_up(caller)
        return lambda: not caller.missing

    def give(self, keys: str | Collection[str], *, is_exclusive: bool = True) -> None:
        """Let the next ones in."""
        with self._mutex:
            for key in _as_keys(keys):
                self._turns[key].leave(is_exclusive=is_exclusive)
                self._wake(key)

    async def settle(self, timeout_seconds: float) -> None:
        """Wait, but not for ever, until all that hold a lock or wait for one have given it back."""
        with self._mutex:
            keys = [*self._turns]
        if keys and await self.take(keys, timeout_seconds=timeout_seconds):
            self.give(keys)

    def _line_up(self, caller: _Caller) -> None:
        for key in caller.keys:
            self._turns.setdefault(key, _Turn()).waiting.append(caller)
        for key in caller.keys:
            self._wake(key)

    def _withdraw(self, caller: _Caller) -> None:
        for key in caller.keys:
            turn = self._turns[key]
            if caller in turn.waiting:
                turn.waiting.remove(caller)
            else:
                turn.leave(is_exclusive=caller.is_exclusive)
            self._wake(key)

    def _wake(self, key: str) -> None:
        """Let in whose turn it is."""
        turn = self._turns.get(key)
        while turn and turn.waiting and turn.enter(is_exclusive=turn.waiting[0].is_exclusive):
            caller = turn.waiting.popleft()
            caller.missing -= 1
            if caller.missing:
                continue
            try:
                caller.grant()
            except RuntimeError:  # its loop was closed
                self._withdraw(caller)
            else:
                if caller.is_momentary:
                    turn.leave(is_exclusive=False)
        if turn and turn.is_free:
            self._turns.pop(key, None)


def _as_keys(keys: str | Collection[str]) -> Collection[str]:
    return (keys,) if isinstance(keys, str) else keys


class _Running:
    """An update that goes on, as the calls that its work makes see it."""

    def __init__(self, turns: SessionTurns, session_ids: frozenset[SessionId]) -> None:
        self.turns: SessionTurns | None = turns
        self.session_ids = session_ids


_running: ContextVar[tuple[_Running, ...]] = ContextVar("running updates", default=())


class SessionTurns:
    """
    What `update` and `own` promise within a process, for a store to build upon.

    Updates of a session run one after the other, in the order of the calls; other changes that are
    called meanwhile wait. Changes that no update holds up go in side by side: their order is the
    store's affair. The work of an update may change nothing but by its transaction, whatever the
    session: two updates could wait for each other. Nor may it read its session otherwise.

    What `work` calls is known by its context, which tasks, `asyncio.to_thread` and
    `run_coroutine_threadsafe` inherit. A plain thread does not: its call waits for the update as
    any other, and so not for ever.

    Args:
        timeout_seconds: how long a call waits for updates that were called before.
        beside: the turns of another client of the same storage, to line up with.
    """

    def __init__(
        self, timeout_seconds: float = 60.0, *, beside: SessionTurns | None = None
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._turns: Turns = Turns() if beside is None else beside._turns  # noqa: SLF001
        self._owners: Turns = Turns() if beside is None else beside._owners  # noqa: SLF001
        self._owning: dict[SessionId, weakref.ref[asyncio.Task[Any]]] = {}

    def require_outside(self, session_id: SessionId, operation: str) -> None:
        """
        Refuse a read of its own session that the work of an update makes beside its transaction.

        Raises:
            NestedCallError: it is one.
        """
        for running in _running.get():
            if running.turns is self and session_id in running.session_ids:
                raise NestedCallError(session_id, operation)

    def require_no_update(self, session_id: SessionId | None, operation: str) -> None:
        """
        Refuse a call made by the work of an update, for whatever session.

        Args:
            session_id: the session; None for a call about all.
            operation: the method that was called, for the error.

        Raises:
            NestedCallError: it is.
        """
        for running in _running.get():
            if running.turns is not None and running.turns._turns is self._turns:  # noqa: SLF001
                raise NestedCallError(session_id, operation)

    def call(
        self, session_id: SessionId, operation: str, function: Callable[[], None]
    ) -> Callable[[], StoreBusyError | None] | None:
        """
        Begin a change, at once or when the updates have ended that were called before.

        Args:
            session_id: the session.
            operation: the method that was called, for the error.
            function: begins it; called by any thread, and must not raise.

        Returns:
            what tells why it has not begun yet, None when it has; or None where it has at once.

        Raises:
            NestedCallError: the work of an update calls it.
        """
        self.require_no_update(session_id, operation)
        has_begun = self._turns.call(session_id, function)
        if has_begun is None:
            return None
        return lambda: None if has_begun() else self._busy(session_id)

    def _busy(self, session_id: SessionId) -> StoreBusyError:
        return StoreBusyError(f"session {session_id!r}", self._timeout_seconds)

    @contextlib.asynccontextmanager
    async def change(self, session_id: SessionId, operation: str) -> AsyncIterator[None]:
        """
        Hold a session's updates up while a change is made.

        Args:
            session_id: the session.
            operation: the method that was called, for the error.

        Raises:
            NestedCallError: the work of an update calls it.
            StoreBusyError: updates that were called before go on for `timeout_seconds`.
        """
        self.require_no_update(session_id, operation)
        seconds = self._timeout_seconds
        if not await self._turns.take(session_id, is_exclusive=False, timeout_seconds=seconds):
            raise self._busy(session_id)
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
            NestedCallError: the work of an update calls it.
            StoreBusyError: updates that were called before go on for `timeout_seconds`.
        """
        wanted = frozenset(session_ids)
        for session_id in wanted or (None,):
            self.require_no_update(session_id, operation)
        if not await self._turns.take(wanted, timeout_seconds=self._timeout_seconds):
            raise self._busy(min(wanted))
        running = _Running(self, wanted)
        token = _running.set((*_running.get(), running))
        try:
            yield
        finally:
            running.turns = None  # for tasks that the work has left behind
            self._turns.give(wanted)
            with contextlib.suppress(ValueError):  # collected, of a loop that ended: elsewhere
                _running.reset(token)

    @contextlib.asynccontextmanager
    async def own(
        self,
        session_id: SessionId,
        timeout_seconds: float,
        shortest_pause_seconds: float = 0.01,
        longest_pause_seconds: float = 0.5,
    ) -> AsyncIterator[Patience]:
        """
        Be the only one of the process who owns a session, or is about to.

        Args:
            session_id: the session.
            timeout_seconds: how long to wait for another owner; 0: not at all.
            shortest_pause_seconds: the first pause of the patience.
            longest_pause_seconds: the longest one.

        Yields:
            the patience that is left for owners in other processes.

        Raises:
            NestedCallError: the work of an update calls it; or the task that owns the session
                already would wait for itself.
            SessionOwnedError: somebody else owns it for `timeout_seconds`.
        """
        self.require_no_update(session_id, "own")
        task = asyncio.current_task()
        owning = self._owning.get(session_id)
        if timeout_seconds and owning is not None and task is not None and owning() is task:
            raise NestedCallError(session_id, "own", within="own")
        patience = Patience(timeout_seconds, shortest_pause_seconds, longest_pause_seconds)
        if not await self._owners.take(session_id, timeout_seconds=timeout_seconds):
            raise SessionOwnedError(session_id, timeout_seconds)
        try:
            if task is not None:
                self._owning[session_id] = weakref.ref(task)
            yield patience
        finally:
            self._owning.pop(session_id, None)
            self._owners.give(session_id)

    async def settle(self, timeout_seconds: float) -> None:
        """Wait, not for ever, until all updates and changes have ended that were called before."""
        await self._turns.settle(timeout_seconds)
