"""The journal's bytes: frames, slots' headers, the control block; pure.

    slot   header block | frame | frame | ...            all aligned to 4 KiB
    frame  head | table | bodies | padding | table | head

A table says what must be true afterwards, in terms of names; the bodies are apart from it, so
that catching up reads tables alone. Head and table stand at both ends: one bad block leaves
one of them. Each frame's chain value covers the one before it, so that a frame left over from
an earlier commit at the same place never counts.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from aiocheckpoint._format.entries import Entry, Owned, decode_entries, encode_entries
from aiocheckpoint.errors import JournalVersionError

LOG_VERSION = 2  # 1 were the journals of 0.1
BLOCK_BYTES = 4096
HEADER_BYTES = BLOCK_BYTES
CONTROL_BYTES = 512
NO_CHAIN = bytes(32)
NO_ID = bytes(16)

FLUSH_WANTED = 1  # somebody waits until the files of this frame are durable

_FRAME_MAGIC = b"acFR"
_HEADER_MAGIC = b"acLOGseg"
_CONTROL_MAGIC = b"acLOGctl"
_CRC_END = _ID_OFFSET = 8
_HEAD = struct.Struct("<4sI16sQQQIQI32s")
_CHAINED = struct.Struct("<16sQQQQQI")
_HEADER = struct.Struct("<8sIIQ16s16sQ32sI")
_PREVIOUS = struct.Struct("<II")
_CONTROL = struct.Struct("<8sIIQIQ16sQQQQQQQQ")
HEAD_BYTES = _HEAD.size
_CONTROL_PADDING = bytes(CONTROL_BYTES - _CONTROL.size)
_MAX_TABLE_BYTES = 1 << 28
_OWNERS_MAGIC = b"acOWNERS"
_OWNERS_HEAD = struct.Struct("<8sII")
_MAX_HOST = 255
_OFFSET_BITS = 40


def place_of(sequence: int, offset: int) -> int:
    """Return a position in the log as one number that only grows."""
    return sequence << _OFFSET_BITS | offset


def sequence_of(place: int) -> int:
    """Return the sequence number of the segment that a position is in."""
    return place >> _OFFSET_BITS


def offset_of(place: int) -> int:
    """Return the offset of a position within its segment."""
    return place & ((1 << _OFFSET_BITS) - 1)


def align(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


class Frame(NamedTuple):
    """
    One commit, without its bodies.

    Attributes:
        segment: id of the segment.
        number: of the frame in its segment, from 0.
        offset: of the frame in its slot.
        synced_then: up to where the segment was known to be durable when this was written.
        flags: `FLUSH_WANTED` or 0.
        chain: covers this frame and all before it.
        bodies_offset: of the first body in the slot.
        end: offset behind the frame.
        table: its entries, encoded.
    """

    segment: bytes
    number: int
    offset: int
    synced_then: int
    flags: int
    chain: bytes
    bodies_offset: int
    end: int
    table: bytes

    def entries(self) -> list[Entry]:
        """Return what the frame says."""
        return decode_entries(self.table)

    def follows(self, chain: bytes) -> bool:
        """Tell whether the frame's chain value continues another."""
        return self.chain == _chain(chain, self.head_fields(), self.table)

    def head_fields(self) -> bytes:
        """Return what the chain covers besides the table."""
        return _CHAINED.pack(
            self.segment, self.number, self.offset, self.synced_then,
            self.bodies_offset, self.end, self.flags,
        )  # fmt: skip


def _chain(before: bytes, fields: bytes, table: bytes) -> bytes:
    return hashlib.sha256(b"".join((before, fields, table))).digest()


class NewFrame(NamedTuple):
    """
    A frame ready to be written.

    Attributes:
        frame: without bodies.
        pieces: all of it, one after the other.
    """

    frame: Frame
    pieces: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


class Tail(NamedTuple):
    """
    Where the next frame of a segment goes.

    Attributes:
        segment: its id.
        number: of the next frame.
        offset: of the next frame.
        chain: of the last one.
    """

    segment: bytes
    number: int
    offset: int
    chain: bytes

    def behind(self, frame: Frame) -> Tail:
        """Return where the frame after this one goes."""
        return Tail(self.segment, frame.number + 1, frame.end, frame.chain)


def frame_bytes(table: bytes, bodies_bytes: int) -> int:
    """Return the size of a frame."""
    return align(2 * (HEAD_BYTES + len(table)) + bodies_bytes)


