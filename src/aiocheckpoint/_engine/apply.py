"""Entries of the log to files: the same code for what this process committed and for the dead."""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Callable, Generator, Sequence

from aiocheckpoint._disk.files import Directory, LocalFiles, random_name
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._disk.locks import MovedError
from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.last_words import Aside, Wanted, last_words
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.entries import Entry, Quarantined, Saved, SavedBlob
from aiocheckpoint._format.ids import decode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    FormatVersionError,
    NotACheckpointError,
    StorageError,
    StorageFullError,
)

_ANY_SIZE = 1 << 40  # what was saved may be larger than what this process lets in


class Files:
    """
    Brings the files of one session after another up to date.

    Args:
        view: the committed state.
        private: the store's own directory.

    Attributes:
        make_way: called before each file, to let others have the interpreter.
    """

    def __init__(self, view: View, private: Directory) -> None:
        self._view = view
        self._files: LocalFiles = view.files
        self._private = private
        self.make_way: Callable[[], None] = _go_on

    def apply(
        self,
        name: str,
        entries: Sequence[Committed],
        place: int,
        touched: Touched,
        written: set[str] | None = None,
    ) -> None:
        """
        Make true what some entries of a session say.

        Args:
            name: of the session's directory.
            entries: in order; they may have been applied before, as a whole or in part.
            place: up to where the log is applied when this is done.
            touched: notes what has to be synced.
            written: notes the names of the checkpoints' files that are written.

        Raises:
            StorageError: some of it is not done.
            CheckpointCorruptError: the log does not hold what was saved any more.
            MovedError: the log was removed, and somebody has done so for good.
        """
        with self._view.applying:
            if self._view.is_left:
                raise MovedError(self._private.path)
            self._apply(name, entries, place, touched, written)

    def _apply(
        self,
        name: str,
        entries: Sequence[Committed],
        place: int,
        touched: Touched,
        written: set[str] | None,
    ) -> None:
        wanted = last_words(entries)
        index = self._view.lookup(name)
        index.is_being_applied = True
        try:
            if index.has_leftovers:
                with self._view.sessions.opened(name) as directory:
                    if directory is not None:
                        self._view.sessions.remove_leftovers(directory)
                index.has_leftovers = False
            if wanted.saved or wanted.blobs or any(aside.saved for aside in wanted.quarantined):
                self._write_all(name, wanted, index, place, touched, written)
            else:
                drops = wanted.drops_session or not index.count
                wanted = wanted._replace(drops_session=drops)
                self._only_remove(name, wanted, index, place, touched)
        except BaseException:
            self._view.indexes.drop(name)
            raise
        finally:
            index.signature = self._view.sessions.signature_after_ours(name)
            index.is_assumed = True
            index.is_being_applied = False

    def _write_all(
        self,
        name: str,
        wanted: Wanted,
        index: SessionIndex,
        place: int,
        touched: Touched,
        written: set[str] | None,
    ) -> None:
        with self._view.sessions.made(name) as directory:
            touched.session(name, directory)
            if wanted.blobs:
                self._write_blobs(name, wanted, touched)
            for aside in wanted.quarantined:
                self._quarantine(aside, directory, touched)
            for text, committed in wanted.saved.items():
                parsed = index.by_text.get(text) or names.parse_name(text)
                backup = text + names.BACKUP_SUFFIX
                if backup in index.backups:  # another name of a file that may be torn
                    self._files.unlink(directory, backup)
                    index.backups.remove(backup)
                self._write(directory, parsed, committed, touched)
                if written is not None:
                    written.add(text)
            self._show(name, directory, index, wanted, place)
            self._remove(name, directory, wanted, touched)

    def _only_remove(
        self, name: str, wanted: Wanted, index: SessionIndex, place: int, touched: Touched
    ) -> None:
        with self._view.sessions.opened(name) as directory:
            if directory is not None:
                touched.session(name, directory)
                for aside in wanted.quarantined:
                    self._quarantine(aside, directory, touched)
                self._show(name, directory, index, wanted, place)
                self._remove(name, directory, wanted, touched)
            else:
                self._remove_blobs(name, wanted, touched)
        if wanted.drops_session:
            touched.root()
            if not index.count:
                touched.gone(self._view.sessions.remove(name))

    # Writing

    def _body(self, committed: Committed, directory: Directory, name: str) -> bytes:
        """Return what a file is made of: from the file itself, where the log is damaged there."""
        body = self._view.body(committed)
        if body is None:
            body = self._written(committed.entry, directory, name)
        if body is None:
            raise CheckpointCorruptError(
                directory.join(name),
                "the journal does not hold what was saved any more",
                session_id=decode_id(committed.entry.session),
            )
        return body

    def _written(self, entry: Entry, directory: Directory, name: str) -> bytes | None:
        """Return the body of what has its file already; None if that is not there, or damaged."""
        if not isinstance(entry, Saved | SavedBlob):
            return None
        try:
            body = self._files.read(directory, name, _ANY_SIZE) or b""
            if isinstance(entry, Saved):
                body = documents.verified(body, directory.join(name))
        except (CheckpointCorruptError, FormatVersionError, NotACheckpointError):
            return None
        return body if hashlib.sha256(body).digest() == entry.digest else None

    def _write(
        self,
        directory: Directory,
        name: FileName | None,
        committed: Committed,
        touched: Touched,
    ) -> None:
        entry = committed.entry
        if name is None or not isinstance(entry, Saved):
            raise StorageError("write", directory.path, None, "not a checkpoint's name")
        self.make_way()
        text = self._body(committed, directory, name.text)
        data = documents.file_of(text, entry.checksum or entry.digest)
        self._put(directory, name.text, data, (entry.modified or name.microseconds) * 1000, touched)
        self._files.reached("after_rename")

    def _put(
        self, directory: Directory, name: str, data: bytes, modified_ns: int, touched: Touched
    ) -> None:
        """Write a file under a name that nobody knows, then give it its own."""
        files = self._files
        temporary = random_name(names.TEMP_PREFIX)
        descriptor = files.write_new(directory, temporary, data, modified_ns)
        try:
            files.reached("before_rename")
            files.rename(directory, temporary, name)
        except BaseException:
            files.discard(directory, temporary)
            with contextlib.suppress(StorageError):
                files.close(descriptor, directory.join(temporary))
            raise
        touched.file(descriptor, directory, name)

    def _write_blobs(self, session: str, wanted: Wanted, touched: Touched) -> None:
        with self._view.sessions.blobs(session, create=True) as directory:
            if directory is None:
                raise StorageError("open directory", session, None, "it was removed; try again")
            touched.blobs(session, directory)
            self._clean(session, directory)
            for digest, committed in wanted.blobs.items():
                is_node = isinstance(committed.entry, SavedBlob) and bool(committed.entry.links)
                name = names.blob_file(digest.hex(), is_node=is_node)
                self._put(directory, name, self._body(committed, directory, name), 0, touched)
            self._files.reached("after_blobs")

    def _clean(self, session: str, blobs: Directory) -> None:
        """Remove what writes of blobs have left that never ended; once a session and process."""
        index = self._view.indexes.peek(session)
        if index is None or not index.are_blobs_clean:
            self._view.sessions.remove_leftovers(blobs)
        if index is not None:
            index.are_blobs_clean = True

    # Pointer and backups, once a session and round

    def _show(
        self, session: str, directory: Directory, index: SessionIndex, wanted: Wanted, place: int
    ) -> None:
        """Let `latest.json` name the newest file, and keep second names of those before it."""
        backups = max((_max_backups(c.entry) for c in wanted.saved.values()), default=0)
        newest = self._applied_newest(session, index, place, 1 + backups)
        self._point(directory, index, newest[0] if newest else None)
        for name in newest[1:]:
            backup = name.text + names.BACKUP_SUFFIX
            if backup in index.backups:
                continue
            with contextlib.suppress(StorageFullError):  # it is another name, and not the file
                if self._files.link(directory, name.text, directory, backup):
                    index.backups.append(backup)
        if wanted.saved:
            index.backups.sort()
            for backup in index.backups[: max(len(index.backups) - backups, 0)]:
                self._files.unlink(directory, backup)
                index.backups.remove(backup)

    def _applied_newest(
        self, session: str, index: SessionIndex, place: int, count: int
    ) -> list[FileName]:
        """Return the newest files, newest first, but for those that the log has yet to bring."""
        later = {
            c.entry.name
            for c in self._view.pending.entries_of(session, place)
            if isinstance(c.entry, Saved)
        }
        found: list[FileName] = []
        with index.mutex:
            for name in reversed(index.names):
                if name.text not in later:
                    found.append(name)
                    if len(found) == count:
                        break
        return found

    def _point(self, directory: Directory, index: SessionIndex, newest: FileName | None) -> None:
        text = None if newest is None else newest.text
        if text is not None and index.pointed == text:
            return
        index.pointed = None
        if newest is None:
            self._remove_pointer(directory)
            return
        data = b""
        if directory.descriptor is None:
            data = self._files.read(directory, newest.text, _ANY_SIZE) or b""
        try:
            is_made = self._files.point(directory, names.LATEST_NAME, newest.text, data)
            self._files.reached("after_pointer")
        except StorageError as error:
            if not isinstance(error, StorageFullError) and not self._has_no_place(directory):
                raise
            is_made = False
        if is_made:
            index.pointed = text
        else:  # without it a reader looks for the newest itself
            self._remove_pointer(directory)

    def _remove_pointer(self, directory: Directory) -> None:
        try:
            self._files.unlink(directory, names.LATEST_NAME)
        except StorageError:
            if not self._has_no_place(directory):
                raise

    def _has_no_place(self, directory: Directory) -> bool:
        """Tell whether a directory is where the pointer should be: what is in it is somebody's."""
        there = self._files.status(directory, names.LATEST_NAME)
        return there is not None and there.is_directory

    def _any_file(self, committed: Committed) -> bytes:
        """Return the file of a save, or, where the log does not hold it whole, what is there."""
        body, entry = self._view.body(committed), committed.entry
        if body is None or not isinstance(entry, Saved):
            return self._view.raw_body(committed)
        return documents.file_of(body, entry.checksum or entry.digest)

    # Removing

    def remove(self, name: str, entries: Sequence[Committed], touched: Touched) -> None:
        """Remove what some entries say before anything else: there may be no room otherwise."""
        with self._view.sessions.opened(name) as directory:
            if directory is not None:
                touched.session(name, directory)
                self._remove(name, directory, last_words(entries), touched)

    def _remove(self, session: str, directory: Directory, wanted: Wanted, touched: Touched) -> None:
        self._files.reached("before_unlink")
        for name in wanted.removed:
            self._files.unlink(directory, name + names.BACKUP_SUFFIX)
            self._files.unlink(directory, name)
        self._remove_blobs(session, wanted, touched)
        index = self._view.indexes.peek(session)
        if index is not None and wanted.removed:
            gone = {name + names.BACKUP_SUFFIX for name in wanted.removed}
            index.backups = [backup for backup in index.backups if backup not in gone]

    def _remove_blobs(self, session: str, wanted: Wanted, touched: Touched) -> None:
        if not wanted.removed_blobs and not wanted.drops_session:
            return
        try:
            with self._view.sessions.blobs(session) as blobs:
                if blobs is not None:
                    touched.blobs(session, blobs)
                    self._clean(session, blobs)
                    for digest in wanted.removed_blobs:
                        for is_node in (False, True):
                            name = names.blob_file(digest.hex(), is_node=is_node)
                            self._files.unlink(blobs, name)
        except StorageError as error:
            is_ours = wanted.removed_blobs or error.errno not in (errno.ENOTDIR, errno.ELOOP)
            if is_ours:  # else a file or a symlink of that name, which no save of ours made
                raise

    def _quarantine(self, aside: Aside, directory: Directory, touched: Touched) -> None:
        """Move a file aside, or write there what was never written."""
        entry = aside.entry
        with self._quarantine_of(entry.session) as target:
            touched.directory(target)
            if entry.is_blob:
                is_there = self._move_blob(entry, target, touched)
            else:
                is_there = self._move(directory, entry.name, target, entry.aside)
            if not is_there and aside.saved is not None:
                self._put(target, entry.aside, self._any_file(aside.saved), 0, touched)

    def _move_blob(self, entry: Quarantined, target: Directory, touched: Touched) -> bool:
        with self._view.sessions.blobs(entry.session) as blobs:
            if blobs is None:
                return False
            touched.blobs(entry.session, blobs)
            is_there = False
            for is_node in (False, True):
                name = names.blob_file(entry.name, is_node=is_node)
                is_there |= self._move(blobs, name, target, entry.aside)
            return is_there

    def _move(self, source: Directory, name: str, target: Directory, aside: str) -> bool:
        """Move a file, if that was not done; after a crash, or an error, it may have both names."""
        there = self._files.status(target, aside)
        if there is None:
            return self._files.move_if_there(source, name, target, aside)
        left = self._files.status(source, name)
        is_same = left is not None and left.identity == there.identity
        if is_same or self._files.is_copy(source, name, target, aside):
            self._files.unlink(source, name)
        return True

    @contextlib.contextmanager
    def _quarantine_of(self, session: str) -> Generator[Directory]:
        with contextlib.ExitStack() as stack:
            directory = self._private
            for part in (names.QUARANTINE_DIRECTORY, session):
                self._files.make_subdirectory(directory, part)
                self._files.sync_directory(directory)
                directory = self._files.require_subdirectory(directory, part)
                stack.callback(self._files.close_directory, directory)
            yield directory


def _go_on() -> None:
    """Do nothing."""


def _max_backups(entry: Entry) -> int:
    return entry.max_backups if isinstance(entry, Saved) else 0
