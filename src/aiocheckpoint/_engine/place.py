"""Where a writer's path leads: the root that is open there, to be read or changed."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import NamedTuple

from aiocheckpoint._copied_errors import own_copy
from aiocheckpoint._disk.files import Directory, LocalFiles, absolute, printable
from aiocheckpoint._disk.locks import CONTROL_NAME, MovedError
from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._engine import root as roots
from aiocheckpoint._engine import sessions
from aiocheckpoint._engine.apply import Files
from aiocheckpoint._engine.root import OpenRoot, WritableRoot
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._format import names
from aiocheckpoint.errors import (
    CheckpointError,
    MissingStoreError,
    ReplacedStoreError,
    StorageError,
)

_logger = logging.getLogger("aiocheckpoint")


class UnwrittenError(Exception):
    """
    What has no files yet is known to other processes, and to this one, which only reads.

    Args:
        path: of the root.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def told(self) -> StorageError:
        """Return what a caller is told who has waited for long enough."""
        reason = (
            ".aiocheckpoint was removed, and no process that saves has written the files of what "
            "it held; save something, which does that, or open the store anew to read what is left"
        )
        return StorageError("read", self.path, None, reason)


class _Lost(NamedTuple):
    """A root whose journal was removed, and whether this process has saved what it held."""

    opened: OpenRoot
    is_own: bool


