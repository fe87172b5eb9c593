"""Which segments a log is made of, by the headers of its slots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiocheckpoint._disk.chain import ChainReader, Segment
from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._format import log
from aiocheckpoint._format.log import Control, Header


class BehindError(Exception):
    """What was to be read has been flushed and overwritten meanwhile."""


class Segments(NamedTuple):
    """
    What was found.

    Attributes:
        chain: the segments, oldest first.
        headless: those of them whose headers are damaged, and have to be written again.
    """

    chain: list[Segment]
    headless: list[Segment]


def find_segments(slots: Slots, control: Control | None, *, newest: bool, to_end: bool) -> Segments:
    """
    Return the segments of a log.

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
    return Segments(chain, headless)


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