def build_frame(
    tail: Tail, synced_then: int, flags: int, table: bytes, bodies: Sequence[bytes]
) -> NewFrame:
    """Return the frame that goes at a tail."""
    bodies_bytes = sum(map(len, bodies))
    segment, number, offset, before = tail
    end = offset + frame_bytes(table, bodies_bytes)
    bodies_offset = offset + HEAD_BYTES + len(table)
    fields = _CHAINED.pack(segment, number, offset, synced_then, bodies_offset, end, flags)
    chain = _chain(before, fields, table)
    frame = Frame(
        segment, number, offset, synced_then, flags, chain, bodies_offset, end, table
    )  # fmt: skip
    head = _encode_head(frame, bodies_bytes)
    padding = bytes(end - tail.offset - 2 * (HEAD_BYTES + len(table)) - bodies_bytes)
    return NewFrame(frame, (head, table, *bodies, padding, table, head))


def _encode_head(frame: Frame, bodies_bytes: int) -> bytes:
    head = _HEAD.pack(
        _FRAME_MAGIC, 0, frame.segment, frame.number, frame.offset, frame.synced_then,
        len(frame.table), bodies_bytes, frame.flags, frame.chain,
    )  # fmt: skip
    crc = zlib.crc32(frame.table, zlib.crc32(head[_CRC_END:]))
    return b"".join((_FRAME_MAGIC, crc.to_bytes(4, "little"), head[_CRC_END:]))


def possible_frames(blocks: bytes, segment: bytes) -> Iterator[int]:
    """Yield the offsets in whole blocks at which a frame may begin, told from one byte of each."""
    byte = max(segment)  # of its id, which hardly any other block has: 0 is in most
    place = _ID_OFFSET + segment.index(byte)
    told = blocks[place::BLOCK_BYTES]  # a step in Python for each takes ten times that
    number = told.find(byte)
    while number >= 0:
        yield number * BLOCK_BYTES
        number = told.find(byte, number + 1)


def head_end(data: bytes, segment: bytes, offset: int) -> int:
    """
    Return how many bytes head and table of the frame at an offset take; 0 where none begins.

    Args:
        data: the first bytes there, at least a head's.
        segment: id of the segment.
        offset: where they are.
    """
    if len(data) < HEAD_BYTES:
        return 0
    magic, _, found, _, place, _, table_bytes, _, _, _ = _HEAD.unpack_from(data)
    fits = magic == _FRAME_MAGIC and found == segment and place == offset
    return HEAD_BYTES + table_bytes if fits and table_bytes <= _MAX_TABLE_BYTES else 0


def parse_frame(head: bytes, table: bytes) -> Frame | None:
    """Return a frame from either end of it; None where its check value does not fit."""
    (
        _, crc, segment, number, offset, synced_then, table_bytes, bodies_bytes, flags, chain,
    ) = _HEAD.unpack_from(head)  # fmt: skip
    table = table[:table_bytes]
    if zlib.crc32(table, zlib.crc32(head[_CRC_END:HEAD_BYTES])) != crc:
        return None
    bodies_offset = offset + HEAD_BYTES + table_bytes
    end = offset + align(2 * (HEAD_BYTES + table_bytes) + bodies_bytes)
    return Frame(
        segment, number, offset, synced_then, flags, chain, bodies_offset, end, table
    )  # fmt: skip


def trailing_table_bytes(head: bytes, segment: bytes) -> tuple[int, int]:
    """Return offset and table size that the head at a frame's end claims; (0, 0) if it is none."""
    magic, _, found, _, offset, _, table_bytes, _, _, _ = _HEAD.unpack_from(head)
    fits = magic == _FRAME_MAGIC and found == segment and table_bytes <= _MAX_TABLE_BYTES
    return (offset, table_bytes) if fits else (0, 0)


class Header(NamedTuple):
    """
    What a slot's first block says of the segment in it.

    Attributes:
        sequence: number of the segment, one greater with each.
        id: random.
        previous_id: of the segment before it; zeros for the first.
        previous_end: where that one ends: frames beyond count for nobody.
        previous_chain: chain value of its last frame.
        slot: number of the slot; a copy in another one does not count.
        previous_slot: number of the slot of the segment before it; None where it is not told.
    """

    sequence: int
    id: bytes
    previous_id: bytes = NO_ID
    previous_end: int = 0
    previous_chain: bytes = NO_CHAIN
    slot: int = 0
    previous_slot: int | None = None

    def encode(self) -> bytes:
        """Return the block."""

        def packed(crc: int) -> bytes:
            return _HEADER.pack(_HEADER_MAGIC, crc, LOG_VERSION, *self[:-1])

        block = packed(zlib.crc32(packed(0)[12:]))
        if self.previous_slot is not None:
            block += _PREVIOUS.pack(self.previous_slot, _crc_of_previous(self))
        return block.ljust(HEADER_BYTES, b"\0")


