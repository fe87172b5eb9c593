"""Sessions of 200 turns: how long a write and a read take, and what is on the disk afterwards."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

TURNS = 200


class Store(Protocol):
    """A store of one framework, of one session."""

    async def write(self, turn: int) -> None:
        """Store what a turn adds."""

    async def read(self) -> int:
        """Read the whole session, as the first thing; return how much of it was there."""


Open = Callable[[Path], AbstractAsyncContextManager[Store]]


class Run(NamedTuple):
    """
    What one session took; reading it with the opening of the store, but for connecting.

    CPU is of the whole process, all threads: of the writes on average, as work of one may come to
    another.
    """

    writes_ms: list[float]
    read_ms: float
    bytes: int
    write_cpu_ms: float
    read_cpu_ms: float

    @property
    def write_ms(self) -> float:
        """What a write took, in the middle."""
        return statistics.median(self.writes_ms)


@cache  # or making it would be a part of what is measured
def text(turn: int, size: int) -> str:
    """Return text of words, another one for each turn."""
    words = [f"word{(turn * 7919 + number * 104729) % 10007}" for number in range(size // 9)]
    return " ".join(words)


async def _run(open_store: Open, directory: Path, *, is_connected: bool) -> Run:
    writes: list[float] = []
    async with open_store(directory) as store:
        cpu_begin = time.process_time()
        for turn in range(TURNS):
            begin = time.perf_counter()
            await store.write(turn)
            writes.append((time.perf_counter() - begin) * 1e3)
        write_cpu = (time.process_time() - cpu_begin) * 1e3 / TURNS
    reads: list[float] = []
    read_cpu: list[float] = []
    for _ in range(5):
        # Some read or make what they need when they are opened.
        begin, cpu_begin = time.perf_counter(), time.process_time()
        async with open_store(directory) as store:
            if is_connected:
                begin, cpu_begin = time.perf_counter(), time.process_time()
            count = await store.read()
            reads.append((time.perf_counter() - begin) * 1e3)
            read_cpu.append((time.process_time() - cpu_begin) * 1e3)
        assert count, "nothing was read"
    size = sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and ".aiocheckpoint" not in path.parts
    )
    return Run(writes, min(reads), size, write_cpu, min(read_cpu))


def measure(
    contenders: Mapping[str, Open],
    transcript_bytes: int,
    beside: Sequence[tuple[str, str]] = (),
    connected: Collection[str] = (),
) -> None:
    """
    Run the contenders in turn, and print the medians of their better halves as a table.

    Args:
        contenders: by their names.
        transcript_bytes: how long the session is as JSON.
        beside: two of them each, of which the ratios within the rounds are printed.
        connected: those on servers, to which a read has a connection already.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    for _ in range(options.rounds):
        for name, open_store in contenders.items():
            directory = Path(tempfile.mkdtemp(dir=options.directory))
            try:
                run = _run(open_store, directory, is_connected=name in connected)
                runs[name].append(asyncio.run(run))
            finally:
                shutil.rmtree(directory)
    lines = [
        f"{TURNS} turns, {transcript_bytes / 1e6:.2f} MB as JSON",
        "",
        "| | write p50 | write p99 | all | bytes |",
        "|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        better = sorted(found, key=lambda run: run.write_ms)
        half = better[: (len(better) + 1) // 2]
        p50 = statistics.median(run.write_ms for run in half)
        p99 = statistics.median(statistics.quantiles(run.writes_ms, n=100)[98] for run in half)
        read = statistics.median(sorted(run.read_ms for run in found)[: len(half)])
        size = statistics.median(run.bytes for run in found) / 1e6
        lines.append(f"| {name} | {p50:.2f} ms | {p99:.2f} ms | {read:.1f} ms | {size:.2f} MB |")
    pairs = [pair for pair in beside if all(name in runs for name in pair)]
    if pairs:
        lines += [
            "",
            "| median (least-greatest) of the rounds | write p50 | its CPU | all | its CPU |",
            "|---|---|---|---|---|",
        ]
    for name, other in pairs:
        ratios = [
            [
                getattr(one, what) / getattr(two, what)
                for one, two in zip(runs[name], runs[other], strict=True)
            ]
            for what in ("write_ms", "write_cpu_ms", "read_ms", "read_cpu_ms")
        ]
        lines.append(f"| {name} / {other} | {' | '.join(map(_ratio, ratios))} |")
    sys.stdout.write("\n".join(lines) + "\n")


def _ratio(rounds: Sequence[float]) -> str:
    return f"{statistics.median(rounds):.2f} ({min(rounds):.2f}-{max(rounds):.2f})"


def json_bytes(adapter: Any, value: Any) -> int:
    """Return how long a value is as JSON of a pydantic adapter."""
    return len(adapter.dump_json(value))
