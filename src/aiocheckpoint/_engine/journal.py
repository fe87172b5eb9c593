"""Group commit: the file in which saves and deletes become durable before their own files do.

A segment is a preallocated file that its owner keeps locked. Each commit appends one frame,
with one `fdatasync` for all that share it. Once the files that the frames speak of are synced
too, the segment is blanked and used again. A segment whose lock is free belongs to a process
that died; `recovery.replay` brings its frames back.

    block 0: header, twice | block 1: applied marker | frame | frame | ...
    frame: magic, segment id, payload length, SHA-256 | payload, MessagePack

Each part begins a new block, so that writing one can never harm another that is durable.

Frames carry the segment's id, new at every use, so nothing an earlier use left can be taken
for a frame of this one. A file name stands for one content for ever, so the frames of several
processes need no order among them: what is there in the end is what was saved and not deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import threading
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from aiocheckpoint._disk.files import Directory, LocalFiles, random_bytes, random_name
from aiocheckpoint._format.names import BLOBS_DIRECTORY, CHECKPOINTS_DIRECTORY, JOURNAL_PREFIX
from aiocheckpoint.errors import JournalVersionError, StorageError, StoreBusyError

JOURNAL_VERSION = 1
_HEADER_MAGIC = "aiocheckpoint-journal"
_HEADER_BYTES = 512
_SECOND_HEADER_OFFSET = 3584
_BLOCK_BYTES = 4096
_APPLIED_OFFSET = _BLOCK_BYTES
_FIRST_FRAME_OFFSET = 2 * _BLOCK_BYTES
_FRAME_MAGIC = b"ACF1"
_FRAME = struct.Struct("<4s16sQ32s")
_APPLIED = struct.Struct("<16sQ")
_CHUNK_BYTES = 1024 * 1024
_MAX_CHUNK_BYTES = 8 * _CHUNK_BYTES
_FEW_SYNCS = 32  # a guess: so many single syncs cost about what one of the whole disk does
_MAX_SPARE_BYTES = 64 * 1024 * 1024


class JournaledSave(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """
    A checkpoint file to be there.

    Attributes:
        session: name of the session's directory.
        name: of the file.
        body: its content.
        removed: names of files of the session that must be gone once it is there.
    """

    session: str
    name: str
    body: bytes
    removed: tuple[str, ...] = ()


class JournaledDelete(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """
    Checkpoint files to be gone.

    Attributes:
        session: name of the session's directory.
        removed: names of the files.
    """

    session: str
    removed: tuple[str, ...]


class JournaledBlob(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """
    A block to be there, for a save that follows.

    Its removal is never journaled: one that nothing refers to is removed again by replay.

    Attributes:
        session: name of the session's directory.
        digest: its name.
        data: its content.
    """

    session: str
    digest: str
    data: bytes


class JournaledUndo(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """
    Saves of earlier frames that failed after all: neither they nor their removals count.

    Attributes:
        session: name of the session's directory.
        undone: names of their files.
    """

    session: str
    undone: tuple[str, ...]


Entry = JournaledSave | JournaledDelete | JournaledUndo | JournaledBlob
_decode_entries = msgspec.msgpack.Decoder(list[Entry]).decode


class _Header(msgspec.Struct, frozen=True):
    magic: str
    version: int
    segment: bytes
    boot: str


class Frames(NamedTuple):
    """
    What a segment holds.

    Attributes:
        boot: the boot of the machine in which it was written, `""` if unknown.
        applied: entries whose files were in place before the owner died.
        unapplied: the later ones, whose files may or may not be.
    """

    boot: str
    applied: tuple[Entry, ...]
    unapplied: tuple[Entry, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, in order."""
        return self.applied + self.unapplied


def removals_of(entry: Entry) -> tuple[str, ...]:
    """Return the names of the checkpoint files that an entry removes."""
    return entry.removed if isinstance(entry, (JournaledSave, JournaledDelete)) else ()


def blob_path(digest: str) -> str:
    """Return how `sync_sessions` calls a block among a session's files."""
    return f"{BLOBS_DIRECTORY}/{digest}"


