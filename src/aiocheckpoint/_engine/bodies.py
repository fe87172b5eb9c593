"""The contents of checkpoints and blobs, from the journal or from files, and what they lead to."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterable
from typing import NamedTuple, cast

from aiocheckpoint._disk.files import Directory
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._disk.known_blobs import KnownBlobs
from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._disk.view import View
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.blobs import (
    BlobNode,
    as_blob,
    blob_digests,
    blob_links,
    is_digest,
    verified_blob,
)
from aiocheckpoint._format.entries import SavedBlob, body_bytes
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    MissingBlobError,
    NotACheckpointError,
)
from aiocheckpoint.models import CheckpointId, SessionId

_NOWHERE = "neither the journal nor a file holds what was saved"


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
        return self.view.sessions.path_of(session, name)

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
        data = self.raw(session, name)
        if data is not None:
            return documents.verified(data, self.path(session, name)), False
        raise self.absent(session, name, committed)

    def absent(
        self, session: str, name: str, committed: Committed | None
    ) -> CheckpointCorruptError | VanishedError:
        """Return the error for what has no file: damage, if the journal says that it is there."""
        if self._is_waiting(committed, self.view.saved(session, name)):
            return CheckpointCorruptError(self.path(session, name), _NOWHERE)
        return VanishedError()

    def _is_waiting(self, committed: Committed | None, newest: Committed | None) -> bool:
        """Tell whether what was found in the journal is there still, and is not flushed."""
        if committed is None or newest is not committed:
            return False
        return committed.place > self.view.flushed

    def is_gone(self, session: str, name: str) -> bool:
        """
        Tell whether somebody has removed a checkpoint, or its backup: its blobs went with it.

        Its file may be there still: what the journal says is done to files later.
        """
        self.view.follow()
        text = name.removesuffix(names.BACKUP_SUFFIX)
        if self.view.saved(session, text) is not None:
            return False
        return text in self.view.removed(session) or self.raw(session, name) is None

    def raw(self, session: str, name: str) -> bytes | None:
        """Return what a checkpoint's file holds, not verified; None if there is none."""
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
        try:
            return self._own_text(session, name)
        except CheckpointCorruptError as error:
            known = session.known.identities.get(name.text) or names.id_of_name(name)
            error.session_id, error.checkpoint_id = session.id, known
            raise

    def _own_text(self, session: Session, name: FileName) -> bytes:
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

    def require_absent(self, session: Session, checkpoint_id: CheckpointId) -> None:
        """
        Refuse to call a checkpoint absent that may be, or have been, in what cannot be listed.

        Raises:
            StorageError: that is so, and the log does not say that it was removed.
        """
        if session.known.error is not None:
            gone = map(names.parse_name, self.view.removed(session.name))
            if not any(name and names.name_fits(name, checkpoint_id) for name in gone):
                raise session.known.error

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
        waiting = {digest: self.view.saved_blob(session, digest) for digest in digests}
        found = {digest: self._committed_blob(saved) for digest, saved in waiting.items()}
        if None not in found.values():
            return cast("dict[str, bytes]", found)
        removed = self.view.removed(session)
        for digest, committed in waiting.items():
            if committed is None and digest in removed:
                raise MissingBlobError(self.blob_path(session, digest), digest)  # its file will go
        whole: dict[str, bytes] = {}
        digest, is_node = "", False
        try:
            with self.view.sessions.blobs(session) as directory:
                for digest, data in found.items():
                    blob = data
                    if blob is None:
                        blob = self._blob_file(digest, directory, is_node=is_node)
                    if blob is None:
                        raise self._absent_blob(session, digest, waiting[digest])
                    whole[digest] = blob
                    is_node = isinstance(blob, BlobNode)  # as the next one is, most likely
        except CheckpointCorruptError as error:
            self._lose(session, digest, error)
            raise
        return whole

    def _committed_blob(self, committed: Committed | None) -> bytes | None:
        body = None if committed is None else self.view.body(committed)
        return None if body is None else as_blob(body)

    def links(self, session: str, digest: str) -> tuple[str, ...]:
        """
        Return which blobs a blob refers to; only one that refers to others is read for that.

        Raises:
            MissingBlobError: it is not there.
            CheckpointCorruptError: it refers to others, and is damaged.
        """
        committed = self.view.saved_blob(session, digest)
        if committed is not None and isinstance(committed.entry, SavedBlob):
            return tuple(link.hex() for link in committed.entry.links)
        if digest not in self.view.removed(session):
            with self.view.sessions.blobs(session) as directory:
                if directory and self.view.files.status(directory, digest) is not None:
                    return ()
        return blob_links(self.blob(session, digest))

    def is_others(self, session: str, digest: str) -> bool:
        """Tell whether the journal alone may have a blob, which another process saved."""
        committed = self.view.saved_blob(session, digest)
        return committed is not None and committed.body is None

    def blob_path(self, session: str, digest: str) -> str:
        """Return where a blob has its file, or would."""
        return self.view.sessions.root.join(session, names.BLOBS_DIRECTORY, digest)

    def _blob_file(
        self, digest: str, directory: Directory | None, *, is_node: bool
    ) -> bytes | None:
        """Return a blob from its file; `is_node` tells under which name it is looked for first."""
        if directory is not None:
            for kind in (is_node, not is_node):
                data = self.read_blob(directory, digest, is_node=kind)
                if data is not None:
                    return data
        return None

    def _absent_blob(
        self, session: str, digest: str, committed: Committed | None
    ) -> CheckpointCorruptError:
        """Return the error for what has no file: damage, if the journal says that it is there."""
        path = self.blob_path(session, digest)
        if self._is_waiting(committed, self.view.saved_blob(session, digest)):
            return CheckpointCorruptError(path, _NOWHERE)
        return MissingBlobError(path, digest)

    @contextlib.contextmanager
    def losing(self, session: str, digest: str) -> Generator[None]:
        """Let a save that gives a blob store it anew, should it turn out missing or damaged."""
        try:
            yield
        except CheckpointCorruptError as error:
            self._lose(session, digest, error)
            raise

    def _lose(self, session: str, digest: str, error: CheckpointCorruptError) -> None:
        index = self.view.indexes.peek(session)
        if index is not None:
            index.lose_blob(digest, is_missing=isinstance(error, MissingBlobError))

    def read_blob(self, directory: Directory, digest: str, *, is_node: bool) -> bytes | None:
        """
        Return what a blob's file holds, verified; None if there is none of that kind.

        Raises:
            CheckpointCorruptError: it is damaged.
        """
        name = names.blob_file(digest, is_node=is_node)
        path = directory.join(name)
        try:
            data = self.view.files.read(directory, name, self.max_bytes)
        except NotACheckpointError as error:
            raise CheckpointCorruptError(path, f"the blob is {error.reason}") from error
        if data is None:
            return None
        data = verified_blob(data, digest, path)
        if isinstance(data, BlobNode) is not is_node:
            raise CheckpointCorruptError(path, "the blob is of the kind that has the other suffix")
        return data

    def know_users(self, session: Session) -> bool:
        """
        Find out which blobs are in use in a session; False where something cannot be read.

        All else is known by then, so that no blob stays once what cannot be read is gone.

        Cost: the first time in a process every checkpoint of the session is read, and every blob
            that refers to others; and the blobs are listed.
        """
        known = session.known.blobs = session.known.blobs or KnownBlobs()
        try:
            session.known.require_complete()
            texts = session.known.texts_but(known.of_file)
            unknown = filter(None, map(session.known.by_text.get, texts))
            are_read = [self._enter_digests(session, known, name) for name in unknown]
            if not known.is_swept:
                self._sweep(session, known)
            while known.unread:
                with session.known.mutex:
                    digest = next(iter(known.unread), None)
                if digest is not None:
                    links = self.links_if_known(session.name, digest)
                    with session.known.mutex:
                        known.learn(digest, links)
        except (CheckpointError, VanishedError):
            return False
        return all(are_read)

    def _enter_digests(self, session: Session, known: KnownBlobs, name: FileName) -> bool:
        """Note which blobs a checkpoint names; False where it cannot be read."""
        try:
            digests = blob_digests(self.own_text(session, name))
        except (CheckpointError, VanishedError):
            return False
        with session.known.mutex:  # others enter there what the log says
            if name.text in session.known.by_text:
                known.enter(name.text, digests)
        return True

    def _sweep(self, session: Session, known: KnownBlobs) -> None:
        """Find out which blobs there are."""
        with self.view.sessions.blobs(session.name) as directory:
            listed = [] if directory is None else self.view.files.scan(directory)
        with session.known.mutex:
            for digest in filter(is_digest, listed):
                known.learn(digest, ())
            found = (name.removesuffix(names.NODE_SUFFIX) for name in listed)
            known.unused.update(d for d in found if is_digest(d) and not known.count(d))
            known.is_swept = True

    def links_if_known(self, session: str, digest: str) -> tuple[str, ...]:
        """
        Return the same as `links`, and nothing for what is missing where no blob names another.

        Raises:
            CheckpointError: it may name any other.
        """
        try:
            return self.links(session, digest)
        except MissingBlobError:
            if self._has_nodes(session):
                raise
            return ()

    def _has_nodes(self, session: str) -> bool:
        waiting = self.view.pending.entries_of(session)
        if any(isinstance(c.entry, SavedBlob) and c.entry.links for c in waiting):
            return True
        with self.view.sessions.blobs(session) as directory:
            listed = [] if directory is None else self.view.files.scan(directory)
        return any(name.endswith(names.NODE_SUFFIX) for name in listed)


