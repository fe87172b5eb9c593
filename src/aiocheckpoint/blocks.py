"""The blocks of sessions: bytes named by their SHA-256, each stored once in a session.

    <root>/<session>/blocks/<sha256>

A block goes when no checkpoint of its session refers to it, after the last one that did is
durably gone. Blocks may come and go under the same name, unlike checkpoint files; so whoever
removes one first changes the session's generation, and nobody trusts what he remembers of
another generation. All but reading needs the session's lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath

from aiocheckpoint import codec, layout
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    MissingBlockError,
    NotACheckpointError,
    SessionBusyError,
    StorageError,
)
from aiocheckpoint.files import Folder, LocalFiles, random_name
from aiocheckpoint.index import KnownBlocks
from aiocheckpoint.journal import block_path, has_dead_segments, sync_sessions
from aiocheckpoint.layout import FileName
from aiocheckpoint.sessions import OpenSession, SessionFolders

DigestsOf = Callable[[FileName], "tuple[str, ...]"]


class Blocks:
    """
    The blocks under one root.

    Args:
        files: the file operations.
        sessions: the folders of the sessions.
        max_bytes: of one block.
        is_durable: False to sync nothing.
    """

    def __init__(
        self, files: LocalFiles, sessions: SessionFolders, max_bytes: int, *, is_durable: bool
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
        Return which blocks have to be stored before a record that refers to `digests` is.

        The others are there, intact and durable. One that this process meets for the first time
        is read and synced: who wrote it may have died before that.

        Raises:
            MissingBlockError: one is neither given nor there.
            CheckpointCorruptError: one that is not given is damaged.
            CheckpointEncodeError: one that is given is not what its name says.
        """
        known = self._known(session)
        unknown = [digest for digest in digests if digest not in known.stored]
        if not unknown:
            return {}
        new: dict[str, bytes] = {}
        with self._sessions.blocks_folder(session.name) as folder:
            for digest in unknown:
                data = given.get(digest)
                if data is None:
                    self._read(session, folder, digest)
                elif not self._holds(folder, digest, data):
                    codec.require_digest(digest, data)
                    new[digest] = data
        found = [digest for digest in unknown if digest not in new]
        self._sync(session, found)
        known.stored.update(found)
        return new

    def _known(self, session: OpenSession) -> KnownBlocks:
        """Return what is known of a session's blocks and still right."""
        known = session.known.blocks = session.known.blocks or KnownBlocks()
        generation = self._files.pointed_at(session.folder, layout.BLOCKS_GENERATION_NAME)
        if generation is None or generation != known.generation:
            known.stored.clear()
            known.generation = generation
        return known

    def _holds(self, folder: Folder | None, digest: str, data: bytes) -> bool:
        if folder is None:
            return False
        try:
            return self._files.read(folder, digest, len(data)) == data
        except (CheckpointTooLargeError, NotACheckpointError):
            return False

    def _sync(self, session: OpenSession, digests: Sequence[str]) -> None:
        if self._is_durable and digests:
            paths = {session.name: {block_path(digest) for digest in digests}}
            sync_sessions(self._files, self._sessions.make_root(), paths)

    def store(self, session: OpenSession, blocks: Mapping[str, bytes], *, synced: bool) -> None:
        """Write blocks; with `synced` they are durable, or else once they are journaled."""
        if not blocks:
            return
        known = self._known(session)
        if known.generation is None:
            self.begin_generation(session)
        with self._sessions.blocks_folder(session.name, create=True) as folder:
            if folder is None:
                raise StorageError("open folder", session.name, None, "it was removed; try again")
            for digest, data in blocks.items():
                self._write(folder, digest, data, synced=synced)
            self._files.reached("after_blocks")
            if synced:
                self._files.sync_folder(folder)
        if synced and not known.is_linked:
            self._sessions.sync_above(session.name)
            known.is_linked = True
        known.stored.update(blocks)
        known.unused.update(blocks)  # until a record refers to them

    def begin_generation(self, session: OpenSession) -> None:
        """Let every process know that what it remembers of the blocks may be gone."""
        known = self._known(session)
        name, generation = layout.BLOCKS_GENERATION_NAME, random_name("generation-")
        self._files.point(session.folder, name, generation, generation.encode())
        is_link = session.folder.descriptor is not None
        known.generation = generation if is_link else None

    def _write(self, folder: Folder, digest: str, data: bytes, *, synced: bool) -> None:
        files, temporary = self._files, random_name(layout.TEMP_PREFIX)
        path = folder.join(temporary)
        try:
            descriptor = files.create(folder, temporary)
            try:
                files.write(descriptor, data, path)
                if synced:
                    files.sync_file(descriptor, path)
            finally:
                files.close(descriptor, path)
            files.reached("before_rename_block")
            files.rename(folder, temporary, digest)
        except BaseException:
            files.discard(folder, temporary)
            raise

    # Reading

    def load(self, session: OpenSession, digests: Iterable[str]) -> dict[str, bytes]:
        """
        Return blocks, verified; needs no lock.

        Raises:
            MissingBlockError: one is not there.
            CheckpointCorruptError: one is damaged.
        """
        with self._sessions.blocks_folder(session.name) as folder:
            return {digest: self._read(session, folder, digest) for digest in digests}

    def _read(self, session: OpenSession, folder: Folder | None, digest: str) -> bytes:
        if folder is None:
            above = PurePath(session.folder.path).parent
            raise MissingBlockError(str(above / block_path(digest)), digest)
        path = folder.join(digest)
        try:
            data = self._files.read(folder, digest, self._max_bytes)
        except NotACheckpointError as error:
            raise CheckpointCorruptError(path, f"the block is {error.reason}") from error
        if data is None:
            raise MissingBlockError(path, digest)
        return codec.verified_block(data, digest, path)

    # Removing

    def collect(
        self, session: OpenSession, digests_of: DigestsOf, *, in_replay: bool = False
    ) -> None:
        """
        Remove the blocks that no checkpoint refers to; call it when removals are durable.

        Whatever stands in the way, it leaves them for a later time: a checkpoint that cannot be
        read may refer to any block, and one that a dead process has journaled may come back.

        Args:
            session: locked.
            digests_of: reads what a checkpoint file refers to.
            in_replay: whether the caller holds the lock of the root's own folder.

        Cost: nothing for a session without blocks. The first time in a process every checkpoint
            file of the session is read and the blocks listed; later what was removed counts.
        """
        known = session.known.blocks
        if known is None:
            return
        try:
            for name in session.known.newest_first():
                if name.text not in known.of_file:
                    known.enter(name.text, digests_of(name))
            with self._sessions.blocks_folder(session.name) as folder:
                if folder is None:
                    return
                unused = self._unused(known, folder)
                if unused and self._may_come_back(in_replay=in_replay):
                    return
                if unused:
                    self._remove(session, folder, unused)
            known.unused.clear()
            known.is_swept = True
        except CheckpointError:
            known.is_swept = False

    def _unused(self, known: KnownBlocks, folder: Folder) -> list[str]:
        if known.is_swept:
            return [digest for digest in known.unused if digest not in known.users]
        return [
            name
            for name in self._files.scan(folder)
            if name not in known.users and (codec.is_digest(name) or layout.is_leftover(name))
        ]

    def _remove(self, session: OpenSession, folder: Folder, names: Iterable[str]) -> None:
        known = self._known(session)
        self.begin_generation(session)
        self._files.reached("before_unlink_blocks")
        for name in names:
            self._files.unlink(folder, name)
            known.stored.discard(name)

    def _may_come_back(self, *, in_replay: bool) -> bool:
        """Tell whether a journal of a dead process may hold a save that refers to a block."""
        with contextlib.ExitStack() as stack:
            root = self._sessions.make_root()
            private = self._files.open_subfolder(root, layout.PRIVATE_FOLDER)
            if private is None:
                return False
            stack.callback(self._files.close_folder, private)
            if not in_replay:
                try:
                    self._files.lock(private, 0)
                except SessionBusyError:  # somebody replays, or makes a segment
                    return True
            return has_dead_segments(self._files, private)

    def remove_all(self, session: OpenSession) -> None:
        """Remove all blocks of a session that has no checkpoints."""
        with self._sessions.blocks_folder(session.name) as folder:
            if folder is not None:
                names = self._files.scan(folder)
                blocks = [n for n in names if codec.is_digest(n) or layout.is_leftover(n)]
                self._remove(session, folder, blocks)
        self._files.unlink(session.folder, layout.BLOCKS_GENERATION_NAME)
