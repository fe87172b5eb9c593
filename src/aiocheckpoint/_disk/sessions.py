"""Opening the directories of sessions, and listing them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiocheckpoint._disk.files import (
    Directory,
    FileStatus,
    LocalFiles,
    is_settled,
    max_open_directories,
)
from aiocheckpoint._disk.index import SessionIndex, Signature
from aiocheckpoint._format import names
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import StorageError

_RUST_LEFTOVER_SECONDS = 3600
_RETRIES = 100


class _Open(NamedTuple):
    directory: Directory
    identity: tuple[int, int]


class _Key(NamedTuple):
    """A directory of a session: that of its checkpoints, or that of its blobs."""

    session: str
    name: str = names.CHECKPOINTS_DIRECTORY


def signature_of(status: FileStatus | None) -> Signature:
    """Return what tells the state of a directory from another; that of none for None."""
    if status is None:
        return Signature()
    return Signature(status.device, status.inode, status.modified_ns)


def trusted(signature: Signature) -> Signature:
    """Return a signature that is like no other's, if the next change might not show by it."""
    if signature.inode and not is_settled(signature.modified_ns):
        return signature._replace(modified_ns=-1)
    return signature


def _taken_apart(entries: Iterable[str], known: Mapping[str, FileName]) -> list[FileName]:
    if not known:
        return names.parse_names(entries)
    return [found for it in entries if (found := known.get(it) or names.parse_name(it))]


class _Lent(contextlib.AbstractContextManager[Directory]):
    """Gives a directory back at the end of a block; a generator costs twice as much."""

    def __init__(self, directories: SessionDirectories, key: _Key, found: _Open) -> None:
        self._directories = directories
        self._key = key
        self._found = found

    def __enter__(self) -> Directory:
        return self._found.directory

    def __exit__(self, *_: object) -> None:
        self._directories.give_back(self._key, self._found)


