"""How long can saving and loading keep other tasks of the event loop waiting?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain

import msgspec

from aiocheckpoint import CheckpointData
from benchmarks import contenders as who
from benchmarks.documents import KB, MB, Document, documents, size_label
from benchmarks.harness import (
    Results,
    Saver,
    Settings,
    Ticker,
    Workload,
    fresh_directory,
    interleaved,
    timed,
)
from benchmarks.report import Cell, Spread, Table, quantile, ratios

_GOAL_MS = 2.0
_IDLE = "nothing else running"
_NOTES = [
    (
        "A task wakes every millisecond and notes how late it is. The event loop of CPython rounds"
        " its waiting up to whole milliseconds: see the first row."
    ),
    "p99 as median (p10-p90) over rounds; p50 and max over all ticks of all rounds.",
]
_SINGLE_NOTES = [
    "One call at a time beside the ticker; the longest lateness during the call.",
    (
        "`encode` is the bare `msgspec.json.encode` of the same document, which no event loop"
        " serialiser that takes a snapshot can avoid; measured right beside, in the same round."
    ),
]


class Idle(Saver):
    """Nobody saves anything: what the ticker itself and the machine do."""

    name = _IDLE
    durable = ""

    async def open(self, workload: Workload) -> None:
        self._seconds = workload.seconds

    async def save(self, session: int, step: int, document: Document) -> None:
        if step:
            await asyncio.sleep(self._seconds)

    async def close(self) -> None:
        pass


async def run(settings: Settings) -> list[Table]:
    """Return a table by number of sessions, one of single calls, and how the goal was met."""
    sizes, counts = ((100 * KB,), (1, 4)) if settings.is_quick else ((MB, 10 * MB), (1, 32, 256))
    savers: list[Saver] = [who.journal(), who.file(), *who.loaders()[1:]]
    tables = []
    goal: Spread | None = None
    for sessions in counts:
        results = await _while_saving(settings, [Idle(), *savers], sessions)
        title = "1 session" if sessions == 1 else f"{sessions} sessions"
        tables.append(_session_table(f"Event-loop stall while {title} save 8 KB", results))
        goal = _p99_ms(results[who.JOURNAL])
    tables[0].notes.extend(_NOTES)
    if goal is not None and not settings.is_quick:
        met = "yes" if goal.median < _GOAL_MS else "NO"
        name = f"{counts[-1]} sessions: p99 of the lateness under {_GOAL_MS:g} ms"
        tables.append(Table("Goal", [{"goal": name, "p99 ms": goal, "met": met}]))
    single = [await _single_calls(settings, size) for size in sizes]
    single[0].notes.extend(_SINGLE_NOTES)
    return [*tables, *single]


async def _while_saving(
    settings: Settings, savers: Sequence[Saver], sessions: int
) -> Results[list[float]]:
    async def measure(saver: Saver, round_number: int) -> list[float]:
        directory = fresh_directory(settings, "stall", sessions, saver.name, round_number)
        workload = Workload(
            directory=directory,
            sessions=sessions,
            seconds=settings.seconds,
            documents=documents(8 * KB, 16),
            min_saves=1,
        )
        ticker = Ticker()
        await saver.run(workload, ticker)
        return ticker.lateness_seconds

    return await interleaved(settings, savers, measure)


def _p99_ms(rounds: Sequence[Sequence[float]]) -> Spread:
    return Spread.of(quantile(ticks, 0.99) * 1e3 for ticks in rounds)


def _session_table(title: str, results: Results[list[float]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, rounds in results.items():
        ticks = list(chain.from_iterable(rounds))
        rows.append(
            {
                "contender": name,
                "p50 ms": quantile(ticks, 0.5) * 1e3,
                "p99 ms": _p99_ms(rounds),
                "max ms": max(ticks) * 1e3,
                "ticks": len(ticks),
            }
        )
    missing = [f"{name}: {reason}" for name, reason in results.unavailable.items()]
    return Table(title, rows, missing)


class Single(msgspec.Struct, frozen=True):
    """One call in one round: its time, the longest lateness in it, the bare encode; in seconds."""

    call: float
    stall: float
    encode: float


class Calls:
    """Saves or loads one large document with one contender."""

    def __init__(self, saver: who.Loader, *, is_load: bool) -> None:
        self.operation = "load" if is_load else "save"
        self.contender = saver.name
        self.name = f"{saver.name} {self.operation}"
        self._saver = saver
        self._is_load = is_load

    async def measure(self, workload: Workload) -> Single:
        """Return one call's measurement; another call has gone before."""
        saver, document = self._saver, workload.documents[0]
        await saver.open(workload)
        try:
            await saver.save(0, 0, document)
            encode = await timed(_encoded(document.checkpoint("session-0", 1)))
            ticker = Ticker()
            async with ticker:
                call = await timed(saver.load(0) if self._is_load else saver.save(0, 1, document))
        finally:
            await saver.close()
        return Single(call, max(ticker.lateness_seconds), encode)


async def _encoded(data: CheckpointData) -> bytes:
    return msgspec.json.encode(data)


async def _single_calls(settings: Settings, size_bytes: int) -> Table:
    async def measure(calls: Calls, round_number: int) -> Single:
        directory = fresh_directory(settings, "single", size_bytes, calls.name, round_number)
        different = documents(size_bytes, 1)
        return await calls.measure(
            Workload(directory=directory, sessions=1, seconds=0, documents=different)
        )

    cases = [Calls(saver, is_load=load) for load in (False, True) for saver in who.loaders()]
    results = await interleaved(settings, cases, measure)
    rows: list[dict[str, Cell]] = []
    for calls in cases:
        if calls.name in results:
            found = results[calls.name]
            stalls, encodes = [one.stall for one in found], [one.encode for one in found]
            rows.append(
                {
                    "operation": calls.operation,
                    "contender": calls.contender,
                    "stall ms": Spread.of(stall * 1e3 for stall in stalls),
                    "call ms": Spread.of(one.call * 1e3 for one in found),
                    "encode ms": Spread.of(encode * 1e3 for encode in encodes),
                    "stall / encode": ratios(stalls, encodes),
                }
            )
    missing = [f"{name}: {reason}" for name, reason in results.unavailable.items()]
    title = f"Event-loop stall of one save or load of {size_label(size_bytes)}"
    return Table(title, rows, missing)
