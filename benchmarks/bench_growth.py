"""Do save, load and delete get slower with the number of checkpoints in the session?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter
from benchmarks.documents import documents, size_label
from benchmarks.report import Answer, Bound, Row, Spread, Table, quantile, ratios
from benchmarks.rounds import Settings, in_child, interleaved

Durability = Literal["journal", "none"]

_OPERATIONS = ("save", "load of the newest", "delete")
_DURABILITIES: tuple[Durability, ...] = ("journal", "none")
_SAVES_AT_ONCE = 256
_NOTES = [
    (
        "A round saves, loads and deletes in turn in a session of few and in one of many, by one"
        " writer; its value is the median."
    ),
    "`many / few` is formed round by round. `none` shows the same work without the disk's noise.",
]


class Growth(Struct, frozen=True):
    """What a process does: sessions of so many checkpoints, and so many calls on each."""

    directory: Path
    durability: Durability
    counts: tuple[int, int]
    repeats: int
    size_bytes: int


def run(settings: Settings) -> Answer:
    """Return one table and the bounds."""
    counts = (3, 30) if settings.is_quick else (10, 10_000)
    repeats = 3 if settings.is_quick else 300

    def measure(durability: Durability, directory: Path) -> list[tuple[float, ...]]:
        growth = Growth(directory, durability, counts, repeats, settings.size_bytes)
        return in_child(medians, growth)

    results = interleaved(settings, _DURABILITIES, measure)
    rows: list[Row] = []
    bounds: list[Bound] = []
    for durability, rounds in results.items():
        for which, operation in enumerate(_OPERATIONS):
            few, many = ([one[size][which] for one in rounds] for size in (0, 1))
            ratio = ratios(many, few)
            rows.append(
                {
                    "durability": durability,
                    "call": operation,
                    f"us at {counts[0]:,}": Spread.of(seconds * 1e6 for seconds in few),
                    f"us at {counts[1]:,}": Spread.of(seconds * 1e6 for seconds in many),
                    "many / few": ratio,
                }
            )
            what = f"{operation}, {durability}, at {counts[1]:,} of that at {counts[0]:,}"
            bounds.append(Bound(what, ratio, 1.1, is_least=False))
    title = f"Cost by the number of checkpoints, {size_label(settings.size_bytes)}"
    return Answer([Table(title, rows, _NOTES)], bounds)


def medians(growth: Growth) -> list[tuple[float, ...]]:
    """Return the median time of each operation, for few and for many; in seconds."""
    return asyncio.run(_medians(growth))


async def _medians(growth: Growth) -> list[tuple[float, ...]]:
    async with AsyncCheckpointWriter(growth.directory, durability="none") as writer:
        for count in growth.counts:
            await fill(writer, str(count), count, growth.size_bytes)
    async with AsyncCheckpointWriter(growth.directory, durability=growth.durability) as writer:
        cycles: dict[int, list[tuple[float, ...]]] = {count: [] for count in growth.counts}
        for count in growth.counts:
            await _cycle(writer, str(count), growth.size_bytes, 0)
        for number in range(growth.repeats):
            for count, found in cycles.items():
                found.append(await _cycle(writer, str(count), growth.size_bytes, number))
    return [
        tuple(quantile(times, 0.5) for times in zip(*found, strict=True))
        for found in cycles.values()
    ]


async def fill(
    writer: AsyncCheckpointWriter[Any], session: str, count: int, size_bytes: int
) -> None:
    """Save so many checkpoints."""
    different = documents(size_bytes, 16)
    for start in range(0, count, _SAVES_AT_ONCE):
        steps = range(start, min(start + _SAVES_AT_ONCE, count))
        records = (different[n % len(different)].checkpoint(session, n) for n in steps)
        await asyncio.gather(*map(writer.save, records))


async def _cycle(
    writer: AsyncCheckpointWriter[Any], session: str, size_bytes: int, number: int
) -> tuple[float, ...]:
    different = documents(size_bytes, 16)
    data = different[number % len(different)].checkpoint(session, number)
    return (
        await _timed(writer.save(data)),
        await _timed(writer.load(session)),
        await _timed(writer.delete(session, data.checkpoint_id)),
    )


async def _timed(work: Awaitable[object]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start
