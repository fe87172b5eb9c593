"""`python -m aiocheckpoint.adapters.pydantic_harness SOURCE STORAGE` copies runs."""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

from pydantic_ai_harness.step_persistence import FileStepStore, SqliteStepStore

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.pydantic_harness.migration import Source, copy_runs


def main(arguments: list[str] | None = None) -> None:
    """Copy all runs of a store of the framework into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.pydantic_harness",
        description="Copy all runs of FileStepStore or SqliteStepStore, and compare each.",
    )
    parser.add_argument("source", type=Path, help="directory or database of the framework's store")
    parser.add_argument("storage", help="directory or URL to copy to")
    options = parser.parse_args(arguments)
    if not options.source.exists():
        parser.exit(2, f"{options.source} is not there\n")
    source: Source = (
        FileStepStore(options.source)
        if options.source.is_dir()
        else SqliteStepStore(database=options.source)
    )

    async def copy(progress: Progress) -> Copied:
        return await copy_runs(source, options.storage, progress=progress)

    run_copy(
        parser,
        copy,
        unit="run",
        entries="events and snapshots",
        source=f"{options.source} is no store of the framework",
        source_errors=(sqlite3.Error, ValueError),
    )


if __name__ == "__main__":
    main()
