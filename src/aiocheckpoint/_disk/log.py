"""The log of one root: following what others append, and catching up under its lock."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._disk.locks import CONTROL_NAME, LockFiles
from aiocheckpoint._disk.owners import Owners, Presence
from aiocheckpoint._disk.segments import BehindError, ChainReader, Damage, Segment, find_segments
from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._format import log
from aiocheckpoint._format.log import Control, Frame, Tail
from aiocheckpoint.errors import JournalVersionError, StorageError

_OLD_JOURNAL_PREFIX = "journal-"
_CONTROL_TRIES = 1000


class ReadFrame(NamedTuple):
    """
    A frame and where it is.

    Attributes:
        place: behind the frame.
        slot: number of its slot.
        frame: what it says.
    """

    place: int
    slot: int
    frame: Frame


class Advance(NamedTuple):
    """
    What has come to be seen of the log.

    Attributes:
        is_gap: whether something before it was missed; all that was known is void then.
        frames: in order.
    """

    is_gap: bool
    frames: tuple[ReadFrame, ...]


class _Entering(contextlib.AbstractContextManager[None]):
    """Holds the mutex while what was committed is entered; a generator costs twice as much."""

    def __init__(self, log_: Log) -> None:
        self._log = log_

    def __enter__(self) -> None:
        self._log.mutex.acquire()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._log.is_void |= kind is not None
        self._log.mutex.release()


class Log(LockFiles):
    """
    The log, as far as this process has read it. Reading it needs the mutex.

    Args:
        files: the file operations.
        directory: the store's own, open.
        writable: whether this process may commit.

    Attributes:
        slots: the files it is kept in.
        owners: who owned which session when it was flushed.
        presence: tells others that this process lives.
        control: the positions that were shared last.
        segments: those that hold what is not flushed, oldest first.
        tail: behind what was read.
        damages: bad parts that are not flushed.
        mutex: held for short, never while a lock of files is waited for.
        erasure: position of the last removal read that somebody asked for; 0 for none.
        is_scanned: whether the end was looked for; until then `control` may be of before a crash.
        headless: the segments whose headers are damaged, and have to be written again.
        is_void: whether frames were read that do not count after all, or were not entered: all is
            to be read anew.
    """

    def __init__(self, files: LocalFiles, directory: Directory, *, writable: bool) -> None:
        super().__init__(files, directory, writable=writable)
        self.slots = Slots(files, directory, writable=writable)
        self.owners = Owners(files, directory)
        self.presence = Presence(files, directory)
        self.control: Control | None = None
        self.segments: list[Segment] = []
        self.tail: Tail | None = None
        self.damages: list[Damage] = []
        self.erasure = 0
        self.is_scanned = False
        self._has_size = False
        self.is_void = False
        self.headless: list[Segment] = []
        self.mutex = threading.RLock()
        self._entering = _Entering(self)
        self._raw = b""
        self._shared: Control | None = None
        if writable:
            try:
                self.refuse_old_journals()
                self.make()
            except BaseException:
                self.close()
                raise

    def refuse_old_journals(self) -> None:
        """
        Refuse a root that an earlier version has not emptied the journals of.

        Raises:
            JournalVersionError: naming one; it is left untouched.
        """
        self.slots.numbers()
        self._refuse_old_journals()

    def _refuse_old_journals(self) -> None:
        for name in self.slots.beside:
            if name.startswith(_OLD_JOURNAL_PREFIX):
                raise JournalVersionError(self.directory.join(name), 1, log.LOG_VERSION)

    def close(self) -> None:
        """Close everything; that gives the locks back, too."""
        self.presence.close()
        self.slots.close()
        super().close()

    def is_gone(self) -> bool:
        """Tell whether a slot that is in use is not where it was: then it is in no journal."""
        return not all(self.slots.is_at_path(segment.slot) for segment in [*self.segments])

    # Positions

    def read_control(self) -> Control | None:
        """Return the shared positions; None when there are none, or none that are right."""
        if not self._writable and not self.has(CONTROL_NAME):
            return None
        descriptor, path = self._descriptor(CONTROL_NAME), self._paths[CONTROL_NAME]
        for _ in range(_CONTROL_TRIES):
            data = self._files.read_at(descriptor, log.CONTROL_BYTES, 0, path)
            if data == self._raw:
                return self._shared
            control = log.parse_control(data, path)
            if control is not None and control.inode == self._held[CONTROL_NAME].inode:
                self._raw, self._shared = data, control
                return control
            if data == self._files.read_at(descriptor, log.CONTROL_BYTES, 0, path):
                return None  # or somebody was writing it just then
        return None

    def lacks_what_was_copied(self) -> bool:
        """
        Tell whether the positions of where the journal was copied from name more than is here.

        They do not count otherwise: files of the copy may be of before them.
        """
        if self._shared is not None or not self.has(CONTROL_NAME):
            return False
        descriptor, path = self._descriptor(CONTROL_NAME), self._paths[CONTROL_NAME]
        data = self._files.read_at(descriptor, log.CONTROL_BYTES, 0, path)
        control = log.parse_control(data, path)
        return control is not None and max(control.flushed, self.end) < control.synced

    def publish(self, control: Control, **fields: int | bytes) -> None:
        """Share positions, some of them changed; under the lock."""
        inode = self._held[CONTROL_NAME].inode
        control = control.changed(inode=inode, revision=control.revision + 1, **fields)
        data = control.encode()
        descriptor, path = self._descriptor(CONTROL_NAME), self._paths[CONTROL_NAME]
        self._files.write_at(descriptor, data, 0, path)
        self._raw, self._shared, self.control = data, control, control

    def sync_control(self) -> None:
        """Make the shared positions durable: they spare work after a crash, no more."""
        sync = self._files.sync_data if self._has_size else self._files.sync_file
        sync(self._descriptor(CONTROL_NAME), self._paths[CONTROL_NAME])
        self._has_size = True

    @property
    def end(self) -> int:
        """The position behind what was read."""
        if self.tail is None or not self.segments:
            return 0
        return log.place_of(self.segments[-1].header.sequence, self.tail.offset)

    def unflushed_bytes(self) -> int:
        """Return how much of the log is not flushed."""
        flushed = self.control.flushed if self.control else 0
        sequence, offset = log.sequence_of(flushed), max(log.offset_of(flushed), log.HEADER_BYTES)
        tail_offset = self.tail.offset if self.tail is not None else 0
        total = 0
        for segment in self.segments:
            end = segment.end
            if end is None:
                end = tail_offset if segment is self.segments[-1] else 0
            if segment.header.sequence >= sequence:
                is_reached = segment.header.sequence == sequence
                total += max(end - (offset if is_reached else log.HEADER_BYTES), 0)
        return total

    # Reading

    def follow(self) -> Advance | None:
        """Return what has been committed since, None for nothing; without any lock."""
        for _ in range(_CONTROL_TRIES):
            control = self.read_control()
            if control is None or (control is self.control and not self.is_void):
                return None
            with contextlib.suppress(BehindError):
                return self._advance(control, to_end=False)
            if not self.is_scanned:  # what is shared may be of before a crash
                return None
        raise StorageError("follow", self.directory.path, None, "its journal keeps changing")

    def catch_up(self) -> Advance | None:
        """
        Return what is in the log, to its very end; under the lock, or with commits kept out.

        None for nothing new.

        This is all of recovery. What is there and was never acknowledged may count.
        """
        control = self.read_control()
        is_same = control is self.control and not self.is_void
        if control is not None and is_same and self._is_at_end(control):
            return None
        advance = self._advance(control, to_end=True)
        self.is_scanned = True
        return advance

    def _is_at_end(self, control: Control) -> bool:
        """Tell, mostly at one read's cost, whether nothing stands behind what was read."""
        tail = self.tail
        if (
            not self.is_scanned
            or tail is None
            or control.sealed_at
            or not self._is_current(control)
        ):
            return False
        data = self.slots.read(self.segments[-1].slot, log.HEAD_BYTES, tail.offset)
        return log.head_end(data, tail.segment, tail.offset) == 0

    def _advance(self, control: Control | None, *, to_end: bool) -> Advance:
        is_gap = self.is_void or (self.tail is None and bool(self.segments))
        if self.is_void:
            self.tail = None
        self.is_void = True  # until all went well: of a gap nobody would be told a second time
        searches = to_end and not self.is_scanned
        # The newest segment of who died before sharing it counts: it may have been read.
        is_left = to_end and control is not None and control.sealed_at != 0
        if searches or is_left or control is None or not self._is_current(control):
            newest = to_end or control is None
            is_gap |= self._find_segments(control, newest=newest, to_end=to_end)
        frames = self._read(control, to_end=to_end, searches=searches) if self.segments else ()
        self.control, self.is_void = control, False
        return Advance(is_gap, tuple(frames))

    def _is_current(self, control: Control) -> bool:
        return bool(self.segments) and control.id == self.segments[-1].header.id

    def _read(
        self, control: Control | None, *, to_end: bool, searches: bool
    ) -> Sequence[ReadFrame]:
        """Read from the tail on, and move it when all went well."""
        tail = self.tail or self.segments[0].start
        first = next(i for i, s in enumerate(self.segments) if s.header.id == tail.segment)
        frames: list[ReadFrame] = []
        damages: list[Damage] = []
        for segment in self.segments[first:]:
            if segment.header.id != tail.segment:
                tail = segment.start
            reader = ChainReader(self.slots, segment, tail)
            found = self._frames_of(reader, segment, control, to_end=to_end, searches=searches)
            sequence = segment.header.sequence
            try:
                frames += [
                    ReadFrame(log.place_of(sequence, frame.end), segment.slot, frame)
                    for frame in found
                ]
            except StorageError:
                if not to_end:
                    self._require_needed(sequence)
                raise
            if reader.damages and not to_end:
                self._require_needed(sequence)
            tail = reader.tail
            damages += reader.damages
        self.tail = tail
        self.damages += damages
        return frames

    def _require_needed(self, sequence: int) -> None:
        """Tell damage from a segment that was flushed, and used again, while it was being read."""
        control = self.read_control()
        if control is not None and control.first_sequence > sequence:
            raise BehindError

    def _frames_of(
        self,
        reader: ChainReader,
        segment: Segment,
        control: Control | None,
        *,
        to_end: bool,
        searches: bool,
    ) -> Iterator[Frame]:
        if segment.end is not None:
            return reader.frames_to(segment.end)
        if control is None or control.id != segment.header.id:
            return reader.frames_to_end(0, searches=searches)
        if control.sealed_at:
            # Beyond is what was acknowledged and not durable; who goes on elsewhere copies it.
            acknowledged = reader.whole_frames_to(log.offset_of(control.visible))
            return itertools.chain(reader.frames_to(control.sealed_at), acknowledged)
        if to_end:
            return reader.frames_to_end(log.offset_of(control.synced), searches=searches)
        if self.is_scanned:
            return reader.frames_to(log.offset_of(control.visible))
        # After a crash there may be less than was visible.
        written = reader.whole_frames_to(log.offset_of(control.visible))
        return itertools.chain(reader.frames_to(log.offset_of(control.synced)), written)

    def _find_segments(self, control: Control | None, *, newest: bool, to_end: bool) -> bool:
        """Read the headers of the slots anew, and tell whether what was known is void."""
        chain, headless = find_segments(self.slots, control, newest=newest, to_end=to_end)
        if not self.is_scanned:
            self._refuse_old_journals()
        self.headless = headless
        return self._adopt(chain)

    def _adopt(self, chain: list[Segment]) -> bool:
        known = self.tail
        self.segments = chain
        if not chain:
            self.tail = None
            return known is not None
        for segment in chain:
            is_same = known is not None and segment.header.id == known.segment
            if known and is_same and (segment.end is None or known.offset <= segment.end):
                return False
        self.tail = chain[0].start
        self.damages.clear()
        return True

    def entering(self) -> contextlib.AbstractContextManager[None]:
        """Enter what the log has; where that fails, all is read anew, or it would pass for done."""
        return self._entering

    # Damage

    def segment_of(self, damage: Damage) -> bytes | None:
        """Return all bytes of the segment of a damage; None when it is not needed any more."""
        sequence = log.sequence_of(damage.place)
        for segment in self.segments:
            if segment.header.sequence == sequence:
                return self.slots.read(segment.slot, self.slots.size(segment.slot), 0)
        return None

    def forget_flushed(self, flushed: int) -> None:
        """Let go of the segments, and of the damage, that are flushed."""
        sequence = log.sequence_of(flushed)
        with self.mutex:
            self._forget(sequence, flushed)

    def _forget(self, sequence: int, flushed: int) -> None:
        while len(self.segments) > 1 and self.segments[0].header.sequence < sequence:
            del self.segments[0]
        self.damages = [damage for damage in self.damages if damage.end > flushed]
