"""The order of the calls on a session within a process: over tasks, event loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any

from aiocheckpoint._lines import Turns
from aiocheckpoint._patience import Patience
from aiocheckpoint.errors import NestedCallError, SessionOwnedError, StoreBusyError
from aiocheckpoint.models import SessionId


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
