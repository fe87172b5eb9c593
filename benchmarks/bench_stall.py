"""How late is any other task of the event loop while sessions save at a given rate?"""

from __future__ import annotations

import asyncio
import random
import time
from itertools import chain
from pathlib import Path

from msgspec import Struct

from benchmarks.contenders import SAVERS
from benchmarks.documents import size_label
from benchmarks.report import Answer, Bound, Row, Spread, Table, quantile
from benchmarks.rounds import Settings, in_child, interleaved
from benchmarks.savers import FILE, IDLE, JOURNAL, SQLITE, Saver
from benchmarks.saving import Job, Stopwatch
from benchmarks.ticker import Ticker

_SESSIONS = 256
_OFFERED_PER_SECOND = 1000
_NOTES = [
    (
        "Each session saves at random moments, whether its last save has returned or not. A task"
        " wakes every millisecond and notes how late it is."
    ),
    (
        "CPython's event loop rounds its waiting up to whole milliseconds: the row without saves"
        " shows what is its own."
    ),
    "p99 round by round; p50 and max over all rounds.",
]


class Stalls(Struct, frozen=True):
    """Of a round: how late the ticker was, and how long each save took; in seconds."""

    lateness: list[float]
    latencies: list[float]


def run(settings: Settings) -> Answer:
    """Return one table and the bound."""
    sessions = 4 if settings.is_quick else _SESSIONS

    def measure(contender: str, directory: Path) -> Stalls:
        job = Job.of(settings, contender, directory, sessions)
        return in_child(stalls, job)

    results = interleaved(settings, (JOURNAL, SQLITE, FILE, IDLE), measure)
    found = [{"contender": name, **_values(rounds)} for name, rounds in results.items()]
    size = size_label(settings.size_bytes)
    title = f"Lateness of a ticker, {sessions} sessions offering {_OFFERED_PER_SECOND:,} saves/s"
    bound = Bound("p99 ms a ticker is late", _p99_ms(results[JOURNAL]), 2.0, is_least=False)
    return Answer([Table(f"{title} of {size}", found, _NOTES)], [bound])


def _p99_ms(rounds: list[Stalls]) -> Spread:
    return Spread.of(quantile(one.lateness, 0.99) * 1e3 for one in rounds)


def _values(rounds: list[Stalls]) -> Row:
    lateness = list(chain.from_iterable(one.lateness for one in rounds))
    latencies = list(chain.from_iterable(one.latencies for one in rounds))
    return {
        "late p50 ms": quantile(lateness, 0.5) * 1e3,
        "late p99 ms": _p99_ms(rounds),
        "late max ms": max(lateness) * 1e3,
        "save p50 ms": quantile(latencies, 0.5) * 1e3,
        "save p99 ms": quantile(latencies, 0.99) * 1e3,
        "saves": len(latencies),
    }


def stalls(job: Job) -> Stalls:
    """Carry out a job in this process; the first save of each session is not measured."""
    return asyncio.run(_stalls(job))


async def _stalls(job: Job) -> Stalls:
    saver = SAVERS[job.contender]()
    await saver.open(job.directory)
    try:
        for number in range(job.sessions):
            await saver.save(job.session(number), 0, job.document(number, 0))
        await saver.flush()
        watch = Stopwatch()
        async with Ticker() as ticker, asyncio.TaskGroup() as sessions:
            for number in range(job.sessions):
                sessions.create_task(_offer(job, saver, number, watch.latencies_seconds))
    finally:
        await saver.close()
    return Stalls(ticker.lateness_seconds, watch.latencies_seconds)


async def _offer(job: Job, saver: Saver, number: int, latencies: list[float]) -> None:
    chance = random.Random(number)
    due = time.perf_counter()
    until = due + job.seconds
    step = 0
    async with asyncio.TaskGroup() as saving:
        while (due := due + chance.expovariate(_OFFERED_PER_SECOND / job.sessions)) < until:
            await asyncio.sleep(due - time.perf_counter())
            step += 1
            saving.create_task(_save(job, saver, number, step, latencies))


async def _save(job: Job, saver: Saver, number: int, step: int, latencies: list[float]) -> None:
    start = time.perf_counter()
    await saver.save(job.session(number), step, job.document(number, step))
    latencies.append(time.perf_counter() - start)
