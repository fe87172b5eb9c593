"""Promises of what a process remembers of the journal that is not flushed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiocheckpoint._disk.log import ReadFrame
from aiocheckpoint._disk.pending import Committed, Pending
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import (
    Entry,
    Quarantined,
    Removed,
    Saved,
    SavedBlob,
    Stuck,
    body_bytes,
)
from aiocheckpoint._format.log import Frame, Tail

_SESSIONS = ["s", "t"]
_NAMES = ["one", "two", "three"]
_DIGESTS = [bytes([number]) * 32 for number in range(2)]
_BODIES_OFFSET = 100

_sessions = st.sampled_from(_SESSIONS)
_names = st.sampled_from(_NAMES)
_digests = st.sampled_from(_DIGESTS)
_entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Saved, _sessions, _names, st.just("x"), _digests, st.integers(0, 9)),
    st.builds(SavedBlob, _sessions, _digests, st.integers(0, 9)),
    st.builds(
        Removed,
        _sessions,
        st.lists(_names, unique=True).map(tuple),
        st.lists(_digests, unique=True).map(tuple),
    ),
    st.builds(Quarantined, _sessions, _names, st.just("aside")),
    st.builds(Quarantined, _sessions, _digests.map(bytes.hex), st.just("aside"), st.just(True)),
    st.builds(Stuck, _sessions, st.just("write"), st.just("/r"), st.just(5), _names),
)


def _frame(place: int) -> ReadFrame:
    tail = Tail(bytes(16), 0, 0, log.NO_CHAIN)
    frame: Frame = log.build_frame(tail, 0, 0, b"", ()).frame
    return ReadFrame(place, 7, frame._replace(bodies_offset=_BODIES_OFFSET))


def _bodies(entries: list[Entry]) -> list[bytes]:
    return [bytes(entry.size_bytes) for entry in entries if isinstance(entry, Saved | SavedBlob)]


class PendingMachine(RuleBasedStateMachine):
    """What is pending beside a plain list of all that was ever committed."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending()
        self.frames: list[tuple[int, list[Entry]]] = []
        self.floor = 0
        self.flushed = 0
        self.pins: list[int] = []

    @rule(entries=st.lists(_entries, max_size=4), own=st.booleans(), step=st.integers(1, 9))
    def commit(self, entries: list[Entry], own: bool, step: int) -> None:
        place = max([self.floor, *(place for place, _ in self.frames)]) + step
        self.pending.add(_frame(place), entries, _bodies(entries) if own else ())
        self.frames.append((place, entries))

    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        places = [self.flushed, *(place for place, _ in self.frames)]
        self.flushed = max(self.flushed, data.draw(st.sampled_from(places)))
        self.pending.drop(self.flushed)
        kept_from = min([self.flushed, *self.pins])
        self.frames = [(place, entries) for place, entries in self.frames if place > kept_from]
        self.floor = max(self.floor, kept_from)

    @rule()
    def pin(self) -> None:
        self.pins.append(self.flushed)
        self.pending.pin(self.flushed)

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(self.pins))
        self.pins.remove(place)
        self.pending.unpin(place)

    @rule(step=st.integers(0, 9))
    def forget_all(self, step: int) -> None:
        """A gap: somebody else has flushed, and used again, what this process had not read."""
        self.floor = self.flushed = max([self.floor, *(place for place, _ in self.frames)]) + step
        self.pending.clear(self.floor)
        self.frames.clear()

    @invariant()
    def answers_as_the_list_does(self) -> None:
        assert self.pending.floor == self.floor
        assert list(self.pending.places()) == [place for place, _ in self.frames]
        assert self.pending.sessions.keys() == {
            entry.session for _, entries in self.frames for entry in entries
        }
        assert 0 <= self.pending.inodes() <= self.pending.most_inodes()
        for session in _SESSIONS:
            committed = self.pending.entries_of(session)
            own = [
                (place, entry)
                for place, entries in self.frames
                for entry in entries
                if entry.session == session
            ]
            assert [(c.place, c.entry) for c in committed] == own
            middle = own[len(own) // 2][0] if own else 0
            assert [c.place for c in self.pending.entries_of(session, middle)] == [
                place for place, _ in own if place > middle
            ]
            if own:
                self._knows_the_last_words(session, [entry for _, entry in own])

    def _knows_the_last_words(self, session: str, entries: list[Entry]) -> None:
        saved: dict[str, Entry] = {}
        blobs: dict[bytes, Entry] = {}
        stuck: Entry | None = None
        for entry in entries:
            match entry:
                case Saved():
                    saved[entry.name] = entry
                case SavedBlob():
                    blobs[entry.digest] = entry
                case Removed():
                    saved = {n: e for n, e in saved.items() if n not in entry.names}
                    blobs = {d: e for d, e in blobs.items() if d not in entry.blobs}
                case Quarantined():
                    saved.pop(entry.name, None)
                    blobs = {d: e for d, e in blobs.items() if d.hex() != entry.name}
                case Stuck():
                    stuck = entry
        found = self.pending.sessions[session]
        assert {name: c.entry for name, c in found.saved.items()} == saved
        assert {digest: c.entry for digest, c in found.blobs.items()} == blobs
        assert found.stuck == stuck
        assert found.size_bytes == sum(map(body_bytes, entries))


TestPendingMachine = PendingMachine.TestCase


class TestPending:
    @given(st.lists(_entries, max_size=6))
    def test_knows_where_each_body_is(self, entries: list[Entry]) -> None:
        """Of what another process has committed, each body is found in the slot."""
        pending = Pending()

        pending.add(_frame(1), entries, ())

        found = [c for session in _SESSIONS for c in pending.entries_of(session)]
        with_body = [c for c in found if isinstance(c.entry, Saved | SavedBlob)]
        offset = _BODIES_OFFSET
        offsets: list[int] = []
        for entry in entries:
            offsets.append(offset)
            offset += body_bytes(entry)
        expected = {id(entry): at for entry, at in zip(entries, offsets, strict=True)}
        assert all(c.offset == expected[id(c.entry)] for c in with_body)
        assert all((c.slot, c.body) == (7, None) for c in found)

    @given(st.lists(_entries, max_size=6))
    def test_keeps_the_bodies_that_it_is_given(self, entries: list[Entry]) -> None:
        """Of what this process has committed, each body is in memory, and with the right entry."""
        pending = Pending()

        pending.add(_frame(1), entries, _bodies(entries))

        for session in _SESSIONS:
            for committed in pending.entries_of(session):
                assert committed.body == _expected_body(committed)


def test_reading_goes_on_while_others_add() -> None:
    """What is committed while the entries of a session are looked through is in nobody's way."""
    pending = Pending()
    session = _SESSIONS[0]

    class Read:
        """An entry that is read when the committer adds another one."""

        @property
        def place(self) -> int:
            pending.add(_frame(2), [Removed(session, ())], ())
            return 1

    pending.add(_frame(1), [Removed(session, ())], ())
    entries: Any = pending.sessions[session].entries
    entries.append(Read())

    assert len(pending.entries_of(session)) == 2


def _expected_body(committed: Committed) -> bytes | None:
    has_body = isinstance(committed.entry, Saved | SavedBlob)
    return bytes(body_bytes(committed.entry)) if has_body else None
