"""`python -m aiocheckpoint.adapters.openai_agents DATABASE STORAGE` copies a SQLite database."""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

from aiocheckpoint import BlobStore, open_store
from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.openai_agents.migration import copy_sessions
from aiocheckpoint.adapters.openai_agents.records import SessionRecord


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

    async def copy(progress: Progress) -> Copied:
        store: BlobStore[SessionRecord] = open_store(options.storage, record_type=SessionRecord)
        async with store:
            return await copy_sessions(
                options.database,
                store,
                sessions_table=options.sessions_table,
                messages_table=options.messages_table,
                progress=progress,
            )

    run_copy(
        parser,
        copy,
        entries="items",
        source=f"{options.database} is no database of SQLiteSession",
        source_errors=(sqlite3.Error,),
    )


if __name__ == "__main__":
    main()
