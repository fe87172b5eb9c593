"""`python -m aiocheckpoint.adapters.agent_framework DIRECTORY STORAGE` copies files."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.agent_framework.migration import copy_checkpoints


def main(arguments: list[str] | None = None) -> None:
    """Copy all checkpoints of a directory into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.agent_framework",
        description="Copy all checkpoints of a directory of files, and compare each.",
    )
    parser.add_argument("directory", type=Path, help="directory of FileCheckpointStorage")
    parser.add_argument("storage", help="directory or URL to copy to")
    parser.add_argument(
        "--allow-type",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="allow objects of a class of your own; may be given several times",
    )
    options = parser.parse_args(arguments)

    async def copy(progress: Progress) -> Copied:
        return await copy_checkpoints(
            options.directory,
            options.storage,
            allowed_checkpoint_types=options.allow_type,
            progress=progress,
        )

    run_copy(
        parser,
        copy,
        unit="workflow",
        entries="checkpoints",
        source=f"{options.directory} is no directory of FileCheckpointStorage",
        source_errors=(OSError,),
    )


if __name__ == "__main__":
    main()
