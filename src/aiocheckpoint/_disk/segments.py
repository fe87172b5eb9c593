"""The segments of a log and their frames, and damage told from the end of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import Saved, SavedBlob, body_bytes
from aiocheckpoint._format.log import Control, Frame, Header, Tail

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


class BehindError(Exception):
    """What was to be read has been flushed and overwritten meanwhile."""


def find_segments(
    slots: Slots, control: Control | None, *, newest: bool, to_end: bool
) -> tuple[list[Segment], list[Segment]]:
    """
    Return the segments of a log, oldest first, and those whose headers are to be written again.

    Args:
        slots: the log's files.
        control: the shared positions.
        newest: whether the newest header outranks them: at the first look, and after a crash.
        to_end: whether nobody commits meanwhile; positions of a segment that is not there are of
            before a crash then.

    Raises:
        BehindError: the positions name a segment that is not there any more.
    """
    headless: list[Segment] = []
    found = {
        header.id: Segment(number, header)
        for number in slots.numbers()
        if (header := slots.header(number)) is not None
    }
    segment = None if control is None else found.get(control.id)
    if segment is None and not newest and not to_end:
        raise BehindError
    if segment is None or newest:
        segment = max(found.values(), key=lambda s: s.header.sequence, default=None)
    sequence = 0 if segment is None else segment.header.sequence
    if control is not None and sequence < control.sequence:
        # What is shared names a segment only when its header is durable: it is damaged, or gone.
        slots.expect(control.slot)
        segment = _segment_without_header(
            slots, control.slot, control.sequence, control.id, found.values()
        )
        headless.append(segment)
    first = 0 if control is None else control.first_sequence
    # What was given free since the positions were shared is not missed: they may be of before a
    # crash, if they name an older segment; and one at rest needs none before it.
    may_miss = (
        control is not None
        and segment is not None
        and control.id == segment.header.id
        and slots.size(segment.slot) != log.HEADER_BYTES
    )
    chain: list[Segment] = []
    while segment is not None:
        chain.insert(0, segment)
        before = found.get(segment.header.previous_id)
        if before is None and control is not None and may_miss and segment.header.sequence > first:
            before = _before_without_header(slots, control, segment, found)
            headless += [] if before is None else [before]
        if before is not None and before.header.sequence >= first:
            segment = before._replace(end=segment.header.previous_end)
        else:
            segment = None
    return chain, headless


def _before_without_header(
    slots: Slots, control: Control, segment: Segment, found: dict[bytes, Segment]
) -> Segment | None:
    """
    Return the segment before one, if it is needed, where its header is damaged, or its slot gone.

    One that was flushed is not needed, and its slot is blank, or used again: after a crash what is
    shared may be of before that, and without it nobody knows at all.
    """
    header = segment.header
    sequence = header.sequence - 1
    is_flushed = log.place_of(sequence, header.previous_end) <= control.flushed
    if header.previous_slot is None or is_flushed or not slots.is_lost(header.previous_slot):
        return None
    slots.expect(header.previous_slot)
    others = [other for key, other in found.items() if key != header.id]
    before = _segment_without_header(
        slots, header.previous_slot, sequence, header.previous_id, others
    )
    return before._replace(end=header.previous_end)


def _segment_without_header(
    slots: Slots, slot: int, sequence: int, segment: bytes, found: Iterable[Segment]
) -> Segment:
    """
    Return a segment whose header is damaged, as others tell of it.

    Args:
        slots: the log's files.
        slot: the segment is in.
        sequence: its number.
        segment: its id.
        found: those that have a header; the newest before it is its predecessor.
    """
    before = max(
        (other for other in found if other.header.sequence < sequence),
        key=lambda other: other.header.sequence,
        default=None,
    )
    if before is None:
        return Segment(slot, Header(sequence, segment, slot=slot))
    reader = ChainReader(slots, before, before.start)
    for _ in reader.frames_to_end(0, searches=False):
        pass
    end, chain = reader.tail.offset, reader.tail.chain
    return Segment(slot, Header(sequence, segment, before.header.id, end, chain, slot, before.slot))
