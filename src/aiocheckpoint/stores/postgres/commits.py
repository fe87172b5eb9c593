"""Changes that wait share a transaction: the queue of one event loop, and who empties it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from aiocheckpoint.errors import (
    CheckpointError,
    DurabilityUnknownError,
    StoreBusyError,
    StoreUnavailableError,
)
from aiocheckpoint.kit import ended, own_copy
from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres.bodies import Bodies
from aiocheckpoint.stores.postgres.changes import (
    APPLY,
    NOTHING_REMOVED,
    OUTCOMES,
    WAS_MADE,
    Change,
    arguments,
    is_busy,
    is_repeatable,
    result_of,
)
from aiocheckpoint.stores.postgres.errors import NotMadeError, is_lost
from aiocheckpoint.stores.postgres.pools import Connection
from aiocheckpoint.stores.postgres.server import Server

_MOST_CHANGES = 256
_MOST_BYTES = 8 << 20
_TURNS_OF_OTHERS = 4  # in which those who were told call again, and share the next one
_LANES = 2  # while one waits for the disk of the server, the next is on its way


class Slot:
    """
    One of those that commit, of which the server remembers the last commit.

    Attributes:
        writer_id: its name, a random one.
        batch: how many it has begun.
    """

    def __init__(self) -> None:
        self.writer_id = secrets.randbits(63)
        self.batch = 0


class Slots:
    """Slots that are free; each is used by one commit at a time."""

    def __init__(self) -> None:
        self._free: list[Slot] = []

    def take(self) -> Slot:
        """Return one, for its next commit."""
        slot = self._free.pop() if self._free else Slot()
        slot.batch += 1
        return slot

    def give(self, slot: Slot) -> None:
        """Give one back whose last commit is over, as is known."""
        self._free.append(slot)


class _Waiting:
    """
    A change, and who waits for its outcome.

    Attributes:
        change: what is to be done.
        has_begun: whether it cannot be withdrawn any more.
        is_settled: whether the outcome is known.
        result: the outcome then.
    """

    def __init__(self, change: Change) -> None:
        self.change = change
        self.has_begun = False
        self.is_settled = False
        self.result: int | Exception = 0
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def settled(self) -> None:
        """Wait until the outcome is known, or the caller is cancelled."""
        await self._settled

    async def ended(self) -> None:
        """Wait until the outcome is known, however often the caller is cancelled."""
        if not self.is_settled:
            self._settled = asyncio.get_running_loop().create_future()
            await ended(self._settled)

    def settle(self, result: int | Exception) -> None:
        """Tell the outcome."""
        self.is_settled, self.result = True, result
        if not self._settled.done():  # or it was cancelled just now
            self._settled.set_result(None)


def _session_of(waiting: _Waiting) -> SessionId:
    return waiting.change.session_id


class Commits:
    """
    The changes of one event loop.

    Those of one session are made in the order of the calls; those of several share a transaction.
    A session that somebody else holds is left to a transaction of its own, which waits.

    Args:
        server: where.
        bodies: those of the loop.
        max_checkpoints: how many checkpoints to keep in a session; None for all.
    """

    def __init__(self, server: Server, bodies: Bodies, max_checkpoints: int | None) -> None:
        self.slots = Slots()
        self.bodies = bodies
        self.max_checkpoints = max_checkpoints
        self._server = server
        self._queues: dict[SessionId, deque[_Waiting]] = {}
        self._ready: deque[SessionId] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._alone: set[asyncio.Task[None]] = set()
        self._may_wait: asyncio.Semaphore | None = None

    @property
    def may_wait(self) -> asyncio.Semaphore:
        """Held by what may wait for others on a connection, so that some are left."""
        if self._may_wait is None:
            self._may_wait = asyncio.Semaphore(max(1, self._server.max_connections - _LANES - 1))
        return self._may_wait

    async def make(self, change: Change) -> int:
        """
        Make a change, and return the place of a save, or how many checkpoints were removed.

        It is in the queue before the first suspension. A caller that is cancelled withdraws it
        where it has not begun, and else ends when it has ended.
        """
        waiting = _Waiting(change)
        queue = self._queues.get(change.session_id)
        if queue is None:
            queue = self._queues[change.session_id] = deque()
            self._ready.append(change.session_id)
            if len(self._lanes) < _LANES:
                self._start_lane(is_first=True)
        queue.append(waiting)
        try:
            await waiting.settled()
        except asyncio.CancelledError as cancelled:
            if not waiting.has_begun:
                queue.remove(waiting)
                raise
            await waiting.ended()
            if isinstance(waiting.result, Exception):
                raise cancelled from waiting.result
            raise
        if isinstance(waiting.result, Exception):
            raise waiting.result
        return waiting.result

    def _start_lane(self, *, is_first: bool) -> None:
        self._lanes.add(asyncio.ensure_future(self._lane(is_first=is_first)))

    @staticmethod
    def _start(tasks: set[asyncio.Task[None]], work: Any) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def drained(self) -> None:
        """Wait until nothing is left to be made."""
        while tasks := self._lanes | self._alone:
            await asyncio.wait(tasks)

    async def _lane(self, *, is_first: bool) -> None:
        """Commit what waits until nothing does; after a commit, let those who were told call."""
        try:
            while True:
                for _ in range(0 if is_first else _TURNS_OF_OTHERS):
                    await asyncio.sleep(0)
                if not (batch := self._take()):
                    return
                await self._commit(batch)
                if self._is_alone(batch):
                    return
                is_first = False
        finally:
            # At once: for what is called before this task counts as done, another one starts.
            self._lanes -= {asyncio.current_task()}

    def _is_alone(self, batch: Sequence[_Waiting]) -> bool:
        """Tell whether there is but one session, for whose next change nobody else is to come."""
        sessions = {waiting.change.session_id for waiting in batch}
        return len(sessions) == 1 and len(self._lanes) == 1 and not self._ready

    def _take(self) -> list[_Waiting]:
        """Return changes to make together, those of a session behind one another."""
        batch: list[_Waiting] = []
        size_bytes = 0
        for _ in range(len(self._ready)):
            session_id = self._ready.popleft()
            queue = self._queues[session_id]
            part: list[_Waiting] = []
            while queue and len(batch) + len(part) < _MOST_CHANGES:
                size_bytes += queue[0].change.size_bytes
                if (batch or part) and size_bytes > _MOST_BYTES:
                    break
                part.append(queue.popleft())
                part[-1].has_begun = True
            if part:
                batch += part
            elif queue:
                self._ready.appendleft(session_id)
                break
            else:
                del self._queues[session_id]  # all were withdrawn
        batch.sort(key=_session_of)
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        with self._seeing_to(batch) as mine:
            try:
                outcomes = await self._apply(batch, None)
            except (StoreUnavailableError, DurabilityUnknownError):
                raise
            except CheckpointError:
                if len(batch) == 1:
                    raise
                mine.clear()  # it is of one of them, which is to be refused alone
                self._start(self._alone, self._each_alone(batch))
                return
            held: dict[SessionId, list[_Waiting]] = {}
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if is_busy(outcome) or is_repeatable(waiting.change, outcome):
                    held.setdefault(waiting.change.session_id, []).append(waiting)
                else:
                    self._settle(waiting, outcome)
            # The next changes of a session come when all of these are made.
            mine[:] = [waiting for waiting in batch if waiting.change.session_id not in held]
            for left in held.values():
                self._start(self._alone, self._wait_for(left))

    @contextlib.contextmanager
    def _seeing_to(self, batch: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
        """
        Tell those who wait whatever ends the work, then let the next of their sessions come.

        Yields:
            Whose work it is: a list to take out of what somebody else goes on with.
        """
        mine = [*batch]
        try:
            yield mine
        except asyncio.CancelledError:
            reason = "the event loop was ended"
            location = self._server.location
            self._fail(mine, DurabilityUnknownError("commit", location, None, reason))
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours is raised from their calls, too
            self._fail(mine, error)
        finally:
            self._release(mine)

    async def _each_alone(self, batch: list[_Waiting]) -> None:
        with self._seeing_to(batch):
            for waiting in batch:
                await self._make_alone([waiting])

    async def _wait_for(self, held: list[_Waiting]) -> None:
        """Make the changes of a session that were not, once it is free."""
        with self._seeing_to(held):
            await self._make_alone(held)

    async def _make_alone(self, held: list[_Waiting]) -> None:
        options = self._server.options
        try:
            async with asyncio.timeout(options.lock_timeout_seconds):
                await self.may_wait.acquire()
        except TimeoutError:
            location = self._server.location
            self._fail(held, StoreBusyError(location, options.lock_timeout_seconds))
            return
        try:
            is_alone = False  # what needs something that is gone would need it again
            while held:
                outcomes = await self._apply(held, options.lock_timeout_ms, is_alone=is_alone)
                left = []
                for waiting, outcome in zip(held, outcomes, strict=True):
                    if is_repeatable(waiting.change, outcome):
                        left.append(waiting)
                    else:
                        self._settle(waiting, outcome)
                held, is_alone = left, True
        except CheckpointError as error:
            self._fail(held, error)
        finally:
            self.may_wait.release()

    async def _apply(
        self, batch: Sequence[_Waiting], wait_ms: int | None, *, is_alone: bool = False
    ) -> list[bytes]:
        changes = [waiting.change for waiting in batch]
        bodies = await self.bodies.packed(changes, is_alone=is_alone)
        known = (self.bodies.blobs.of,) if not is_alone else ()
        changes_arguments = arguments(changes, bodies, *known)
        slot = self.slots.take()
        makes_schema = not all(change.may_find_nothing for change in changes)
        was_sent = False

        async def apply(connection: Connection) -> list[bytes]:
            nonlocal was_sent
            if not (makes_schema or await self._server.has_schema(connection)):
                return [NOTHING_REMOVED] * len(changes)
            is_repeated, was_sent = was_sent, True
            try:
                outcomes: list[bytes] | None = await connection.fetchval(
                    self._server.sql(APPLY),
                    slot.writer_id,
                    slot.batch,
                    wait_ms,
                    self.max_checkpoints,
                    *changes_arguments,
                )
            except asyncpg.PostgresError as error:
                if error.sqlstate != WAS_MADE and (not is_repeated or is_lost(error)):
                    raise
                outcomes = await connection.fetchval(
                    self._server.sql(OUTCOMES),
                    slot.writer_id,
                    slot.batch,
                    self._server.options.lock_timeout_ms,
                )
                if outcomes is None:
                    raise NotMadeError(error) from error
            return outcomes or []

        operation = "commit"
        wait_seconds = 0.0 if wait_ms is None else self._server.options.lock_timeout_seconds
        for _ in range(2):  # a loop that ends cancels once whatever goes on: ask what came of it
            with contextlib.suppress(asyncio.CancelledError):
                outcomes = await self._server.run(
                    operation,
                    apply,
                    wait_seconds=wait_seconds,
                    is_change=True,
                    makes_schema=makes_schema,
                )
                self.slots.give(slot)
                self.bodies.made(changes, bodies, outcomes)
                for change, outcome in zip(changes, outcomes, strict=True):
                    self.bodies.blobs.made(change, outcome)
                return outcomes
        reason = "the event loop was ended"
        raise DurabilityUnknownError(operation, self._server.location, None, reason)

    def _settle(self, waiting: _Waiting, outcome: bytes) -> None:
        waiting.settle(result_of(waiting.change, outcome, self._server.location_of))

    @staticmethod
    def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
        for waiting in batch:
            if waiting.is_settled:
                continue
            waiting.settle(own_copy(error))

    def _release(self, batch: Sequence[_Waiting]) -> None:
        """Let the next changes of these sessions come."""
        for session_id in dict.fromkeys(waiting.change.session_id for waiting in batch):
            if self._queues[session_id]:
                self._ready.append(session_id)
            else:
                del self._queues[session_id]
        if asyncio.current_task() not in self._lanes:  # or it is one that goes on with them
            for _ in itertools.repeat(None, min(len(self._ready), _LANES - len(self._lanes))):
                self._start_lane(is_first=False)
