"""
`python -m aiocheckpoint.adapters.langgraph DATABASE LOCATION` copies a SQLite database.

It needs `langgraph-checkpoint-sqlite`, with which the database was written.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sqlite3
import sys
from pathlib import Path

from aiocheckpoint import CheckpointError
from aiocheckpoint.adapters._sources import copied_database, sqlite_rows
from aiocheckpoint.adapters.langgraph.migration import Copied, CopyMismatchError, copy_threads
from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver

_REPORT_EVERY = 100
_OWN_TYPES = {None, "null", "bytes", "bytearray", "json", "msgpack"}
_TYPES_SQL = "SELECT type FROM checkpoints UNION SELECT type FROM writes"
_TABLES_SQL = "SELECT name FROM sqlite_master WHERE name IN ('checkpoints', 'writes')"


async def _copy(database: str, location: str) -> Copied:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415 - may be missing

    async with (
        copied_database(database) as copy,  # for the saver brings it to its own format
        AsyncSqliteSaver.from_conn_string(str(copy)) as source,
        CheckpointSaver(location) as target,
    ):
        return await copy_threads(source, target, progress=_report)


def _report(copied: Copied) -> None:
    if copied.checkpoints % _REPORT_EVERY == 0:
        _say(copied, "so far")


def _say(copied: Copied, when: str) -> None:
    sys.stdout.write(
        f"{copied.threads} threads, {copied.checkpoints} checkpoints, "
        f"{copied.writes} writes {when}\n"
    )


def main(arguments: list[str] | None = None) -> None:
    """Copy all threads of a database to a store, and compare each checkpoint."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.langgraph",
        description="Copy all threads of a SQLite database, and compare each checkpoint.",
    )
    parser.add_argument("database", type=Path, help="file of a SqliteSaver")
    parser.add_argument("location", help="of the CheckpointSaver: a directory or a URL")
    options = parser.parse_args(arguments)
    if not _has_tables(options.database):  # or the saver would make them
        parser.error(f"{options.database} is no database of a SqliteSaver")
    types = _types(options.database)
    foreign = types - _OWN_TYPES
    # Beside types of LangGraph another one may be damage: its thread is refused by name.
    if foreign and not types & (_OWN_TYPES - {None, "null"}):
        parser.exit(
            2,
            f"{options.database} has values of type {min(map(str, foreign))!r}, which a serializer "
            "of the application has written: call `copy_threads` with two savers that have it\n",
        )
    try:
        copied = asyncio.run(_copy(str(options.database), options.location))
    except ModuleNotFoundError as error:
        command = f"{shlex.quote(sys.executable)} -m pip install langgraph-checkpoint-sqlite"
        parser.exit(2, f"{error.name} is missing, which reads the database: {command}\n")
    except CopyMismatchError as error:
        parser.exit(1, f"{error}\nall others were copied and compared\n")
    except CheckpointError as error:
        texts = (error, *getattr(error, "__notes__", ()), "run it again to go on where it stopped")
        parser.exit(1, "".join(f"{text}\n" for text in texts))
    except (sqlite3.DatabaseError, ValueError) as error:
        parser.exit(1, f"{options.database} cannot be read: {error}\n")
    _say(copied, "copied and compared")


def _has_tables(database: Path) -> bool:
    if not database.is_file():  # or SQLite would make it
        return False
    try:
        return len(sqlite_rows(database, _TABLES_SQL)) == 2
    except sqlite3.DatabaseError:
        return False


def _types(database: Path) -> set[str | None]:
    """Return as what values are serialized, as far as that can be read."""
    try:
        return {kind for (kind,) in sqlite_rows(database, _TYPES_SQL)}
    except sqlite3.DatabaseError:
        return set()


if __name__ == "__main__":
    main()
