"""How long does a list take, the first time and again?"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter
from benchmarks.bench_growth import fill
from benchmarks.documents import documents, size_label
from benchmarks.report import Answer, Row, Spread, Table, quantile, ratios
from benchmarks.rounds import Settings, in_child, interleaved
from benchmarks.savers import JOURNAL, SQLITE, Sqlite

_COLD = "cold: first call of a new writer"
_WARM = "warm: nothing changed since"
_PARSED = "read and json.loads all"
_SQLITE = f"{SQLITE}.alist"
_SESSION = "session"
_CALLS = {10: 30, 1_000: 5}
_NOTES = [
    "Files in the page cache. A round's value is the median of its calls.",
    "`this / cold`: round by round, at the same number of checkpoints.",
    f"{_SQLITE} has no other way than to give whole checkpoints.",
]


class Listing(Struct, frozen=True):
    """What a process does: store so many checkpoints and list them."""

    directory: Path
    contender: str
    count: int
    size_bytes: int


def run(settings: Settings) -> Answer:
    """Return one table."""
    rows: list[Row] = []
    for count in (3, 30) if settings.is_quick else (10, 1_000, 10_000):
        for how, seconds in _measured(settings, count).items():
            rows.append({"checkpoints": f"{count:,}", "how": how, **seconds})
    title = f"Listing a session, {size_label(settings.size_bytes)}"
    return Answer([Table(title, rows, _NOTES)])


def _measured(settings: Settings, count: int) -> dict[str, Row]:
    def measure(contender: str, directory: Path) -> dict[str, float]:
        return in_child(listings, Listing(directory, contender, count, settings.size_bytes))

    results = interleaved(settings, (JOURNAL, SQLITE), measure)
    rounds = [ours | theirs for ours, theirs in zip(*results.values(), strict=True)]
    cold = [one[_COLD] for one in rounds]
    return {
        how: {
            "ms": Spread.of(one[how] * 1e3 for one in rounds),
            "us for each": Spread.of(one[how] / count * 1e6 for one in rounds),
            "this / cold": ratios((one[how] for one in rounds), cold),
        }
        for how in rounds[0]
    }


def listings(listing: Listing) -> dict[str, float]:
    """Return how long each way to list takes in this process, in seconds."""
    return asyncio.run(_theirs(listing) if listing.contender == SQLITE else _ours(listing))


async def _ours(listing: Listing) -> dict[str, float]:
    async with AsyncCheckpointWriter(listing.directory, durability="none") as writer:
        await fill(writer, _SESSION, listing.count, listing.size_bytes)

    async def cold() -> int:
        async with AsyncCheckpointWriter(listing.directory) as new:
            return len(await new.list(_SESSION))

    async def parsed() -> int:
        return await asyncio.to_thread(_parse_all, listing.directory / _SESSION / "checkpoints")

    async with AsyncCheckpointWriter(listing.directory) as writer:

        async def warm() -> int:
            return len(await writer.list(_SESSION))

        ways = {_COLD: cold, _WARM: warm, _PARSED: parsed}
        return {how: await _timed(listing, way) for how, way in ways.items()}


def _parse_all(directory: Path) -> int:
    found = [json.loads(path.read_bytes()) for path in directory.glob("cp_*.json")]
    return len({document["checkpoint_id"] for document in found})


async def _theirs(listing: Listing) -> dict[str, float]:
    different = documents(listing.size_bytes, 16)
    saver = Sqlite()
    await saver.open(listing.directory)
    try:
        await saver.hurry()
        for step in range(listing.count):
            await saver.save(_SESSION, step, different[step % len(different)])
        return {_SQLITE: await _timed(listing, lambda: saver.list(_SESSION))}
    finally:
        await saver.close()


async def _timed(listing: Listing, way: Callable[[], Awaitable[int]]) -> float:
    seconds = []
    for _ in range(1 + _CALLS.get(listing.count, 1)):
        start = time.perf_counter()
        seen = await way()
        seconds.append(time.perf_counter() - start)
        assert seen == listing.count
    return quantile(seconds[1:], 0.5)
