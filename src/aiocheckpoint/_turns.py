"""Whose turn it is on a session, first come, first served: over tasks, event loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from typing import Any

from aiocheckpoint._disk.files import monotonic_seconds
from aiocheckpoint._patience import Patience
from aiocheckpoint.errors import NestedCallError, SessionOwnedError, StoreBusyError
from aiocheckpoint.models import SessionId


class Place:
    """
    The place of a call in line for one lock or for several: it waits there, or holds them.

    Args:
        keys: of the locks.
        is_exclusive: whether it goes in alone.

    Attributes:
        missing: how many of the locks it does not hold yet.
    """

    def __init__(self, keys: Collection[str], *, is_exclusive: bool) -> None:
        self.keys = keys
        self.is_exclusive = is_exclusive
        self.is_momentary = False
        self.missing = len(keys)
        self.since = monotonic_seconds()  # in line; and from `grant` on, in

    def grant(self) -> None:
        """
        Take notice that all locks are held.

        Raises:
            RuntimeError: nobody is there any more to give them back.
        """


class _Waiter(Place):
    """One that waits on its own event loop, if it has to."""

    def __init__(self, keys: Collection[str], *, is_exclusive: bool) -> None:
        super().__init__(keys, is_exclusive=is_exclusive)
        self.granted: asyncio.Future[None] | None = None

    def grant(self) -> None:
        """Wake it, if it waits. Of a loop that was closed nobody comes, and nobody gives back."""
        if self.granted is not None:
            self.granted.get_loop().call_soon_threadsafe(_settle, self.granted)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Deferred(Place):
    """Something to be called when it has its turn, by whichever thread comes by; it holds none."""

    def __init__(self, key: str, call: Callable[[], None]) -> None:
        super().__init__((key,), is_exclusive=False)
        self.is_momentary = True
        self.grant = call  # type: ignore[method-assign]  # it is what is to be done


class _Line:
    """Who is in, and who waits, the one that came first first."""

    def __init__(self) -> None:
        self.waiting: deque[Place] = deque()
        self.inside: set[Place] = set()
        self._is_exclusive = False

    def enter(self, place: Place) -> bool:
        """Go in, if that is possible by now."""
        if self.inside and (self._is_exclusive or place.is_exclusive):
            return False
        self._is_exclusive = place.is_exclusive
        self.inside.add(place)
        return True


class Turns:
    """
    A lock for each session, first come, first served; over tasks, event loops and threads.

    Those that share go in together, one that is exclusive goes in alone. Who wants several locks
    waits for all of them from the same moment, so that nobody can wait for each other.

    Args:
        hold_timeout_seconds: how long one call may hold a lock while another waits for it; None
            for as long as it takes. However many come before it, a call waits while they move on.
    """

    def __init__(self, hold_timeout_seconds: float | None = None) -> None:
        self._hold_timeout_seconds = hold_timeout_seconds
        self._lines: dict[str, _Line] = {}
        self._mutex = threading.RLock()

    def is_free(self, key: str) -> bool:
        """Tell whether nobody holds a lock, or waits for it."""
        return key not in self._lines

    async def take(
        self,
        keys: str | Collection[str],
        *,
        is_exclusive: bool = True,
        timeout_seconds: float | None = None,
    ) -> Place | None:
        """
        Wait until it is one's turn; without a suspension if it is.

        Args:
            keys: of the lock, or of several, which are taken together.
            is_exclusive: whether to go in alone.
            timeout_seconds: how long to wait in all; None for as long as it takes.

        Returns:
            what to `give` back; None when it took too long.

        Raises:
            StoreBusyError: one that came before holds on for `hold_timeout_seconds`.
        """
        waiter = _Waiter(_as_keys(keys), is_exclusive=is_exclusive)
        deadline = None if timeout_seconds is None else waiter.since + timeout_seconds
        with self._mutex:
            self._line_up(waiter)
            if not waiter.missing:
                return waiter
            granted = waiter.granted = asyncio.get_running_loop().create_future()
        try:
            while waiter.missing:
                left_seconds = self._left_seconds(waiter, deadline)
                if left_seconds is not None and left_seconds <= 0:
                    break
                await asyncio.wait([granted], timeout=left_seconds)
        except BaseException:
            with self._mutex:
                self._withdraw(waiter)
            raise
        with self._mutex:
            if not waiter.missing:
                return waiter
            error = self.busy(waiter)
            self._withdraw(waiter)
        if error is not None:
            raise error
        return None

    def _left_seconds(self, place: Place, deadline: float | None) -> float | None:
        left = [] if deadline is None else [deadline - monotonic_seconds()]
        if self._hold_timeout_seconds is not None:
            left.append(self._hold_timeout_seconds - self._held_up(place)[0])
        return min(left, default=None)

    def busy(self, place: Place) -> StoreBusyError | None:
        """Return what a call is told when one that came before holds on for too long."""
        with self._mutex:
            if self._hold_timeout_seconds is None or not place.missing:
                return None
            seconds, key = self._held_up(place)
            if seconds < self._hold_timeout_seconds:
                return None
            waiting = len(self._lines[key].waiting)
        return StoreBusyError(f"session {key!r}", self._hold_timeout_seconds, waiting)

    def _held_up(self, place: Place) -> tuple[float, str]:
        """Return for how long one and the same call has held up another one, and in which line."""
        with self._mutex:
            since, key = min(self._before(place), default=(monotonic_seconds(), ""))
        return monotonic_seconds() - max(since, place.since), key

    def _before(self, place: Place) -> Iterator[tuple[float, str]]:
        """Yield since when those are in for whom a call waits, if by way of others that wait."""
        found, seen = [place], {place}
        while found:
            waiting = found.pop()
            for key in waiting.keys if waiting.missing else ():
                line = self._lines[key]
                inside = set[Place]() if waiting in line.inside else line.inside - seen
                seen |= inside
                found += [other for other in inside if other.missing]
                yield from ((other.since, key) for other in inside if not other.missing)

    def held(
        self, keys: str | Collection[str], *, is_exclusive: bool = True
    ) -> AbstractAsyncContextManager[None]:
        """
        Hold locks while the block runs.

        Raises:
            StoreBusyError: on entry: as `take`.
        """
        return _Held(self, keys, is_exclusive=is_exclusive)

    def call(self, key: str, function: Callable[[], None]) -> Place | None:
        """
        Call a function at once, or when all have given back who came before.

        Args:
            key: of the lock, which nobody holds afterwards.
            function: called by any thread; it must not raise.

        Returns:
            its place in line, to ask whether others are `busy`; None where it was called at once.
        """
        if key not in self._lines:
            function()
            return None
        place = _Deferred(key, function)
        with self._mutex:
            self._line_up(place)
        return place

    def give(self, place: Place) -> None:
        """Let the next ones in."""
        with self._mutex:
            self._withdraw(place)

    async def settle(self, timeout_seconds: float) -> None:
        """Wait, but not for ever, until all that hold a lock or wait for one have given it back."""
        with self._mutex:
            keys = [*self._lines]
        with contextlib.suppress(StoreBusyError):
            place = await self.take(keys, timeout_seconds=timeout_seconds)
            if place is not None:
                self.give(place)

    def _line_up(self, place: Place) -> None:
        for key in place.keys:
            self._lines.setdefault(key, _Line()).waiting.append(place)
        self._wake(place.keys)

    def _withdraw(self, place: Place) -> None:
        self._take_out(place)
        self._wake(place.keys)

    def _take_out(self, place: Place) -> None:
        """Take a call out of all lines; it may be out, as one whose event loop was closed is."""
        for key in place.keys:
            line = self._lines.get(key)
            if line is None:
                continue
            if place in line.inside:
                line.inside.remove(place)
            elif place in line.waiting:
                line.waiting.remove(place)

    def _wake(self, keys: Collection[str]) -> None:
        """Let in whose turn it is."""
        due = [*keys]
        while due:
            key = due.pop(0)
            line = self._lines.get(key)
            while line and line.waiting and line.enter(line.waiting[0]):
                place = line.waiting.popleft()
                place.missing -= 1
                if place.missing:
                    continue
                place.since = monotonic_seconds()
                try:
                    place.grant()
                except RuntimeError:  # its loop was closed
                    self._take_out(place)
                    due += place.keys
                else:
                    if place.is_momentary:
                        line.inside.remove(place)
            if line and not (line.waiting or line.inside):
                self._lines.pop(key, None)


class _Held:
    """A block that holds locks; there is one for each save, and a generator would cost as much."""

    def __init__(self, turns: Turns, keys: str | Collection[str], *, is_exclusive: bool) -> None:
        self._turns = turns
        self._keys = keys
        self._is_exclusive = is_exclusive
        self._place: Place | None = None

    async def __aenter__(self) -> None:
        self._place = await self._turns.take(self._keys, is_exclusive=self._is_exclusive)

    async def __aexit__(self, *_: object) -> None:
        if self._place is not None:
            self._turns.give(self._place)


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
        timeout_seconds: how long one update may hold up a call. One that waits behind many waits
            for as long as they move on.
    """

    def __init__(self, timeout_seconds: float = 60.0) -> None:
        self._turns = Turns(timeout_seconds)
        self._owners = Turns()
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
            if running.turns is self:
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
        place = self._turns.call(session_id, function)
        return None if place is None else partial(self._turns.busy, place)

    def change(
        self, session_id: SessionId, operation: str
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """
        Hold a session's updates up while a change is made: `async with turns.change(...):`.

        Args:
            session_id: the session.
            operation: the method that was called, for the error.

        Raises:
            NestedCallError: the work of an update calls it.
            StoreBusyError: on entry: one that was called before goes on for `timeout_seconds`.
        """
        self.require_no_update(session_id, operation)
        return self._turns.held(session_id, is_exclusive=False)

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
            StoreBusyError: one that was called before goes on for `timeout_seconds`.
        """
        wanted = frozenset(session_ids)
        for session_id in wanted or (None,):
            self.require_no_update(session_id, operation)
        async with self._turns.held(wanted):
            running = _Running(self, wanted)
            token = _running.set((*_running.get(), running))
            try:
                yield
            finally:
                running.turns = None  # for tasks that the work has left behind
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
        place = await self._owners.take(session_id, timeout_seconds=timeout_seconds)
        if place is None:
            raise SessionOwnedError(session_id, timeout_seconds, "a call of this process")
        try:
            if task is not None:
                self._owning[session_id] = weakref.ref(task)
            yield patience
        finally:
            self._owning.pop(session_id, None)
            self._owners.give(place)

    async def settle(self, timeout_seconds: float) -> None:
        """Wait, not for ever, until all updates and changes have ended that were called before."""
        await self._turns.settle(timeout_seconds)
