"""Do save, load and delete get slower with the number of checkpoints in the session?"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from msgspec.structs import replace

from aiocheckpoint import AsyncCheckpointWriter
from aiocheckpoint.writer import Durability
from benchmarks.documents import KB, documents
from benchmarks.harness import Settings, interleaved, timed
from benchmarks.report import Cell, Spread, Table, quantile, ratios
from benchmarks.stored import SESSION_ID, counts, stored

_OPERATIONS = ("save", "load the newest", "delete it")
_DURABILITIES: tuple[Durability, ...] = ("journal", "none")
_GOAL = 1.10
_NOTES = [
    (
        "8 KB documents. Each round saves, loads and deletes in turn, so that the number stays; the"
        " round's value is the median."
    ),
    (
        "`many / few` is formed round by round: median (p10-p90). The goal is at most"
        f" {_GOAL:.2f} for the median."
    ),
    "`none` shows the same work without the noise of the disk.",
]


class Case:
    """A session with `count` checkpoints and a warm writer on it."""

    def __init__(
        self, count: int, durability: Durability, writer: AsyncCheckpointWriter[Any], repeats: int
    ) -> None:
        self.count = count
        self.name = f"{durability} {count}"
        self._writer = writer
        self._repeats = repeats
        self._documents = documents(8 * KB, 16)

    async def measure(self, _: int) -> tuple[float, ...]:
        """Return the median time of each operation in this round, in seconds."""
        await self._cycle(0)
        cycles = [await self._cycle(number) for number in range(self._repeats)]
        return tuple(quantile(times, 0.5) for times in zip(*cycles, strict=True))

    async def _cycle(self, number: int) -> tuple[float, ...]:
        document = self._documents[number % len(self._documents)]
        data = document.checkpoint(SESSION_ID, number)
        return (
            await timed(self._writer.save(data)),
            await timed(self._writer.load(SESSION_ID)),
            await timed(self._writer.delete(SESSION_ID, data.checkpoint_id)),
        )


async def run(settings: Settings) -> list[Table]:
    """Return one table."""
    repeats = 3 if settings.is_quick else 25
    rounds = settings.rounds if settings.is_quick else 6 * settings.rounds
    sizes = counts(settings, 10, 10_000)
    async with AsyncExitStack() as stack:
        cases = []
        for durability in _DURABILITIES:
            for count in sizes:
                opened = AsyncCheckpointWriter(await stored(settings, count), durability=durability)
                writer = await stack.enter_async_context(opened)
                cases.append(Case(count, durability, writer, repeats))
        results = await interleaved(replace(settings, rounds=rounds), cases, Case.measure)
    few, many = sizes
    rows: list[dict[str, Cell]] = []
    for durability in _DURABILITIES:
        for which, operation in enumerate(_OPERATIONS):
            small = [times[which] for times in results[f"{durability} {few}"]]
            large = [times[which] for times in results[f"{durability} {many}"]]
            ratio = ratios(large, small)
            rows.append(
                {
                    "durability": durability,
                    "operation": operation,
                    f"us at {few:,}": Spread.of(seconds * 1e6 for seconds in small),
                    f"us at {many:,}": Spread.of(seconds * 1e6 for seconds in large),
                    "many / few": ratio,
                    "within 10 %": "yes" if ratio.median <= _GOAL else "NO",
                }
            )
    return [Table("Cost by the number of checkpoints in the session", rows, _NOTES)]
