"""What is in a directory, in a form that tests can compare."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

Tree = dict[str, tuple[str, bytes]]
"""By relative path: the kind of each entry, and the content of a file or target of a symlink."""


def snapshot(directory: Path) -> Tree:
    """Return everything below a directory."""
    return {str(path.relative_to(directory)): _entry(path) for path in sorted(directory.rglob("*"))}


def _entry(path: Path) -> tuple[str, bytes]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "symlink", bytes(path.readlink())
    if stat.S_ISREG(mode):
        return "file", path.read_bytes()
    return ("directory", b"") if stat.S_ISDIR(mode) else ("special", b"")


def file_contents(directory: Path) -> list[bytes]:
    """Return the distinct contents of all plain files below a directory, sorted."""
    return sorted({content for kind, content in snapshot(directory).values() if kind == "file"})


def remove(directory: Path) -> None:
    """Remove a directory that somebody may be writing to, which `rmtree` would fail over."""
    gone = tempfile.mkdtemp(prefix="gone-", dir=directory.parents[1])
    directory.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def session_directory(root: Path, name: str) -> Path:
    """Return where the checkpoints of a session with a safe id are."""
    return root / name / "checkpoints"


def checkpoint_files(root: Path, name: str) -> list[Path]:
    """Return the checkpoint files of a session with a safe id, oldest first."""
    return sorted(session_directory(root, name).glob("cp_*.json"))
