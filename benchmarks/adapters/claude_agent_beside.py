"""
Appends that take turns with those of the Claude Agent SDK's own stores, on the same servers.

`python -m benchmarks.adapters.claude_agent_beside`: each append is followed by one of the other
store, so that whatever else a machine does meets both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from benchmarks.adapters import claude_agent_turns as turns
from benchmarks.adapters.turns import TURNS, Open, Store


async def _times(store: Store, turn: int) -> tuple[float, float]:
    begin, cpu_begin = time.perf_counter(), time.process_time()
    await store.write(turn)
    return time.perf_counter() - begin, time.process_time() - cpu_begin


async def _ratios(ours: Open, theirs: Open, parent: Path) -> tuple[float, float]:
    """Return what an append takes, in the middle, and what CPU of the client; ours to theirs."""
    directory = Path(tempfile.mkdtemp(dir=parent))
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(each(directory)) for each in (ours, theirs)]
        found = [[await _times(store, turn) for store in stores] for turn in range(TURNS)]
    middle = [
        [statistics.median(pair[which][what] for pair in found) for which in (0, 1)]
        for what in (0, 1)
    ]
    return middle[0][0] / middle[0][1], middle[1][0] / middle[1][1]


def _shown(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _measure(contenders: Mapping[str, Open], parent: Path, rounds: int) -> None:
    pairs = [
        (turns.OURS_IN_POSTGRES, turns.THEIRS_IN_POSTGRES),
        (turns.OURS_IN_S3, turns.THEIRS_IN_S3),
    ]
    sys.stdout.write(
        "| median (least-greatest) of the rounds | `append` | its CPU |\n|---|---|---|\n"
    )
    for ours, theirs in pairs:
        if ours in contenders:
            opened = contenders[ours], contenders[theirs]
            found = [asyncio.run(_ratios(*opened, parent)) for _ in range(rounds)]
            wall, cpu = ([one[what] for one in found] for what in (0, 1))
            sys.stdout.write(f"| {ours} / {theirs} | {_shown(wall)} | {_shown(cpu)} |\n")


def main() -> None:
    """Measure all that can run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for turn in range(TURNS):
        turns.entries(turn)  # which are made once
    with ExitStack() as stack:
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
        published = turns.Published(parent)
        servers = turns.in_postgres(stack, parent, published) | turns.in_s3(stack, published)
        _measure(servers, parent, options.rounds)


if __name__ == "__main__":
    main()
