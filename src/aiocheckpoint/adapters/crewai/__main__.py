"""`python -m aiocheckpoint.adapters.crewai DATABASE STORAGE` copies a SQLite database."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from pathlib import Path

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.crewai.migration import copy_flows


def main(arguments: list[str] | None = None) -> None:
    """Copy all flows of a database into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.crewai",
        description="Copy all flows of a SQLite database, and compare each.",
    )
    parser.add_argument("database", type=Path, help="file of SQLiteFlowPersistence")
    parser.add_argument("storage", help="directory or URL to copy to")
    options = parser.parse_args(arguments)

    async def copy(progress: Progress) -> Copied:
        return await asyncio.to_thread(
            copy_flows, options.database, options.storage, progress=progress
        )

    run_copy(
        parser,
        copy,
        unit="flow",
        entries="that wait",
        source=f"{options.database} is no database of SQLiteFlowPersistence",
        source_errors=(sqlite3.Error,),
    )


if __name__ == "__main__":
    main()
