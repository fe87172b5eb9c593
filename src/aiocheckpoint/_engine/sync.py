"""What was written and is not durable yet, and making it so."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable

from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint.errors import StorageError

_FEW_SYNCS = 32  # a guess: so many single syncs cost about what one of the whole disk does


class Touched:
    """
    The files and directories that a flush has to sync.

    A few are synced one by one, each by the descriptor it was written with, which alone is sure
    to see a failed write. Of many, the file systems they are on are synced whole, by descriptors
    that were opened before.

    Args:
        files: the file operations.
        root: open.
    """

    def __init__(self, files: LocalFiles, root: Directory) -> None:
        self._files = files
        self._root = root
        self._root_device = files.directory_status(root).device
        self._opened: list[tuple[int, str]] = []
        self._closed: list[tuple[str, str]] = []
        self._directories: dict[str, Directory | None] = {}
        self._devices: dict[int, Directory] = {}
        self._removed: list[Directory] = []
        self._is_root_touched = False

    def session(self, name: str, directory: Directory) -> None:
        """Note that a session's files are about to change."""
        self.directory(directory)
        self.directory(Directory(self._root.join(name), None))
        self.root()

    def blobs(self, name: str, directory: Directory) -> None:
        """Note that a session's blobs are about to change."""
        self.directory(directory)
        self.directory(Directory(self._root.join(name), None))

    def root(self) -> None:
        """Note that directories of sessions come or go."""
        self._is_root_touched = True

    def directory(self, directory: Directory) -> None:
        """Note that a directory is about to change."""
        if directory.path in self._directories:
            return
        status = self._files.status_of_path(directory.path)
        is_new_device = status is not None and status.device not in self._devices
        if status is None or (len(self._directories) >= _FEW_SYNCS and not is_new_device):
            self._directories[directory.path] = None
            return
        # Opened before anything is written there, so as to see each failure.
        opened = self._directories[directory.path] = self._files.open_path(directory.path)
        self._devices.setdefault(status.device, opened)

    def gone(self, paths: Iterable[str]) -> None:
        """Note that directories were removed: others may be made in their places."""
        for path in paths:
            removed = self._directories.pop(path, None)
            if removed is None:
                continue
            if any(removed is opened for opened in self._devices.values()):  # it stands for a disk
                self._removed.append(removed)
            else:
                self._files.close_directory(removed)

    def file(self, descriptor: int, directory: Directory, name: str) -> None:
        """Take over a file that was written, and close it when it is synced."""
        path = directory.join(name)
        if len(self._opened) < _FEW_SYNCS:
            self._opened.append((descriptor, path))
        else:
            self._closed.append((directory.path, name))
            self._files.close(descriptor, path)

    def sync(self) -> None:
        """
        Make all of it durable.

        Raises:
            StorageError: some is not; it has to be written anew before it is synced again.

        Cost: one sync for each file and directory of a few; of more one `syncfs` a file system,
            where there is one, which writes out whatever else is waiting there too.
        """
        if (self._closed or None in self._directories.values()) and self._sync_devices():
            return
        for descriptor, path in self._opened:
            self._files.sync_file(descriptor, path)
        for path, directory in self._directories.items():
            with self._reopened(path, directory) as opened:
                for above, name in self._closed:
                    if above == path:
                        self._files.sync_name(opened, name)
                self._files.sync_directory(opened)
        if self._is_root_touched:
            self._files.sync_directory(self._root)

    @contextlib.contextmanager
    def _reopened(self, path: str, directory: Directory | None) -> Generator[Directory]:
        opened = directory or self._files.open_path(path)
        try:
            yield opened
        finally:
            if directory is None:
                self._files.close_directory(opened)

    def _sync_devices(self) -> bool:
        devices = {**self._devices, self._root_device: self._root}
        return all(self._files.sync_everything(directory) for directory in devices.values())

    def close(self) -> None:
        """Close everything, synced or not."""
        for descriptor, path in self._opened:
            with contextlib.suppress(StorageError):
                self._files.close(descriptor, path)
        for directory in filter(None, [*self._directories.values(), *self._removed]):
            self._files.close_directory(directory)
        self._opened.clear()
        self._closed.clear()
        self._directories.clear()
        self._removed.clear()
        self._devices.clear()
        self._is_root_touched = False