class SessionDirectories:
    """
    The directories of sessions under one root.

    Those used last stay open, so that a session in use costs no path look-ups. Whoever uses one
    takes it out and puts it back, so that nobody closes it meanwhile.

    Args:
        root: open.
        files: the file operations.
    """

    def __init__(self, root: Directory, files: LocalFiles) -> None:
        self.root = root
        self._files = files
        self._open: OrderedDict[_Key, _Open] = OrderedDict()
        self._max_open = max_open_directories()
        self._mutex = threading.Lock()

    def close(self) -> None:
        """Close all of them."""
        with self._mutex:
            opened = [*self._open.values()]
            self._open.clear()
        for found in opened:
            self._files.close_directory(found.directory)

    def path_of(self, name: str, *file: str) -> str:
        """Return where the checkpoints of a session are, or a file of them."""
        return self.root.join(name, names.CHECKPOINTS_DIRECTORY, *file)

    def signature(self, name: str) -> Signature:
        """Return the state of a session's directory."""
        return signature_of(self._files.status_of_path(self.path_of(name)))

    def signature_after_ours(self, name: str) -> Signature:
        """
        Return the state of a session's directory after changes that are known.

        It is trusted but for times of whole seconds: or each flush would cost a listing.
        """
        signature = self.signature(name)
        return signature if signature.modified_ns % 1_000_000_000 else trusted(signature)

    def opened(
        self, name: str, above: Directory | None = None
    ) -> contextlib.AbstractContextManager[Directory | None]:
        """
        Open the directory of a session's checkpoints, None when there is none.

        Args:
            name: of the session's directory.
            above: that, if it is open.
        """
        key = _Key(name)
        return self._lent(key, self._take(key, above))

    def _lent(
        self, key: _Key, found: _Open | None
    ) -> contextlib.AbstractContextManager[Directory | None]:
        return contextlib.nullcontext() if found is None else _Lent(self, key, found)

    def made(self, name: str) -> contextlib.AbstractContextManager[Directory]:
        """Open the directory of a session's checkpoints, made if need be."""
        key = _Key(name)
        found = self._take(key)
        for _ in range(_RETRIES):
            if found is not None:
                break
            self._make(name)
            found = self._take(key)
        if found is None:
            raise StorageError("open directory", name, None, "it keeps vanishing; try again")
        return _Lent(self, key, found)

    def _make(self, name: str) -> None:
        self._files.make_subdirectory(self.root, name)
        with self.above(name) as above:
            if above is not None:
                self._files.make_subdirectory(above, names.CHECKPOINTS_DIRECTORY)

    def _take(self, key: _Key, above: Directory | None = None) -> _Open | None:
        with self._mutex:
            found = self._open.pop(key, None)
        if found is not None:
            is_in_place = False
            try:
                is_in_place = self._is_in_place(key, found)
            finally:
                if not is_in_place:
                    self._files.close_directory(found.directory)
            if is_in_place:
                return found
        if above is not None:
            directory = self._files.open_subdirectory(above, key.name)
        else:
            with self.above(key.session) as found_above:
                directory = found_above and self._files.open_subdirectory(found_above, key.name)
        if directory is None:
            return None
        try:
            return _Open(directory, self._files.directory_status(directory).identity)
        except BaseException:
            self._files.close_directory(directory)
            raise

    def _is_in_place(self, key: _Key, found: _Open) -> bool:
        """Tell whether a directory is where it was opened, with no symlink on the way to it."""
        above = self._files.status(self.root, key.session)
        if above is None or not above.is_directory:
            return False
        status = self._files.status(Directory(self.root.join(key.session), None), key.name)
        return status is not None and status.identity == found.identity

    def give_back(self, key: _Key, found: _Open) -> None:
        """Keep a directory open for its next use, or close one that is over the limit."""
        with self._mutex:
            surplus = [found] if key in self._open else []
            self._open.setdefault(key, found)
            while len(self._open) > self._max_open:
                surplus.append(self._open.popitem(last=False)[1])
        for unused in surplus:
            self._files.close_directory(unused.directory)

    def above(self, name: str) -> contextlib.AbstractContextManager[Directory | None]:
        """Open the directory that holds a session's directories, None when there is none."""
        return self._files.subdirectory(self.root, name)

    def blobs(
        self, name: str, *, create: bool = False
    ) -> contextlib.AbstractContextManager[Directory | None]:
        """Open the directory of a session's blobs, None when there is none."""
        key = _Key(name, names.BLOBS_DIRECTORY)
        found = self._take(key)
        if found is None and create:
            with self.above(name) as above:
                if above is not None:
                    self._files.make_subdirectory(above, names.BLOBS_DIRECTORY)
            found = self._take(key)
        return self._lent(key, found)

    def is_ours(self, name: str) -> bool:
        """Tell whether a directory is a session's, or gone, and not somebody else's."""
        with self.above(name) as above:
            inner = (names.BLOBS_DIRECTORY, names.CHECKPOINTS_DIRECTORY)
            return above is None or any(self._files.status(above, each) for each in inner)

    def remove(self, name: str) -> list[str]:
        """Remove the directories of a session, if nothing is in them; return which are gone."""
        removed: list[str] = []
        with self.above(name) as above:
            if above is None:
                return removed
            removed += [
                above.join(inner)
                for inner in (names.BLOBS_DIRECTORY, names.CHECKPOINTS_DIRECTORY)
                if self._files.remove_subdirectory(above, inner)
            ]
        if self._files.remove_subdirectory(self.root, name):
            removed.append(self.root.join(name))
        self.forget(name)
        return removed

    def forget(self, name: str) -> None:
        """Close what is open of a session, as it would keep inodes of what is removed."""
        with self._mutex:
            keys = (_Key(name), _Key(name, names.BLOBS_DIRECTORY))
            found = [self._open.pop(key, None) for key in keys]
        for unused in filter(None, found):
            self._files.close_directory(unused.directory)

    # Listing

    def listed(
        self, name: str, earlier: SessionIndex | None, waiting: Mapping[str, int]
    ) -> SessionIndex:
        """
        Read the names in a session's directory anew.

        Args:
            name: of the session's directory.
            earlier: what was known of it.
            waiting: the times, in ns since 1970, of files that will be there, by their names.
        """
        with self.above(name) as above, self.opened(name, above) as directory:
            if directory is None:
                index = SessionIndex((), (), Signature())
                index.has_remains = above is not None
            else:
                # First, so that what changes meanwhile shows by a later time.
                signature = trusted(signature_of(self._files.directory_status(directory)))
                scanned = sorted(self._files.scan(directory))
                entries, backups = names.without_backups(scanned)
                there = sorted({*entries, *waiting}) if waiting else entries
                fine = names.fine_names(there) if earlier is None else None
                found: list[FileName] = []
                if fine is None:
                    found = _taken_apart(there, {} if earlier is None else earlier.by_text)
                    found = self.in_order(found, directory, waiting)
                index = SessionIndex(found, backups, signature, fine=fine)
                index.has_leftovers = names.has_leftovers(entries)
                blobs = above and self._files.status(above, names.BLOBS_DIRECTORY)
                index.has_blobs = blobs is not None
        if earlier is not None:
            index.inherit(earlier)
        return index

    def in_order(
        self, found: list[FileName], directory: Directory, waiting: Mapping[str, int] = {}
    ) -> list[FileName]:
        """Sort names in the order of saving, those about Rust's by the times of their files."""
        found.sort()
        doubtful = names.doubtful(found)
        times = dict(waiting)
        for name in doubtful:
            status = None if name.text in times else self._files.status(directory, name.text)
            if status is not None:
                times[name.text] = status.modified_ns
        return names.in_order(found, times) if doubtful else found

    def remove_leftovers(self, directory: Directory) -> None:
        """Remove temporary files that nobody is going to use; for who applies."""
        for entry in self._files.scan(directory):
            ours = entry.startswith(names.TEMP_PREFIX)
            if ours or (names.is_leftover(entry) and self._is_old(directory, entry)):
                self._files.unlink(directory, entry)

    def _is_old(self, directory: Directory, entry: str) -> bool:
        """Tell whether a temporary file of the Rust crate, which takes no lock, is surely dead."""
        found = self._files.status(directory, entry)
        if found is None:
            return False
        return time.time() - found.modified_ns / 1e9 > _RUST_LEFTOVER_SECONDS
