"""How long does a load take, and does it matter how many checkpoints there are?"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import aiofiles.os
import msgspec

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from benchmarks.contenders import SQLITE
from benchmarks.harness import Settings, UnavailableError, interleaved, timed
from benchmarks.report import Cell, Table, quantile, ratios
from benchmarks.stored import SESSION_ID, counts, open_sqlite, stored

_FLOOR = "floor: read and decode"
_NOTES = [
    "Files in the page cache, one load at a time. Latencies over all loads of all rounds.",
    (
        "The floor is one hop that reads a file and decodes it with msgspec: no checksum, no look"
        " whether it is still the newest."
    ),
    "`this / floor`: of the medians, round by round.",
]


class Case:
    """
    One way to load.

    Args:
        how: for the table.
        count: how many checkpoints the session has.
        load: loads once.
        repeats: how often in a round.
    """

    def __init__(
        self, how: str, count: int, load: Callable[[], Awaitable[object]], repeats: int
    ) -> None:
        self.how = how
        self.count = count
        self.name = f"{how}, {count}"
        self._load = load
        self._repeats = repeats

    async def measure(self, _: int) -> list[float]:
        """Return the latencies of one round; what may be warm is made so first."""
        assert await self._load() is not None
        return [await timed(self._load()) for _ in range(self._repeats)]


async def run(settings: Settings) -> list[Table]:
    """Return one table."""
    repeats = 3 if settings.is_quick else 200
    notes = list(_NOTES)
    async with AsyncExitStack() as stack:
        cases: list[Case] = []
        for count in counts(settings, 10, 10_000):
            cases += await _our_cases(stack, await stored(settings, count), count, repeats)
            try:
                sqlite = await open_sqlite(settings, count)
            except UnavailableError as error:
                notes.append(f"{SQLITE}: {error}")
                continue
            stack.push_async_callback(sqlite.close)
            cases.append(Case(f"{SQLITE}, latest", count, partial(sqlite.load, 0), repeats))
        results = await interleaved(settings, cases, Case.measure)
    medians = {name: [quantile(found, 0.5) for found in results[name]] for name in results}
    floor = next(medians[case.name] for case in cases if case.how == _FLOOR)
    rows: list[dict[str, Cell]] = []
    for case in cases:
        latencies = list(chain.from_iterable(results[case.name]))
        rows.append(
            {
                "how": case.how,
                "checkpoints": f"{case.count:,}",
                "median us": quantile(latencies, 0.5) * 1e6,
                "p99 us": quantile(latencies, 0.99) * 1e6,
                "this / floor": ratios(medians[case.name], floor),
            }
        )
    return [Table("Loads of 8 KB", rows, notes)]


async def _our_cases(stack: AsyncExitStack, root: Path, count: int, repeats: int) -> list[Case]:
    writer = await stack.enter_async_context(AsyncCheckpointWriter(root))
    metas = await writer.list(SESSION_ID)
    chosen = random.Random(count)
    ids = [meta.checkpoint_id for meta in metas]

    def latest() -> Awaitable[CheckpointData | None]:
        return writer.load(SESSION_ID)

    def by_id() -> Awaitable[CheckpointData | None]:
        return writer.load(SESSION_ID, chosen.choice(ids))

    async def latest_of_new_writer() -> CheckpointData | None:
        async with AsyncCheckpointWriter(root) as new:
            return await new.load(SESSION_ID)

    def floor() -> Awaitable[object]:
        return aiofiles.os.wrap(_read_and_decode)(metas[0].path)

    return [
        Case("latest", count, latest, repeats),
        Case("by id", count, by_id, repeats),
        Case("latest, first call of a new writer", count, latest_of_new_writer, repeats // 10 + 1),
        Case(_FLOOR, count, floor, repeats),
    ]


_decode = msgspec.json.Decoder(CheckpointData).decode


def _read_and_decode(path: Path) -> CheckpointData:
    return _decode(path.read_bytes())
