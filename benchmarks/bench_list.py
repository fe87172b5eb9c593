"""How long does a list take, the first time and again?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter
from benchmarks.contenders import SQLITE
from benchmarks.harness import Settings, UnavailableError, interleaved, timed
from benchmarks.report import Cell, Spread, Table, quantile, ratios
from benchmarks.stored import SESSION_ID, counts, open_sqlite, stored

_COLD = "cold: first call of a new writer"
_NOTES = [
    "8 KB documents, files in the page cache. A round's value is the median of its calls.",
    "`this / cold`: round by round, at the same number of checkpoints.",
    f"{SQLITE}.alist has no other way than to give whole checkpoints.",
]
_CALLS_PER_ROUND = {10: 30, 1_000: 5, 10_000: 1}


class Case(Struct, frozen=True):
    """One way to list a session with `count` checkpoints; `list_once` returns how many it saw."""

    name: str
    how: str
    count: int
    list_once: Callable[[], Awaitable[int]]

    async def measure(self, _: int) -> float:
        """Return how long a call takes in this round, in seconds."""
        assert await self.list_once() == self.count
        calls = _CALLS_PER_ROUND.get(self.count, 1)
        return quantile([await timed(self.list_once()) for _ in range(calls)], 0.5)


async def run(settings: Settings) -> list[Table]:
    """Return one table."""
    notes = list(_NOTES)
    async with AsyncExitStack() as stack:
        cases: list[Case] = []
        for count in counts(settings, 10, 1_000, 10_000):
            root = await stored(settings, count)
            writer = await stack.enter_async_context(AsyncCheckpointWriter(root))
            ways = _ways(root, writer)
            try:
                sqlite = await open_sqlite(settings, count)
            except UnavailableError as error:
                notes.append(f"{SQLITE}: {error}")
            else:
                stack.push_async_callback(sqlite.close)
                ways[f"{SQLITE}.alist"] = partial(sqlite.list, 0)
            cases += [Case(f"{how}, {count}", how, count, way) for how, way in ways.items()]
        results = await interleaved(settings, cases, Case.measure)
    rows: list[dict[str, Cell]] = [
        {
            "checkpoints": f"{case.count:,}",
            "how": case.how,
            "ms": Spread.of(seconds * 1e3 for seconds in results[case.name]),
            "us for each": Spread.of(seconds / case.count * 1e6 for seconds in results[case.name]),
            "this / cold": ratios(results[case.name], results[f"{_COLD}, {case.count}"]),
        }
        for case in cases
    ]
    return [Table("Listing a session", rows, notes)]


def _ways(
    root: Path, writer: AsyncCheckpointWriter[Any]
) -> dict[str, Callable[[], Awaitable[int]]]:
    async def cold() -> int:
        async with AsyncCheckpointWriter(root) as new:
            return len(await new.list(SESSION_ID))

    async def warm() -> int:
        return len(await writer.list(SESSION_ID))

    async def parsed() -> int:
        return await asyncio.to_thread(_parse_all, root / SESSION_ID / "checkpoints")

    return {_COLD: cold, "warm: nothing changed since": warm, "read and json.loads all": parsed}


def _parse_all(directory: Path) -> int:
    documents = [json.loads(path.read_bytes()) for path in directory.glob("cp_*.json")]
    return len({document["checkpoint_id"] for document in documents})
