"""Reading one root, synchronously: in a thread, or what is in memory at a glance on a loop."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Generic, Literal, NoReturn, TypeVar

from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._disk.locks import LOCK_NAME
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.bodies import Bodies, Session, VanishedError
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.codec import Codec, RecordT
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    FormatVersionError,
    JournalCorruptError,
    MissingBlobError,
    NotACheckpointError,
    StorageError,
    StoreBusyError,
)
from aiocheckpoint.models import CheckpointId, SessionId

_VANISHED_RETRIES = 1000
_GLANCED_BYTES = 64 * 1024  # more would hold up the loop while it is decoded
_GLANCED_IDS = 1000
ResultT = TypeVar("ResultT")


class LockRefusedError(Exception):
    """
    The lock is another user's, and nobody has committed yet, by which all could be known.

    Args:
        refusal: of the lock.
    """

    def __init__(self, refusal: StorageError) -> None:
        super().__init__(refusal)
        self._refusal = refusal

    def told(self) -> StorageError:
        """Return what a caller is told who has waited for long enough."""
        return self._refusal


class Reader(Generic[RecordT]):
    """
    The checkpoints under one root, as records, for one hop.

    Args:
        bodies: their contents.
        record_codec: of the record type.
        timeout_seconds: how long the first look is tried again while another process commits.
        has_looked: whether all that was acknowledged is known already.
    """

    def __init__(
        self,
        bodies: Bodies,
        record_codec: Codec[RecordT],
        timeout_seconds: float,
        *,
        has_looked: bool = False,
    ) -> None:
        self.bodies = bodies
        self.view = bodies.view
        self._files = bodies.view.files
        self._codec = record_codec
        self._timeout_seconds = timeout_seconds
        self._sessions: dict[SessionId, Session] = {}
        self._indexes: dict[str, SessionIndex] = {}
        self._has_looked = has_looked

    def look(self) -> None:
        """
        See to it that all that was acknowledged is known, also after a crash; once a hop.

        Raises:
            StoreBusyError: that cannot be told while another process commits.
            LockRefusedError: nor while nobody does, as the lock is another user's.
        """
        if self._has_looked:
            return
        log = self.view.log
        if not self.view.look() and log is not None:
            if log.refusal is not None:
                raise LockRefusedError(log.refusal)
            raise StoreBusyError(log.directory.join(LOCK_NAME), self._timeout_seconds)
        self._has_looked = True

    def require_quick(self, known: SessionIndex, limit: int | None) -> None:
        """Refuse to tell ids where that takes too long: it never does here."""

    def session(self, session_id: SessionId) -> Session:
        """
        Look a session up, once: what a reader reads is of one moment.

        Raises:
            CheckpointCorruptError: a part of the journal is lost.
        """
        found = self._sessions.get(session_id)
        if found is None:
            name = encode_id(session_id, "session id")
            self.look()
            self.view.lost.require_none(session_id, name)
            found = self._sessions[session_id] = Session(session_id, name, self.index(name))
        return found

    def index(self, name: str) -> SessionIndex:
        """Look up what is in a session's directory, once: who asks for its id reads it next."""
        found = self._indexes.get(name)
        if found is None:
            self.look()
            found = self._indexes[name] = self.view.lookup_as_followed(name)
        return found

    def unreadable(self) -> list[CheckpointError]:
        """Return why there may be sessions of which nobody knows."""
        return [JournalCorruptError(damage.path) for damage in self.view.lost.unreadable()]

    def steadily(self, session_id: SessionId, work: Callable[[Session], ResultT]) -> ResultT:
        """Do work on a session, again where somebody removed what it was about to read."""
        for _ in range(_VANISHED_RETRIES):
            session = self.session(session_id)
            try:
                return work(session)
            except VanishedError:
                self._indexes[session.name] = self.view.listed(session.name)
                self._sessions.pop(session_id, None)
        raise StorageError("read", session_id, None, "its files keep vanishing; try again")

    # Loading

    def load(self, session_id: SessionId, checkpoint_id: CheckpointId | None) -> RecordT | None:
        """Return a checkpoint, the newest for None; None when there is none."""
        if checkpoint_id is None:
            return self.steadily(session_id, self._newest)
        found = self.load_many(session_id, (checkpoint_id,))
        return found[0] if found else None

    def _decode(self, session: Session, name: FileName, text: bytes) -> RecordT:
        return self._codec.decode(text, self.bodies.path(session.name, name.text))

    def _newest(self, session: Session) -> RecordT | None:
        newest = session.known.newest
        if newest is None:
            session.known.require_complete()
            return None
        try:
            return self._decode(session, newest, self.bodies.own_text(session, newest))
        except NotACheckpointError as error:
            valid_id = self.newest_valid_id(session)
            raise CheckpointCorruptError(
                error.path, error.reason, newest_valid_id=valid_id, session_id=session.id
            ) from error
        except CheckpointCorruptError as error:
            error.newest_valid_id = self.newest_valid_id(session)
            raise

    def newest_valid_id(self, session: Session) -> CheckpointId | None:
        """Return the id of the newest intact checkpoint; None when there is none."""
        for name in session.known.newest_first():
            with contextlib.suppress(
                CheckpointCorruptError,
                FormatVersionError,
                NotACheckpointError,
                StorageError,
                VanishedError,
            ):
                self.bodies.own_text(session, name)
                return session.known.identities[name.text]
        return None

    def load_many(
        self, session_id: SessionId, checkpoint_ids: Sequence[CheckpointId]
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, saved first first."""

        def read(session: Session) -> tuple[RecordT, ...]:
            try:
                found = self._holders(session, checkpoint_ids)
                return tuple(self._decode(session, name, text) for name, text in found)
            except CheckpointCorruptError as error:
                error.newest_valid_id = self.newest_valid_id(session)
                raise

        return self.steadily(session_id, read)

    def is_intact(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Tell whether a checkpoint is there and undamaged, of whatever type."""
        try:
            return bool(
                self.steadily(session_id, lambda session: self._holders(session, [checkpoint_id]))
            )
        except (CheckpointCorruptError, NotACheckpointError):
            return False
        except FormatVersionError as error:
            return verify_file(self._files, error.path, self.bodies.max_bytes)

    def _holders(
        self, session: Session, checkpoint_ids: Iterable[CheckpointId]
    ) -> list[tuple[FileName, bytes]]:
        """Return the files that hold ids with their verified contents, saved first first."""
        wanted = dict.fromkeys(checkpoint_ids)
        found = [self._find(session, key) for key in wanted]
        if None in found and self._may_miss_files(session):
            session = session._replace(known=self.view.listed(session.name))
            found = [self._find(session, key) for key in wanted]
        return sorted(filter(None, found))

    def _may_miss_files(self, session: Session) -> bool:
        """Tell whether Rust may have saved something during a change of ours."""
        return session.known.is_assumed

    def _find(self, session: Session, checkpoint_id: CheckpointId) -> tuple[FileName, bytes] | None:
        """Return the file that holds an id and its verified content."""
        for name in session.known.candidates(checkpoint_id):
            text = self.bodies.own_text(session, name)
            if session.known.identities.get(name.text) == checkpoint_id:
                return name, text
        self.bodies.require_absent(session, checkpoint_id)
        return None

    def load_blobs(self, session_id: SessionId, digests: Iterable[str]) -> dict[str, bytes]:
        """Return blobs of a session, verified."""
        name = encode_id(session_id, "session id")
        if session_id not in self._sessions:
            self.look()
            self.view.lost.require_none(session_id, name)
        try:
            return self._blobs(name, tuple(digests))
        except CheckpointCorruptError as error:
            error.session_id = session_id
            raise

    def _blobs(self, session: str, wanted: tuple[str, ...]) -> dict[str, bytes]:
        try:
            return self.bodies.blobs(session, wanted)
        except MissingBlobError:
            return {digest: self._blob(session, digest) for digest in wanted}

    def _blob(self, session: str, digest: str) -> bytes:
        try:
            return self.bodies.blob(session, digest)
        except MissingBlobError:
            self.view.follow()  # it may have come back, or been written, just then
            return self.bodies.blob(session, digest)

    # Verifying a path

    def verify(self, path: str) -> bool | None:
        """Tell whether a file that the log is about to make is intact; None for other paths."""
        parts = PurePath(path).parts[-3:]
        if len(parts) < 3 or parts[1] != names.CHECKPOINTS_DIRECTORY:
            return None
        self.look()
        committed = self.view.saved(parts[0], parts[2])
        own = PurePath(self.bodies.path(parts[0], parts[2]))
        if committed is None or Path(path).absolute() != own:
            return None
        return True if self.view.body(committed) is not None else None


def verify_file(files: LocalFiles, path: str, max_bytes: int) -> bool:
    """Tell whether a path holds an intact checkpoint, of any session or none."""
    if not path:
        return False
    name = PurePath(path).name
    if not name:
        raise NotACheckpointError(path, "a directory")
    try:
        directory = files.open_path(str(PurePath(path).parent))
        try:
            pointed = files.pointed_at(directory, name)
            if name == names.LATEST_NAME and pointed and PurePath(pointed).name == pointed:
                name = pointed
            data = files.read(directory, name, max_bytes)
        finally:
            files.close_directory(directory)
    except StorageError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    if data is None:
        return False
    try:
        documents.identity(documents.verified(data, path, of_any_version=True), path)
    except CheckpointCorruptError:
        return False
    return True


class NotInMemoryError(Exception):
    """The answer takes a file, a lock, or a while."""


class _Remembered(Bodies):
    """The contents of checkpoints that this process has saved and not flushed."""

    def __init__(self, view: View, max_bytes: int) -> None:
        super().__init__(view, max_bytes)
        self._left_bytes = _GLANCED_BYTES

    def _content(self, session: str, name: str) -> tuple[bytes, bool]:
        committed = self.view.saved(session, name)
        if committed is None or committed.body is None:
            raise NotInMemoryError
        self._left_bytes -= len(committed.body)
        if self._left_bytes < 0:
            raise NotInMemoryError
        return super()._content(session, name)

    def blobs(self, session: str, digests: Iterable[str]) -> NoReturn:
        """Leave them to others: they are large."""
        raise NotInMemoryError(session, digests)


class Glance(Reader[RecordT]):
    """
    A reader that knows what is in memory, which others may have changed: who relies on it has to
    find out whether the session is still in the state that was seen.

    Every method raises `NotInMemoryError` where it would have to wait for anything.

    Args:
        bodies: those of the root.
        record_codec: of the record type.
    """

    def __init__(self, bodies: Bodies, record_codec: Codec[RecordT]) -> None:
        super().__init__(_Remembered(bodies.view, bodies.max_bytes), record_codec, 0.0)

    def look(self) -> None:
        """Leave it at what is known."""

    def session(self, session_id: SessionId) -> Session:
        """Return what is known of a session."""
        name = encode_id(session_id, "session id")
        index = self.view.indexes.peek(name)
        if index is None or index.mutex.locked() or not index.finds_at_once():
            raise NotInMemoryError
        return Session(session_id, name, index)

    def _may_miss_files(self, session: Session) -> Literal[False]:
        del session  # to list it would take files
        return False

    def require_quick(self, known: SessionIndex, limit: int | None) -> None:
        """Leave ids to others that are many, or not told by names alone."""
        is_long = (known.count if limit is None else limit) > _GLANCED_IDS
        if is_long or not known.has_ids():
            raise NotInMemoryError
