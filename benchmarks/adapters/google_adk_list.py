"""
A list of the sessions of a user of Google ADK: `python -m benchmarks.adapters.google_adk_list`.

Beside the framework's store stands the floor: a thread that reads as many small files, and makes
the framework's sessions of them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from aiocheckpoint.adapters.google_adk import SessionService

SESSIONS = 150
USER = {"app_name": "shop", "user_id": "ann"}
STATE = {"step": 1, "cart": ["tea", "cups"], "user_name": "Ann"}
OURS, AGAIN = "`SessionService`, the first list", "`SessionService`, the next one"
SQLITE, FLOOR = "`SqliteSessionService`", "the floor"

List = Callable[[], Awaitable[int]]


async def filled(service: BaseSessionService) -> List:
    """Create the sessions and return what lists them."""
    for number in range(SESSIONS):
        await service.create_session(**USER, session_id=f"session-{number}", state=STATE)
    return listing(service)


def listing(service: BaseSessionService) -> List:
    """Return what lists the sessions of a service."""

    async def listed() -> int:
        return len((await service.list_sessions(**USER)).sessions)

    return listed


def floor(directory: Path) -> List:
    """Write a file a session, and return what reads them all."""
    directory.mkdir()
    paths = [directory / f"session-{number}" for number in range(SESSIONS)]
    for path in paths:
        path.write_bytes(msgspec.json.encode({**USER, "id": path.name, "state": STATE}))

    def read() -> int:
        return len([Session(**msgspec.json.decode(path.read_bytes())) for path in paths])

    async def listed() -> int:
        return await asyncio.to_thread(read)

    return listed


async def run(directory: Path, rounds: int) -> dict[str, list[float]]:
    """Return how many milliseconds each took, in each round."""
    async with SessionService(directory / "ours") as ours:
        await filled(ours)
    sqlite = await filled(SqliteSessionService(str(directory / "sessions.db")))
    bare = floor(directory / "bare")
    took: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        async with SessionService(directory / "ours") as ours:
            own = listing(ours)
            for name, listed in ((OURS, own), (AGAIN, own), (SQLITE, sqlite), (FLOOR, bare)):
                begin = time.perf_counter()
                count = await listed()
                took[name].append((time.perf_counter() - begin) * 1e3)
                assert count == SESSIONS
    return took


def main() -> None:
    """Measure all, and print medians and what they are of the floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        took = asyncio.run(run(Path(directory), options.rounds))
    print(f"a list of {SESSIONS} sessions, {options.rounds} rounds\n")
    print("| | p50 | least | of the floor |\n|---|---|---|---|")
    for name, times in took.items():
        of_floor = statistics.median(
            time / least for time, least in zip(times, took[FLOOR], strict=True)
        )
        print(f"| {name} | {statistics.median(times):.1f} ms | {min(times):.1f} | {of_floor:.1f} |")


if __name__ == "__main__":
    main()
