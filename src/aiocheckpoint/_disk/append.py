"""Writing the log: frames, new segments, and what follows a failed write; under its lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aiocheckpoint._disk.chain import ChainReader, Segment
from aiocheckpoint._disk.files import LocalFiles, random_bytes
from aiocheckpoint._disk.free_slots import FreeSlots
from aiocheckpoint._disk.locks import CONTROL_NAME, MovedError
from aiocheckpoint._disk.log import Log, ReadFrame
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import Entry, body_bytes, encode_entries
from aiocheckpoint._format.log import Control, Header, NewFrame, Tail
from aiocheckpoint.errors import DurabilityUnknownError, StorageError

_RESERVE_BYTES = 256 << 10
_WHOLE_RESERVE = 4
_KEPT_BYTES = 1 << 20


class _Content(NamedTuple):
    table: bytes
    bodies: Sequence[bytes]
    flags: int


class Appender:
    """
    Appends to a log; every method needs its lock, and the log caught up.

    Args:
        files: the file operations.
        log_: the log.
        file_bytes: tells how much room the files take that are to be written.

    Attributes:
        free: the slots that hold nothing.
    """

    def __init__(self, files: LocalFiles, log_: Log, file_bytes: Callable[[], int]) -> None:
        self._files = files
        self._log = log_
        self._broken = b""
        self._buffer = bytearray()
        self.free = FreeSlots(log_, file_bytes)

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

    # Before a commit

    def make_ready(self, max_bytes: int) -> None:
        """
        Have a segment to write to, share where the log ends, and how much it may hold.

        What a dead process wrote and did not publish is made durable before anybody sees it.
        """
        if not self._log.segments:
            self._begin_segment()
        for slot, header, _ in self._log.headless:
            # Or with the shared positions all that stands there would be lost.
            self._log.slots.write(slot, header.encode(), 0)
            self._log.slots.sync(slot)
        self._log.headless.clear()
        control = self._control
        if self._is_ready(control, max_bytes):
            return
        is_behind = self._log.end > control.visible or not self._is_shared
        if is_behind and not control.sealed_at:
            self.sync()
            control = self._control
        erasure = self._log.erasure  # after a crash the shared one may be of before the removal
        erasure = max(control.erasure, erasure if erasure > control.flushed else 0)
        max_bytes = max(max_bytes, control.max_bytes)
        # What was visible and not durable may be gone after a crash.
        visible = control.visible if control.sealed_at else min(control.visible, self._log.end)
        wanted = control.changed(max_bytes=max_bytes, erasure=erasure, visible=visible)
        if control is not self._log.control or wanted != control:
            self._log.publish(wanted)

    def _is_ready(self, control: Control, max_bytes: int) -> bool:
        """Tell whether all that `make_ready` sees to is so, as it mostly is."""
        erasure = self._log.erasure
        return (
            control is self._log.control
            and not control.sealed_at
            and control.visible == self._log.end
            and control.max_bytes >= max_bytes
            and (erasure <= control.erasure or erasure <= control.flushed)
        )

    @property
    def is_flushed(self) -> bool:
        """Whether all files are durable, and nothing is to be erased."""
        return self._log.end <= self._control.flushed and not self._control.erasure

    @property
    def must_erase(self) -> bool:
        """Whether the log holds what somebody asked to remove."""
        return self._control.erasure > 0

    # Committing

    def append(
        self, entries: Sequence[Entry], bodies: Sequence[bytes], flags: int,
        note: Callable[[ReadFrame], None], *, sync: bool, leaves: int = _WHOLE_RESERVE,
        spared_bytes: Callable[[], int] = int, erases: bool = False, in_new_segment: bool = False,
    ) -> ReadFrame:  # fmt: skip
        """
        Append a frame and share it.

        Args:
            entries: what it says.
            bodies: of those that have one, in their order.
            flags: of the frame.
            note: enters it; called with the log's mutex, for who sees the positions that are
                shared must find it entered: or it would pass for applied.
            sync: whether it, and all before it, is durable on return.
            leaves: how many quarters of the reserve, at the end of the last slot there is room
                for, it leaves to what makes more room.
            spared_bytes: tells how much room a slot that has to be made leaves on the disk; see
                `take`.
            erases: whether it removes what somebody asked to remove.
            in_new_segment: whether to begin one for it.

        Raises:
            StorageError: it is not in the log, and will not be.
            DurabilityUnknownError: it may be in the log.
            MovedError: the log's place was moved or removed; the frame may be anywhere.
        """
        if self._is_at_rest:  # a sync that fails with frames in it may leave them there
            self._begin_segment(spared_bytes=spared_bytes())
        table = encode_entries(entries)
        size = log.frame_bytes(table, sum(map(len, bodies)))
        segment, tail, control = self._segment, self._tail, self._control
        capacity = self._log.slots.capacity(segment.slot, tail.offset + size)
        reserve = leaves * min(_RESERVE_BYTES, capacity // 4) // 4
        fits = tail.offset + size + reserve <= capacity
        if self._is_sealed or not fits or in_new_segment:
            content = _Content(table, bodies, flags)
            read = self._begin_segment([content], note=note, spared_bytes=spared_bytes())
            if erases:
                self._share(self._control.changed(erasure=read.place))
            return read
        frame = log.build_frame(tail, log.offset_of(control.synced), flags, table, bodies)
        try:
            self._log.slots.write(segment.slot, self._packed(frame), tail.offset)
            if sync:
                self._files.reached("before_sync_log")
                self._sync_slot()
        except StorageError as error:
            self._break(error)
            raise
        self._require_ours()
        place = log.place_of(segment.header.sequence, frame.frame.end)
        self._files.reached("before_publish")
        control = control.changed(
            visible=place,
            synced=place if sync else control.synced,
            erasure=place if erases else control.erasure,
        )
        read = ReadFrame(place, segment.slot, frame.frame)
        with self._log.mutex:
            self._log.tail = tail.behind(frame.frame)
            self._share(control)
            note(read)
        return read

    def _packed(self, built: NewFrame) -> bytes | memoryview:
        """Return all of a frame, put where the last one was: new memory costs more than a copy."""
        size = built.frame.end - built.frame.offset
        if size > _KEPT_BYTES:
            return built.data
        if len(self._buffer) < size:
            self._buffer = bytearray(2 * size)
        packed = memoryview(self._buffer)[:size]
        start = 0
        for piece in built.pieces:
            end = start + len(piece)
            packed[start:end] = piece
            start = end
        return packed

    def _share(self, control: Control) -> None:
        """Publish what is in the log: a failure does not take it out again."""
        try:
            self._log.publish(control)
        except StorageError as error:
            self._log.is_void = True
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

    def sync(self) -> None:
        """Make the log durable up to its end, and share that."""
        end = self._log.end
        if self._control.synced < end or self._log.control is not self._control:
            try:
                self._sync_slot()
            except StorageError as error:
                self._break(error)
                raise
            self._log.publish(self._control.changed(visible=end, synced=end))

    def _sync_slot(self) -> None:
        """Sync the current slot, written again where this process's descriptor does not vouch."""
        slots, slot, tail = self._log.slots, self._segment.slot, self._tail
        start = max(log.offset_of(self._control.synced), log.HEADER_BYTES)
        end = min(slots.unvouched_end(slot, tail.offset), tail.offset)
        if start == log.HEADER_BYTES:
            start = 0  # the header may be as new as the frames
        if end > start:
            slots.write(slot, slots.read(slot, end - start, start), start)
        slots.sync(slot)
        slots.vouch(slot)

    # Segments

    def _begin_segment(
        self,
        frames: Sequence[_Content] = (),
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
        size = log.HEADER_BYTES + sum(map(_size_of, [*self._copies(), *frames]))
        free = self.free
        slot = free.take_for_rest() if is_for_rest else free.take(size, spared_bytes=spared_bytes)
        if log_.segments and self.must_erase:
            log_.slots.erase([slot])  # or what it held would outlast the next erasure
        previous = self._seal() if log_.segments else (log.NO_ID, 0, log.NO_CHAIN)
        contents = [*self._copies(), *frames]
        header = Header(self._next_sequence(), random_bytes(16), *previous, slot)
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

    def _seal(self) -> tuple[bytes, int, bytes]:
        """Let the current segment end, and return what its successor says of it."""
        if not self._is_sealed:
            self.sync()
        end, chain = (
            self._sealed_end() if self._is_sealed else (self._tail.offset, self._tail.chain)
        )
        if not self._is_shared:  # nor perhaps durable: its successor takes its place
            header = self._segment.header
            return header.previous_id, header.previous_end, header.previous_chain
        self._log.publish(self._control.changed(sealed_at=end))
        self._files.reached("after_seal")
        return self._segment.header.id, end, chain

    @property
    def _is_shared(self) -> bool:
        """Whether the current segment was shared by name, so that its header is durable."""
        control = self._log.control
        return control is not None and control.id == self._segment.header.id

    @property
    def _is_sealed(self) -> bool:
        return self._control.sealed_at != 0 or self._broken == self._segment.header.id

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
        with log_.mutex:
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
                self._log.publish(self._control.changed(sealed_at=end))
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

    def _copies(self) -> list[_Content]:
        """
        Return what counts and is not durable, in a segment that is closed before it.

        It was acknowledged, or its process is dead and somebody may have read it.
        """
        if not self._log.segments or not self._is_sealed:
            return []
        slots, slot = self._log.slots, self._segment.slot
        start = self._control.sealed_at or log.offset_of(self._control.synced)
        copies: list[_Content] = []
        for frame in self._frames():
            if frame.end > start:
                size = sum(map(body_bytes, frame.entries()))
                bodies = [slots.read(slot, size, frame.bodies_offset)]
                copies.append(_Content(frame.table, bodies, frame.flags))
        return copies

    # Flushing

    def publish_flushed(self, place: int) -> None:
        """Share that all files up to a position are durable, and give slots free; durably."""
        log_ = self._log
        control = self._control
        if place <= control.flushed:
            return
        first = log.sequence_of(place)
        log_.publish(control.changed(flushed=place, first_sequence=first))
        log_.sync_control()  # or what is removed by hand from here on may come back after a crash
        self._files.reached("before_free")
        used = {s.slot for s in log_.segments if s.header.sequence >= first}
        log_.forget_flushed(place)
        for number in log_.slots.numbers():
            if number not in used and log_.slots.read(number, 8, 0) != bytes(8):
                log_.slots.blank(number)

    def erase(self) -> None:
        """Leave nothing in the log of what was removed and is flushed; durably."""
        self._log.slots.erase(self.free.numbers())
        control = self._control
        if log.sequence_of(control.erasure) < control.first_sequence:
            self._log.publish(control.changed(erasure=0))

    @property
    def _is_at_rest(self) -> bool:
        return self._log.slots.size(self._segment.slot) == log.HEADER_BYTES

    def leave_empty(self) -> None:
        """Leave an empty segment and two free slots, if all is flushed; for who closes."""
        if self._log.end > self._control.flushed:
            return
        if not self._is_at_rest:  # in a copy of the root its frames would count again
            self._begin_segment(is_for_rest=True)
            self.publish_flushed(self._log.end)
        for number in self.free.numbers()[2:]:
            self._log.slots.remove(number)


def _size_of(content: _Content) -> int:
    return log.frame_bytes(content.table, sum(map(len, content.bodies)))


def _unknown(error: StorageError, reason: str) -> DurabilityUnknownError:
    return DurabilityUnknownError(error.operation, error.path, error.errno, reason)
