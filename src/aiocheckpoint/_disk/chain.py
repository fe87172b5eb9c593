"""Reading the frames of a segment, and telling damage from the end of the log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import Saved, SavedBlob, body_bytes
from aiocheckpoint._format.log import Frame, Header, Tail

_READ_BYTES = log.BLOCK_BYTES
_SEARCH_BYTES = 112 * 1024  # of more each piece would have new pages from the system


class Segment(NamedTuple):
    """
    One use of a slot.

    Attributes:
        slot: number of the slot.
        header: what its first block says.
        end: where it ends, by its successor's word; None for the newest.
    """

    slot: int
    header: Header
    end: int | None = None

    @property
    def start(self) -> Tail:
        """Where its first frame goes."""
        return Tail(self.header.id, 0, log.HEADER_BYTES, self.header.previous_chain)


class Damage(NamedTuple):
    """
    A part of the log that cannot be read though it was durable.

    Attributes:
        path: of the slot.
        place: where it begins.
        end: the position behind it.
        segment: id of the segment, hex.
        is_total: whether nobody can tell what stood there.
    """

    path: str
    place: int
    end: int
    segment: str
    is_total: bool

    @property
    def kept_name(self) -> str:
        """The name of a copy of the segment in the quarantine."""
        return f"journal-{self.segment}-{log.offset_of(self.place)}"


class ChainReader:
    """
    Reads one segment from a position on.

    Args:
        slots: the log's files.
        segment: which.
        tail: where to begin.

    Attributes:
        tail: behind what was read.
        damages: what was passed over.
    """

    def __init__(self, slots: Slots, segment: Segment, tail: Tail) -> None:
        self._slots = slots
        self._segment = segment
        self.tail = tail
        self.damages: list[Damage] = []

    def frames_to(self, end: int) -> Iterator[Frame]:
        """Yield the frames up to a known end; whatever is bad there is damage."""
        while self.tail.offset < end:
            frame = self._next()
            if frame is None or frame.end > end:
                yield from self._past_damage(end)
            else:
                yield self._passed(frame)

    def whole_frames_to(self, end: int) -> Iterator[Frame]:
        """Yield the frames up to an offset, or up to the first that is not whole, no damage."""
        while self.tail.offset < end:
            frame = self._next()
            if frame is None or frame.end > end or not self.is_whole(frame):
                return
            yield self._passed(frame)

    def frames_to_end(self, synced: int, *, searches: bool) -> Iterator[Frame]:
        """
        Yield the frames up to the end of the chain.

        Args:
            synced: offset up to which they are durable for sure; beyond, a frame counts only if
                its bodies are whole, or a later frame says that it was durable.
            searches: whether to look for later frames: once a process, for it reads all of a slot.
        """
        while True:
            frame = self._next()
            if frame is not None and (frame.offset < synced or self.is_whole(frame)):
                yield self._passed(frame)
                continue
            durable = max(synced, self._synced_by_later(self.tail.offset) if searches else 0)
            if durable <= self.tail.offset:
                return
            if frame is not None:  # its bodies are damaged, which whoever reads them is told
                yield self._passed(frame)
            else:
                yield from self._past_damage(durable)

    def is_whole(self, frame: Frame) -> bool:
        """Tell whether the bodies of a frame are what its table says."""
        offset = frame.bodies_offset
        for entry in frame.entries():
            size = body_bytes(entry)
            if isinstance(entry, (Saved, SavedBlob)):
                data = self._slots.read(self._segment.slot, size, offset)
                if hashlib.sha256(data).digest() != entry.digest:
                    return False
            offset += size
        return True

    def _passed(self, frame: Frame) -> Frame:
        self.tail = self.tail.behind(frame)
        return frame

    def _next(self) -> Frame | None:
        """Return the frame at the tail, if there is one that continues the chain."""
        frame = self._frame_at(self.tail.offset)
        fits = frame is not None and frame.number == self.tail.number
        return frame if frame and fits and frame.follows(self.tail.chain) else None

    def _frame_at(self, offset: int) -> Frame | None:
        slot = self._segment.slot
        data = self._slots.read(slot, _READ_BYTES, offset)
        size = log.head_end(data, self._segment.header.id, offset)
        if size == 0:
            return None
        if size > len(data):
            data = self._slots.read(slot, size, offset)
        return log.parse_frame(data, data[log.HEAD_BYTES :]) if len(data) >= size else None

    # Damage

    def _past_damage(self, end: int) -> Iterator[Frame]:
        """Yield what a bad part still tells, from the tables at its frames' ends, and pass it."""
        start = self.tail.offset
        later = next(self._later_frames(start, end), None)
        stop = end if later is None else later.offset
        told: list[Frame] = []
        reached = stop
        while reached > start:
            frame = self._frame_ending_at(reached)
            if frame is None or frame.offset < start:
                break
            told.insert(0, frame)
            reached = frame.offset
        sequence, segment = self._segment.header.sequence, self._segment.header.id
        self.damages.append(
            Damage(
                self._slots.path(self._segment.slot), log.place_of(sequence, start),
                log.place_of(sequence, stop), segment.hex(), is_total=reached > start,
            )
        )  # fmt: skip
        yield from told
        last = told[-1] if told else None
        number = later.number if later else (last.number + 1 if last else self.tail.number + 1)
        # The chain goes on from what the next good frame claims; nothing else could tell.
        chain = last.chain if last else log.NO_CHAIN
        self.tail = Tail(segment, number, stop, chain)
        if later is not None:
            yield self._passed(later)

    def _frame_ending_at(self, end: int) -> Frame | None:
        slot, segment = self._segment.slot, self._segment.header.id
        head = self._slots.read(slot, log.HEAD_BYTES, end - log.HEAD_BYTES)
        if len(head) < log.HEAD_BYTES:
            return None
        offset, table_bytes = log.trailing_table_bytes(head, segment)
        if table_bytes == 0:
            return None
        table = self._slots.read(slot, table_bytes, end - log.HEAD_BYTES - table_bytes)
        frame = log.parse_frame(head, table)
        return frame if frame and frame.offset == offset and frame.end == end else None

    def _later_frames(self, offset: int, end: int) -> Iterator[Frame]:
        """Yield the good frames behind a bad one."""
        segment = self._segment.header.id
        for start in range(offset + log.BLOCK_BYTES, end, _SEARCH_BYTES):
            data = self._slots.read(self._segment.slot, min(_SEARCH_BYTES, end - start), start)
            for at in log.possible_frames(data, segment):
                if log.head_end(data[at : at + log.HEAD_BYTES], segment, start + at):
                    frame = self._frame_at(start + at)
                    if frame is not None and frame.number > self.tail.number:
                        yield frame

    def _synced_by_later(self, offset: int) -> int:
        """Return up to where later frames, if there are any, say that the segment was durable."""
        end = self._slots.size(self._segment.slot)
        return max((frame.synced_then for frame in self._later_frames(offset, end)), default=0)
