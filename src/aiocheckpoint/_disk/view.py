"""The committed state of sessions: their directories, and over them what is not flushed yet."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Generator, Mapping, Sequence

from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._disk.index import IndexCache, SessionIndex, Signature
from aiocheckpoint._disk.locks import CONTROL_NAME, MovedError
from aiocheckpoint._disk.log import Advance, Log, ReadFrame
from aiocheckpoint._disk.lost_parts import LostParts
from aiocheckpoint._disk.owners import greatest_token, living
from aiocheckpoint._disk.pending import Committed, Pending
from aiocheckpoint._disk.sessions import SessionDirectories
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import Entry, Owned, Removed, Saved, SavedBlob, body_bytes
from aiocheckpoint._format.ids import may_be_session
from aiocheckpoint._format.log import Control
from aiocheckpoint._format.names import FileName, parse_name
from aiocheckpoint.errors import CheckpointError, StorageError

_RETRIES = 1000


class View:
    """
    What is committed, answered from memory where that is right.

    Args:
        sessions: the directories.
        log_: the log; None for a root that has none and is only read.
        files: the file operations.

    Attributes:
        mutex: held for each short look or change; never while waiting for a lock of files.
        pending: what is not flushed.
        indexes: of the sessions used last.
        lost: parts of the log that nobody can read.
        wanted: position up to which somebody waits for a flush.
        applying: held while files of a session are written from it.
        is_left: whether its files are others' to write by now.
    """

    def __init__(self, sessions: SessionDirectories, log_: Log | None, files: LocalFiles) -> None:
        self.sessions = sessions
        self.log = log_
        self.files = files
        self.mutex = threading.RLock() if log_ is None else log_.mutex
        self.pending = Pending()
        self.indexes = IndexCache()
        self.lost = LostParts(files, log_, self._all_sessions)
        self.wanted = 0
        self.applying = threading.Lock()
        self.is_left = False
        self._generation = 0
        self._first_control: Control | None = None
        self._kept_owners: dict[str, Owned] | None = None
        if log_ is not None:
            log_.meanwhile = self.follow  # what is read then need not be read under the lock

    @property
    def flushed(self) -> int:
        """Up to where files are durable; what is before may be kept for a listing's sake alone."""
        control = self.log.control if self.log is not None else None
        return max(self.pending.floor, control.flushed if control else 0)

    def pressing_bytes(self) -> int:
        """Return how much of the log is unflushed, but for what sessions that are stuck have."""
        unflushed = self.log.unflushed_bytes() if self.log is not None else 0
        return unflushed - self.pending.stuck_bytes() if self.pending.stuck else unflushed

    # The log

    def follow(self) -> None:
        """Take in what others have committed since."""
        if self.log is not None:
            with self.mutex:
                advance = self.log.follow()
                if advance is not None:
                    with self.log.entering():
                        self._take_in(advance)

    def catch_up(self) -> None:
        """Take in the log to its very end; under its lock, or with commits kept out."""
        if self.log is not None:
            with self.mutex:
                advance = self.log.catch_up()
                if advance is not None:
                    with self.log.entering():
                        self._take_in(advance)

    def look(self) -> bool:
        """
        See to it that the end of the log was looked for once, and follow it.

        Returns:
            False while that cannot be, as somebody is committing and has published nothing.
        """
        log_ = self.log
        if log_ is None:
            self.require_root_in_place()
            return True
        log_.require_in_place(CONTROL_NAME)  # whoever has opened it may have done so long ago
        if log_.is_scanned:
            self.follow()
            return True
        with self.mutex, log_.shared_if_free() as is_free:
            if is_free:
                self.catch_up()
                return True
        log_.refuse_old_journals()
        control, first = log_.read_control(), self._first_control
        self._first_control = first or control
        if control is not None and first is not None and control.revision != first.revision:
            log_.is_scanned = True  # whoever committed has looked for the end
            self.follow()
        return log_.is_scanned

    def has_looked_apart(self) -> bool:
        """
        Look for the end of the log once without keeping commits out, for a view nobody else has.

        A commit shows by what it publishes, and one that has not published yet by its lock; of one
        that died in between a part may be seen, as afterwards.

        Returns:
            False where there may have been a commit, or anything is wrong: the view is void then.
        """
        log_ = self.log
        if log_ is None:
            return True
        with contextlib.suppress(CheckpointError):
            before = log_.read_control()
            self.catch_up()
            return log_.is_free() and before is not None and log_.read_control() is before
        return False

    def _take_in(self, advance: Advance) -> None:
        log_ = self.log
        if log_ is None:
            return
        flushed = log_.control.flushed if log_.control else 0
        if advance.is_gap:
            self._generation += 1
            self.pending.clear(flushed)
            self.indexes.clear()
            self.sessions.close()  # of those that are gone by now they would keep the inodes
            self._kept_owners = None
        needed_after = self.pending.needed_after(flushed)  # a listing may have begun before
        for read in advance.frames:
            entries = read.frame.entries()
            if read.place <= needed_after:
                self._apply(entries)  # it is in files by now, but an index may be older
            else:
                self.note(read, entries, ())
                if any(isinstance(entry, Removed) and entry.erases for entry in entries):
                    log_.erasure = read.place
        self.drop_flushed()

    def drop_flushed(self) -> None:
        """Let go of what is flushed."""
        with self.mutex:
            control = self.log.control if self.log is not None else None
            if self.log is not None and control and control.flushed > self.pending.floor:
                self.pending.drop(control.flushed)
                self._kept_owners = None
                self.log.forget_flushed(control.flushed)
                self.lost.is_stale = True  # the flush may have passed such a part

    def note(
        self,
        read: ReadFrame,
        entries: Sequence[Entry],
        bodies: Sequence[bytes],
        names: Mapping[str, FileName] = {},
    ) -> None:
        """
        Enter a frame that is committed.

        Args:
            read: the frame.
            entries: what it says.
            bodies: of its entries, where this process has made them.
            names: of checkpoint files in it, where they are at hand.
        """
        with self.mutex:
            self.pending.add(read, entries, bodies)
            if read.frame.flags & log.FLUSH_WANTED:
                self.wanted = read.place
            self._apply(entries, names, is_ours=bool(bodies))

    def _apply(
        self,
        entries: Sequence[Entry],
        names: Mapping[str, FileName] = {},
        *,
        is_ours: bool = False,
    ) -> None:
        """Bring the indexes that are remembered up to date."""
        known = self.indexes.all
        for entry in entries:
            index = known.get(entry.session)
            if index is not None:
                index.apply(entry, names, is_ours=is_ours)
            if isinstance(entry, Removed) and (index is None or not index.count):
                self.sessions.forget(entry.session)

    # Owners

    def owner(self, session: str) -> Owned | None:
        """Return who owns a session; None for nobody. Right under the lock of commits alone."""
        with self.mutex:
            if session in self.pending.owned:
                _, owned = self.pending.owned[session]
            else:
                found = self._owners_kept().get(session)
                if found is None:
                    return None
                owned = found
            return owned if owned.process else None

    def greatest_token(self) -> int:
        """Return the greatest token that an owner had. Right under the lock of commits alone."""
        with self.mutex:
            later = (owned for _, owned in self.pending.owned.values())
            return greatest_token([*self._owners_kept().values(), *later])

    def _owners_kept(self) -> dict[str, Owned]:
        if self._kept_owners is None:
            self._kept_owners = {} if self.log is None else self.log.owners.read()
        return self._kept_owners

    def keep_owners(self, place: int) -> None:
        """Write down who owns what, if what says so is about to be flushed; for who applies."""
        with self.mutex:
            later = dict(self.pending.owned)
            if self.log is None or not any(found[0] <= place for found in later.values()):
                return
            said = {session: owned for session, (_, owned) in later.items()}
        # Who became an owner behind the place, or is none any more, is so in the journal as well.
        owners = self.log.owners.read() | said
        kept = living(owners, self.log.presence.is_alive)
        self.log.owners.write(kept, greatest_token(owners.values()))

    # Sessions

    def lookup(self, name: str) -> SessionIndex:
        """Return the index of a session, right now."""
        if self.indexes.get(name) is not None:
            self.follow()  # which may forget it
        return self.lookup_as_followed(name)

    def lookup_as_followed(self, name: str) -> SessionIndex:
        """Return the index of a session as of when the log was followed last, or later."""
        index = self.indexes.get(name)
        return index if index is not None and self._is_current(name, index) else self.listed(name)

    def _is_current(self, name: str, index: SessionIndex) -> bool:
        if index.is_being_applied:  # by this process: what changes there is in the index
            return True
        if index.signature == self.sessions.signature(name):
            return True
        self.require_root_in_place()
        return index.is_being_applied

    def require_root_in_place(self) -> None:
        """
        See that the root is still what its path leads to.

        Raises:
            MovedError: it is not.
        """
        root = self.sessions.root
        if not self.files.still_leads_to(root.path, self.files.directory_status(root)):
            raise MovedError(root.path)

    def confirmed(self, name: str, index: SessionIndex) -> SessionIndex:
        """Return an index with nothing missing that Rust did during a change of ours."""
        return self.listed(name) if index.is_assumed else index

    def listed(self, name: str) -> SessionIndex:
        """
        List a session's directory, and lay over it what is not flushed.

        A listing is not atomic: a file made where it has been, while another is removed where it
        has not, shows neither. All that changes meanwhile is in the log behind where it began.

        Of a session that has entries in the log and whose directory cannot be listed, the index
        has those alone, and the error.

        Raises:
            StorageError: the directory cannot be listed.
        """
        for _ in range(_RETRIES):
            with self._pinned() as (floor, generation):
                index = self._listed(name)
                with self.mutex:
                    self.follow()
                    if generation == self._generation:
                        is_again = index.blobs is not None
                        for committed in self.pending.entries_of(name, floor):
                            is_ours = committed.body is not None
                            index.apply(committed.entry, is_ours=is_ours, is_again=is_again)
                        if index.error is None:
                            self.indexes.put(name, index)
                        return index
        raise StorageError("list", name, None, "the journal keeps changing; try again")

    def _waiting(self, name: str) -> dict[str, int]:
        """Return the times, in ns, that files of a session will have that are not there yet."""
        with self.mutex:
            found = self.pending.sessions.get(name)
            saved = found.saved.values() if found else ()
            entries = [c.entry for c in saved if c.place > self.flushed]
        times: dict[str, int] = {}
        for entry in entries:
            parsed = parse_name(entry.name) if isinstance(entry, Saved) else None
            if parsed is not None and isinstance(entry, Saved):
                times[parsed.text] = (entry.modified or parsed.microseconds) * 1000
        return times

    def _listed(self, name: str) -> SessionIndex:
        try:
            return self.sessions.listed(name, self.indexes.get(name), self._waiting(name))
        except StorageError as error:
            if name not in self.pending.sessions:
                raise
            index = SessionIndex((), (), Signature())
            index.error = error
            return index

    @contextlib.contextmanager
    def _pinned(self) -> Generator[tuple[int, int]]:
        with self.mutex:
            self.follow()
            place, generation = self.flushed, self._generation
            self.pending.pin(place)
        try:
            yield place, generation
        finally:
            with self.mutex:
                self.pending.unpin(place)
                self.drop_flushed()  # what was kept for this alone would count as unwritten

    # Bodies

    def saved(self, session: str, name: str) -> Committed | None:
        """Return where a checkpoint is in the log, None when it is not."""
        found = self.pending.sessions.get(session)
        return None if found is None else found.saved.get(name)

    def saved_blob(self, session: str, digest: str) -> Committed | None:
        """Return where a blob is in the log, None when it is not."""
        found = self.pending.sessions.get(session)
        return None if found is None else found.blobs.get(bytes.fromhex(digest))

    def removed(self, session: str) -> set[str]:
        """Return the names of files and blobs that may be there still, though the log has not."""
        with self.mutex:
            entries = self.pending.entries_of(session, self.flushed)
        names: set[str] = set()
        for committed in entries:
            if isinstance(committed.entry, Removed):
                names.update(committed.entry.names, map(bytes.hex, committed.entry.blobs))
        return names

    def body(self, committed: Committed) -> bytes | None:
        """Return a body from memory or the log; None when it has been flushed meanwhile."""
        if committed.body is not None:
            return committed.body
        entry = committed.entry
        if self.log is None or not isinstance(entry, (Saved, SavedBlob)):
            return None
        try:
            with self.mutex:
                size = body_bytes(entry)
                data = self.log.slots.read(committed.slot, size, committed.offset)
        except StorageError:
            self.follow()
            if self.log.control and committed.place <= self.log.control.flushed:
                return None
            raise
        if hashlib.sha256(data).digest() == entry.digest:
            return data
        self.follow()
        return None

    def raw_body(self, committed: Committed) -> bytes:
        """Return the bytes that the log has in the place of a body, right or not; never fewer."""
        if committed.body is not None or self.log is None:
            return committed.body or b""
        size = body_bytes(committed.entry)
        return self.log.slots.read_whole(committed.slot, size, committed.offset)

    def _all_sessions(self) -> list[str]:
        found = {*self.files.scan(self.sessions.root), *self.pending_sessions()}
        return sorted(filter(may_be_session, found))

    def pending_sessions(self) -> list[str]:
        """Return the names of the sessions with entries that are not flushed."""
        with self.mutex:
            return [*self.pending.sessions]
