"""A process that is watched from outside while it records what it does; see `strace`."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeAlias, TypeVar

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint._engine import applier
from tests.crash import oracle
from tests.crash.checker import ROOT_NAME, perform, see_all
from tests.crash.operations import Operation, Tree
from tests.crash.recorder import RecordingFiles

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class Task(NamedTuple):
    """
    What to do.

    Attributes:
        tree: what is in the outer directory.
        durability: of the writer.
        kinds: names of calls.
        leak: whether to make a directory past the recorder.
    """

    tree: Tree
    durability: Durability
    kinds: Sequence[str]
    leak: bool = False


Traced: TypeAlias = tuple[list[Operation], int]
"""What was recorded, and how often the time of a file was set."""


class _CountingFiles(RecordingFiles):
    """Recording files that count also what no promise is about."""

    times_set = 0

    def recorded(self, name: str, function: Callable[P, ResultT]) -> Callable[P, ResultT]:
        self.times_set += name == "utime"
        return super().recorded(name, function)


async def _traced(outer: Path, task: Task) -> Traced:
    applier.ROUND_SECONDS = 3600.0  # or a slow process has written most files before it flushes
    files = _CountingFiles(outer, task.tree)
    async with AsyncCheckpointWriter(
        outer / ROOT_NAME, files=files, durability=task.durability
    ) as writer:
        await see_all(writer)
        for call in oracle.sequence(task.kinds, {}, 100):
            await perform(writer, call)
        await see_all(writer)
    if task.leak:
        os.mkdir(outer / ROOT_NAME / "leak")
    return files.operations, files.times_set


def main(outer: Path, exchange: Path) -> None:
    """Do the task in a file, and leave there what was recorded."""
    task = pickle.loads(exchange.read_bytes())
    exchange.write_bytes(pickle.dumps(asyncio.run(_traced(outer, task))))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
