"""Seeded mutants: the library broken on purpose, each way caught by the scenario for it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
import pytest
from blockbuster import BlockingError

import aiocheckpoint._engine.local_store
from aiocheckpoint import AsyncCheckpointWriter, CheckpointError, StoreBusyError
from aiocheckpoint._disk.files import Directory
from aiocheckpoint._disk.index import IndexCache, SessionIndex
from aiocheckpoint._disk.locks import LockFiles
from aiocheckpoint._disk.sessions import SessionDirectories
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine import commit
from aiocheckpoint._engine.commit import Committer
from aiocheckpoint._engine.fairness import AMPLE_ROOM, Room, take_fairly
from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._engine.local_store import LocalStore
from aiocheckpoint._engine.plan import Planner
from aiocheckpoint._engine.root import OpenRoot
from tests.concurrency import cancellations, gates, scenarios, test_contention, test_pressure
from tests.concurrency.backends import run_counting
from tests.concurrency.site import Site
from tests.concurrency.test_growth import assert_sessions_leave_no_trace

ResultT = TypeVar("ResultT")
Writer: TypeAlias = AsyncCheckpointWriter[Any]

_GUARD_SECONDS = 2.0
_FOUND = (AssertionError, BlockingError, CheckpointError, RuntimeError, TimeoutError)


class Mutant(NamedTuple):
    """
    One way to break the library.

    Attributes:
        owner: class or module of what is replaced.
        name: of what is replaced.
        broken: what stands there instead.
        scenario: what has to notice.
        durability: for which way of saving it is a mutant.
    """

    owner: object
    name: str
    broken: object
    scenario: Callable[[Site], Awaitable[None]]
    durability: str = "journal"


# Waiting for work


async def _does_not_wait(self: Job[Any]) -> None:
    pass


async def _stops_anyio_only(self: Job[ResultT]) -> ResultT:
    with anyio.CancelScope(shield=True):
        await self._waiter
    return self.get()


async def _stops_native_cancellation_only(self: Job[Any]) -> None:
    while not self._is_delivered:
        self._waiter = self._loop.create_future()
        with contextlib.suppress(asyncio.CancelledError):
            await self._waiter


async def _stops_one_cancellation(self: Job[Any]) -> None:
    self._waiter = self._loop.create_future()
    with anyio.CancelScope(shield=True):
        await self._waiter


async def _swallows_the_cancellation(self: Job[ResultT]) -> ResultT:
    try:
        await self._waiter
    except asyncio.CancelledError:
        await self._outlast()
    return self.get()


async def _takes_the_request_back(self: Job[ResultT]) -> ResultT:
    try:
        await self._waiter
    except asyncio.CancelledError:
        await self._outlast()
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        raise
    return self.get()


async def _forgets_the_error(self: Job[ResultT]) -> ResultT:
    try:
        await self._waiter
    except asyncio.CancelledError:
        await self._outlast()
        raise
    return self.get()


def _is_always_there(self: Job[Any]) -> bool:
    return False


def _may_always_go(self: Job[Any]) -> bool:
    return True


# Order, and what it rests on


def _takes_the_last_first(waiting: deque[Any], *_: Any, **__: Any) -> list[Any]:
    return [waiting.pop()] if waiting else []


def _takes_the_first_first(
    waiting: deque[Any], room: Room = AMPLE_ROOM, *, removals_only: bool = False
) -> list[Any]:
    batch: list[Any] = []
    max_bytes = room.max_bytes
    while waiting and not removals_only and waiting[0].size_bytes <= max_bytes and len(batch) < 512:
        batch.append(waiting.popleft())
        max_bytes -= batch[-1].size_bytes
    return batch


def _finds_room_for_all(self: Committer, root: Any, waiting: deque[Any]) -> list[Any]:
    return take_fairly(waiting)


def _does_not_lock(self: LockFiles) -> None:
    """Let everybody in."""


def _hears_of_nobody(self: View) -> None:
    """Read nothing of what others have committed."""


_take_in = View._take_in


def _skips_what_is_flushed(self: View, advance: Any) -> None:
    flushed = self.log.control.flushed if self.log and self.log.control else 0
    frames = tuple(read for read in advance.frames if read.place > flushed)
    _take_in(self, advance._replace(frames=frames))


def _expects_nothing(self: Planner, plan: Any, save: Any) -> None:
    """Let every save pass."""


# Waiting for others


def _blames_nobody(self: LocalStore[Any], *, waits_for_files: bool = True) -> None:
    return None


def _blames_others(self: LocalStore[Any], change: object) -> StoreBusyError:
    return StoreBusyError(self.place.path, 0.0)


def _waits_for_files(self: Job[Any]) -> None:
    """Hold the caller until its file is there, whatever happens to it."""


# The snapshot

_save = AsyncCheckpointWriter.save
_aclose = AsyncCheckpointWriter.aclose


async def _encodes_later(self: Writer, data: Any) -> str:
    await asyncio.sleep(0)
    return await _save(self, data)


async def _copies_the_surface(self: Writer, data: Any) -> str:
    data = copy.copy(data)
    await asyncio.sleep(0)
    return await _save(self, data)


# Closing


async def _does_not_wait_for_the_end(self: Writer) -> None:
    self._is_closed = True
    self._store.abandon()


async def _closes_once_in_all_tasks(self: Writer) -> None:
    if self._is_closed:
        raise RuntimeError("closed already")
    await _aclose(self)


# Leaks, and calls on the loop


def _keeps_every_directory_open(self: SessionDirectories, name: str, directory: Directory) -> None:
    """Forget it without closing it."""


def _remembers_every_session(self: IndexCache, session_name: str, index: SessionIndex) -> None:
    """Let nothing be too much."""


def _leaves_the_files_open(self: OpenRoot) -> None:
    """Forget them."""


async def _works_on_the_loop(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    return work()


def _held(kind: cancellations.Kind) -> Callable[[Site], Awaitable[None]]:
    return partial(
        scenarios.change_cancelled_while_held,
        kind=kind,
        change=scenarios.CHANGES[1],
        every=False,
    )


def _of_kind(
    scenario: Callable[..., Awaitable[None]], kind: cancellations.Kind
) -> Callable[[Site], Awaitable[None]]:
    return partial(scenario, kind=kind)


def _on_root(
    test: Callable[..., Awaitable[None]], *args: object
) -> Callable[[Site], Awaitable[None]]:
    """Return a test that makes its sites itself as a scenario."""

    @functools.wraps(test)
    def scenario(site: Site) -> Awaitable[None]:
        return test(site.root, *args)

    return scenario


_GROWTH = partial(assert_sessions_leave_no_trace, sessions=150, remembered=50)

MUTANTS = (
    Mutant(Job, "_outlast", _does_not_wait, _held(cancellations.native)),
    Mutant(Job, "_outlast", _does_not_wait, _held(cancellations.anyio_cancel_scope)),
    Mutant(Job, "finished", _stops_anyio_only, _held(cancellations.asyncio_timeout)),
    Mutant(
        Job,
        "_outlast",
        _stops_native_cancellation_only,
        _of_kind(scenarios.cancelled_call_does_not_spin, cancellations.anyio_cancel_scope),
    ),
    Mutant(
        Job,
        "_outlast",
        _stops_native_cancellation_only,
        _of_kind(scenarios.loop_sleeps_while_held, cancellations.anyio_cancel_scope),
    ),
    Mutant(
        Job, "_outlast", _stops_one_cancellation, _held(cancellations.timeout_and_cancel_together)
    ),
    Mutant(
        Job,
        "finished",
        _swallows_the_cancellation,
        _of_kind(scenarios.cancelled_call_raises_at_its_end, cancellations.asyncio_timeout),
    ),
    Mutant(Job, "finished", _swallows_the_cancellation, _held(cancellations.native)),
    Mutant(Job, "finished", _takes_the_request_back, _held(cancellations.native)),
    Mutant(
        Job,
        "finished",
        _takes_the_request_back,
        _held(cancellations.timeout_and_cancel_together),
    ),
    Mutant(
        Job,
        "withdraw",
        _is_always_there,
        _of_kind(scenarios.queued_call_is_withdrawn, cancellations.native),
    ),
    Mutant(
        Job,
        "withdraw",
        _is_always_there,
        _of_kind(scenarios.call_is_withdrawn_before_its_commit, cancellations.native),
    ),
    Mutant(
        Job,
        "begin",
        _may_always_go,
        _of_kind(scenarios.queued_call_is_withdrawn, cancellations.native),
    ),
    Mutant(
        Job,
        "wait_for_files",
        _waits_for_files,
        _of_kind(scenarios.files_are_left_to_others, cancellations.native),
        durability="file",
    ),
    Mutant(
        Job,
        "outlast",
        _does_not_wait,
        _of_kind(scenarios.reads_cancelled_while_held, cancellations.native),
    ),
    Mutant(
        Job,
        "finished",
        _forgets_the_error,
        _of_kind(scenarios.error_travels_with_the_cancellation, cancellations.native),
    ),
    Mutant(commit, "take_fairly", _takes_the_last_first, scenarios.saves_take_effect_in_call_order),
    Mutant(
        commit,
        "take_fairly",
        _takes_the_last_first,
        scenarios.changes_of_every_kind_keep_call_order,
    ),
    Mutant(
        commit, "take_fairly", _takes_the_first_first, test_pressure.test_flood_keeps_nobody_waiting
    ),
    Mutant(
        commit,
        "take_fairly",
        _takes_the_first_first,
        _on_root(test_pressure.test_full_journal_is_shared_fairly),
    ),
    Mutant(
        Committer,
        "_with_room",
        _finds_room_for_all,
        _on_root(test_pressure.test_full_journal_holds_up_saves_until_files_are_written, "journal"),
    ),
    Mutant(LockFiles, "acquire", _does_not_lock, scenarios.writers_exclude_one_another),
    Mutant(View, "follow", _hears_of_nobody, scenarios.readers_see_what_was_acknowledged),
    Mutant(
        View, "_take_in", _skips_what_is_flushed, scenarios.changes_rest_on_what_others_have_flushed
    ),
    Mutant(
        Planner,
        "_require_expected",
        _expects_nothing,
        scenarios.changes_of_every_kind_keep_call_order,
    ),
    Mutant(LocalStore, "_held_up", _blames_nobody, test_contention.test_lock_that_is_never_free),
    Mutant(
        LocalStore,
        "_held_up",
        _blames_nobody,
        test_contention.test_files_that_another_process_keeps_to_itself,
    ),
    Mutant(
        LocalStore,
        "_too_late",
        _blames_others,
        test_contention.test_nobody_is_blamed_for_a_slow_disk,
    ),
    Mutant(
        AsyncCheckpointWriter,
        "save",
        _encodes_later,
        scenarios.mutation_before_the_first_await_does_not_leak_in,
    ),
    Mutant(
        AsyncCheckpointWriter,
        "save",
        _copies_the_surface,
        scenarios.later_mutation_does_not_leak_in,
    ),
    Mutant(
        AsyncCheckpointWriter,
        "aclose",
        _does_not_wait_for_the_end,
        scenarios.close_waits_for_saves_in_flight,
    ),
    Mutant(
        AsyncCheckpointWriter,
        "aclose",
        _closes_once_in_all_tasks,
        scenarios.close_is_idempotent_and_refuses_later_calls,
    ),
    Mutant(SessionDirectories, "_give_back", _keeps_every_directory_open, _GROWTH),
    Mutant(IndexCache, "_count", _remembers_every_session, _GROWTH),
    Mutant(OpenRoot, "close", _leaves_the_files_open, scenarios.close_gives_everything_back),
    Mutant(
        aiocheckpoint._engine.local_store,
        "hop",
        _works_on_the_loop,
        scenarios.no_file_call_on_the_loop,
    ),
    Mutant(
        aiocheckpoint._engine.local_store,
        "hop",
        _works_on_the_loop,
        scenarios.the_loop_goes_on_while_a_call_is_held,
    ),
)


def _id(mutant: Mutant) -> str:
    name = getattr(mutant.broken, "__name__", type(mutant.broken).__name__)
    scenario = mutant.scenario
    if isinstance(scenario, partial):
        scenario = scenario.func
    return f"{mutant.name}-{name.strip('_<>')}-{scenario.__name__}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=_id)
@pytest.mark.some(12)
@pytest.mark.few(6)
def test_mutant_is_caught(mutant: Mutant, root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is broken this way does not pass the scenario."""
    for module in (scenarios, test_contention, test_pressure):
        monkeypatch.setattr(module, "GUARD_SECONDS", _GUARD_SECONDS)
    monkeypatch.setattr(gates, "GUARD_SECONDS", 2 * _GUARD_SECONDS)  # what is held stays so
    monkeypatch.setattr(mutant.owner, mutant.name, mutant.broken)
    site = Site(root, durability=mutant.durability)

    async def main() -> None:
        await asyncio.wait_for(mutant.scenario(site), 5 * _GUARD_SECONDS)

    with pytest.raises(_FOUND):
        run_counting(main)
