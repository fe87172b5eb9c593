"""Directories that users other than the tests' own may enter."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_open_directory(prefix: str) -> Path:
    """
    Make a directory that every user may enter, in memory if there is room.

    It stands beside those of pytest, not below them: whenever a session of pytest begins, it closes
    the directory of all sessions of its user to others.
    """
    parent = os.environ.get("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    directory.chmod(0o755)
    return directory


@contextmanager
def open_directory(prefix: str) -> Iterator[Path]:
    """Make one, and remove it in the end."""
    directory = make_open_directory(prefix)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
