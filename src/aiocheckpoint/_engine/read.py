"""Reading one root, synchronously: each method of `Reader` is the work of one executor hop."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Generic, NamedTuple, TypeVar, cast

from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._disk.index import KnownBlobs, SessionIndex
from aiocheckpoint._disk.view import View
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.blobs import blob_digests, is_digest, verified_blob
from aiocheckpoint._format.codec import RecordCodec, RecordT
from aiocheckpoint._format.entries import body_bytes
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    FormatVersionError,
    MissingBlobError,
    NotACheckpointError,
    StorageError,
)
from aiocheckpoint.models import CheckpointId, SessionId

_VANISHED_RETRIES = 1000
ResultT = TypeVar("ResultT")


class VanishedError(Exception):
    """A file was there when the session was looked up, and gone when it was opened."""


class Session(NamedTuple):
    """
    A session as it was when it was looked up.

    Attributes:
        id: the session.
        name: of its directory.
        known: its checkpoints.
    """

    id: SessionId
    name: str
    known: SessionIndex


class Bodies:
    """
    The contents of checkpoints and blobs, from the log or from files.

    Args:
        view: the committed state.
        max_bytes: of one file.
    """

    def __init__(self, view: View, max_bytes: int) -> None:
        self.view = view
        self.max_bytes = max_bytes

    def path(self, session: str, name: str) -> str:
        """Return where a checkpoint's file is, or will be."""
        return Directory(self.view.sessions.path_of(session), None).join(name)

    def text(self, session: str, name: str) -> bytes:
        """
        Return the verified content of a checkpoint, compact and unsealed.

        Raises:
            VanishedError: it was removed meanwhile.
            CheckpointCorruptError: it is damaged.
        """
        return self._content(session, name)[0]

    def _content(self, session: str, name: str) -> tuple[bytes, bool]:
        """Return the content, and whether it is as it was saved rather than what a file holds."""
        committed = self.view.saved(session, name)
        if committed is not None:
            size = body_bytes(committed.entry)
            if size > self.max_bytes:
                raise CheckpointTooLargeError(self.path(session, name), size, self.max_bytes)
            body = self.view.body(committed)
            if body is not None:
                return body, True
        data = self._file(session, name)
        if data is not None:
            return documents.verified(data, self.path(session, name)), False
        if committed is not None and self.view.saved(session, name) is committed:
            reason = "neither the journal nor a file holds what was saved"
            raise CheckpointCorruptError(self.path(session, name), reason)
        raise VanishedError

    def _file(self, session: str, name: str) -> bytes | None:
        with self.view.sessions.opened(session) as directory:
            if directory is None:
                return None
            return self.view.files.read(directory, name, self.max_bytes)

    def own_text(self, session: Session, name: FileName) -> bytes:
        """
        Return the same, of a checkpoint that is where it belongs.

        Raises:
            CheckpointMismatchError: it is another session's, or of another id.
        """
        text, is_as_saved = self._content(session.name, name.text)
        if not is_as_saved or name.text not in session.known.identities:
            path = self.path(session.name, name.text)
            found = documents.identity(text, path)
            own = encode_id(found.session_id, "session id") == session.name
            if not own or not names.name_fits(name, found.checkpoint_id):
                raise CheckpointMismatchError(
                    path, (found.session_id, found.checkpoint_id), (session.id, None)
                )
            session.known.identities[name.text] = found.checkpoint_id
        return text

    def identify(self, session: Session, name: FileName) -> CheckpointId:
        """Return the id that a checkpoint's body holds; read once."""
        known = session.known.identities.get(name.text)
        if known is None:
            self.own_text(session, name)
            known = session.known.identities[name.text]
        return known

    # Blobs

    def blob(self, session: str, digest: str) -> bytes:
        """
        Return a blob, verified.

        Raises:
            MissingBlobError: it is not there.
            CheckpointCorruptError: it is damaged.
        """
        return self.blobs(session, (digest,))[digest]

    def blobs(self, session: str, digests: Iterable[str]) -> dict[str, bytes]:
        """Return several blobs, verified; see `blob`."""
        found = {digest: self._committed_blob(session, digest) for digest in digests}
        if None not in found.values():
            return cast("dict[str, bytes]", found)
        with self.view.sessions.blobs(session) as directory:
            return {
                digest: self._blob_file(session, digest, directory) if data is None else data
                for digest, data in found.items()
            }

    def _committed_blob(self, session: str, digest: str) -> bytes | None:
        committed = self.view.saved_blob(session, digest)
        if committed is None and digest in self.view.removed(session):
            raise MissingBlobError(self._blob_path(session, digest), digest)  # the file will go
        return None if committed is None else self.view.body(committed)

    def _blob_path(self, session: str, digest: str) -> str:
        place = Directory(self.view.sessions.root.join(session), None)
        return Directory(place.join(names.BLOBS_DIRECTORY), None).join(digest)

    def _blob_file(self, session: str, digest: str, directory: Directory | None) -> bytes:
        path = self._blob_path(session, digest)
        try:
            data = directory and self.view.files.read(directory, digest, self.max_bytes)
        except NotACheckpointError as error:
            raise CheckpointCorruptError(path, f"the blob is {error.reason}") from error
        if data is None:
            raise MissingBlobError(path, digest)
        return verified_blob(data, digest, path)

    def know_users(self, session: Session) -> bool:
        """
        Find out which blobs the checkpoints of a session refer to; False where one cannot be read.

        Cost: the first time in a process every checkpoint of the session is read, and the blobs
            are listed.
        """
        known = session.known.blobs = session.known.blobs or KnownBlobs()
        try:
            session.known.require_complete()
            for name in session.known.newest_first():
                if name.text not in known.of_file:
                    digests = blob_digests(self.own_text(session, name))
                    with session.known.mutex:  # others enter there what the log says
                        if name.text in session.known.by_text:
                            known.enter(name.text, digests)
            if not known.is_swept:
                with self.view.sessions.blobs(session.name) as directory:
                    listed = [] if directory is None else self.view.files.scan(directory)
                with session.known.mutex:
                    known.unused.update(n for n in listed if is_digest(n) and n not in known.users)
                    known.is_swept = True
        except (CheckpointError, VanishedError):
            return False
        return True


