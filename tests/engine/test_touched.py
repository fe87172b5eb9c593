"""What a flush syncs of directories that come and go while it is going on."""

from __future__ import annotations

import os
from pathlib import Path

from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._engine.sync import Touched


class _Seen(LocalFiles):
    """Remembers which directories were synced, by their inodes."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[int] = []

    def sync_directory(self, directory: Directory) -> None:
        """Note it, and sync it."""
        assert directory.descriptor is not None
        self.synced.append(os.fstat(directory.descriptor).st_ino)
        super().sync_directory(directory)


def test_a_directory_that_was_made_anew_is_synced(tmp_path: Path) -> None:
    """Not the one that was removed before it in the same flush, though it had the same path."""
    files = _Seen()
    root = files.open_path(str(tmp_path))
    touched = Touched(files, root)
    path = tmp_path / "s"
    path.mkdir()
    touched.directory(Directory(str(path), None))
    path.rmdir()
    touched.gone([str(path)])
    path.mkdir()
    touched.directory(Directory(str(path), None))
    touched.sync()
    assert files.synced == [path.stat().st_ino]
    touched.close()
    files.close_directory(root)


def test_a_directory_that_was_removed_need_not_be_there(tmp_path: Path) -> None:
    """Nothing of it is left to be synced but its name, which is in the one above."""
    files = _Seen()
    root = files.open_path(str(tmp_path))
    touched = Touched(files, root)
    touched.root()
    touched.directory(Directory(str(tmp_path / "s"), None))  # not there yet: it is opened later
    touched.gone([str(tmp_path / "s")])
    touched.sync()
    assert files.synced == [tmp_path.stat().st_ino]
    touched.close()
    files.close_directory(root)


def test_many_that_were_removed_hold_no_descriptors(tmp_path: Path) -> None:
    """However many sessions one flush removes, few directories are open for it."""
    files = LocalFiles()
    root = files.open_path(str(tmp_path))
    touched = Touched(files, root)
    before = _open_descriptors()
    for number in range(200):
        path = tmp_path / f"s{number}"
        path.mkdir()
        touched.directory(Directory(str(path), None))
        path.rmdir()
        touched.gone([str(path)])
    assert _open_descriptors() - before <= 1  # one stands for the disk
    touched.sync()
    touched.close()
    assert _open_descriptors() == before
    files.close_directory(root)


def _open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))
