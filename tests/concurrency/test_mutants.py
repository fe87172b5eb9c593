"""Seeded mutants: the library broken on purpose, each way caught by the scenario for it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
import pytest
from blockbuster import BlockingError

import aiocheckpoint.writer
from aiocheckpoint import AsyncCheckpointWriter, CheckpointError
from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._disk.index import IndexCache, SessionIndex
from aiocheckpoint._disk.sessions import SessionDirectories
from aiocheckpoint._engine import commit, lanes
from aiocheckpoint._engine.jobs import Job
from tests.concurrency import cancellations, gates, scenarios
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


# Order


def _takes_the_last_first(queue: Any, max_bytes: int) -> list[Any]:
    return [queue.pop()]


def _runs_at_once(self: lanes.Lanes, lane: str, job: Job[Any], work: Callable[[], Any]) -> None:
    def run() -> None:
        if job.begin():
            job.run(work)
            Job.deliver([job])

    self._executor.submit(run)


def _does_not_lock(self: LocalFiles, directory: Directory, timeout_seconds: float) -> None:
    """Let everybody in."""


def _believes_its_index(self: SessionDirectories, name: str, *_: object) -> SessionIndex | None:
    return self.indexes.get(name)


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


async def _drops_what_waits(self: Writer) -> None:
    self._closed = True
    if self._pool is not None and self._queue is not None:
        self._queue.close()  # or its flushing would wait on after the test
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _closes_once_in_all_tasks(self: Writer) -> None:
    if self._closed:
        raise RuntimeError("closed already")
    await _aclose(self)


# Leaks, and calls on the loop


def _keeps_every_directory_open(self: SessionDirectories, name: str, directory: Directory) -> None:
    """Forget it without closing it."""


def _remembers_every_session(self: IndexCache, session_name: str, index: SessionIndex) -> None:
    self._indexes[session_name] = index


def _leaves_the_temporary_file(self: LocalFiles, directory: Directory, name: str) -> None:
    """Leave it."""


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
        "_withdraw",
        lambda self: False,
        _of_kind(scenarios.queued_call_is_withdrawn, cancellations.native),
    ),
    Mutant(
        Job,
        "finished",
        _forgets_the_error,
        _of_kind(scenarios.error_travels_with_the_cancellation, cancellations.native),
    ),
    Mutant(commit, "_take", _takes_the_last_first, scenarios.saves_take_effect_in_call_order),
    Mutant(commit, "_take", _takes_the_last_first, scenarios.changes_of_every_kind_keep_call_order),
    Mutant(
        lanes.Lanes,
        "submit",
        _runs_at_once,
        scenarios.saves_take_effect_in_call_order,
        durability="file",
    ),
    Mutant(LocalFiles, "lock", _does_not_lock, scenarios.writers_exclude_one_another),
    Mutant(
        LocalFiles,
        "lock",
        _does_not_lock,
        scenarios.writers_exclude_one_another,
        durability="file",
    ),
    Mutant(
        SessionDirectories,
        "_known",
        _believes_its_index,
        scenarios.readers_see_what_was_acknowledged,
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
        _drops_what_waits,
        scenarios.close_waits_for_saves_in_flight,
    ),
    Mutant(
        AsyncCheckpointWriter,
        "aclose",
        _closes_once_in_all_tasks,
        scenarios.close_is_idempotent_and_refuses_later_calls,
    ),
    Mutant(SessionDirectories, "_give_back", _keeps_every_directory_open, _GROWTH),
    Mutant(IndexCache, "_use", _remembers_every_session, _GROWTH),
    Mutant(
        LocalFiles,
        "discard",
        _leaves_the_temporary_file,
        _of_kind(scenarios.error_travels_with_the_cancellation, cancellations.native),
        durability="file",
    ),
    Mutant(aiocheckpoint.writer, "hop", _works_on_the_loop, scenarios.no_file_call_on_the_loop),
    Mutant(
        aiocheckpoint.writer,
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
def test_mutant_is_caught(mutant: Mutant, root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is broken this way does not pass the scenario."""
    monkeypatch.setattr(gates, "GUARD_SECONDS", _GUARD_SECONDS)
    monkeypatch.setattr(scenarios, "GUARD_SECONDS", _GUARD_SECONDS)
    monkeypatch.setattr(mutant.owner, mutant.name, mutant.broken)
    site = Site(root, durability=mutant.durability)

    async def main() -> None:
        await asyncio.wait_for(mutant.scenario(site), 5 * _GUARD_SECONDS)

    with pytest.raises(_FOUND):
        run_counting(main)
