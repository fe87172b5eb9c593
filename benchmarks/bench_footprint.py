"""What many sessions take: bytes, files and log a checkpoint, and the time to name them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from aiocheckpoint import open_store
from benchmarks.documents import documents, size_label
from benchmarks.postgres_server import postgres_server
from benchmarks.report import Answer, Row, Table
from benchmarks.rounds import Settings, UnavailableError, fresh_directory, in_child

_CHECKPOINTS = 3  # of a session
_AT_ONCE = 64
_NOTES = [
    f"{_CHECKPOINTS} checkpoints a session, {_AT_ONCE} sessions at a time, each new; one round.",
    "Saves/s with the first save of each session, until closed.",
    "On disk: blocks that are taken, directories included; in PostgreSQL its files, log left out.",
    "Named: `sessions()` by a new client, caches warm; newest: `load_newest` of 100 of them.",
]


class Many(Struct, frozen=True, kw_only=True):
    """
    What a process does: store so many sessions and look at them.

    Attributes:
        url: of the store.
        sessions: how many.
        size_bytes: of a document.
    """

    url: str
    sessions: int
    size_bytes: int


class Found(Struct, frozen=True, kw_only=True):
    """
    What it saw.

    Attributes:
        save_seconds: until the store was closed.
        name_seconds: of naming all sessions.
        newest_seconds: of loading the newest checkpoints of 100 sessions.
    """

    save_seconds: float
    name_seconds: float
    newest_seconds: float


def run(settings: Settings) -> Answer:
    """Return a table with a row for each store and number of sessions."""
    rows: list[Row] = []
    counts = (4,) if settings.is_quick else (1_000, 10_000)
    for count in counts:
        with fresh_directory(settings) as directory:
            before = _on_disk(directory)
            found = in_child(live, _many(settings, str(directory / "state"), count))
            taken = _on_disk(directory)
        saves = count * _CHECKPOINTS
        sizes: Row = {
            "bytes on disk": (taken[0] - before[0]) / saves,
            "log bytes": "",
            "inodes a session": (taken[1] - before[1]) / count,
        }
        rows.append({"store": "directory", **_row(count, found), **sizes})
    try:
        with postgres_server(settings.directory) as url:
            rows += [_in_postgres(settings, url, count) for count in counts]
    except UnavailableError as error:
        print(f"Not measured: {error}")
    return Answer([Table(f"Many sessions, {size_label(settings.size_bytes)}", rows, _NOTES)])


def _many(settings: Settings, url: str, count: int) -> Many:
    return Many(url=url, sessions=count, size_bytes=settings.size_bytes)


def _row(count: int, found: Found) -> Row:
    return {
        "sessions": count,
        "saves/s": count * _CHECKPOINTS / found.save_seconds,
        "named, us each": found.name_seconds / count * 1e6,
        "newest, ms": found.newest_seconds * 1e3,
    }


def _in_postgres(settings: Settings, url: str, count: int) -> Row:
    name = f"many_{count}"
    asyncio.run(_ask(url.format("postgres"), f"create database {name}"))
    before = asyncio.run(_ask(url.format(name), _TAKEN))
    found = in_child(live, _many(settings, url.format(name), count))
    after = asyncio.run(_ask(url.format(name), _TAKEN))
    saves = count * _CHECKPOINTS
    return {
        "store": "PostgreSQL",
        **_row(count, found),
        "bytes on disk": (after[0] - before[0]) / saves,
        "log bytes": float(after[1] - before[1]) / saves,
        "inodes a session": "",
    }


_TAKEN = "select pg_database_size(current_database()), pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


async def _ask(url: str, query: str) -> Any:
    import asyncpg

    connection: Any = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(query)
    finally:
        await connection.close()


def live(many: Many) -> Found:
    """Do it in this process."""
    return asyncio.run(_live(many))


async def _live(many: Many) -> Found:
    made = documents(many.size_bytes, 50)
    numbers = iter(range(many.sessions))

    async def save_some(store: Any) -> None:
        for number in numbers:
            for step in range(_CHECKPOINTS):
                document = made[(number + step) % len(made)]
                await store.save(document.checkpoint(f"session-{number}", step))

    start = time.perf_counter()
    async with open_store(many.url) as store:
        await asyncio.gather(*(save_some(store) for _ in range(_AT_ONCE)))
    saved = time.perf_counter()
    async with open_store(many.url) as store:
        ids = [session_id async for session_id in store.sessions()]
        named = time.perf_counter()
        newest = await store.load_newest(ids[:: max(1, len(ids) // 100)][:100])
        loaded = time.perf_counter()
    if len(ids) != many.sessions or not newest:
        raise AssertionError(f"{len(ids)} sessions of {many.sessions}")
    return Found(
        save_seconds=saved - start, name_seconds=named - saved, newest_seconds=loaded - named
    )


def _on_disk(directory: Path) -> tuple[int, int]:
    """Return bytes and inodes that are taken below a directory; a hard link takes neither."""
    found = map(os.lstat, _below(str(directory)))
    sizes = {status.st_ino: status.st_blocks * 512 for status in found}
    return sum(sizes.values()), len(sizes)


def _below(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name == ".aiocheckpoint":
                continue
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
