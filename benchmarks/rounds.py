"""Rounds in which all contenders take turns, each time in a new process and a new directory."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

# Its children begin as forks of a process that has imported all this and done nothing else.
_FORKS = multiprocessing.get_context("forkserver")
_IMPORTED = ["benchmarks.contenders", "langgraph.checkpoint.sqlite.aio", "langgraph.graph"]
_READY_SECONDS = 120.0

CaseT = TypeVar("CaseT", bound=Hashable)
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class Settings(Struct, frozen=True, kw_only=True):
    """
    How much to measure.

    Attributes:
        directory: an empty one, on the disk to measure.
        rounds: how often every contender runs.
        seconds: how long a contender runs in a round, where time is the measure.
        sustained_seconds: the same for what is measured for long.
        size_bytes: of a document.
        keeps_files: whether nothing is removed before the end of the run.
        is_quick: whether tiny sizes will do, as a test that everything works.
    """

    directory: Path
    rounds: int
    seconds: float
    sustained_seconds: float
    size_bytes: int
    keeps_files: bool = False
    is_quick: bool = False


class UnavailableError(Exception):
    """A contender cannot run here; the text says why and what to do."""


class ChildFailedError(Exception):
    """The work of a child failed; the text is its traceback."""


class Results(dict[CaseT, list[ResultT]]):
    """
    One result a round, by case.

    Attributes:
        unavailable: why a case has none.
    """

    def __init__(self, cases: Iterable[CaseT]) -> None:
        super().__init__((case, []) for case in cases)
        self.unavailable: dict[CaseT, str] = {}

    def notes(self) -> list[str]:
        """Return what is missing and why."""
        return [f"{case}: {reason}" for case, reason in self.unavailable.items()]


def interleaved(
    settings: Settings, cases: Sequence[CaseT], measure: Callable[[CaseT, Path], ResultT]
) -> Results[CaseT, ResultT]:
    """
    Run every case once a round, each round beginning with the next one.

    So that none always runs after the same neighbour. What one has left unwritten or has to be
    removed is out of the way before the next begins.

    Args:
        settings: the number of rounds.
        cases: to compare.
        measure: one case in one round, in a new directory.
    """
    results: Results[CaseT, ResultT] = Results(cases)
    for number in range(settings.rounds):
        first = number % len(cases)
        for case in [*cases[first:], *cases[:first]]:
            if case in results.unavailable:
                continue
            if not settings.is_quick:
                os.sync()
            try:
                with fresh_directory(settings) as directory:
                    results[case].append(measure(case, directory))
            except UnavailableError as error:
                results.unavailable[case] = str(error)
                del results[case]
    return results


@contextmanager
def fresh_directory(settings: Settings) -> Iterator[Path]:
    """Make an empty directory on the disk to measure."""
    directory = Path(tempfile.mkdtemp(dir=settings.directory))
    try:
        yield directory
    finally:
        if not settings.keeps_files:
            shutil.rmtree(directory)


def in_child(work: Callable[[JobT], ResultT], job: JobT) -> ResultT:
    """Return what `work` returns for a job in a new process."""
    return in_children(work, [job])[0]


def in_children(work: Callable[[JobT], ResultT], jobs: Sequence[JobT]) -> list[ResultT]:
    """Return what `work` returns for the jobs, each in a new process, all at once."""
    _FORKS.set_forkserver_preload(_IMPORTED)
    gate = _FORKS.Barrier(len(jobs))
    with ExitStack() as stack:
        pipes = [stack.enter_context(_child(gate, work, job)) for job in jobs]
        outcomes = [pipe.recv() for pipe in pipes]
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if len(errors) > 1:
        raise ExceptionGroup("children failed", errors)
    for error in errors:
        raise error
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]


@contextmanager
def _child(
    gate: Barrier, work: Callable[[JobT], ResultT], job: JobT
) -> Iterator[Connection[Any, ResultT | Exception]]:
    """Start a process and give the pipe of its outcome; it does not outlive the block."""
    receiver, sender = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_send_outcome, args=(sender, gate, work, job))
    process.start()
    sender.close()
    try:
        yield receiver
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
        receiver.close()


def start_together() -> None:
    """Wait, in a child, until its siblings are ready as well."""
    _gates[-1].wait(_READY_SECONDS)


_gates: list[Barrier] = []


def _send_outcome(
    sender: Connection[ResultT | Exception, Any],
    gate: Barrier,
    work: Callable[[JobT], ResultT],
    job: JobT,
) -> None:
    _gates.append(gate)
    gc.freeze()  # what has been imported costs nobody a pause
    try:
        sender.send(work(job))
    except UnavailableError as error:
        sender.send(error)
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it
        gate.abort()  # nobody waits for one that will not come
        sender.send(ChildFailedError(traceback.format_exc()))