class BlobGraph:
    """
    Follows blobs from one to the next; each is looked at once.

    Args:
        bodies: the contents of blobs.
        session: name of its directory.
        reads: whether each is read as a whole, and so known to be intact; otherwise only those
            that refer to others are.
    """

    def __init__(self, bodies: Bodies, session: str, *, reads: bool) -> None:
        self._bodies = bodies
        self._session = session
        self._reads = reads
        self._right: set[str] = set()
        self._links: dict[str, tuple[str, ...] | CheckpointCorruptError] = {}

    def reach(self, digests: Iterable[str]) -> set[str]:
        """
        Return all blobs that some lead to, themselves included.

        Raises:
            CheckpointCorruptError: one is missing or damaged.
        """
        return self._follow(digests, frozenset())

    def require(self, digests: Iterable[str]) -> None:
        """
        Refuse blobs that are missing or damaged, or lead to such.

        What was right once is not followed again.

        Raises:
            CheckpointCorruptError: of the first that is met.
        """
        self._right |= self._follow(digests, self._right)

    def _follow(self, digests: Iterable[str], but: Collection[str]) -> set[str]:
        found: set[str] = set()
        waiting = [*digests]
        while waiting:
            digest = waiting.pop()
            if digest not in found and digest not in but:
                found.add(digest)
                waiting += self._look(digest)
        return found

    def _look(self, digest: str) -> tuple[str, ...]:
        links = self._links.get(digest)
        if links is None:
            try:
                if self._reads:
                    links = blob_links(self._bodies.blob(self._session, digest))
                else:
                    links = self._bodies.links(self._session, digest)
            except CheckpointCorruptError as error:
                links = error
            self._links[digest] = links
        if isinstance(links, CheckpointCorruptError):
            raise links
        return links