class Place:
    """
    The place of a root. Making one does no I/O.

    Args:
        path: of the root.
        files: the file operations.
        max_bytes: of one file.
        max_journal_bytes: how much of the log may be unflushed.
        must_exist: whether to refuse a place where nobody has ever saved, and one where another
            root is than the one that was open first.

    Attributes:
        path: of the root; absolute once it was opened.
        writing: the root, if it is open to be changed.
        was_writable: whether it ever was.
        error: why the path could not be followed last; None if it could.
    """

    def __init__(
        self,
        path: str,
        files: LocalFiles,
        max_bytes: int,
        max_journal_bytes: int,
        *,
        must_exist: bool,
    ) -> None:
        self.path = path
        self._files = files
        self._max_bytes = max_bytes
        self._max_journal_bytes = max_journal_bytes
        self._must_exist = must_exist
        self.error: StorageError | None = None
        self._used: tuple[int, int] | None = None  # device and inode of the root
        self._reading: OpenRoot | None = None
        self.writing: WritableRoot | None = None
        self.was_writable = False
        self._device: int | None = None
        self._retired: list[OpenRoot] = []
        self._lost: list[_Lost] = []
        self._opening = threading.RLock()  # held over file operations, so never on a loop
        self._is_closed = False

    @property
    def opened(self) -> OpenRoot | None:
        """The root, if it is open."""
        found, writing = self._reading, self.writing  # in this order: one of them is there
        return writing.opened if writing else found

    @property
    def used_last(self) -> OpenRoot | None:
        """The root, if it is open, or else the one that was: what it knew is known of no other."""
        return self.opened or (self._retired[-1] if self._retired else None)

    def to_read(self) -> OpenRoot | None:
        """Return the root, as it is; None when there is none."""
        with self._opening:
            if self.writing is not None:
                return self.writing.opened
            found = self._reading
            if found is None or found.has_got_log():
                self._retire(found)
                self._reading = None
                self._find()
                self._write_lost(may_write=self.was_writable)
                found = self._reading = self._found()
                self._note(found)
            return found

    def apart(self) -> OpenRoot | None:
        """Open the root as it is, for one caller alone; None when there is none."""
        self.path = absolute(self.path)
        return self._found()

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever open."""
        return self.opened is None and self._device is None and not self._is_closed

    def take_over(self, opened: OpenRoot) -> None:
        """Go on with a root that was opened apart, if nothing is open by now; else close it."""
        status = self._files.directory_status(opened.view.sessions.root)
        used = status.identity
        with self._opening:  # calling nothing: a handler of a signal might wait for who needs it
            is_taken = self._reading is None and self.writing is None and not self._is_closed
            if is_taken:
                self._reading, self._used, self._device = opened, used, status.device
        if not is_taken:
            opened.close()

    def to_write(self) -> WritableRoot:
        """Return the root, made if need be."""
        with self._opening:
            if self.writing is None:
                self._find()
                if self._reading is not None:
                    self._let_go_if_moved(self._reading)
                self._write_lost(may_write=True)
                self.writing = self._opened_to_write()
                self.was_writable = True
                self._note(self.writing.opened)
                self._retire(self._reading)
                self._reading = None
            return self.writing

    def _find(self) -> None:
        """
        Keep to where the path leads now, whatever directory the process goes to.

        Raises:
            StorageError: it leads to another disk by now, or to the same one under another number,
                which cannot be told. One was mounted there, or is not any more: nothing is to be
                saved beneath it, or loaded in the place of what it holds.
        """
        self.path = absolute(self.path)
        self.error = None
        if self._device not in (None, roots.device_of(self.path, self._files)):
            reason = (
                "the disk that this writer first used is not there any more, or has another number "
                "since it was attached again. If it is not mounted, mount it; if it is, a new "
                "writer, or a restart of the process, goes on with it. Either uses what is there "
                "now: give it must_exist=True, or it begins an empty store where the disk is "
                "missing"
            )
            self.error = StorageError("open directory", self.path, None, reason)
            raise own_copy(self.error)

    def _opened_to_write(self) -> WritableRoot:
        with contextlib.ExitStack() as stack:
            found = self._found() if self._must_exist else None
            if found is not None:  # open until the end, so no other one has its inode
                stack.callback(found.close)
            writing = roots.open_to_write(
                self.path, self._files, self._max_bytes, self._max_journal_bytes
            )
            if found is not None and self._identity(found) != self._identity(writing.opened):
                writing.opened.close()
                raise ReplacedStoreError(self.path)
        return writing

    def _found(self) -> OpenRoot | None:
        """
        Open the root as it is, None when it is not there.

        Raises:
            MissingStoreError: it must be a store, and is none.
            ReplacedStoreError: it must be the one that was used before, and is another one.
        """
        found = roots.open_to_read(self.path, self._files, self._max_bytes)
        if not self._must_exist:
            return found
        with contextlib.ExitStack() as stack:
            if found is not None:
                stack.callback(found.close)
            if found is None or not sessions.is_store(found.bodies):
                raise MissingStoreError(self.path)
            if self._used not in (None, self._identity(found)):
                raise ReplacedStoreError(self.path)
            stack.pop_all()
        return found

    def _identity(self, opened: OpenRoot) -> tuple[int, int]:
        return self._files.directory_status(opened.view.sessions.root).identity

    def _note(self, opened: OpenRoot | None) -> None:
        """
        Note which directory is in use, and tell that it is another one than before.

        What was in use is open until the end, so no other one has its inode.
        """
        root = None if opened is None else opened.view.sessions.root
        status = None if root is None else self._files.directory_status(root)
        used = None if status is None else status.identity
        if self._used not in (None, used):
            _logger.warning(
                "%s is not the directory any more that this writer has used: it was moved, removed "
                "or replaced; what it held is not found here, and saves go to what is here now",
                printable(self.path),
            )
        self._used = used
        if status is not None and self._device is None:
            self._device = status.device

    def is_there(self, *, with_log: bool) -> bool:
        """Tell whether there is anything that could be removed, or flushed."""
        try:
            found = self.to_read()
        except UnwrittenError:
            return True
        return found is not None and (found.log is not None or not with_log)

    def reopen(self) -> None:
        """Open anew what is not in its place any more, where the path leads to by the next use."""
        with self._opening:
            opened = self.opened
            if opened is not None:  # or another thread has been here
                self._let_go_if_moved(opened)

    def has_lost_journal(self) -> bool:
        """Tell whether the journal alone was removed, and files lack of what it held."""
        with self._opening, contextlib.suppress(MovedError):
            if self.writing is not None:
                self.writing.view.require_root_in_place()
                self.reopen()
            return bool(self._lost)
        return False

    def _let_go_if_moved(self, opened: OpenRoot) -> None:
        """Let go of a root that is not in its place, but for what nobody else may know."""
        if opened.is_in_place():
            return
        writing, self.writing = self.writing, None
        self._reading = None
        self._retire(opened)
        try:
            opened.view.require_root_in_place()
        except MovedError:  # what it held is in its journal there
            return
        with contextlib.suppress(StorageError):  # then it may be gone
            if opened.log is None or not opened.log.is_gone():
                return
        _logger.warning(
            "%s was removed or replaced while this writer used it; what has no files yet is "
            "written by the processes that know it, what only dead ones saved is lost",
            printable(Directory(self.path, None).join(names.PRIVATE_DIRECTORY)),
        )
        if _known_alone(opened):
            is_own = writing is not None and writing.committed > opened.view.flushed
            self._lost.append(_Lost(opened, is_own))

    def _write_lost(self, *, may_write: bool) -> None:
        """
        Write the files of what a journal held that was removed, before anything else is read.

        Where it is there again, who began it has written what was its own: what others saved may
        be out of date by now.

        Raises:
            UnwrittenError: this process only reads, and no other one has done so.
            CheckpointError: they cannot be written; it is tried again by the next use.
        """
        while self._lost:
            opened, is_own = self._lost[0]
            if is_own or not self._has_journal():
                if not may_write:
                    raise UnwrittenError(self.path)
                _write(opened)
            del self._lost[0]

    def _has_journal(self) -> bool:
        control = Directory(self.path, None).join(names.PRIVATE_DIRECTORY, CONTROL_NAME)
        return self._files.status_of_path(control) is not None

    def _retire(self, opened: OpenRoot | None) -> None:
        """Keep what others may be using until the end, but for directories that nobody uses."""
        if opened is not None:
            opened.view.sessions.close()
            self._retired.append(opened)

    def close(self) -> None:
        """Close everything; for the last who uses it."""
        with self._opening:
            self._is_closed = True
            if self.was_writable:
                with contextlib.suppress(CheckpointError):  # whoever flushed was told
                    self._write_lost(may_write=True)
            self._retire(self.opened)
            self._reading = self.writing = None
        for opened in self._retired:
            opened.close()


def _known_alone(root: OpenRoot) -> dict[str, list[Committed]]:
    """Return by session what a root's journal has, as far as it was read, and files may not."""
    view = root.view
    with contextlib.suppress(StorageError):  # of what is not open any more nothing can be read
        view.follow()
    with view.mutex:
        found = {
            name: [committed for committed in session.entries if committed.place > view.flushed]
            for name, session in view.pending.sessions.items()
        }
    return {name: entries for name, entries in found.items() if entries}