class Reader(Generic[RecordT]):
    """
    The checkpoints under one root, as records, for one hop.

    Args:
        bodies: their contents.
        record_codec: of the record type.
        timeout_seconds: how long the first look may wait for one who commits.
    """

    def __init__(
        self, bodies: Bodies, record_codec: RecordCodec[RecordT], timeout_seconds: float
    ) -> None:
        self.bodies = bodies
        self.view = bodies.view
        self._files = bodies.view.files
        self._codec = record_codec
        self._timeout_seconds = timeout_seconds
        self._sessions: dict[SessionId, Session] = {}

    def look(self) -> None:
        """See to it that all that was acknowledged is known, also after a crash."""
        self.view.look(self._timeout_seconds)

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
            self.view.require_readable(session_id)
            found = self._sessions[session_id] = Session(session_id, name, self.view.lookup(name))
        return found

    def steadily(self, session_id: SessionId, work: Callable[[Session], ResultT]) -> ResultT:
        """Do work on a session, again where somebody removed what it was about to read."""
        for _ in range(_VANISHED_RETRIES):
            session = self.session(session_id)
            try:
                return work(session)
            except VanishedError:
                self.view.listed(session.name)
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
        except (CheckpointCorruptError, NotACheckpointError) as error:
            raise self._with_newest_valid(session, error) from error

    def _with_newest_valid(
        self, session: Session, error: CheckpointCorruptError | NotACheckpointError
    ) -> CheckpointCorruptError:
        valid = self.newest_valid_id(session)
        if isinstance(error, NotACheckpointError):
            error = CheckpointCorruptError(error.path, error.reason)
        error.newest_valid_id = valid
        return error

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
            found = {key: self._find(session, key) for key in checkpoint_ids}
            if None in found.values() and session.known.is_assumed:
                session = session._replace(known=self.view.listed(session.name))
                found = {key: self._find(session, key) for key in checkpoint_ids}
            return tuple(
                self._decode(session, name, text)
                for name, text in sorted(filter(None, found.values()))
            )

        return self.steadily(session_id, read)

    def _find(self, session: Session, checkpoint_id: CheckpointId) -> tuple[FileName, bytes] | None:
        """Return the file that holds an id and its verified content."""
        for name in session.known.candidates(checkpoint_id):
            text = self.bodies.own_text(session, name)
            if session.known.identities.get(name.text) == checkpoint_id:
                return name, text
        session.known.require_complete()
        return None

    def load_blobs(self, session_id: SessionId, digests: Iterable[str]) -> dict[str, bytes]:
        """Return blobs of a session, verified."""
        name = encode_id(session_id, "session id")
        if session_id not in self._sessions:
            self.look()
            self.view.require_readable(session_id)
        wanted = tuple(digests)
        try:
            return self.bodies.blobs(name, wanted)
        except MissingBlobError:
            return {digest: self._blob(name, digest) for digest in wanted}

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
