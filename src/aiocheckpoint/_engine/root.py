"""Opening a root: its directory, its log, and what is known of its sessions."""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

from aiocheckpoint._disk.append import Appender
from aiocheckpoint._disk.files import Directory, LocalFiles, parent_of, printable
from aiocheckpoint._disk.locks import CONTROL_NAME, LOCK_NAME, MovedError
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.sessions import SessionDirectories
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.apply import Files
from aiocheckpoint._engine.bodies import Bodies
from aiocheckpoint._format import names
from aiocheckpoint._format.log import offset_of
from aiocheckpoint.errors import StorageError, UnsupportedFileSystemError

_logger = logging.getLogger("aiocheckpoint")
_REFUSED_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p"})


class OpenRoot(NamedTuple):
    """
    An open root.

    Attributes:
        view: the committed state.
        bodies: the contents of checkpoints.
        log: the log, in the store's own directory; None for a root that has none.
    """

    view: View
    bodies: Bodies
    log: Log | None

    def has_got_log(self) -> bool:
        """Tell whether a root that had no log when it was opened has one now."""
        if self.log is not None:
            return False
        root = self.view.sessions.root
        return self.view.files.status(root, names.PRIVATE_DIRECTORY) is not None

    def is_in_place(self) -> bool:
        """Tell whether its paths, and those of its log, still lead to what is open."""
        try:
            self.view.require_root_in_place()
            if self.log is not None:
                self.log.require_in_place(LOCK_NAME)
                self.log.require_in_place(CONTROL_NAME)
        except MovedError:
            return False
        return True

    def close(self) -> None:
        """Close it; that gives all its locks back."""
        self.view.sessions.close()
        if self.log is not None:
            self.log.close()
            self.view.files.close_directory(self.log.directory)
        self.view.files.close_directory(self.view.sessions.root)


class WritableRoot:
    """
    An open root that may be changed.

    Args:
        opened: the root.
        log_: its log.
        files: writes the sessions' files.
        max_bytes: how much of the log may be unflushed, as this process wants it.

    Attributes:
        view: the committed state.
        bodies: the contents of checkpoints.
        appender: writes the log.
        committed: where the last commit of this process ends.
    """

    def __init__(self, opened: OpenRoot, log_: Log, files: Files, max_bytes: int) -> None:
        self.opened = opened
        self.log = log_
        self.files = files
        self.max_bytes = max_bytes
        self.view = opened.view
        self.bodies = opened.bodies
        self.committed = 0
        self.appender = Appender(opened.view.files, log_, opened.view.pending)

    def scan(self) -> None:
        """Read the log to its end, and tell what others have left in it."""
        with self.log.locked():
            self.view.catch_up()
            unflushed_bytes = self.log.unflushed_bytes()
        changes = self.view.pending.backlog().changes
        if changes:
            _logger.info(
                "%s: took over %d changes in %d bytes that have no files yet, after a crash or "
                "beside other processes",
                printable(self.log.directory.path), changes, unflushed_bytes,
            )  # fmt: skip
        for damage in self.log.damages:
            _logger.error(
                "%s is damaged at %d; check() tells what is lost", printable(damage.path),
                offset_of(damage.place),
            )  # fmt: skip


def device_of(path: str, files: LocalFiles) -> int:
    """Return the number of the disk that a path is on, or would be."""
    while (status := files.status_of_path(path)) is None:
        path = parent_of(path)
    return status.device


def open_to_read(path: str, files: LocalFiles, max_bytes: int) -> OpenRoot | None:
    """Open a root without changing anything; None when it is not there."""
    root = files.find_root(path)
    if root is None:
        return None
    try:
        private = files.open_subdirectory(root, names.PRIVATE_DIRECTORY)
        return _opened(files, root, private, max_bytes, writable=False)
    except BaseException:
        files.close_directory(root)
        raise


def open_to_write(
    path: str, files: LocalFiles, max_bytes: int, max_journal_bytes: int
) -> WritableRoot:
    """
    Open a root to change it, made if need be.

    Raises:
        UnsupportedFileSystemError: its file system cannot keep what we promise.
        JournalVersionError: another version of this library has to empty its journal first.
    """
    root = files.make_root(path)
    try:
        private = _made_private(root, files)
        opened = _opened(files, root, private, max_bytes, writable=True)
    except BaseException:
        files.close_directory(root)
        raise
    if opened.log is None:
        raise StorageError("open", root.path, None, "it has no journal")
    return WritableRoot(opened, opened.log, Files(opened.view, private), max_journal_bytes)


def _made_private(root: Directory, files: LocalFiles) -> Directory:
    """Open the store's own directory, made if need be, with its entry durable."""
    kind = files.file_system_type(files.directory_status(root))
    if kind in _REFUSED_FILE_SYSTEMS:
        raise UnsupportedFileSystemError(root.path, kind)
    files.make_subdirectory(root, names.PRIVATE_DIRECTORY)
    files.sync_directory(root)  # also when it was there: who made it may have died before
    return files.require_subdirectory(root, names.PRIVATE_DIRECTORY)


def _opened(
    files: LocalFiles, root: Directory, private: Directory | None, max_bytes: int, *, writable: bool
) -> OpenRoot:
    log: Log | None = None
    with contextlib.ExitStack() as stack:
        if private is not None:
            stack.callback(files.close_directory, private)
            log = Log(files, private, writable=writable)
        view = View(SessionDirectories(root, files), log, files)
        stack.pop_all()
    return OpenRoot(view, Bodies(view, max_bytes), log)