def _next_block(offset: int) -> int:
    return -(-offset // _BLOCK_BYTES) * _BLOCK_BYTES


def frame(segment_id: bytes, entries: Sequence[Entry]) -> bytes:
    """Return the bytes of one commit."""
    payload = msgspec.msgpack.encode(entries)
    digest = _digest(segment_id, payload)
    return _FRAME.pack(_FRAME_MAGIC, segment_id, len(payload), digest) + payload


def _digest(segment_id: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(segment_id + len(payload).to_bytes(8, "little"))
    digest.update(payload)
    return digest.digest()


def _header(segment_id: bytes, boot: str) -> bytes:
    text = msgspec.json.encode(_Header(_HEADER_MAGIC, JOURNAL_VERSION, segment_id, boot))
    checked = hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n"
    copy = checked.ljust(_HEADER_BYTES, b"\0")
    return copy.ljust(_SECOND_HEADER_OFFSET, b"\0") + copy


def _parse_header(data: bytes, path: str) -> _Header | None:
    """Return the header, None for a blank or torn one, which no acknowledged commit follows."""
    for offset in (0, _SECOND_HEADER_OFFSET):
        digest, _, text = data[offset : offset + _HEADER_BYTES].rstrip(b"\0").partition(b"\n")
        text = text.rstrip(b"\n")
        if text and hashlib.sha256(text).hexdigest().encode() == digest:
            version = msgspec.json.decode(text)["version"]
            if version != JOURNAL_VERSION:
                raise JournalVersionError(path, version, JOURNAL_VERSION)
            return msgspec.json.decode(text, type=_Header)
    return None


def parse_segment(data: bytes, path: str) -> Frames:
    """
    Return what a segment holds, up to its first frame that is torn, stale or missing.

    Raises:
        JournalVersionError: when a newer version of this library wrote it.
    """
    header = _parse_header(data, path)
    if header is None:
        return Frames("", (), ())
    applied_end = 0
    if len(data) >= _FIRST_FRAME_OFFSET:
        segment_id, offset = _APPLIED.unpack_from(data, _APPLIED_OFFSET)
        applied_end = offset if segment_id == header.segment else 0
    applied: list[Entry] = []
    unapplied: list[Entry] = []
    offset = _FIRST_FRAME_OFFSET
    while (entries := _parse_frame(data, offset, header.segment)) is not None:
        found, offset = entries
        (applied if offset <= applied_end else unapplied).extend(found)
    return Frames(header.boot, tuple(applied), tuple(unapplied))


def _parse_frame(data: bytes, offset: int, segment_id: bytes) -> tuple[list[Entry], int] | None:
    start = offset + _FRAME.size
    if start > len(data):
        return None
    magic, found_id, length, digest = _FRAME.unpack_from(data, offset)
    if magic != _FRAME_MAGIC or found_id != segment_id or length > len(data) - start:
        return None
    payload = data[start : start + length]
    if _digest(segment_id, payload) != digest:
        return None
    return _decode_entries(payload), _next_block(start + length)


_Removal = tuple[JournaledDelete, frozenset[str]]


class _Segment:
    """
    A segment this process owns.

    Attributes:
        descriptor: open and locked for as long as the process lives.
        name: of the file, new at every use.
        id: new at every use.
        end: offset of the next frame.
        is_broken: whether a write or sync failed; nothing more is written to it then, because
            the kernel may have dropped what a failed sync did not write.
        allocated: bytes that are already written, so that overwriting them changes no metadata.
        unapplied: commits whose files are not in place yet.
        touched: names of the files that its frames save, by session.
        removed: what its frames removed, each with the segments of other processes that were
            there at the time and may hold a save of the same file.
    """

    def __init__(self, descriptor: int, name: str, allocated: int) -> None:
        self.descriptor = descriptor
        self.allocated = allocated
        self.begin(name)

    def begin(self, name: str) -> None:
        self.name = name
        self.id = random_bytes(16)
        self.end = 0
        self.is_broken = False
        self.unapplied = 0
        self.touched: dict[str, set[str]] = {}
        self.removed: list[_Removal] = []


class Journal:
    """
    The segments of this process under one root.

    Args:
        files: the file operations.
        root: for syncing everything under it.
        directory: the root's own directory; stays open for as long as the journal is used.
    """

    def __init__(self, files: LocalFiles, root: Directory, directory: Directory) -> None:
        self._files = files
        self._root = root
        self._directory = directory
        self._current: _Segment | None = None
        self._spare: _Segment | None = None
        self._retired: list[_Segment] = []
        self._must_settle = False
        self._writing = threading.Lock()
        self._applied = threading.Condition()
        self._settling = threading.Lock()

    @property
    def unflushed_bytes(self) -> int:
        """How much was committed since the last flushing began."""
        current = self._current
        return 0 if current is None else current.end

    def prepare(self) -> None:
        """
        Have a segment ready for the next commit, made if need be.

        No session may be locked: making one takes the directory's lock, and who holds that to
        replay locks sessions.
        """
        if self._must_settle:
            self.flush()
        if self._current is None:
            self._make_spare()
        with self._writing:
            self._current = self._current or self._next_segment()

    def _make_spare(self) -> None:
        """Make a segment for the next use, without holding up those that write meanwhile."""
        if self._spare is None:
            self._keep(self._make_segment())

    def _keep(self, segment: _Segment) -> None:
        """Keep an empty segment for the next use, if there is none yet."""
        with self._writing:
            is_needed = self._spare is None
            if is_needed:
                self._spare = segment
        if not is_needed:
            self._files.discard(self._directory, segment.name)
            self._files.close(segment.descriptor, self._directory.join(segment.name))

    @contextlib.contextmanager
    def committed(self, entries: Sequence[Entry]) -> Generator[None]:
        """
        Make entries durable, then let the caller put their files in place.

        Raises:
            StorageError: they are not durable; nothing was put in place. After a failed write
                or sync, each further commit first has to flush what came before.

        Cost: one write and one `fdatasync`; a new segment also one or two syncs to make it.
        """
        if self._must_settle:
            self.flush()
        with self._committed(entries):
            yield

    @contextlib.contextmanager
    def _committed(
        self, entries: Sequence[Entry], carried: Sequence[_Removal] = ()
    ) -> Generator[None]:
        with self._writing:
            segment = self._current = self._current or self._next_segment()
            if segment.is_broken:
                path = self._directory.join(segment.name)
                raise StorageError("write", path, None, "an earlier write failed; save again")
            with self._applied:
                segment.unapplied += 1  # first, or the frame could be marked as applied
            try:
                self._append(segment, entries)
                self._note(segment, entries, carried)
            except BaseException:
                segment.is_broken = self._must_settle = True
                self._end_apply(segment)
                raise
        try:
            yield
        finally:
            self._end_apply(segment)

    def _end_apply(self, segment: _Segment) -> None:
        with self._applied:
            segment.unapplied -= 1
            if segment.unapplied == 0:
                self._note_applied(segment)
                self._applied.notify_all()

    def _next_segment(self) -> _Segment:
        segment, self._spare = self._spare, None
        return segment or self._make_segment()

    def _make_segment(self) -> _Segment:
        files, name = self._files, random_name(JOURNAL_PREFIX)
        path = self._directory.join(name)
        with self._files.locked_again(self._directory):  # or a starting process takes it for dead
            descriptor = files.create_journal(self._directory, name)
            files.try_lock_file(descriptor, path)
        try:
            files.write_at(descriptor, bytes(_CHUNK_BYTES), 0, path)
            files.sync_file(descriptor, path)
            files.sync_directory(self._directory)
        except BaseException:
            files.discard(self._directory, name)
            files.close(descriptor, path)
            raise
        return _Segment(descriptor, name, _CHUNK_BYTES)

    def _append(self, segment: _Segment, entries: Sequence[Entry]) -> None:
        files, path = self._files, self._directory.join(segment.name)
        data = frame(segment.id, entries)
        start = segment.end
        if start == 0:
            data = _header(segment.id, files.boot_id()).ljust(_FIRST_FRAME_OFFSET, b"\0") + data
        self._allocate(segment, start + len(data), path)
        files.write_at(segment.descriptor, data, start, path)
        files.reached("before_sync_journal")
        files.sync_data(segment.descriptor, path)
        files.reached("after_sync_journal")
        segment.end = _next_block(start + len(data))

    def _allocate(self, segment: _Segment, end: int, path: str) -> None:
        """Write zeros ahead, so that the `fdatasync` of a commit has no metadata to write."""
        while segment.allocated < end:
            chunk = bytes(min(segment.allocated, _MAX_CHUNK_BYTES))
            self._files.write_at(segment.descriptor, chunk, segment.allocated, path)
            self._files.sync_file(segment.descriptor, path)
            segment.allocated += len(chunk)

    def _note(
        self, segment: _Segment, entries: Iterable[Entry], carried: Sequence[_Removal]
    ) -> None:
        """Remember what flushing will have to sync, and what others may still hold."""
        segment.removed += carried
        for entry in entries:
            touched = segment.touched.setdefault(entry.session, set())
            if isinstance(entry, JournaledSave):
                touched.add(entry.name)
            elif isinstance(entry, JournaledBlob):
                touched.add(blob_path(entry.digest))
            removed = removals_of(entry)
            if removed and not carried and (others := self._foreign_segments()):
                segment.removed.append((JournaledDelete(entry.session, removed), others))

    def _foreign_segments(self) -> frozenset[str]:
        mine = {s.name for s in (self._current, self._spare, *self._retired) if s is not None}
        names = self._files.scan(self._directory)
        return frozenset(n for n in names if n.startswith(JOURNAL_PREFIX)) - mine

    def _note_applied(self, segment: _Segment) -> None:
        """Mark the frames whose files are in place; not synced, since only a reboot loses it."""
        marker = _APPLIED.pack(segment.id, segment.end)
        path = self._directory.join(segment.name)
        with contextlib.suppress(StorageError):  # without it, replay only looks at more files
            self._files.write_at(segment.descriptor, marker, _APPLIED_OFFSET, path)

    def flush(self, *, prepares: bool = False) -> None:
        """
        Make the files behind every frame durable, then drop the frames.

        Commits go on meanwhile, in another segment. With `prepares` that one is made first, as
        by `prepare`, or a commit that has locked its sessions would have to.

        Raises:
            StorageError: a sync failed; the frames are kept, and the next commit or flushing
                tries again before anything else.

        Cost: one `syncfs` where there is one, or else one sync for each file and directory;
            two small synced writes to the segment.
        """
        with self._settling:
            self._must_settle = False
            try:
                self._settle(prepares=prepares)
            except BaseException:
                self._must_settle = True
                raise

    def _settle(self, *, prepares: bool) -> None:
        if prepares and self.unflushed_bytes:
            with contextlib.suppress(StorageError, StoreBusyError):  # then a commit makes it
                self._make_spare()
        with self._writing:
            if self._current is not None and (self._current.end or self._current.is_broken):
                self._retired.append(self._current)
                self._current, self._spare = self._spare, None
        with self._applied:
            for segment in self._retired:
                self._applied.wait_for(partial(_is_applied, segment))
        if self._retired:
            self._files.reached("before_settle")
            touched: dict[str, set[str]] = {}
            for segment in self._retired:
                for session, names in segment.touched.items():
                    touched.setdefault(session, set()).update(names)
            sync_sessions(self._files, self._root, touched)
            self._files.reached("after_settle")
        while self._retired:
            self._carry_removals(self._retired[0])
            self._drop(self._retired[0])
            del self._retired[0]

    def close(self) -> None:
        """
        Flush, and leave no segment behind, but for removals that may still be needed.

        Raises:
            StorageError: it could not be flushed; the frames are left for the next process.
        """
        with self._settling:
            self._close()

    def _close(self) -> None:
        try:
            self._must_settle = False
            self._settle(prepares=False)
        finally:
            with self._writing:
                segments = [s for s in (self._current, self._spare) if s is not None]
                empty = [segment for segment in segments if not segment.removed]
                segments += self._retired
                self._retired = []
                self._current = self._spare = None
            for segment in empty:
                self._files.discard(self._directory, segment.name)
            for segment in segments:
                self._files.close(segment.descriptor, self._directory.join(segment.name))

    def _carry_removals(self, segment: _Segment) -> None:
        """
        Repeat a segment's removals in the next one while they may still be needed.

        A save by another process stands in that process's segment until it flushes; were the
        removal forgotten before that, a power cut would bring the file back.
        """
        if not segment.removed:
            return
        remaining = self._foreign_segments()
        asked = frozenset[str]().union(*(others for _, others in segment.removed)) & remaining
        saved = {name: saved_in(self._files, self._directory, name) for name in asked}
        self._files.sync_directory(self._directory)  # those that are gone must not come back
        carried: list[_Removal] = []
        for removal, others in segment.removed:
            gone = {(removal.session, name) for name in removal.removed}
            holders = frozenset(n for n in others & remaining if not saved[n].isdisjoint(gone))
            if holders:
                carried.append((removal, holders))
        if carried:
            with self._committed([removal for removal, _ in carried], carried):
                pass

    def _drop(self, segment: _Segment) -> None:
        """Blank a flushed segment for its next use, durably, under a new name."""
        files, path = self._files, self._directory.join(segment.name)
        if segment.is_broken or self._spare is not None or segment.allocated > _MAX_SPARE_BYTES:
            files.unlink(self._directory, segment.name)
            files.sync_directory(self._directory)
            with contextlib.suppress(StorageError):  # it is closed all the same, and must be once
                files.close(segment.descriptor, path)
            return
        files.write_at(segment.descriptor, bytes(_BLOCK_BYTES), 0, path)
        files.reached("before_sync_blank")
        files.sync_data(segment.descriptor, path)
        name = random_name(JOURNAL_PREFIX)
        files.rename(self._directory, segment.name, name)
        segment.begin(name)
        self._keep(segment)


def saved_in(files: LocalFiles, directory: Directory, segment_name: str) -> set[tuple[str, str]]:
    """
    Return the session and the name of each file that a segment may bring back after a power cut.

    It is synced, so that what its owner has just blanked stays blank.

    Raises:
        JournalVersionError: when a newer version of this library wrote it.
    """
    descriptor, path = files.open_journal(directory, segment_name), directory.join(segment_name)
    if descriptor is None:
        return set()
    try:
        entries = parse_segment(files.read_journal(descriptor, path), path).entries
        files.sync_data(descriptor, path)
    finally:
        files.close(descriptor, path)
    return {(entry.session, entry.name) for entry in entries if isinstance(entry, JournaledSave)}


def has_dead_segments(files: LocalFiles, directory: Directory) -> bool:
    """Tell whether a process has died and left a segment that nobody is replaying."""
    for name in files.scan(directory):
        if name.startswith(JOURNAL_PREFIX):
            descriptor = files.open_journal(directory, name)
            if descriptor is not None:
                path = directory.join(name)
                try:
                    if files.try_lock_file(descriptor, path):
                        return True
                finally:
                    files.close(descriptor, path)
    return False


def sync_sessions(
    files: LocalFiles, root: Directory, touched: Mapping[str, Collection[str]]
) -> None:
    """
    Make checkpoint files, their names and their directories durable.

    Args:
        files: the file operations.
        root: an open root.
        touched: names of files by name of the session's directory; those not there are left out.

    Cost: one sync for each file and directory of a few; of more one `syncfs`, where there is one,
        which writes out whatever else is waiting on that disk too.
    """
    many = sum(1 + len(names) for names in touched.values()) > _FEW_SYNCS
    if many and files.sync_everything(root):
        return
    for session, names in touched.items():
        _sync_session(files, root, session, names)
    files.sync_directory(root)


def _sync_session(files: LocalFiles, root: Directory, session: str, names: Iterable[str]) -> None:
    in_directories: dict[str, list[str]] = {CHECKPOINTS_DIRECTORY: []}
    for name in names:
        directory_name, _, block = name.rpartition("/")
        in_directories.setdefault(directory_name or CHECKPOINTS_DIRECTORY, []).append(block)
    with contextlib.ExitStack() as stack:
        above = files.open_subdirectory(root, session)
        if above is None:
            return
        stack.callback(files.close_directory, above)
        for directory_name, inner_names in in_directories.items():
            directory = files.open_subdirectory(above, directory_name)
            if directory is not None:
                stack.callback(files.close_directory, directory)
                for name in inner_names:
                    files.sync_name(directory, name)
                files.sync_directory(directory)
        files.sync_directory(above)


def _is_applied(segment: _Segment) -> bool:
    return segment.unapplied == 0
