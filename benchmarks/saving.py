"""Sessions that save one document after the other, each as soon as the last save returned."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from msgspec import Struct

from aiocheckpoint import StoreBusyError
from benchmarks.contenders import SAVERS
from benchmarks.documents import MB, Document, documents
from benchmarks.report import Row, Spread, quantile, ratios
from benchmarks.rounds import Results, Settings, in_child, interleaved, start_together

_BUSY = (sqlite3.OperationalError, StoreBusyError)


class Job(Struct, frozen=True, kw_only=True):
    """
    What one process does.

    Attributes:
        contender: its name.
        directory: where it stores.
        sessions: how many at once.
        seconds: how long; every session saves at least once all the same.
        size_bytes: of a document.
        process: which of several.
    """

    contender: str
    directory: Path
    sessions: int
    seconds: float
    size_bytes: int
    process: int = 0

    @classmethod
    def of(cls, settings: Settings, contender: str, directory: Path, sessions: int) -> Job:
        """Return a job as large as the settings say."""
        return cls(
            contender=contender,
            directory=directory,
            sessions=sessions,
            seconds=settings.seconds,
            size_bytes=settings.size_bytes,
        )

    def session(self, number: int) -> str:
        """Return the id of a session."""
        return f"session-{self.process}-{number}"

    def document(self, number: int, step: int) -> Document:
        """Return what a session saves in a step."""
        different = documents(self.size_bytes, 16 if self.size_bytes < MB else 1)
        return different[(number * 7 + step) % len(different)]


class Run(Struct, frozen=True, kw_only=True):
    """
    What a job took.

    Attributes:
        saves: how many were acknowledged.
        latencies_seconds: of each, and of each that failed.
        elapsed_seconds: from the first call to the last return.
        closed_seconds: the same and the closing, with whatever was put off until then.
        cpu_seconds: of the process in the whole time.
        failures: how many saves gave up waiting for another process.
    """

    saves: int
    latencies_seconds: list[float]
    elapsed_seconds: float
    closed_seconds: float
    cpu_seconds: float
    failures: int = 0

    @property
    def per_second(self) -> float:
        """Saves until acknowledged."""
        return self.saves / self.elapsed_seconds

    @property
    def closed_per_second(self) -> float:
        """Saves until nothing was left to do."""
        return self.saves / self.closed_seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of a save in microseconds, with the closing."""
        return self.cpu_seconds / self.saves * 1e6

    @property
    def median_seconds(self) -> float:
        """The median latency."""
        return quantile(self.latencies_seconds, 0.5)


class Stopwatch:
    """Notes when work began, was acknowledged and was closed."""

    def __init__(self) -> None:
        gc.collect()
        self.latencies_seconds: list[float] = []
        self._cpu = time.process_time()
        self._begin = self._end = time.perf_counter()

    def end(self) -> None:
        """Note that the last call has returned."""
        self._end = time.perf_counter()

    def closed(self, saves: int, failures: int = 0) -> Run:
        """Note that nothing is left to do, and return the whole."""
        return Run(
            saves=saves,
            latencies_seconds=self.latencies_seconds,
            elapsed_seconds=self._end - self._begin,
            closed_seconds=time.perf_counter() - self._begin,
            cpu_seconds=time.process_time() - self._cpu,
            failures=failures,
        )


def saves(job: Job) -> Run:
    """Carry out a job in this process; the first save of each session is not measured."""
    return asyncio.run(_Saving(job).run())


class _Saving:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._saver = SAVERS[job.contender]()
        self._failures = 0

    async def run(self) -> Run:
        job = self._job
        await self._saver.open(job.directory)
        try:
            await asyncio.gather(*(self._save(number, 0) for number in range(job.sessions)))
            await self._saver.flush()
            await asyncio.to_thread(start_together)
            self._failures = 0
            watch = Stopwatch()
            until = time.perf_counter() + job.seconds
            await asyncio.gather(*(self._session(n, until, watch) for n in range(job.sessions)))
            watch.end()
        finally:
            await self._saver.close()
        return watch.closed(len(watch.latencies_seconds) - self._failures, self._failures)

    async def _session(self, number: int, until: float, watch: Stopwatch) -> None:
        step = 0
        start = 0.0
        while start < until:
            step += 1
            start = time.perf_counter()
            await self._save(number, step)
            end = time.perf_counter()
            watch.latencies_seconds.append(end - start)
            start = end

    async def _save(self, number: int, step: int) -> None:
        job = self._job
        try:
            await self._saver.save(job.session(number), step, job.document(number, step))
        except _BUSY:
            self._failures += 1


def measured(
    settings: Settings,
    contenders: Sequence[str],
    sessions: int,
    work_of: Callable[[str], Callable[[Job], Run]] = lambda _: saves,
) -> Results[str, Run]:
    """Return what contenders took for the same, in interleaved rounds."""

    def measure(contender: str, directory: Path) -> Run:
        job = Job.of(settings, contender, directory, sessions)
        return in_child(work_of(contender), job)

    return interleaved(settings, contenders, measure)


def values(runs: Sequence[Run]) -> Row:
    """Return the columns that stand for a contender's runs."""
    latencies = list(chain.from_iterable(run.latencies_seconds for run in runs))
    return {
        "saves/s": Spread.of(run.per_second for run in runs),
        "until closed": Spread.of(run.closed_per_second for run in runs),
        "CPU us a save": Spread.of(run.cpu_us for run in runs),
        "median ms": quantile(latencies, 0.5) * 1e3,
        "p99 ms": quantile(latencies, 0.99) * 1e3,
        "max ms": max(latencies) * 1e3,
    }


def rows(results: Results[str, Run], first: Row) -> list[Row]:
    """Return a row for each contender, all beginning with the same cells."""
    return [{**first, "contender": name, **values(runs)} for name, runs in results.items()]


def ratio(one: Iterable[Run], other: Iterable[Run], number: Callable[[Run], float]) -> Spread:
    """Return the ratio of a number of two contenders, formed within each round."""
    return ratios(map(number, one), map(number, other))


def compared(one: Sequence[Run], other: Sequence[Run]) -> dict[str, Spread]:
    """Return the columns that compare two contenders, round by round."""
    return {
        "saves/s": ratio(one, other, lambda run: run.per_second),
        "until closed": ratio(one, other, lambda run: run.closed_per_second),
        "CPU a save": ratio(one, other, lambda run: run.cpu_us),
        "median latency": ratio(one, other, lambda run: run.median_seconds),
    }
