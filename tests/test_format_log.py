"""Promises of the journal's bytes: what was written is read back, or is known to be bad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocheckpoint import JournalVersionError
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import (
    Entry,
    Quarantined,
    Removed,
    Saved,
    SavedBlob,
    Stuck,
    body_bytes,
    encode_entries,
)
from aiocheckpoint._format.log import (
    BLOCK_BYTES,
    HEAD_BYTES,
    HEADER_BYTES,
    NO_CHAIN,
    Control,
    Frame,
    Header,
    NewFrame,
    Tail,
)

_texts = st.text(max_size=12)
_digests = st.binary(min_size=32, max_size=32)
_ids = st.binary(min_size=16, max_size=16)
_numbers = st.integers(0, 2**64 - 1)
_entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        Saved, _texts, _texts, _texts, _digests, st.integers(0, 50), st.just(b"") | _digests,
        st.lists(_digests, max_size=2).map(tuple), st.integers(0, 9),
    ),
    st.builds(SavedBlob, _texts, _digests, st.integers(0, 50)),
    st.builds(
        Removed, _texts, st.lists(_texts, max_size=3).map(tuple),
        st.lists(_digests, max_size=2).map(tuple), st.booleans(), st.booleans(),
    ),
    st.builds(Quarantined, _texts, _texts, _texts, st.booleans()),
    st.builds(Stuck, _texts, _texts, _texts, st.integers(0, 200), _texts),
)  # fmt: skip
_tails = st.builds(
    Tail, _ids, st.integers(0, 2**40), st.integers(1, 2**20).map(BLOCK_BYTES.__mul__), _digests
)
_headers = st.builds(
    Header,
    st.integers(1, 2**40),
    _ids,
    _ids,
    st.integers(0, 2**40),
    _digests,
    st.integers(0, 9),
    st.none() | st.integers(0, 9),
)
_controls = st.builds(Control, _numbers, st.integers(0, 2**32 - 1), _numbers, _ids, *[_numbers] * 8)

_SEGMENT = bytes(range(16))
_TAIL = Tail(_SEGMENT, 3, 5 * BLOCK_BYTES, b"c" * 32)
_ENTRIES: list[Entry] = [
    Saved("s", "cp_20260511_041200_123456_x.json", "x", b"d" * 32, 5, blobs=(b"b" * 32,)),
    SavedBlob("s", b"b" * 32, 2),
    Removed("t", ("cp_20260511_041200_123456_y.json",), drops_session=True),
]
_BODIES = [b"hello", b"\xff\0"]


def _built(
    entries: Sequence[Entry] = _ENTRIES, bodies: Sequence[bytes] = _BODIES, tail: Tail = _TAIL
) -> NewFrame:
    return log.build_frame(tail, BLOCK_BYTES, 1, encode_entries(entries), bodies)


def _bodies_of(entries: Sequence[Entry]) -> list[bytes]:
    sizes = [body_bytes(entry) for entry in entries if isinstance(entry, Saved | SavedBlob)]
    return [bytes([number % 256]) * size for number, size in enumerate(sizes)]


def _at_its_begin(data: bytes, tail: Tail = _TAIL) -> Frame | None:
    """Return the frame at a place, as a reader that comes from before it finds it."""
    size = log.head_end(data, tail.segment, tail.offset)
    if not 0 < size <= len(data):
        return None
    frame = log.parse_frame(data, data[HEAD_BYTES:])
    return frame if frame and frame.follows(tail.chain) else None


def _at_its_end(data: bytes, tail: Tail = _TAIL) -> Frame | None:
    """Return the frame that ends at a place, as a reader that comes from behind it finds it."""
    head = data[-HEAD_BYTES:]
    offset, table_bytes = log.trailing_table_bytes(head, tail.segment)
    if not 0 < table_bytes <= len(data) - HEAD_BYTES:
        return None
    frame = log.parse_frame(head, data[-HEAD_BYTES - table_bytes : -HEAD_BYTES])
    fits = frame is not None and frame.offset == offset
    return frame if frame and fits and frame.end == tail.offset + len(data) else None


def _with_one_bit_flipped(data: bytes, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            yield bytes(changed)


class TestEntries:
    @given(st.lists(_entries, max_size=5), _tails)
    def test_come_back_from_a_frame(self, entries: list[Entry], tail: Tail) -> None:
        """Whatever a frame says, whoever reads it is told the same, in the same order."""
        built = _built(entries, _bodies_of(entries), tail)

        frame = _at_its_begin(built.data, tail)

        assert frame is not None
        assert frame.entries() == entries

    @given(_entries)
    def test_only_saves_have_bodies(self, entry: Entry) -> None:
        """The place of each body follows from the entries before it."""
        size = entry.size_bytes if isinstance(entry, Saved | SavedBlob) else 0

        assert body_bytes(entry) == size


class TestFrame:
    @given(st.lists(_entries, max_size=5), _tails)
    @example([], _TAIL)
    def test_is_read_from_both_ends(self, entries: list[Entry], tail: Tail) -> None:
        """A frame is found from its begin and from its end, and is the same frame."""
        built = _built(entries, _bodies_of(entries), tail)

        assert _at_its_begin(built.data, tail) == built.frame
        assert _at_its_end(built.data, tail) == built.frame

    @given(st.lists(_entries, max_size=5), _tails)
    def test_fills_whole_blocks(self, entries: list[Entry], tail: Tail) -> None:
        """A frame begins and ends where a disk's block does, and its size is known before."""
        bodies = _bodies_of(entries)

        built = _built(entries, bodies, tail)

        size = log.frame_bytes(encode_entries(entries), sum(map(len, bodies)))
        assert len(built.data) == size == built.frame.end - built.frame.offset
        assert size % BLOCK_BYTES == 0
        assert tail.behind(built.frame) == Tail(
            tail.segment, tail.number + 1, built.frame.end, built.frame.chain
        )

    @given(st.lists(_entries, max_size=5), _tails)
    def test_bodies_stand_where_it_says(self, entries: list[Entry], tail: Tail) -> None:
        """The bodies are there one after the other, as they were given."""
        bodies = _bodies_of(entries)

        built = _built(entries, bodies, tail)

        start = built.frame.bodies_offset - built.frame.offset
        assert built.data[start:].startswith(b"".join(bodies))

    def test_each_flipped_bit_at_its_begin_is_noticed(self) -> None:
        """Of head and table no single bit may be wrong; the other end then tells what it said."""
        built = _built()
        size = HEAD_BYTES + len(built.frame.table)

        for data in _with_one_bit_flipped(built.data, 0, size):
            assert _at_its_begin(data) is None
            assert _at_its_end(data) == built.frame

    def test_each_flipped_bit_at_its_end_is_noticed(self) -> None:
        """The same holds for what stands at the end."""
        built = _built()
        size = HEAD_BYTES + len(built.frame.table)

        for data in _with_one_bit_flipped(built.data, len(built.data) - size, len(built.data)):
            assert _at_its_end(data) is None
            assert _at_its_begin(data) == built.frame

    @given(st.integers(0, 3 * BLOCK_BYTES))
    def test_torn_one_is_none(self, written: int) -> None:
        """Of a write that was cut off there is no frame at either end, but for zeros behind it."""
        built = _built(_ENTRIES, [b"h" * 5, b"b" * (2 * BLOCK_BYTES)])
        written = min(written, len(built.data) - 1)
        size = HEAD_BYTES + len(built.frame.table)

        data = built.data[:written].ljust(len(built.data), b"\0")

        assert _at_its_end(data) is None
        assert (_at_its_begin(data) is not None) == (written >= size)

    @given(st.binary(max_size=2 * HEAD_BYTES) | st.just(bytes(BLOCK_BYTES)))
    @example(b"acFR")
    @example(b"acFR".ljust(HEAD_BYTES, b"\xff"))
    def test_anything_else_is_none(self, data: bytes) -> None:
        """Zeros, and whatever stood there before, are no frame."""
        assert _at_its_begin(data) is None

    @pytest.mark.parametrize(
        "tail",
        [
            _TAIL._replace(segment=bytes(16)),
            _TAIL._replace(offset=6 * BLOCK_BYTES),
            _TAIL._replace(chain=NO_CHAIN),
        ],
    )
    def test_of_another_place_does_not_count(self, tail: Tail) -> None:
        """A frame counts in its own segment, at its own place and behind its own forerunner."""
        assert _at_its_begin(_built().data, tail) is None

    @given(st.lists(st.lists(_entries, max_size=2), min_size=2, max_size=4))
    def test_chain_covers_all_before(self, commits: list[list[Entry]]) -> None:
        """A frame follows the one before it, and none of another history."""
        tail, other = _TAIL, _TAIL._replace(chain=NO_CHAIN)
        frames = []
        for entries in commits:
            frames.append(_built(entries, _bodies_of(entries), tail).frame)
            strange = _built(entries, _bodies_of(entries), other).frame
            assert not strange.follows(tail.chain)
            tail, other = tail.behind(frames[-1]), other.behind(strange)

        assert all(later.follows(earlier.chain) for earlier, later in pairwise(frames))
        assert not any(earlier.follows(later.chain) for earlier, later in pairwise(frames))

    @pytest.mark.parametrize("field", ["segment", "number", "offset", "synced_then", "flags"])
    def test_chain_covers_the_head(self, field: str) -> None:
        """Nothing in a head can be changed without breaking the chain, not even with its check."""
        frame = _built().frame
        value: Any = bytes(16) if field == "segment" else getattr(frame, field) + BLOCK_BYTES

        assert frame.follows(_TAIL.chain)
        assert not frame._replace(**{field: value}).follows(_TAIL.chain)


