"""
Appends that take turns with those of the Claude Agent SDK's own stores, on the same servers.

`python -m benchmarks.adapters.claude_agent_beside`: each append is followed by one of the other
store, so that whatever else a machine does meets both alike. Beside them stands the least that an
append could be here: a save of its entries alone, as a record of its own, which knows nothing of
uuids, of a summary and of the entries before it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from aiocheckpoint import ANY_NEWEST, CheckpointRecord, CheckpointStore, open_store
from benchmarks.adapters import claude_agent_turns as turns
from benchmarks.adapters.turns import TURNS, Open, Store

LEAST_IN_POSTGRES, LEAST_IN_S3 = "a save in PostgreSQL", "a save in S3"


class Append(CheckpointRecord, kw_only=True):
    """What an append adds, as JSON."""

    lines: list[str]


class Saves:
    """A record for each append, which is refused if anybody else has saved meanwhile."""

    def __init__(self, store: CheckpointStore[Append], session_id: str) -> None:
        self._store = store
        self._session_id = session_id
        self._newest: Any = ANY_NEWEST

    async def write(self, turn: int) -> None:
        """Save a turn."""
        lines = [msgspec.json.encode(entry).decode() for entry in turns.entries(turn)]
        record = Append(session_id=self._session_id, lines=lines)
        self._newest = await self._store.save(record, expected=self._newest)

    async def read(self) -> int:
        """Count what there is."""
        return len(await self._store.list(self._session_id))


@asynccontextmanager
async def saves_at(directory: Path, *, url: str) -> AsyncIterator[Store]:
    """Open a store on a server."""
    async with open_store(url, record_type=Append) as store:
        saves = Saves(store, directory.name)
        await saves.read()  # connect, as the others have done
        yield saves


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
        (LEAST_IN_POSTGRES, turns.THEIRS_IN_POSTGRES),
        (LEAST_IN_S3, turns.THEIRS_IN_S3),
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
        for least, ours in (
            (LEAST_IN_POSTGRES, turns.OURS_IN_POSTGRES),
            (LEAST_IN_S3, turns.OURS_IN_S3),
        ):
            if ours in servers:
                servers[least] = partial(saves_at, **servers[ours].keywords)
        _measure(servers, parent, options.rounds)


if __name__ == "__main__":
    main()
