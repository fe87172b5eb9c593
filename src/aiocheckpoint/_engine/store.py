"""One root on disk, synchronously: each public method is the work of one executor hop."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Generic, NamedTuple

from aiocheckpoint._disk.blobs import Blobs
from aiocheckpoint._disk.files import Directory, FileStatus, LocalFiles, random_name, random_number
from aiocheckpoint._disk.sessions import OpenSession, SessionDirectories
from aiocheckpoint._format import codec
from aiocheckpoint._format import names as layout
from aiocheckpoint._format.codec import Draft, RecordCodec, RecordT, Sealed
from aiocheckpoint._format.names import FileName
from aiocheckpoint._format.retention import surplus
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    DurabilityUnknownError,
    MissingBlobError,
    NotACheckpointError,
    PruneError,
    SessionChangedError,
    StorageError,
    StorageFullError,
)
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId

_PEEK_BYTES = 4096
_VANISHED_RETRIES = 100
_MAX_LEAP_MICROSECONDS = 1000


def _now_microseconds() -> int:
    return time.time_ns() // 1000


class _VanishedError(Exception):
    """A file was there when the directory was read, and gone when it was opened."""


class Limits(NamedTuple):
    """
    The bounds a store keeps.

    Attributes:
        max_backups: backups kept in a session.
        max_checkpoints: checkpoints kept in a session, None for all.
        max_bytes: of one checkpoint file.
        lock_timeout_seconds: how long to wait for another process.
        refuse_inexact_floats: whether a float that Rust cannot read exactly is an error.
        is_durable: False to sync nothing.
    """

    max_backups: int
    max_checkpoints: int | None
    max_bytes: int
    lock_timeout_seconds: float
    refuse_inexact_floats: bool = False
    is_durable: bool = True


Precondition = Callable[[CheckpointId | None], bool]


class Terms(NamedTuple):
    """
    What a save asks for besides its record.

    Attributes:
        digests: the blobs that the record refers to.
        blobs: those that are given, by their digests.
        precondition: tells from the greatest id in the session whether to save; None for always.
    """

    digests: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = {}
    precondition: Precondition | None = None


NO_TERMS = Terms()


class Store(Generic[RecordT]):
    """
    The checkpoints under one root.

    Mutations of a session exclude one another by the lock of its directory, over threads and
    processes. Readers take no lock: files never change once visible, names come and go
    atomically, and a file that vanishes in between makes them look again.

    Args:
        root_path: absolute; made on first use.
        record_codec: of the record type.
        limits: the bounds to keep.
        files: the file operations.
        prepare: runs once before the first use of any session.
        clock: microseconds since 1970.
    """

    def __init__(
        self,
        root_path: str,
        record_codec: RecordCodec[RecordT],
        limits: Limits,
        files: LocalFiles,
        prepare: Callable[[Store[RecordT]], None],
        clock: Callable[[], int] = _now_microseconds,
    ) -> None:
        self.files = files
        self.sessions = SessionDirectories(
            root_path, files, limits.lock_timeout_seconds, partial(prepare, self)
        )
        self.blobs = Blobs(files, self.sessions, limits.max_bytes, is_durable=limits.is_durable)
        self._codec = record_codec
        self._limits = limits
        self._clock = clock

    @property
    def max_checkpoints(self) -> int | None:
        """How many checkpoints a session keeps; None for all."""
        return self._limits.max_checkpoints

    @property
    def max_bytes(self) -> int:
        """The limit of one checkpoint file."""
        return self._limits.max_bytes

    # Saving

    def save(self, draft: Draft, terms: Terms = NO_TERMS) -> CheckpointId:
        """Store a draft durably by syncs of its own, replacing an earlier checkpoint of its id."""
        sealed = self.sealed(draft)
        with self.sessions.made(draft.session_id) as session:
            self.require(session, terms.precondition)
            self.sessions.sync_entries(session)
            if terms.digests:
                new = self.blobs.to_store(session, terms.digests, terms.blobs)
                self.blobs.store(session, new, synced=True)
            replaced = self.files_of(session, draft.checkpoint_id)
            previous = session.known.newest
            name = self.next_name(draft.checkpoint_id, session.known.last_stamped)
            self.publish(session, name, sealed.body, synced=True, digests=terms.digests)
            try:
                self.point(session, name, sealed.body)
                self.back_up(session, previous)
            except BaseException:
                self.withdraw(session, [name], previous)
                raise
            self._sync_published(session, name)
            self.prune(session, replaced, synced=True)
            self.sessions.note_change(session, name)
        return draft.checkpoint_id

    def require(
        self,
        session: OpenSession,
        precondition: Precondition | None,
        planned: Sequence[CheckpointId] = (),
    ) -> None:
        """
        Refuse a save whose precondition does not hold after the saves already planned.

        Raises:
            SessionChangedError: it does not.
        """
        if precondition is not None:
            newest_id = max([*self._ids(session, "", None, 1), *planned], default=None)
            if not precondition(newest_id):
                raise SessionChangedError(session.id, newest_id)

    def new_bytes(self, session_id: SessionId, blobs: Mapping[str, bytes]) -> int:
        """
        Return about how many bytes of blobs are not stored yet.

        Raises:
            CheckpointTooLargeError: a blob is over the limit.
        """
        max_bytes = self._limits.max_bytes
        for digest, data in blobs.items():
            if len(data) > max_bytes:
                raise CheckpointTooLargeError(f"blob {digest}", len(data), max_bytes)
        index = self.sessions.indexes.get(layout.encode_id(session_id, "session id"))
        known = index and index.blobs
        stored = known.stored if known else frozenset[str]()
        return sum(len(data) for digest, data in blobs.items() if digest not in stored)

    def sealed(self, draft: Draft) -> Sealed:
        """Return the file of a draft, if it is within the limits."""
        if self._limits.refuse_inexact_floats:
            codec.require_exact_floats(draft)
        sealed = codec.seal(draft)
        if len(sealed.body) > self._limits.max_bytes:
            raise CheckpointTooLargeError(
                f"checkpoint {draft.checkpoint_id!r}", len(sealed.body), self._limits.max_bytes
            )
        return sealed

    def next_name(self, checkpoint_id: CheckpointId, last: FileName | None) -> FileName:
        """Return the name of a file with a stamp after that of `last`."""
        leap = 1 + random_number(_MAX_LEAP_MICROSECONDS)
        return layout.make_name(checkpoint_id, layout.next_stamp(self._clock(), last, leap))

    def publish(
        self,
        session: OpenSession,
        name: FileName,
        body: bytes,
        *,
        synced: bool,
        digests: tuple[str, ...] | None = None,
    ) -> None:
        """
        Write a checkpoint file and give it its name.

        With `synced` its content is durable; its name never is before the directory is synced.
        Of unknown `digests` the file is read when it matters.
        """
        files, directory = self.files, session.directory
        temporary = random_name(layout.TEMP_PREFIX)
        path = directory.join(temporary)
        try:
            with files.created(directory, temporary) as descriptor:
                files.write(descriptor, body, path)
                if synced:
                    files.reached("before_sync_file")
                    files.sync_file(descriptor, path)
            files.reached("before_rename")
            files.rename(directory, temporary, name.text)
        except BaseException:
            files.discard(directory, temporary)
            files.discard(directory, name.text)  # a rename may fail after its effect
            raise
        session.known.add(name)
        if session.known.blobs is not None and digests is not None:
            session.known.blobs.enter(name.text, digests)
        files.reached("after_rename")

    def point(self, session: OpenSession, name: FileName, body: bytes) -> None:
        """Make `latest.json` name a file."""
        self.files.point(session.directory, layout.LATEST_NAME, name.text, body)
        self.files.reached("after_pointer")

    def back_up(self, session: OpenSession, previous: FileName | None) -> None:
        """
        Give the file that is no longer the newest a second name.

        It outlives an `rm` or a rename over the first. It is not a second copy of the bytes,
        and not part of what is durable on return.
        """
        if previous is None or self._limits.max_backups == 0:
            return
        backup = previous.text + layout.BACKUP_SUFFIX
        if self.files.link(session.directory, previous.text, session.directory, backup):
            session.known.backups.append(backup)

    def withdraw(
        self, session: OpenSession, names: Sequence[FileName], previous: FileName | None
    ) -> None:
        """Take back files that were published but will not be acknowledged."""
        self.sessions.indexes.drop(session.name)
        for name in names:
            self.files.discard(session.directory, name.text)
        with contextlib.suppress(StorageError):
            pointed = self.files.pointed_at(session.directory, layout.LATEST_NAME)
            if pointed in {name.text for name in names}:
                self.repoint(session, previous)

    def _sync_published(self, session: OpenSession, name: FileName) -> None:
        self.files.reached("before_sync_directory")
        try:
            self.files.sync_directory(session.directory)
        except StorageError as error:
            self.sessions.indexes.drop(session.name)
            path = session.directory.join(name.text)
            raise DurabilityUnknownError(
                error.operation, path, error.errno, error.reason
            ) from error
        self.files.reached("after_sync_directory")

    def prune(self, session: OpenSession, replaced: Sequence[FileName], *, synced: bool) -> None:
        """
        Remove what a durable save has made superfluous; durably with `synced`.

        Raises:
            PruneError: for what could not be removed.
        """
        try:
            for name in replaced:
                self.remove(session, name)
            superfluous = session.known.surplus(self._limits.max_checkpoints)
            for name in superfluous:
                self.remove(session, name)
            for backup in [*surplus(session.known.backups, self._limits.max_backups)]:
                self.files.unlink(session.directory, backup)
                session.known.backups.remove(backup)
            if synced and (replaced or superfluous):
                # Or a later delete of what took its place would bring it back after a power cut.
                self.files.sync_directory(session.directory)
            if replaced or superfluous:
                self.collect(session)
        except StorageError as error:
            self.sessions.indexes.drop(session.name)
            raise PruneError(error.operation, error.path, error.errno, error.reason) from error

    def collect(self, session: OpenSession, *, in_replay: bool = False) -> None:
        """Remove the blobs that no checkpoint of a locked session refers to."""
        self.blobs.collect(session, partial(self._digests_of, session), in_replay=in_replay)

    def _digests_of(self, session: OpenSession, name: FileName) -> tuple[str, ...]:
        path = session.directory.join(name.text)
        data = self.files.read(session.directory, name.text, self._limits.max_bytes)
        if data is None:
            raise StorageError("read", path, None, "it vanished")
        return codec.blob_digests(codec.verified(data, path))

    def remove(self, session: OpenSession, name: FileName) -> None:
        """Remove a checkpoint file and its backup."""
        backup = name.text + layout.BACKUP_SUFFIX
        if backup in session.known.backups:
            self.files.unlink(session.directory, backup)
            session.known.backups.remove(backup)
        self.files.unlink(session.directory, name.text)
        session.known.remove(name)

    def repoint(self, session: OpenSession, newest: FileName | None) -> None:
        """Make `latest.json` name a file, or remove it when there is none, or no room for it."""
        if newest is None:
            self.files.unlink(session.directory, layout.LATEST_NAME)
            return
        body = b""
        if session.directory.descriptor is None:
            body = self.files.read(session.directory, newest.text, self._limits.max_bytes) or b""
        try:
            self.point(session, newest, body)
        except StorageFullError:  # without it a reader looks for the newest itself
            self.files.unlink(session.directory, layout.LATEST_NAME)

    # Reading

    def verified_text(self, session: OpenSession, name: FileName) -> bytes | None:
        """Return the verified content of a file, its session checked; None when it vanished."""
        data = self.files.read(session.directory, name.text, self._limits.max_bytes)
        if data is None:
            return None
        path = session.directory.join(name.text)
        text = codec.verified(data, path)
        found = codec.identity(text, path)
        if found.session_id != session.id or not layout.name_fits(name, found.checkpoint_id):
            raise CheckpointMismatchError(
                path, (found.session_id, found.checkpoint_id), (session.id, None)
            )
        return text

    def decode(self, text: bytes, path: str) -> RecordT:
        """Return the record in a verified file."""
        return self._codec.decode(text, path)

    def load(self, session_id: SessionId, checkpoint_id: CheckpointId | None) -> RecordT | None:
        """Return a checkpoint, the newest for None; None when there is none."""
        for _ in range(_VANISHED_RETRIES):
            with self.sessions.reading(session_id) as session:
                if session is None:
                    return None
                with contextlib.suppress(_VanishedError):
                    if checkpoint_id is None:
                        return self._load_newest(session)
                    return self._load_id(session, checkpoint_id)
                self.sessions.indexes.drop(session.name)
        raise StorageError("read", session_id, None, "its files keep vanishing; try again")

    def _load_newest(self, session: OpenSession) -> RecordT | None:
        newest = session.known.newest
        if newest is None:
            return None
        try:
            text = self.verified_text(session, newest)
            if text is None:
                raise _VanishedError
            return self.decode(text, session.directory.join(newest.text))
        except (CheckpointCorruptError, NotACheckpointError) as error:
            raise self._with_newest_valid(session, error) from error

    def _with_newest_valid(
        self, session: OpenSession, error: CheckpointCorruptError | NotACheckpointError
    ) -> CheckpointCorruptError:
        valid = self.newest_valid_id(session)
        if isinstance(error, NotACheckpointError):
            error = CheckpointCorruptError(error.path, error.reason)
        error.newest_valid_id = valid
        return error

    def newest_valid_id(self, session: OpenSession) -> CheckpointId | None:
        """Return the id of the newest intact checkpoint; None when there is none."""
        for name in session.known.newest_first():
            with contextlib.suppress(CheckpointCorruptError, NotACheckpointError, StorageError):
                text = self.verified_text(session, name)
                if text is not None:
                    return self.decode(text, name.text).checkpoint_id
        return None

    def _load_id(self, session: OpenSession, checkpoint_id: CheckpointId) -> RecordT | None:
        found = self._find(session, checkpoint_id)
        return (
            None if found is None else self.decode(found[1], session.directory.join(found[0].text))
        )

    def _find(
        self, session: OpenSession, checkpoint_id: CheckpointId
    ) -> tuple[FileName, bytes] | None:
        """Return the file that holds an id and its verified content."""
        found = self._find_known(session, checkpoint_id)
        if found is None and session.known.is_assumed:
            found = self._find_known(self.sessions.confirmed(session), checkpoint_id)
        return found

    def _find_known(
        self, session: OpenSession, checkpoint_id: CheckpointId
    ) -> tuple[FileName, bytes] | None:
        for name in session.known.candidates(checkpoint_id):
            text = self.verified_text(session, name)
            if text is None:
                raise _VanishedError
            path = session.directory.join(name.text)
            if codec.identity(text, path).checkpoint_id == checkpoint_id:
                return name, text
        return None

    def load_many(
        self, session_id: SessionId, checkpoint_ids: Sequence[CheckpointId]
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, saved first first."""
        for _ in range(_VANISHED_RETRIES):
            with self.sessions.reading(session_id) as session:
                if session is None:
                    return ()
                with contextlib.suppress(_VanishedError):
                    found = [self._find(session, key) for key in dict.fromkeys(checkpoint_ids)]
                    return tuple(
                        self.decode(text, session.directory.join(name.text))
                        for name, text in sorted(filter(None, found))
                    )
                self.sessions.indexes.drop(session.name)
        raise StorageError("read", session_id, None, "its files keep vanishing; try again")

    def load_blobs(self, session_id: SessionId, digests: Sequence[str]) -> dict[str, bytes]:
        """Return blobs of a session, verified."""
        with self.sessions.reading(session_id) as session:
            if session is None and digests:
                path = layout.encode_id(session_id, "session id")
                raise MissingBlobError(path, digests[0])
            return {} if session is None else self.blobs.load(session, digests)

    def ids(
        self, session_id: SessionId, prefix: str, before: CheckpointId | None, limit: int | None
    ) -> tuple[CheckpointId, ...]:
        """Return the ids of a session that have a prefix and are below another, greatest first."""
        with self.sessions.reading(session_id) as session:
            return () if session is None else tuple(self._ids(session, prefix, before, limit))

    def _ids(
        self, session: OpenSession, prefix: str, before: CheckpointId | None, limit: int | None
    ) -> list[CheckpointId]:
        found = session.known.greatest_ids(prefix, before, limit)
        metas = [self._meta(session, name) for name in session.known.unread_names()]
        read = {
            meta.checkpoint_id
            for meta in metas
            if meta is not None
            and meta.checkpoint_id.startswith(prefix)
            and (before is None or meta.checkpoint_id < before)
        }
        return sorted(read.union(found), reverse=True)[:limit] if read else found

    def files_of(self, session: OpenSession, checkpoint_id: CheckpointId) -> list[FileName]:
        """Return the intact files that hold an id; a damaged one is left for `recover`."""
        found = []
        for name in session.known.candidates(checkpoint_id):
            with contextlib.suppress(CheckpointCorruptError, NotACheckpointError):
                text = self.verified_text(session, name)
                if text and codec.identity(text, name.text).checkpoint_id == checkpoint_id:
                    found.append(name)
        return found

    def listing(self, session_id: SessionId) -> tuple[CheckpointMeta, ...]:
        """Return the listing entries of a session, newest first, one for each id."""
        with self.sessions.reading(session_id) as found:
            if found is None:
                return ()
            session = self.sessions.confirmed(found)
            metas: dict[CheckpointId, CheckpointMeta] = {}
            for name in session.known.newest_first():
                meta = self._meta(session, name)
                if meta is not None and meta.session_id == session_id:
                    metas.setdefault(meta.checkpoint_id, meta)
            return tuple(metas.values())

    def _meta(self, session: OpenSession, name: FileName) -> CheckpointMeta | None:
        status = self.files.status(session.directory, name.text)
        if status is None or not status.is_regular or status.size_bytes > self._limits.max_bytes:
            return None
        known = session.known.metas.get(name.text)
        if known is None or known[0] != status:
            known = (status, self._read_meta(session.directory, name.text, status))
            session.known.metas[name.text] = known
        return known[1]

    def _read_meta(
        self, directory: Directory, name: str, status: FileStatus
    ) -> CheckpointMeta | None:
        path = Path(directory.join(name))
        ends = self.files.read_ends(directory, name, _PEEK_BYTES)
        if ends is None:
            return None
        head, tail = ends
        if len(head) == status.size_bytes:
            return codec.parse_meta(head, path)
        meta = codec.peek_meta(head, tail, path)
        if meta is not None:
            return meta
        data = self.files.read(directory, name, self._limits.max_bytes)
        return None if data is None else codec.parse_meta(data, path)

    def verify(self, path: str) -> bool:
        """Tell whether a path holds an intact checkpoint, of any session or none."""
        name = PurePath(path).name
        if not path:
            return False
        if not name:
            raise NotACheckpointError(path, "a directory")
        try:
            directory = self.files.open_path(str(PurePath(path).parent))
            try:
                pointed = self.files.pointed_at(directory, name)
                if name == layout.LATEST_NAME and pointed and PurePath(pointed).name == pointed:
                    name = pointed
                data = self.files.read(directory, name, self._limits.max_bytes)
            finally:
                self.files.close_directory(directory)
        except StorageError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        if data is None:
            return False
        try:
            codec.identity(codec.verified(data, path), path)
        except CheckpointCorruptError:
            return False
        return True

    # Deleting and copying

    def holders(self, session: OpenSession, checkpoint_id: CheckpointId) -> list[FileName]:
        """
        Return the files that hold an id.

        Raises:
            CheckpointCorruptError: when one cannot be read to make sure.
        """
        return [
            name
            for name in session.known.candidates(checkpoint_id)
            if (text := self.verified_text(session, name))
            and codec.identity(text, name.text).checkpoint_id == checkpoint_id
        ]

    def delete_files(
        self, session: OpenSession, doomed: Sequence[FileName], *, synced: bool = False
    ) -> None:
        """
        Remove files, moving the pointer off them first.

        With `synced` their blobs go only when they are gone for good.
        """
        newest = session.known.newest_besides(frozenset(doomed))
        try:
            if session.known.newest in doomed:
                self.repoint(session, newest)
            self.files.reached("before_unlink")
            for name in doomed:
                self.remove(session, name)
            if synced:
                self.files.sync_directory(session.directory)
        except StorageError:
            self.sessions.indexes.drop(session.name)
            raise
        self.collect(session)
        self.sessions.note_change(session, newest)

    def delete_everything(self, session: OpenSession, *, synced: bool = False) -> None:
        """
        Remove all checkpoints of a session, and its directories if nothing else is in them.

        With `synced` the newest goes only when the older ones are gone for good, and the blobs
        when it is.
        """
        self.sessions.indexes.drop(session.name)
        for backup in session.known.backups:
            self.files.unlink(session.directory, backup)
        names = session.known.newest_first()
        for name in names[:0:-1]:  # oldest first, all but the newest
            self.files.unlink(session.directory, name.text)
        self.repoint(session, None)
        if synced:
            self.files.sync_directory(session.directory)
        for name in names[:1]:
            self.files.unlink(session.directory, name.text)
        if synced and session.known.blobs is not None:
            self.files.sync_directory(session.directory)
        self.blobs.remove_all(session)
        self.sessions.remove_directories(session)

    def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """Copy all checkpoints of a session into another, durably, oldest first."""
        layout.encode_id(target_id, "session id")
        with self.sessions.reading(source_id) as found:
            source = found and self.sessions.confirmed(found)
            names = [] if source is None else source.known.newest_first()[::-1]
            if source is None or not names or source_id == target_id:
                return len(names)
            ids = {name: self._copied(source, name, target_id).checkpoint_id for name in names}
            # After a save that could not remove what it replaced, two files hold one id.
            newest = {checkpoint_id: name for name, checkpoint_id in ids.items()}
            names = [name for name in names if newest[ids[name]] == name]
            with self.sessions.made(target_id) as target:
                self.sessions.sync_entries(target)
                return self._copy_files(source, names, target)

    def _copy_files(self, source: OpenSession, names: list[FileName], target: OpenSession) -> int:
        replaced: list[FileName] = []
        self.sessions.indexes.drop(target.name)
        for name in names:
            draft = self._copied(source, name, target.id)
            self._copy_blobs(source, draft, target)
            replaced += self.files_of(target, draft.checkpoint_id)
            copy = self.next_name(draft.checkpoint_id, target.known.last_stamped)
            self.publish(target, copy, codec.seal(draft).body, synced=True)
        newest = target.known.newest
        if newest is not None:
            self.repoint(target, newest)
            self._sync_published(target, newest)
        self.prune(target, replaced, synced=True)
        self.sessions.note_change(target, newest)
        return len(names)

    def _copy_blobs(self, source: OpenSession, draft: Draft, target: OpenSession) -> None:
        digests = codec.blob_digests(draft.text)
        if digests:
            blobs = self.blobs.load(source, digests)
            self.blobs.store(target, self.blobs.to_store(target, digests, blobs), synced=True)

    def _copied(self, source: OpenSession, name: FileName, target_id: SessionId) -> Draft:
        path = source.directory.join(name.text)
        text = self.verified_text(source, name)
        if text is None:
            raise StorageError("read", path, None, "it was deleted during the copy; copy again")
        return codec.with_session_id(text, target_id)
