"""`python -m aiocheckpoint.adapters.strands DIRECTORY STORAGE` copies a `LocalFileStorage`."""

from __future__ import annotations

import argparse
from pathlib import Path

from strands.storage import LocalFileStorage
from strands.types.exceptions import StorageError

from aiocheckpoint.adapters._moving import Copied, Progress, run_copy
from aiocheckpoint.adapters.strands.migration import copy_storage


def main(arguments: list[str] | None = None) -> None:
    """Copy all values of a directory into a storage, and compare each."""
    parser = argparse.ArgumentParser(
        prog="python -m aiocheckpoint.adapters.strands",
        description="Copy all values of a LocalFileStorage, and compare each.",
    )
    parser.add_argument("directory", type=Path, help="directory of LocalFileStorage")
    parser.add_argument("storage", help="directory or URL to copy to")
    parser.add_argument("--prefix", default="", help="only keys that begin so")
    options = parser.parse_args(arguments)
    if not options.directory.is_dir():
        parser.exit(2, f"{options.directory} is no directory of LocalFileStorage\n")

    async def copy(progress: Progress) -> Copied:
        source = LocalFileStorage(str(options.directory))
        return await copy_storage(source, options.storage, prefix=options.prefix, progress=progress)

    run_copy(
        parser,
        copy,
        entries="values",
        source=f"{options.directory} cannot be read",
        source_errors=(StorageError,),
    )


if __name__ == "__main__":
    main()
