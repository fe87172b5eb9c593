"""`python -m aiocheckpoint.adapters.openai_agents DATABASE STORAGE` copies a SQLite database."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
from pathlib import Path

from aiocheckpoint import BlobStore, CheckpointError, open_store
from aiocheckpoint.adapters.openai_agents.migration import (
    Copied,
    CopyMismatchError,
    copy_sessions,
)
from aiocheckpoint.adapters.openai_agents.records import SessionRecord

_REPORT_EVERY = 100


async def _copy(options: argparse.Namespace) -> Copied:
    store: BlobStore[SessionRecord] = open_store(options.storage, record_type=SessionRecord)
    async with store:
        return await copy_sessions(
            options.database,
            store,
            sessions_table=options.sessions_table,
            messages_table=options.messages_table,
            progress=_report,
        )


def _report(copied: Copied) -> None:
    if copied.sessions % _REPORT_EVERY == 0:
        _say(copied, "so far")


def _say(copied: Copied, when: str) -> None:
    sys.stdout.write(f"{copied.sessions} sessions, {copied.items} items {when}\n")


def main(arguments: list[str] | None = None) -> None:
    """Copy all conversations of a database into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.openai_agents",
        description="Copy all conversations of a SQLite database, and compare each.",
    )
    parser.add_argument("database", type=Path, help="file of SQLiteSession")
    parser.add_argument("storage", help="directory or URL to copy to")
    parser.add_argument("--sessions-table", default="agent_sessions")
    parser.add_argument("--messages-table", default="agent_messages")
    options = parser.parse_args(arguments)
    try:
        copied = asyncio.run(_copy(options))
    except sqlite3.Error as error:
        parser.exit(2, f"{options.database} is no database of SQLiteSession: {error}\n")
    except (CheckpointError, CopyMismatchError) as error:
        parser.exit(1, f"{error}\n")
    _say(copied, "copied and compared")


if __name__ == "__main__":
    main()
