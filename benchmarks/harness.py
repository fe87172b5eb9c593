"""How every benchmark measures: interleaved rounds, closed loops, and a ticker for stalls."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from msgspec import Struct

from benchmarks.documents import Document

_TICK_SECONDS = 0.001
_STAGGER_SECONDS = 0.002


class Settings(Struct, frozen=True, kw_only=True):
    """
    How much to measure.

    Attributes:
        directory: an empty one, on the disk to measure.
        rounds: how often every contender runs.
        seconds: how long a contender runs in a round, where time is the measure.
        is_quick: whether tiny sizes will do, as a test that everything works.
    """

    directory: Path
    rounds: int
    seconds: float
    is_quick: bool


class UnavailableError(Exception):
    """A contender cannot run here; the text says why and what to do."""


class Workload(Struct, frozen=True, kw_only=True):
    """
    Sessions that save one document after the other, each as soon as the last save returned.

    Attributes:
        directory: an empty one of its own.
        sessions: how many at once.
        seconds: how long; every session saves at least `min_saves` times all the same.
        documents: what they save, in turn.
        min_saves: by each session.
    """

    directory: Path
    sessions: int
    seconds: float
    documents: Sequence[Document]
    min_saves: int = 2

    def document(self, session: int, step: int) -> Document:
        """Return what a session saves in a step."""
        return self.documents[(session * 7 + step) % len(self.documents)]


class Run(Struct, frozen=True):
    """
    What a workload took.

    Attributes:
        latencies_seconds: of each save.
        elapsed_seconds: from the first call to the last return.
        closed_seconds: the same and the closing, with whatever was put off until then.
    """

    latencies_seconds: list[float]
    elapsed_seconds: float
    closed_seconds: float

    @property
    def saves_per_second(self) -> float:
        """Saves acknowledged while sessions were running."""
        return len(self.latencies_seconds) / self.elapsed_seconds

    @property
    def settled_saves_per_second(self) -> float:
        """Saves over the whole time until nothing was left to do."""
        return len(self.latencies_seconds) / self.closed_seconds


class Contender(Protocol):
    """Something that can save."""

    name: str
    """As it stands in tables."""
    durable: str
    """What is durable when its save returns."""

    async def run(self, workload: Workload) -> Run:
        """Carry out a workload, or raise `UnavailableError`."""
        ...


class Ticker:
    """
    Wakes every millisecond and notes how late it is: what any other task would have suffered.

    A stall over several ticks counts for each of them, as it would delay each.
    """

    def __init__(self) -> None:
        self.lateness_seconds: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(2 * _TICK_SECONDS)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.sleep(2 * _TICK_SECONDS)
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _tick(self) -> None:
        due = time.perf_counter() + _TICK_SECONDS
        while True:
            await asyncio.sleep(due - time.perf_counter())
            now = time.perf_counter()
            while due <= now:
                self.lateness_seconds.append(now - due)
                due += _TICK_SECONDS


class Saver(ABC):
    """A contender in this process and event loop."""

    name: str
    durable: str

    @abstractmethod
    async def open(self, workload: Workload) -> None:
        """Get ready; not measured."""

    @abstractmethod
    async def save(self, session: int, step: int, document: Document) -> None:
        """Save, as an application would with this contender."""

    @abstractmethod
    async def close(self) -> None:
        """Finish everything and let go."""

    async def run(self, workload: Workload, ticker: Ticker | None = None) -> Run:
        """Carry out a workload; the first save of each session is not measured."""
        await self.open(workload)
        latencies: list[float] = []
        try:
            await asyncio.gather(
                *(self.save(n, 0, workload.document(n, 0)) for n in range(workload.sessions))
            )
            begin = time.perf_counter() + _stagger_seconds(workload.sessions, workload.sessions)
            sessions = asyncio.gather(
                *(self._save_on(workload, n, begin, latencies) for n in range(workload.sessions))
            )
            await asyncio.sleep(begin - time.perf_counter())
            async with ticker or nullcontext():
                await sessions
                end = time.perf_counter()
        finally:
            await self.close()
        return Run(latencies, end - begin, time.perf_counter() - begin)

    async def _save_on(
        self, workload: Workload, session: int, begin: float, latencies: list[float]
    ) -> None:
        """Save until the time is up; measure what begins after `begin`."""
        await asyncio.sleep(_stagger_seconds(session, workload.sessions))
        step = measured = 0
        while measured < workload.min_saves or time.perf_counter() < begin + workload.seconds:
            step += 1
            document = workload.document(session, step)
            start = time.perf_counter()
            await self.save(session, step, document)
            if start >= begin:
                latencies.append(time.perf_counter() - start)
                measured += 1


def _stagger_seconds(session: int, sessions: int) -> float:
    """Return when a session begins: all at the same moment would itself be a stall."""
    return 0.0 if sessions == 1 else session * _STAGGER_SECONDS


class _Named(Protocol):
    @property
    def name(self) -> str: ...


ContenderT = TypeVar("ContenderT", bound=_Named)
ResultT = TypeVar("ResultT")


class Results(dict[str, list[ResultT]]):
    """
    One result a round, by contender.

    Attributes:
        unavailable: why a contender has none.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__((name, []) for name in names)
        self.unavailable: dict[str, str] = {}


async def interleaved(
    settings: Settings,
    contenders: Sequence[ContenderT],
    measure: Callable[[ContenderT, int], Awaitable[ResultT]],
) -> Results[ResultT]:
    """
    Run every contender once a round, each round beginning with the next one.

    So that no contender always runs on the fresh disk, or after the same neighbour. What one
    has left unwritten is written out before the next begins.

    Args:
        settings: the number of rounds.
        contenders: to compare.
        measure: one contender in one round.
    """
    results: Results[ResultT] = Results(contender.name for contender in contenders)
    for number in range(settings.rounds):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            if contender.name in results.unavailable:
                continue
            if not settings.is_quick:
                os.sync()
            gc.collect()
            try:
                results[contender.name].append(await measure(contender, number))
            except UnavailableError as error:
                results.unavailable[contender.name] = str(error)
                del results[contender.name]
    return results


def fresh_directory(settings: Settings, *parts: object) -> Path:
    """Make a directory that was not there; none is removed before the end of the run."""
    directory = settings.directory / re.sub(r"[^A-Za-z0-9]+", "-", " ".join(map(str, parts)))
    directory.mkdir(mode=0o700)
    return directory


async def timed(work: Awaitable[object]) -> float:
    """Return how long awaiting something took, in seconds."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start