def _crc_of_previous(header: Header) -> int:
    """Return what says that the slot of the segment before one is told; older headers have none."""
    number = (header.previous_slot or 0).to_bytes(4, "little")
    return zlib.crc32(number, zlib.crc32(header.id + header.previous_id))


def parse_header(data: bytes, path: str) -> Header | None:
    """
    Return a slot's header; None for a blank or torn one.

    Raises:
        JournalVersionError: a newer version of this library wrote it.
    """
    if len(data) < _HEADER.size:
        return None
    magic, crc, version, *fields = _HEADER.unpack_from(data)
    if magic != _HEADER_MAGIC or zlib.crc32(data[12 : _HEADER.size]) != crc:
        return None
    if version != LOG_VERSION:
        raise JournalVersionError(path, version, LOG_VERSION)
    header = Header(*fields)
    if len(data) >= _HEADER.size + _PREVIOUS.size:
        number, crc = _PREVIOUS.unpack_from(data, _HEADER.size)
        told = header._replace(previous_slot=number)
        if crc == _crc_of_previous(told):
            return told
    return header


class Control(msgspec.Struct, frozen=True, gc=False):
    """
    Positions that the processes share: lower bounds, never synced, not trusted after a crash.

    Attributes:
        inode: of the control file itself; a copy does not count.
        slot: of the current segment.
        sequence: of the current segment.
        id: of the current segment.
        sealed_at: offset at which it ends, 0 while it is open.
        visible: position up to which everybody sees the log.
        synced: position up to which it is durable.
        flushed: position up to which its files are durable.
        first_sequence: of the oldest segment that is still needed.
        max_bytes: how much may be unflushed; the largest that anybody asked for.
        erasure: position of the last removal whose text may still be in the log; 0 for none.
        revision: counts publications, so that each differs.
    """

    inode: int
    slot: int
    sequence: int
    id: bytes
    sealed_at: int = 0
    visible: int = 0
    synced: int = 0
    flushed: int = 0
    first_sequence: int = 0
    max_bytes: int = 0
    erasure: int = 0
    revision: int = 0

    @property
    def must_erase(self) -> bool:
        """Whether the log holds what somebody asked to remove."""
        return self.erasure > 0

    def changed(self, **fields: int | bytes) -> Control:
        """Return other positions."""
        return msgspec.structs.replace(self, **fields)

    def encode(self) -> bytes:
        """Return the bytes of the control file."""
        fields = msgspec.structs.astuple(self)
        body = _CONTROL.pack(_CONTROL_MAGIC, 0, LOG_VERSION, *fields)[12:]
        crc = zlib.crc32(body).to_bytes(4, "little")
        return b"".join((_CONTROL_MAGIC, crc, body, _CONTROL_PADDING))


def parse_control(data: bytes, path: str) -> Control | None:
    """
    Return the shared positions; None for a file that is torn or blank.

    Raises:
        JournalVersionError: a newer version of this library wrote it.
    """
    if len(data) < _CONTROL.size:
        return None
    magic, crc, version, *fields = _CONTROL.unpack_from(data)
    if magic != _CONTROL_MAGIC or zlib.crc32(data[12 : _CONTROL.size]) != crc:
        return None
    if version != LOG_VERSION:
        raise JournalVersionError(path, version, LOG_VERSION)
    return Control(*fields)


def encode_owners(owners: Iterable[Owned]) -> bytes:
    """Return the bytes of the file that says who owns what."""
    table = encode_entries(list(owners))
    return _OWNERS_HEAD.pack(_OWNERS_MAGIC, zlib.crc32(table), LOG_VERSION) + table


def parse_owners(data: bytes, path: str) -> list[Owned] | None:
    """
    Return who owns what; None where the file is damaged.

    Raises:
        JournalVersionError: a newer version of this library wrote it.
    """
    if len(data) < _OWNERS_HEAD.size:
        return None
    magic, crc, version = _OWNERS_HEAD.unpack_from(data)
    table = data[_OWNERS_HEAD.size :]
    if magic != _OWNERS_MAGIC or zlib.crc32(table) != crc:
        return None
    if version != LOG_VERSION:
        raise JournalVersionError(path, version, LOG_VERSION)
    return [entry for entry in decode_entries(table) if isinstance(entry, Owned)]


class _Process(msgspec.Struct):
    pid: int
    host: str


def encode_process(pid: int, host: str) -> bytes:
    """Return what a process says of itself to those who find that it owns what they want."""
    return msgspec.json.encode(_Process(pid, host)) + b"\n"


def told_by(data: bytes) -> str:
    """Return the same in words; empty where a process says nothing, as that of an old version."""
    try:
        found = msgspec.json.decode(data, type=_Process)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f"process {found.pid} on {found.host[:_MAX_HOST]!a}"
