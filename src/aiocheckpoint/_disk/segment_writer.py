"""Writing the log's segments: the current one, the next, and what follows a failed write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aiocheckpoint._disk.files import LocalFiles, random_bytes
from aiocheckpoint._disk.free_slots import FreeSlots
from aiocheckpoint._disk.locks import CONTROL_NAME, MovedError
from aiocheckpoint._disk.log import Log, ReadFrame
from aiocheckpoint._disk.pending import Pending
from aiocheckpoint._disk.segments import ChainReader, Segment
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import body_bytes
from aiocheckpoint._format.log import Control, Header, NewFrame, Tail
from aiocheckpoint.errors import DurabilityUnknownError, StorageError

_NONE = (log.NO_ID, 0, log.NO_CHAIN), None


class Content(NamedTuple):
    """
    What a frame is made of.

    Attributes:
        table: its entries.
        bodies: of those that have one.
        flags: of the frame.
    """

    table: bytes
    bodies: Sequence[bytes]
    flags: int


class SegmentWriter:
    """
    Makes the log durable, and lets it go on in another segment; needs its lock, caught up.

    Args:
        files: the file operations.
        log_: the log.
        pending: what is to be written to files.

    Attributes:
        free: the slots that hold nothing.
    """

    def __init__(self, files: LocalFiles, log_: Log, pending: Pending) -> None:
        self._files = files
        self._log = log_
        self._broken = b""
        self.free = FreeSlots(log_, pending)

    @property
    def _segment(self) -> Segment:
        return self._log.segments[-1]

    @property
    def _tail(self) -> Tail:
        tail = self._log.tail
        if tail is None:
            raise StorageError("write", self._log.directory.path, None, "the journal has no end")
        return tail

    @property
    def _control(self) -> Control:
        control = self._log.control
        if control is None or control.id != self._segment.header.id:
            synced = log.place_of(self._segment.header.sequence, log.HEADER_BYTES)
            first = self._log.segments[0].header.sequence
            flushed = max(control.flushed if control else 0, log.place_of(first, 0))
            return Control(
                0, self._segment.slot, self._segment.header.sequence, self._segment.header.id,
                visible=synced, synced=synced, flushed=flushed, first_sequence=first,
                max_bytes=control.max_bytes if control else 0,
                # Without the shared positions nobody knows whether a removal is to be erased.
                erasure=control.erasure if control else self._log.end,
                revision=control.revision if control else 0,
            )  # fmt: skip
        return control

    @property
    def must_erase(self) -> bool:
        """Whether the log holds what somebody asked to remove."""
        return self._control.must_erase

    # Syncing

    def sync(self) -> None:
        """Make the log durable up to its end, and share that."""
        end = self._log.end
        if self._control.synced < end or self._log.control is not self._control:
            try:
                self._sync_slot()
            except StorageError as error:
                self._break(error)
                raise
            self._log.publish(self._control, visible=end, synced=end)

    def _sync_slot(self) -> None:
        """Sync the current slot, written again where this process's descriptor does not vouch."""
        slots, slot, tail_offset = self._log.slots, self._segment.slot, self._tail.offset
        end = slots.unvouched_end(slot, tail_offset)
        if end:
            self._write_again(slot, min(end, tail_offset))
        slots.sync(slot)
        slots.vouch(slot)

    def _write_again(self, slot: int, end: int) -> None:
        slots = self._log.slots
        start = log.offset_of(self._control.synced)
        if start <= log.HEADER_BYTES:
            start = 0  # the header may be as new as the frames
        if end > start:
            slots.write(slot, slots.read(slot, end - start, start), start)

    def _share(self, control: Control, **fields: int | bytes) -> None:
        """Publish what is in the log: a failure does not take it out again."""
        try:
            self._log.publish(control, **fields)
        except StorageError as error:
            raise _unknown(error, error.reason) from error

    def _require_ours(self) -> None:
        try:
            self._log.require_in_place(CONTROL_NAME)
        except MovedError as error:
            path = self._log.directory.path
            raise DurabilityUnknownError(
                "commit", path, None, "the directory was moved or removed just then"
            ) from error
        except StorageError as error:
            raise _unknown(error, error.reason) from error

    # Segments

    def _begin_segment(
        self,
        frames: Sequence[Content] = (),
        *,
        note: Callable[[ReadFrame], None] | None = None,
        is_for_rest: bool = False,
        spared_bytes: int = 0,
    ) -> ReadFrame:
        """
        Go on in another slot: its header and first frames are one write and one sync.

        Of a segment that is closed after a failure, what was acknowledged and is beyond its end
        is copied.
        """
        log_ = self._log
        contents = [*self._copies(), *frames]
        size = log.HEADER_BYTES + sum(map(size_of, contents))
        free = self.free
        slot = free.take_for_rest() if is_for_rest else free.take(size, spared_bytes=spared_bytes)
        if log_.segments and self.must_erase:
            log_.slots.erase([slot])  # or what it held would outlast the next erasure
        previous, previous_slot = self._seal() if log_.segments else _NONE
        sequence = self._next_sequence()
        header = Header(sequence, random_bytes(16), *previous, slot, previous_slot)
        tail = Tail(header.id, 0, log.HEADER_BYTES, header.previous_chain)
        built: list[NewFrame] = []
        for content in contents:
            synced_then = tail.offset if not built else 0
            built.append(log.build_frame(tail, synced_then, content.flags, *content[:2]))
            tail = tail.behind(built[-1].frame)
        try:
            data = b"".join((header.encode(), *(frame.data for frame in built)))
            log_.slots.write(slot, data, 0)
            self._files.reached("before_sync_segment")
            log_.slots.sync(slot)
        except StorageError as error:
            log_.slots.doubt(slot)
            if not frames:
                raise
            raise _unknown(error, error.reason) from error
        if log_.control is not None:
            self._require_ours()
        log_.slots.vouch(slot)
        return self._enter_segment(Segment(slot, header), tail, built, note)

    def _seal(self) -> tuple[tuple[bytes, int, bytes], int | None]:
        """Let the current segment end, and return what its successor says of it, and its slot."""
        if not self._is_sealed:
            self.sync()
        end, chain = (
            self._sealed_end() if self._is_sealed else (self._tail.offset, self._tail.chain)
        )
        if not self._is_shared:  # nor perhaps durable: its successor takes its place
            header = self._segment.header
            before = header.previous_id, header.previous_end, header.previous_chain
            return before, header.previous_slot
        self._log.publish(self._control, sealed_at=end)
        self._files.reached("after_seal")
        return (self._segment.header.id, end, chain), self._segment.slot

    @property
    def _is_shared(self) -> bool:
        """Whether the current segment was shared by name, so that its header is durable."""
        control = self._log.control
        return control is not None and control.id == self._segment.header.id

    @property
    def _is_sealed(self) -> bool:
        control = self._control
        return control.sealed_at != 0 or self._broken == control.id

    def _enter_segment(
        self,
        segment: Segment,
        tail: Tail,
        built: list[NewFrame],
        note: Callable[[ReadFrame], None] | None,
    ) -> ReadFrame:
        log_, header = self._log, segment.header
        before = self._control if log_.segments else log_.control
        kept = [s for s in log_.segments if s.header.id == header.previous_id or s.end is not None]
        # Of a dead process's frames that are cut off here some may have been read.
        is_cut = len(kept) < len(log_.segments)
        is_cut |= log_.tail is not None and log_.tail.offset > header.previous_end
        segments = [*kept, segment]
        if kept:
            segments[-2] = kept[-1]._replace(end=header.previous_end)
        end = log.place_of(header.sequence, tail.offset)
        start = log.place_of(header.sequence, log.HEADER_BYTES)
        first = segments[0].header.sequence
        control = before or Control(0, segment.slot, header.sequence, header.id)
        self._files.reached("before_publish_segment")
        control = control.changed(
            slot=segment.slot, sequence=header.sequence, id=header.id, sealed_at=0,
            visible=end, synced=end,
            flushed=control.flushed if before and len(segments) > 1 else start,
            first_sequence=min(control.first_sequence or first, first),
        )  # fmt: skip
        frame = built[-1].frame if built else log.build_frame(tail, 0, 0, b"", ()).frame
        read = ReadFrame(end, segment.slot, frame)
        with log_.entering():
            log_.segments, log_.tail = segments, tail
            (self._share if built else log_.publish)(control)
            log_.is_void |= is_cut
            if note is not None:
                note(read)
        return read

    def _next_sequence(self) -> int:
        """Return a number no header has; one that was begun and failed must not be met again."""
        headers = map(self._log.slots.header, self._log.slots.numbers())
        known = [header.sequence for header in headers if header is not None]
        control = self._log.control
        return max([*known, control.sequence if control else 0]) + 1

    # Failure

    def _break(self, error: StorageError) -> None:
        """
        Close the segment in which a write or a sync failed, so that the frame never counts.

        The pages may be clean though they never reached the disk: nobody may sync them again.

        Raises:
            DurabilityUnknownError: that failed, too.
        """
        self._broken = self._segment.header.id
        try:
            if self._is_shared:
                end, _ = self._sealed_end()
                self._log.publish(self._control, sealed_at=end)
            self._begin_segment()
        except StorageError as second:
            self._log.is_void = True
            raise _unknown(error, f"{error.reason}; then {second.reason}") from error

    def _sealed_end(self) -> tuple[int, bytes]:
        """Return where a broken segment ends, and its chain value there: what was durable."""
        control = self._control
        end = control.sealed_at or log.offset_of(control.synced)
        chain = self._segment.header.previous_chain
        for read in self._frames():
            if read.end <= end:
                chain = read.chain
        return end, chain

    def _frames(self) -> Iterable[log.Frame]:
        reader = ChainReader(self._log.slots, self._segment, self._segment.start)
        return reader.frames_to(self._tail.offset)

    def _copies(self) -> list[Content]:
        """
        Return what counts and is not durable, in a segment that is closed before it.

        It was acknowledged, or its process is dead and somebody may have read it.
        """
        if not self._log.segments or not self._is_sealed:
            return []
        slots, slot = self._log.slots, self._segment.slot
        start = self._control.sealed_at or log.offset_of(self._control.synced)
        copies: list[Content] = []
        for frame in self._frames():
            if frame.end > start:
                size = sum(map(body_bytes, frame.entries()))
                bodies = [slots.read_whole(slot, size, frame.bodies_offset)]
                copies.append(Content(frame.table, bodies, frame.flags))
        return copies


def size_of(content: Content) -> int:
    """Return how large a frame is."""
    return log.frame_bytes(content.table, sum(map(len, content.bodies)))


def _unknown(error: StorageError, reason: str) -> DurabilityUnknownError:
    return DurabilityUnknownError(error.operation, error.path, error.errno, reason)
