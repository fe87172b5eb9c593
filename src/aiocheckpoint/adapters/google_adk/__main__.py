"""`python -m aiocheckpoint.adapters.google_adk SOURCE STORAGE` copies a database of sessions."""

from __future__ import annotations

import argparse
import sqlite3

from google.adk import sessions

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.google_adk.migration import copy_database, copy_sessions


def main(arguments: list[str] | None = None) -> None:
    """Copy all sessions of a database into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.google_adk",
        description="Copy all sessions of a database, and compare each.",
    )
    parser.add_argument(
        "source", help="file of SqliteSessionService, or URL of DatabaseSessionService"
    )
    parser.add_argument("storage", help="directory or URL to copy to")
    parser.add_argument(
        "--app",
        action="append",
        default=[],
        metavar="NAME",
        help="an app whose sessions to copy, needed with a URL; may be given several times",
    )
    options = parser.parse_args(arguments)
    is_url = "://" in options.source
    if is_url != bool(options.app):
        parser.error("give --app with a URL, and with a URL alone: files say which apps they have")

    async def copy(progress: Progress) -> Copied:
        if not is_url:
            return await copy_database(options.source, options.storage, progress=progress)
        # Asked for here alone: it needs SQLAlchemy, which files do not.
        async with sessions.DatabaseSessionService(options.source) as source:
            return await copy_sessions(source, options.app, options.storage, progress=progress)

    run_copy(
        parser,
        copy,
        entries="events",
        source=f"{options.source} is no database of Google ADK",
        source_errors=(sqlite3.Error, RuntimeError, ValueError, ImportError),
    )


if __name__ == "__main__":
    main()
