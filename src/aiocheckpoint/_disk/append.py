"""Writing the log: frames of commits, and how far files are; under its lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiocheckpoint._disk.log import ReadFrame
from aiocheckpoint._disk.segment_writer import Content, SegmentWriter
from aiocheckpoint._disk.slots import FIRST_SLOT_BYTES
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import Entry, encode_entries
from aiocheckpoint._format.log import Control, NewFrame
from aiocheckpoint.errors import StorageError

_RESERVE_BYTES = 256 << 10
_WHOLE_RESERVE = 4


class Appender(SegmentWriter):
    """
    Appends to a log; every method needs its lock, and the log caught up.

    Args:
        files: the file operations.
        log_: the log.
        pending: what is to be written to files.
    """

    # Before a commit

    def make_ready(self, max_bytes: int) -> None:
        """
        Have a segment to write to, share where the log ends, and how much it may hold.

        What a dead process wrote and did not publish is made durable before anybody sees it.
        """
        if not self._log.segments:
            self._begin_segment()
        for slot, header, end in self._log.headless:
            # Or with the shared positions all that stands there would be lost, or what is missing.
            self._log.slots.restore(slot, FIRST_SLOT_BYTES if end is None else log.HEADER_BYTES)
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
        return self._log.end <= self._control.flushed and not self.must_erase

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
        segment, tail, control = self._segment, self._tail, self._control
        synced_then, table = log.offset_of(control.synced), encode_entries(entries)
        frame = log.build_frame(tail, synced_then, flags, table, bodies)
        fits = self._fits(segment.slot, frame.frame.end, leaves)
        if in_new_segment or not fits or self._is_sealed:
            content = Content(table, bodies, flags)
            read = self._begin_segment([content], note=note, spared_bytes=spared_bytes())
            if erases:
                self._share(self._control, erasure=read.place)
            return read
        self._write(segment.slot, frame, sync=sync)
        place = log.place_of(segment.header.sequence, frame.frame.end)
        self._files.reached("before_publish")
        read = ReadFrame(place, segment.slot, frame.frame)
        with self._log.entering():
            self._log.tail = tail.behind(frame.frame)
            self._share(
                control,
                visible=place,
                synced=place if sync else control.synced,
                erasure=place if erases else control.erasure,
            )
            note(read)
        return read

    def _fits(self, slot: int, end: int, leaves: int) -> bool:
        """Tell whether a slot has room for a frame up to `end`, beside what it leaves."""
        capacity = self._log.slots.capacity(slot, end)
        return end + leaves * min(_RESERVE_BYTES, capacity // 4) // 4 <= capacity

    def _write(self, slot: int, built: NewFrame, *, sync: bool) -> None:
        """Write a frame into the current slot; one that fails never counts."""
        try:
            self._log.slots.write(slot, built.data, built.frame.offset)
            if sync:
                self._files.reached("before_sync_log")
                self._sync_slot()
        except StorageError as error:
            self._break(error)
            raise
        self._require_ours()

    # Flushing

    def publish_flushed(self, place: int) -> None:
        """Share that all files up to a position are durable, and give slots free; durably."""
        log_ = self._log
        control = self._control
        if place <= control.flushed:
            return
        first = log.sequence_of(place)
        log_.publish(control, flushed=place, first_sequence=first)
        log_.sync_control()  # or what is removed by hand from here on may come back after a crash
        self._files.reached("before_free")
        used = {s.slot for s in log_.segments if s.header.sequence >= first}
        log_.forget_flushed(place)
        for number in log_.slots.numbers():
            if number not in used and not log_.slots.is_blank(number):
                log_.slots.blank(number)

    def erase(self, *, ends_segment: bool) -> None:
        """
        Leave nothing in the log of what was removed and is flushed; durably.

        Args:
            ends_segment: whether also the current segment may hold such, if all of it is flushed.
                A flush is in a new one; but what was removed may have been carried behind it.
        """
        control = self._control
        is_current = log.sequence_of(control.erasure) >= control.first_sequence
        if ends_segment and is_current and self._log.end <= control.flushed:
            self._begin_segment()
            self.publish_flushed(self._log.end)
        self._log.slots.erase(self.free.numbers())
        control = self._control
        if log.sequence_of(control.erasure) < control.first_sequence:
            self._log.publish(control, erasure=0)

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
            self.free.remove(number)