class TestHeader:
    @given(_headers)
    def test_comes_back(self, header: Header) -> None:
        """A slot's header takes one block, and is read as it was written."""
        block = header.encode()

        assert len(block) == HEADER_BYTES
        assert log.parse_header(block, "log.0") == header

    def test_each_flipped_bit_is_noticed(self) -> None:
        """A header with any wrong bit counts as none."""
        block = Header(7, _SEGMENT, bytes(16), 3 * BLOCK_BYTES, b"c" * 32).encode()

        for data in _with_one_bit_flipped(block, 0, log._HEADER.size):
            assert log.parse_header(data, "log.0") is None

    def test_a_slot_that_is_not_told_is_none(self) -> None:
        """What an older header lacks, or a wrong bit makes doubtful, harms nothing else of it."""
        header = Header(7, _SEGMENT, bytes(16), 3 * BLOCK_BYTES, b"c" * 32, 2, 5)
        start = log._HEADER.size
        untold = header._replace(previous_slot=None)
        block = header.encode()
        assert log.parse_header(block[:start].ljust(HEADER_BYTES, b"\0"), "log.0") == untold
        for data in _with_one_bit_flipped(block, start, start + log._PREVIOUS.size):
            assert log.parse_header(data, "log.0") == untold

    @pytest.mark.parametrize("data", [b"", bytes(HEADER_BYTES), b"acLOGseg".ljust(HEADER_BYTES)])
    def test_blank_or_short_is_none(self, data: bytes) -> None:
        """A slot that is free, or was never written, has no header."""
        assert log.parse_header(data, "log.0") is None

    def test_of_another_version_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal of a newer version is named, not taken for an empty one."""
        monkeypatch.setattr(log, "LOG_VERSION", 3)
        block = Header(1, _SEGMENT).encode()
        monkeypatch.undo()

        with pytest.raises(JournalVersionError) as refused:
            log.parse_header(block, "log.0")

        assert (refused.value.path, refused.value.found) == ("log.0", 3)


class TestControl:
    @given(_controls)
    def test_comes_back(self, control: Control) -> None:
        """The shared positions are read as they were written, and take a fixed size."""
        data = control.encode()

        assert len(data) == log.CONTROL_BYTES
        assert log.parse_control(data, "control") == control

    def test_each_flipped_bit_is_noticed(self) -> None:
        """Positions with any wrong bit are read again, never believed."""
        data = Control(9, 1, 7, _SEGMENT, 0, 3, 2, 1, 1, 64, 5, 8).encode()

        for changed in _with_one_bit_flipped(data, 0, log._CONTROL.size):
            assert log.parse_control(changed, "control") is None

    @pytest.mark.parametrize("data", [b"", bytes(log.CONTROL_BYTES), b"acLOGctl"])
    def test_blank_or_short_is_none(self, data: bytes) -> None:
        """A file that was never written has no positions."""
        assert log.parse_control(data, "control") is None

    def test_of_another_version_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Positions of a newer version are named, not overwritten."""
        monkeypatch.setattr(log, "LOG_VERSION", 3)
        data = Control(9, 1, 7, _SEGMENT).encode()
        monkeypatch.undo()

        with pytest.raises(JournalVersionError, match="version 3"):
            log.parse_control(data, "control")


class TestPlaces:
    @given(st.integers(0, 2**23), st.integers(0, 2**40 - 1))
    def test_come_apart_again(self, sequence: int, offset: int) -> None:
        """A position tells its segment and its offset."""
        place = log.place_of(sequence, offset)

        assert (log.sequence_of(place), log.offset_of(place)) == (sequence, offset)

    @given(*[st.tuples(st.integers(0, 2**23), st.integers(0, 2**40 - 1))] * 2)
    def test_only_grow(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """What is later in the log has the greater position."""
        assert (one < other) == (log.place_of(*one) < log.place_of(*other))

    @pytest.mark.parametrize(
        ("size", "aligned"), [(0, 0), (1, 4096), (4095, 4096), (4096, 4096), (4097, 8192)]
    )
    def test_align_rounds_up(self, size: int, aligned: int) -> None:
        """Sizes are rounded up to whole blocks."""
        assert log.align(size) == aligned