def write_known(root: OpenRoot) -> None:
    """
    Write the files of what a root's journal had, durably; then nobody applies it any more.

    Its locks went with it. Who else does the same writes the same files.

    Raises:
        CheckpointError: some could not be written; all others are.
    """
    view, operations = root.view, root.view.files
    top = view.sessions.root
    operations.make_subdirectory(top, names.PRIVATE_DIRECTORY)
    with contextlib.ExitStack() as stack:
        private = operations.require_subdirectory(top, names.PRIVATE_DIRECTORY)
        stack.callback(operations.close_directory, private)
        touched = Touched(operations, top)
        stack.callback(touched.close)
        files, errors = Files(view, private), list[CheckpointError]()
        end = root.log.end if root.log is not None else 0
        for name, entries in _known_alone(root).items():
            try:
                files.apply(name, entries, end, touched)
            except CheckpointError as error:
                errors.append(error)
        touched.sync()
        if errors:
            raise errors[0]
    view.is_left = True


def _write(opened: OpenRoot) -> None:
    try:
        write_known(opened)
    except CheckpointError as error:
        reason = getattr(error, "reason", error)
        raise StorageError(
            getattr(error, "operation", "write"), getattr(error, "path", ""),
            getattr(error, "errno", None),
            f"{reason}; the journal that held it was removed, so only this process still has what "
            "was saved",
        ) from error  # fmt: skip
