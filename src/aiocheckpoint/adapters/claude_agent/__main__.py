"""`python -m aiocheckpoint.adapters.claude_agent PROJECTS STORAGE` copies the program's files."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.claude_agent.migration import copy_sessions


def main(arguments: list[str] | None = None) -> None:
    """Copy all transcripts of a directory into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.claude_agent",
        description="Copy all transcripts of the framework's program, and compare each.",
    )
    parser.add_argument("projects", type=Path, help="directory, as ~/.claude/projects")
    parser.add_argument("storage", help="directory or URL to copy to")
    options = parser.parse_args(arguments)

    async def copy(progress: Progress) -> Copied:
        return await copy_sessions(options.projects, options.storage, progress=progress)

    run_copy(
        parser,
        copy,
        unit="transcript",
        entries="entries",
        source=f"{options.projects} is no directory of projects",
        source_errors=(FileNotFoundError, NotADirectoryError),
    )


if __name__ == "__main__":
    main()
