"""Opening the root and the directories of sessions: locks, what is remembered of them, leftovers."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Literal, NamedTuple

from aiocheckpoint._disk.files import Directory, FileStatus, LocalFiles, max_open_directories
from aiocheckpoint._disk.index import IndexCache, KnownBlobs, SessionIndex, Signature
from aiocheckpoint._format import names as layout
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import StorageError
from aiocheckpoint.models import SessionId

_RUST_LEFTOVER_SECONDS = 3600
_RETRIES = 100


class OpenSession(NamedTuple):
    """
    A session's directory, open, with what is known of it.

    Attributes:
        id: the session.
        name: of its directory.
        directory: the directory of its checkpoints.
        known: right at the time of opening, and for as long as the lock is held.
    """

    id: SessionId
    name: str
    directory: Directory
    known: SessionIndex


class SessionDirectories:
    """
    The directories of sessions under one root.

    Directories used last stay open, so that a session in use costs no path look-ups. Whoever uses
    one takes it out of that store and puts it back, so a descriptor, and with it a lock, never
    has two users.

    Args:
        root_path: made by the first change.
        files: the file operations.
        lock_timeout_seconds: how long to wait for another process.
        prepare: runs once before the first use of any session, if there is a root.
    """

    def __init__(
        self,
        root_path: str,
        files: LocalFiles,
        lock_timeout_seconds: float,
        prepare: Callable[[], None],
    ) -> None:
        self.root_path = root_path
        self.indexes = IndexCache()
        self._files = files
        self._lock_timeout_seconds = lock_timeout_seconds
        self._prepare = prepare
        self._root: Directory | None = None
        self._is_root_durable = False
        self._preparation: Literal["due", "under way", "done"] = "due"
        self._preparing = threading.RLock()
        self._open: OrderedDict[str, Directory] = OrderedDict()
        self._max_open = max_open_directories()
        self._mutex = threading.Lock()

    def close(self) -> None:
        """Close all directories."""
        with self._mutex:
            directories = [*self._open.values(), *filter(None, [self._root])]
            self._open.clear()
            self._root = None
        for directory in directories:
            self._files.close_directory(directory)

    # The root

    def find_root(self) -> Directory | None:
        """Return the root as it is; None when there is none yet."""
        with self._preparing:
            if self._root is None:
                self._root = self._files.find_root(self.root_path)
            return self._root

    def make_root(self) -> Directory:
        """Return the root, made if need be, and for the first time with its own entry durable."""
        with self._preparing:
            if self._root is None or not self._is_root_durable:
                made = self._files.make_root(self.root_path)
                self._is_root_durable = True
                if self._root is None:
                    self._root = made
                else:  # others may be using the one that was found before
                    self._files.close_directory(made)
            return self._root

    def _prepared_root(self, *, create: bool) -> Directory | None:
        """Return the root after what dead processes left in it has been put in order."""
        root = self.make_root() if create else self.find_root()
        if root is None or self._preparation == "done":
            return root
        with self._preparing:
            if self._preparation == "due":  # preparing opens sessions in this very thread
                self._preparation = "under way"
                try:
                    self._prepare()
                    self._preparation = "done"
                finally:
                    if self._preparation != "done":
                        self._preparation = "due"
        return root

    def prepare(self) -> Directory | None:
        """Return the root, ready for use; None when there is none yet."""
        return self._prepared_root(create=False)

    # Opening a session

    @contextlib.contextmanager
    def reading(self, session_id: SessionId) -> Generator[OpenSession | None]:
        """Open a session without its lock; None when it has no directory."""
        name = layout.encode_id(session_id, "session id")
        root = self._prepared_root(create=False)
        directory = None if root is None else self._take(root, name, create=False)
        status = directory and self._files.status_in_place(directory)
        if directory is not None and status is None:
            self._files.close_directory(directory)
            directory = root and self._take(root, name, create=False)
        if directory is None:
            yield None
            return
        try:
            known = self._known(name, directory, status) or self._scan(name, directory, clean=False)
            yield OpenSession(session_id, name, directory, known)
        finally:
            self._give_back(name, directory)

    @contextlib.contextmanager
    def locked(
        self, session_id: SessionId, timeout_seconds: float | None = None
    ) -> Generator[OpenSession | None]:
        """
        Open a session for a change, its lock held; None when it has no directory.

        Raises:
            StoreBusyError: when the lock is not free in time, by default the writer's.
        """
        name = layout.encode_id(session_id, "session id")
        with self._locked(session_id, name, timeout_seconds, create=False) as session:
            yield session

    @contextlib.contextmanager
    def made(
        self, session_id: SessionId, name: str | None = None, timeout_seconds: float | None = None
    ) -> Generator[OpenSession]:
        """Open a session for a change, its lock held, making its directories if need be."""
        name = name or layout.encode_id(session_id, "session id")
        with self._locked(session_id, name, timeout_seconds, create=True) as session:
            if session is None:
                raise StorageError("open directory", name, None, "it keeps vanishing; try again")
            yield session

    @contextlib.contextmanager
    def _locked(
        self, session_id: SessionId, name: str, timeout_seconds: float | None, *, create: bool
    ) -> Generator[OpenSession | None]:
        timeout = self._lock_timeout_seconds if timeout_seconds is None else timeout_seconds
        root = self._prepared_root(create=create)
        for _ in range(_RETRIES):
            directory = None if root is None else self._take(root, name, create=create)
            if directory is None:
                if create:  # it was removed as soon as it was made
                    continue
                break
            is_unlocked = False
            try:
                self._files.lock(directory, timeout)
                status = self._files.status_in_place(directory)
                if status is not None:  # or it was removed while we waited
                    known = self._known(name, directory, status)
                    if known is None or known.has_leftovers:
                        known = self._scan(name, directory, clean=True)
                    yield OpenSession(session_id, name, directory, known)
                    is_unlocked = self._files.unlock(directory)
                    return
            finally:
                if is_unlocked:
                    self._give_back(name, directory)
                else:
                    self._files.close_directory(directory)
        yield None

    def _take(self, root: Directory, name: str, *, create: bool) -> Directory | None:
        """Return a session's directory, in place or removed meanwhile, for the caller alone."""
        with self._mutex:
            directory = self._open.pop(name, None)
        if directory is not None:
            return directory
        above = self._opened(root, name, create=create)
        if above is None:
            return None
        try:
            return self._opened(above, layout.CHECKPOINTS_DIRECTORY, create=create)
        except StorageError as error:
            if create and error.errno == errno.ENOENT:  # somebody removed the directory above
                return None
            raise
        finally:
            self._files.close_directory(above)

    def _opened(self, parent: Directory, name: str, *, create: bool) -> Directory | None:
        directory = self._files.open_subdirectory(parent, name)
        if directory is None and create:
            self._files.make_subdirectory(parent, name)
            directory = self._files.open_subdirectory(parent, name)
        return directory

    def _give_back(self, name: str, directory: Directory) -> None:
        with self._mutex:
            surplus = [directory] if name in self._open else []
            self._open.setdefault(name, directory)
            while len(self._open) > self._max_open:
                surplus.append(self._open.popitem(last=False)[1])
        for unused in surplus:
            self._files.close_directory(unused)

    def sync_entries(self, session: OpenSession) -> None:
        """
        Make the entries of a session's directories durable, once a process.

        Also when they were there: whoever made them may have died before the sync.
        """
        if not session.known.entries_synced:
            root = self.make_root()
            self._files.sync_directory(root)
            self.sync_above(session.name)
            session.known.entries_synced = True

    def sync_above(self, session_name: str) -> None:
        """Make the entries of the directory that holds a session's directories durable."""
        with self._above(session_name) as above:
            if above is not None:
                self._files.sync_directory(above)

    @contextlib.contextmanager
    def blobs_directory(
        self, session_name: str, *, create: bool = False
    ) -> Generator[Directory | None]:
        """Open the directory of a session's blobs, None when there is none."""
        with self._above(session_name) as above:
            directory = above and self._opened(above, layout.BLOBS_DIRECTORY, create=create)
        try:
            yield directory
        finally:
            if directory is not None:
                self._files.close_directory(directory)

    @contextlib.contextmanager
    def _above(self, session_name: str) -> Generator[Directory | None]:
        root = self.find_root()
        above = root and self._files.open_subdirectory(root, session_name)
        try:
            yield above
        finally:
            if above is not None:
                self._files.close_directory(above)

    def remove_directories(self, session: OpenSession) -> None:
        """Remove the directories of a session, if nothing is in them."""
        root = self.make_root()
        with self._above(session.name) as above:
            if above is None:
                return
            self._files.remove_subdirectory(above, layout.BLOBS_DIRECTORY)
            is_empty = self._files.remove_subdirectory(above, layout.CHECKPOINTS_DIRECTORY)
        if is_empty:
            self._files.remove_subdirectory(root, session.name)

    # What is known of a directory

    def _signature(self, directory: Directory, status: FileStatus | None = None) -> Signature:
        status = status or self._files.directory_status(directory)
        pointed = self._files.pointed_at(directory, layout.LATEST_NAME)
        return Signature(status.inode, status.modified_ns, pointed)

    def _known(
        self, name: str, directory: Directory, status: FileStatus | None
    ) -> SessionIndex | None:
        index = self.indexes.get(name)
        return index if index and index.signature == self._signature(directory, status) else None

    def rescanned(self, session: OpenSession) -> OpenSession:
        """Return a locked session with its directory read anew."""
        return session._replace(known=self._scan(session.name, session.directory, clean=True))

    def confirmed(self, session: OpenSession) -> OpenSession:
        """Return a session with nothing missing that Rust did during a change of ours."""
        if not session.known.is_assumed:
            return session
        known = self._scan(session.name, session.directory, clean=False)
        return session._replace(known=known)

    def note_change(self, session: OpenSession, newest: FileName | None) -> None:
        """
        Keep the index after a change of our own.

        Somebody else's pointer shows by differing. A file or two that Rust, which takes no lock,
        made or removed just then are not noticed: see `confirmed`.
        """
        try:
            found = self._files.directory_status(session.directory)
        except StorageError:  # the change itself is done; the next call looks again
            self.indexes.drop(session.name)
            return
        pointed = None if newest is None or session.directory.descriptor is None else newest.text
        session.known.signature = Signature(found.inode, found.modified_ns, pointed)
        session.known.is_assumed = True
        self.indexes.put(session.name, session.known)

    def _scan(self, name: str, directory: Directory, *, clean: bool) -> SessionIndex:
        """Read the directory's names anew; with the lock held, remove what crashed saves left."""
        signature = self._signature(directory)
        entries = self._files.scan(directory)
        leftovers = [entry for entry in entries if layout.is_leftover(entry)]
        if clean and self._remove_dead(directory, leftovers):
            signature = self._signature(directory)
        earlier = self.indexes.get(name)
        parsed = {} if earlier is None else earlier.by_text
        names = [
            found for entry in entries if (found := parsed.get(entry) or layout.parse_name(entry))
        ]
        backups = sorted(entry for entry in entries if layout.is_backup(entry))
        index = SessionIndex(self.in_order(names, directory), backups, signature)
        index.has_leftovers = bool(leftovers) and not clean
        if layout.BLOBS_GENERATION_NAME in entries:
            index.blobs = KnownBlobs()
        if earlier is not None:
            index.inherit(earlier)
        self.indexes.put(name, index)
        return index

    def _remove_dead(self, directory: Directory, leftovers: list[str]) -> int:
        """Remove temporary files that no save is going to use, and return how many."""
        dead = [
            entry
            for entry in leftovers
            if entry.startswith(layout.TEMP_PREFIX) or self._is_old(directory, entry)
        ]
        for entry in dead:
            self._files.unlink(directory, entry)
        return len(dead)

    def _is_old(self, directory: Directory, entry: str) -> bool:
        """Tell whether a temporary file of the Rust crate, which takes no lock, is surely dead."""
        found = self._files.status(directory, entry)
        if found is None:
            return False
        return time.time() - found.modified_ns / 1e9 > _RUST_LEFTOVER_SECONDS

    def in_order(self, names: list[FileName], directory: Directory) -> list[FileName]:
        """Sort names in the order of saving, those about Rust's by the times of their files."""
        names.sort()
        found = {
            name.text: self._files.status(directory, name.text) for name in layout.doubtful(names)
        }
        times = {text: status.modified_ns for text, status in found.items() if status}
        return layout.in_order(names, times) if found else names
