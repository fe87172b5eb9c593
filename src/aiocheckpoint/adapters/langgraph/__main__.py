"""
`python -m aiocheckpoint.adapters.langgraph DATABASE DIRECTORY` copies a SQLite database.

It needs `langgraph-checkpoint-sqlite`, with which the database was written.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from aiocheckpoint.adapters.langgraph.migration import Copied, copy_threads
from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver

_REPORT_EVERY = 100


async def _copy(database: str, directory: str) -> Copied:
    async with (
        AsyncSqliteSaver.from_conn_string(database) as source,
        CheckpointSaver(directory) as target,
    ):
        await source.setup()
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
    """Copy all threads of a database into a directory, and compare each checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m aiocheckpoint.adapters.langgraph")
    parser.add_argument("database", type=Path, help="file of a SqliteSaver")
    parser.add_argument("directory", type=Path, help="of the CheckpointSaver")
    options = parser.parse_args(arguments)
    if not options.database.is_file():  # or SQLite would make an empty one
        parser.error(f"{options.database} is not there")
    copied = asyncio.run(_copy(str(options.database), str(options.directory)))
    _say(copied, "copied and compared")


if __name__ == "__main__":
    main()
