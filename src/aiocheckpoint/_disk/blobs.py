"""The blobs of sessions: bytes named by their SHA-256, each stored once in a session.

    <root>/<session>/blobs/<sha256>

A blob goes when no checkpoint of its session refers to it, after the last one that did is
durably gone. Blobs may come and go under the same name, unlike checkpoint files; so whoever
removes one first changes the session's generation, and nobody trusts what he remembers of
another generation. All but reading needs the session's lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath

from aiocheckpoint._disk.files import Directory, LocalFiles, random_name
from aiocheckpoint._disk.index import KnownBlobs
from aiocheckpoint._disk.sessions import OpenSession, SessionDirectories
from aiocheckpoint._engine.journal import blob_path, has_dead_segments, sync_sessions
from aiocheckpoint._format import codec
from aiocheckpoint._format import names as layout
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    MissingBlobError,
    NotACheckpointError,
    StorageError,
    StoreBusyError,
)

DigestsOf = Callable[[FileName], "tuple[str, ...]"]


class Blobs:
    """
    The blobs under one root.

    Args:
        files: the file operations.
        sessions: the directories of the sessions.
        max_bytes: of one blob.
        is_durable: False to sync nothing.
    """

    def __init__(
        self, files: LocalFiles, sessions: SessionDirectories, max_bytes: int, *, is_durable: bool
    ) -> None:
        self._files = files
        self._sessions = sessions
        self._max_bytes = max_bytes
        self._is_durable = is_durable

    # Storing

    def to_store(
        self, session: OpenSession, digests: Collection[str], given: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        """
        Return which blobs have to be stored before a record that refers to `digests` is.

        The others are there, intact and durable. One that this process meets for the first time
        is read and synced: who wrote it may have died before that.

        Raises:
            MissingBlobError: one is neither given nor there.
            CheckpointCorruptError: one that is not given is damaged.
            CheckpointEncodeError: one that is given is not what its name says.
        """
        known = self._known(session)
        unknown = [digest for digest in digests if digest not in known.stored]
        if not unknown:
            return {}
        new: dict[str, bytes] = {}
        with self._sessions.blobs_directory(session.name) as directory:
            for digest in unknown:
                data = given.get(digest)
                if data is None:
                    self._read(session, directory, digest)
                elif not self._holds(directory, digest, data):
                    codec.require_digest(digest, data)
                    new[digest] = data
        found = [digest for digest in unknown if digest not in new]
        self._sync(session, found)
        known.stored.update(found)
        return new

    def _known(self, session: OpenSession) -> KnownBlobs:
        """Return what is known of a session's blobs and still right."""
        known = session.known.blobs = session.known.blobs or KnownBlobs()
        generation = self._files.pointed_at(session.directory, layout.BLOBS_GENERATION_NAME)
        if generation is None or generation != known.generation:
            known.stored.clear()
            known.generation = generation
        return known

    def _holds(self, directory: Directory | None, digest: str, data: bytes) -> bool:
        if directory is None:
            return False
        try:
            return self._files.read(directory, digest, len(data)) == data
        except (CheckpointTooLargeError, NotACheckpointError):
            return False

    def _sync(self, session: OpenSession, digests: Sequence[str]) -> None:
        if self._is_durable and digests:
            paths = {session.name: {blob_path(digest) for digest in digests}}
            sync_sessions(self._files, self._sessions.make_root(), paths)

    def store(self, session: OpenSession, blobs: Mapping[str, bytes], *, synced: bool) -> None:
        """Write blobs; with `synced` they are durable, or else once they are journaled."""
        if not blobs:
            return
        known = self._known(session)
        if known.generation is None:
            self.begin_generation(session)
        with self._sessions.blobs_directory(session.name, create=True) as directory:
            if directory is None:
                raise StorageError(
                    "open directory", session.name, None, "it was removed; try again"
                )
            for digest, data in blobs.items():
                self._write(directory, digest, data, synced=synced)
            self._files.reached("after_blobs")
            if synced:
                self._files.sync_directory(directory)
        if synced and not known.is_linked:
            self._sessions.sync_above(session.name)
            known.is_linked = True
        known.stored.update(blobs)
        known.unused.update(blobs)  # until a record refers to them

    def begin_generation(self, session: OpenSession) -> None:
        """Let every process know that what it remembers of the blobs may be gone."""
        known = self._known(session)
        name, generation = layout.BLOBS_GENERATION_NAME, random_name("generation-")
        self._files.point(session.directory, name, generation, generation.encode())
        is_link = session.directory.descriptor is not None
        known.generation = generation if is_link else None

    def _write(self, directory: Directory, digest: str, data: bytes, *, synced: bool) -> None:
        files, temporary = self._files, random_name(layout.TEMP_PREFIX)
        path = directory.join(temporary)
        try:
            descriptor = files.create(directory, temporary)
            try:
                files.write(descriptor, data, path)
                if synced:
                    files.sync_file(descriptor, path)
            finally:
                files.close(descriptor, path)
            files.reached("before_rename_blob")
            files.rename(directory, temporary, digest)
        except BaseException:
            files.discard(directory, temporary)
            raise

    # Reading

    def load(self, session: OpenSession, digests: Iterable[str]) -> dict[str, bytes]:
        """
        Return blobs, verified; needs no lock.

        Raises:
            MissingBlobError: one is not there.
            CheckpointCorruptError: one is damaged.
        """
        with self._sessions.blobs_directory(session.name) as directory:
            return {digest: self._read(session, directory, digest) for digest in digests}

    def _read(self, session: OpenSession, directory: Directory | None, digest: str) -> bytes:
        if directory is None:
            above = PurePath(session.directory.path).parent
            raise MissingBlobError(str(above / blob_path(digest)), digest)
        path = directory.join(digest)
        try:
            data = self._files.read(directory, digest, self._max_bytes)
        except NotACheckpointError as error:
            raise CheckpointCorruptError(path, f"the blob is {error.reason}") from error
        if data is None:
            raise MissingBlobError(path, digest)
        return codec.verified_blob(data, digest, path)

    # Removing

    def collect(
        self, session: OpenSession, digests_of: DigestsOf, *, in_replay: bool = False
    ) -> None:
        """
        Remove the blobs that no checkpoint refers to; call it when removals are durable.

        Whatever stands in the way, it leaves them for a later time: a checkpoint that cannot be
        read may refer to any blob, and one that a dead process has journaled may come back.

        Args:
            session: locked.
            digests_of: reads what a checkpoint file refers to.
            in_replay: whether the caller holds the lock of the root's own directory.

        Cost: nothing for a session without blobs. The first time in a process every checkpoint
            file of the session is read and the blobs listed; later what was removed counts.
        """
        known = session.known.blobs
        if known is None:
            return
        try:
            for name in session.known.newest_first():
                if name.text not in known.of_file:
                    known.enter(name.text, digests_of(name))
            with self._sessions.blobs_directory(session.name) as directory:
                if directory is None:
                    return
                unused = self._unused(known, directory)
                if unused and self._may_come_back(in_replay=in_replay):
                    return
                if unused:
                    self._remove(session, directory, unused)
            known.unused.clear()
            known.is_swept = True
        except CheckpointError:
            known.is_swept = False

    def _unused(self, known: KnownBlobs, directory: Directory) -> list[str]:
        if known.is_swept:
            return [digest for digest in known.unused if digest not in known.users]
        return [
            name
            for name in self._files.scan(directory)
            if name not in known.users and (codec.is_digest(name) or layout.is_leftover(name))
        ]

    def _remove(self, session: OpenSession, directory: Directory, names: Iterable[str]) -> None:
        known = self._known(session)
        self.begin_generation(session)
        self._files.reached("before_unlink_blobs")
        for name in names:
            self._files.unlink(directory, name)
            known.stored.discard(name)

    def _may_come_back(self, *, in_replay: bool) -> bool:
        """Tell whether a journal of a dead process may hold a save that refers to a blob."""
        with contextlib.ExitStack() as stack:
            root = self._sessions.make_root()
            private = self._files.open_subdirectory(root, layout.PRIVATE_DIRECTORY)
            if private is None:
                return False
            stack.callback(self._files.close_directory, private)
            if not in_replay:
                try:
                    self._files.lock(private, 0)
                except StoreBusyError:  # somebody replays, or makes a segment
                    return True
            return has_dead_segments(self._files, private)

    def remove_all(self, session: OpenSession) -> None:
        """Remove all blobs of a session that has no checkpoints."""
        with self._sessions.blobs_directory(session.name) as directory:
            if directory is not None:
                names = self._files.scan(directory)
                blobs = [n for n in names if codec.is_digest(n) or layout.is_leftover(n)]
                self._remove(session, directory, blobs)
        self._files.unlink(session.directory, layout.BLOBS_GENERATION_NAME)
