"""Promises of what a process remembers of the sessions' directories."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from aiocheckpoint._disk.index import IndexCache, SessionIndex, Signature
from aiocheckpoint._format.entries import Entry, Quarantined, Removed, Saved, SavedBlob, Stuck
from aiocheckpoint._format.ids import names_of_id
from aiocheckpoint._format.names import FileName, fine_names, parse_name
from aiocheckpoint.models import CheckpointMeta
from tests.formats import make_name

_SIGNATURE = Signature(1, 2, 3)
_IDS = ["x", "y", "123456_x", "a/b", "", "*"]
_ids = st.sampled_from(_IDS)


def _meta(name: FileName) -> CheckpointMeta:
    return CheckpointMeta(
        checkpoint_id="x",
        session_id="s",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        saved_at=datetime(2026, 1, 1, tzinfo=UTC),
        trigger="",
        iteration=0,
        checksum="0" * 64,
        location=f"file:///{name.text}",
        path=Path(name.text),
    )


def _saved(name: FileName, checkpoint_id: str = "x", blobs: tuple[bytes, ...] = ()) -> Saved:
    return Saved("s", name.text, checkpoint_id, bytes(32), 0, blobs=blobs)


def _names(count: int, first: int = 0) -> list[FileName]:
    return [make_name(f"id{number}", number) for number in range(first, first + count)]


def _rust_name(checkpoint_id: str, second: int) -> FileName:
    name = parse_name(f"cp_20260511_0412{second:02}_{checkpoint_id}.json")
    assert name is not None
    return name


class SessionIndexMachine(RuleBasedStateMachine):
    """A session's index beside a plain list of the files that it was told of."""

    entered: Bundle[FileName] = Bundle("entered")

    def __init__(self) -> None:
        super().__init__()
        # Within one second Rust's files stand in the order of their times, not of their names.
        self.files = [_rust_name("b", 1), _rust_name("a", 1), _rust_name("c", 2)]
        self.index = SessionIndex(self.files, [], _SIGNATURE)
        self.clock = 2_000_000_000_000_000

    @rule(target=entered, checkpoint_id=_ids)
    def add(self, checkpoint_id: str) -> FileName:
        self.clock += 1
        name = make_name(checkpoint_id, self.clock)
        self.index.add(name)
        self.index.metas[name.text] = ((), _meta(name))
        self.files.append(name)
        return name

    @rule(target=entered, checkpoint_id=_ids)
    def save(self, checkpoint_id: str) -> FileName:
        self.clock += 1
        name = make_name(checkpoint_id, self.clock)
        self.index.apply(_saved(name, checkpoint_id))
        assert self.index.identities[name.text] == checkpoint_id
        self.files.append(name)
        return name

    @rule(name=consumes(entered))
    def remove(self, name: FileName) -> None:
        self.index.remove(name)
        self.files.remove(name)

    @rule(name=consumes(entered))
    def remove_by_the_log(self, name: FileName) -> None:
        self.index.apply(Removed("s", (name.text,)))
        self.files.remove(name)

    @rule(name=consumes(entered))
    def quarantine(self, name: FileName) -> None:
        self.index.apply(Quarantined("s", name.text, "aside"))
        self.files.remove(name)

    @rule(name=entered)
    def hear_of_it_again(self, name: FileName) -> None:
        self.index.apply(_saved(name, self.index.identities.get(name.text, "x")))

    @rule()
    def hear_of_what_is_gone(self) -> None:
        self.clock += 1
        self.index.apply(Removed("s", (make_name("gone", self.clock).text, "no name of ours")))
        assert self.index.last_stamped == make_name("gone", self.clock)

    @precondition(lambda self: any(name.is_rust for name in self.files))
    @rule(data=st.data())
    def remove_of_rust(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in self.files if name.is_rust]))
        self.index.remove(name)
        self.files.remove(name)

    @invariant()
    def knows_the_files(self) -> None:
        assert self.index.names == self.files
        assert self.index.newest_first() == self.files[::-1]
        assert self.index.newest == (self.files[-1] if self.files else None)
        assert self.index.by_text == {name.text: name for name in self.files}
        assert self.index.metas.keys() <= self.index.by_text.keys()
        assert self.index.identities.keys() <= self.index.by_text.keys()
        stamped = self.index.last_stamped
        assert stamped is not None
        assert all(stamped.stamp >= name.stamp for name in self.files)

    @invariant()
    def finds_the_candidates_of_an_id(self) -> None:
        for checkpoint_id in [*_IDS, "a", "b", "unknown"]:
            wanted = set(names_of_id(checkpoint_id))
            expected = [name for name in self.files if not wanted.isdisjoint(name.id_names)]
            listed_anew = SessionIndex(self.files, [], _SIGNATURE)
            fine = fine_names(sorted(name.text for name in self.files))
            unparsed = SessionIndex([] if fine else self.files, [], _SIGNATURE, fine=fine)
            for index in (self.index, listed_anew, unparsed):
                assert index.candidates(checkpoint_id) == sorted(expected, reverse=True)
                assert index.may_hold(checkpoint_id) == bool(expected)

    def teardown(self) -> None:
        """Nothing of a removed file is left behind."""
        for name in list(self.files):
            self.index.remove(name)
        assert self.index.state == SessionIndex([], [], _SIGNATURE).state
        assert vars(self.index) == vars(SessionIndex([], [], _SIGNATURE)) | {
            "_state": 0,
            "mutex": self.index.mutex,
            "_parsing": self.index._parsing,
            "last_stamped": self.index.last_stamped,
            "_by_id_name": {},
            "_looks": self.index._looks,
        }


TestSessionIndexMachine = SessionIndexMachine.TestCase


class TestSessionIndex:
    def test_ambiguous_file_is_a_candidate_of_both_ids(self) -> None:
        """A file that may be of either of two ids is found for both, and its body decides."""
        name = parse_name("cp_20260511_041200_123456_x.json")
        assert name is not None
        index = SessionIndex([name], [], _SIGNATURE)

        assert index.candidates("x") == index.candidates("123456_x") == [name]
        assert index.candidates("123456") == []

    def test_no_pattern_is_a_candidate(self) -> None:
        """An id with wildcards finds no other checkpoint."""
        index = SessionIndex(_names(3), [], _SIGNATURE)

        for pattern in ("*", "id*", "id?", "[i]d0", "id", "id0*"):
            assert index.candidates(pattern) == []

    def test_names_are_taken_apart_when_that_is_asked_for(self) -> None:
        """An index of texts says what one of names says, whatever it is asked first."""
        names = _names(5)
        texts = [name.text for name in names]
        for ask in ("newest", "count", "state", "last_stamped", "names", "by_text"):
            index = SessionIndex([], [], _SIGNATURE, fine=[*texts])
            assert getattr(index, ask) == getattr(SessionIndex(names, [], _SIGNATURE), ask)
            assert index.candidates("id3") == [names[3]]
            assert index.newest == names[-1]
            index.add(make_name("later", 10**15))
            index.remove(names[0])
            assert [*index.by_text] == [name.text for name in index.names]
            assert index.names == [*names[1:], make_name("later", 10**15)]

    def test_many_files_are_not_gone_through_on_a_loop(self) -> None:
        """Of a large session an id is looked up at once when that was prepared, elsewhere."""
        assert SessionIndex(_names(1000), [], _SIGNATURE).finds_at_once()
        large = SessionIndex(_names(1001), [], _SIGNATURE)
        assert not large.finds_at_once()
        for number in range(5):
            assert [name.id_names[0] for name in large.candidates(f"id{number}")] == [f"id{number}"]
        assert large.finds_at_once()

    def test_inherits_what_is_still_right(self) -> None:
        """A new index keeps the listing entries of files that are still there."""
        first, second, third = _names(3)
        earlier = SessionIndex([first, second], [], _SIGNATURE)
        earlier.metas = {name.text: ((1,), _meta(name)) for name in (first, second)}
        earlier.identities = {first.text: "id0", second.text: "id1"}

        index = SessionIndex([second, third], [], Signature(1, 2, 4))
        index.inherit(earlier)

        assert index.metas == {second.text: ((1,), _meta(second))}
        assert index.identities == {second.text: "id1"}

    def test_inherits_the_last_stamp(self) -> None:
        """The name of a file that is gone is not given again after the directory is listed anew."""
        first, second = _names(2)
        earlier = SessionIndex([first, second], [], _SIGNATURE)

        index = SessionIndex([first], [], Signature(1, 2, 4))
        index.inherit(earlier)

        assert index.last_stamped == second

    def test_blobs_of_another_directory_are_not_inherited(self) -> None:
        """A session that was made anew has none of the blobs of the one before it."""
        earlier = SessionIndex([], [], _SIGNATURE)
        earlier.apply(SavedBlob("s", bytes(32), 1))

        same = SessionIndex([], [], Signature(1, 2, 4))
        same.inherit(earlier)
        other = SessionIndex([], [], Signature(1, 9, 3))
        other.inherit(earlier)

        assert same.blobs is earlier.blobs
        assert other.blobs is None


_DIGESTS = [bytes([number]) * 32 for number in range(4)]
_LINKS = {_DIGESTS[2]: (_DIGESTS[0], _DIGESTS[0]), _DIGESTS[3]: (_DIGESTS[1], _DIGESTS[2])}
_NAMES = _names(4)
_name_choices = st.sampled_from(_NAMES)
_digest_choices = st.sampled_from(_DIGESTS)
_entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(_saved, _name_choices, blobs=st.lists(_digest_choices, unique=True).map(tuple)),
    st.builds(
        Removed,
        st.just("s"),
        st.lists(_name_choices.map(lambda name: name.text), unique=True).map(tuple),
        st.lists(_digest_choices, unique=True).map(tuple),
    ),
    _digest_choices.map(lambda digest: SavedBlob("s", digest, 1, _LINKS.get(digest, ()))),
    st.builds(Quarantined, st.just("s"), _name_choices.map(lambda name: name.text), st.just("q")),
    st.builds(
        Quarantined, st.just("s"), _digest_choices.map(bytes.hex), st.just("q"), st.just(True)
    ),
    st.just(Stuck("s", "write", "/r", 5, "broken")),
)


def _reached(files: dict[str, set[str]], links: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    more = set().union(*files.values())
    while more - found:
        found |= more
        more = set().union(*(links.get(digest, set()) for digest in found))
    return found


class TestApply:
    @given(st.lists(st.tuples(_entries, st.booleans())))
    def test_does_as_a_naive_model(self, entries: list[tuple[Entry, bool]]) -> None:
        """After any entries, ours or not, the index has the files and blobs that they leave."""
        index = SessionIndex([], [], _SIGNATURE)
        files: dict[str, set[str]] = {}
        stored: set[str] = set()
        links: dict[str, set[str]] = {}

        for entry, is_ours in entries:
            used = _reached(files, links)
            match entry:
                case Saved():
                    files[entry.name] = {digest.hex() for digest in entry.blobs}
                case SavedBlob():
                    stored |= {entry.digest.hex()} if is_ours else set()
                    links[entry.digest.hex()] = {link.hex() for link in entry.links}
                case Removed():
                    for name in entry.names:
                        files.pop(name, None)
                    gone = {digest.hex() for digest in entry.blobs}
                    stored -= gone
                    used = _reached(files, links)
                    links = {d: found for d, found in links.items() if d in used or d not in gone}
                case Quarantined():
                    files.pop(entry.name, None)
                    if entry.is_blob:
                        stored -= {d for d in stored if entry.name in _reached({"": {d}}, links)}
                        if entry.name not in used:
                            links.pop(entry.name, None)
            index.apply(entry, is_ours=is_ours)

            assert [name.text for name in index.names] == sorted(files)
            assert index.identities == dict.fromkeys(files, "x")
            if index.blobs is not None:
                used = _reached({name: files[name] for name in index.blobs.of_file}, links)
                assert index.blobs.stored == stored
                assert set(index.blobs.users) == used
                assert index.blobs.unused.isdisjoint(used)
                assert stored - used <= index.blobs.unused
            else:
                assert not stored
                assert not any(files.values())

    def test_name_of_another_kind_is_passed_over(self) -> None:
        """A save under a name that this version does not know is nobody's checkpoint."""
        index = SessionIndex([], [], _SIGNATURE)

        index.apply(Saved("s", "of a later version", "x", bytes(32), 0))

        assert index.names == []


class TestIndexCache:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["put", "get", "drop", "grow"]),
                st.sampled_from("abcdef"),
                st.integers(0, 4),
            ),
            max_size=40,
        ),
        st.integers(1, 4),
        st.integers(0, 8),
    )
    def test_does_as_a_naive_model(
        self, operations: list[tuple[str, str, int]], max_sessions: int, max_files: int
    ) -> None:
        """
        It keeps the sessions used last, as many as its bounds allow, and no less than one.

        Each counts as many files as it had when it was used last.
        """
        cache = IndexCache(max_sessions, max_files)
        model: dict[str, _Used] = {}

        for operation, session, count in operations:
            if operation == "grow" and session in model:
                grown = model[session].known
                for name in _names(count, first=len(grown.names)):
                    grown.add(name)
            elif operation == "drop":
                cache.drop(session)
                model.pop(session, None)
            elif operation == "get":
                found = cache.get(session)
                assert found is (model[session].known if session in model else None)
                if found is not None:
                    _use(model, session, found, max_sessions, max_files)
            elif operation == "put":
                index = SessionIndex(_names(count), [], _SIGNATURE)
                cache.put(session, index)
                _use(model, session, index, max_sessions, max_files)
            assert len(cache) == len(model)

        assert {name: used.known for name, used in model.items()} == dict(cache.all)

    def test_bounds_hold_while_sessions_grow(self) -> None:
        """Files that are added later count, so that memory stays bounded."""
        cache = IndexCache(max_sessions=1_000, max_files=1_000)
        for session in map(str, range(50)):
            cache.put(session, SessionIndex([], [], _SIGNATURE))

        last: dict[str, SessionIndex] = {}
        forgotten = 0
        for stamp in range(100):
            for session in map(str, range(50)):
                index = cache.get(session)
                if index is None:
                    forgotten += 1
                    index = SessionIndex([], [], _SIGNATURE)
                    cache.put(session, index)
                index.add(make_name("x", stamp))
                last[session] = index

        remembered = [index for session, index in last.items() if cache.get(session) is index]
        assert sum(len(index.names) for index in remembered) <= 1_000
        assert forgotten > 50

    def test_one_session_may_exceed_the_bound_alone(self) -> None:
        """A session with more files than the bound is remembered all the same."""
        cache = IndexCache(max_files=10)
        large = SessionIndex(_names(100), [], _SIGNATURE)

        cache.put("small", SessionIndex(_names(1), [], _SIGNATURE))
        cache.put("large", large)

        assert cache.get("large") is large
        assert cache.get("small") is None

    def test_putting_again_changes_nothing(self) -> None:
        """An index that is remembered already counts once."""
        cache = IndexCache(max_sessions=2, max_files=10)
        first, second = (SessionIndex(_names(5), [], _SIGNATURE) for _ in range(2))

        for _ in range(3):
            cache.put("first", first)
            cache.put("second", second)

        assert cache.get("first") is first
        assert cache.get("second") is second

    def test_dropping_twice_is_no_error(self) -> None:
        """Forgetting what is not known does nothing."""
        cache = IndexCache()

        cache.drop("unknown")

        assert len(cache) == 0


class _Used(NamedTuple):
    """
    An index in the model.

    Attributes:
        known: the index.
        files: how many it had when it was used last.
    """

    known: SessionIndex
    files: int


def _use(
    model: dict[str, _Used],
    session: str,
    index: SessionIndex,
    max_sessions: int,
    max_files: int,
) -> None:
    """Put an index last in the model and take out the first ones while there are too many."""
    model.pop(session, None)
    model[session] = _Used(index, len(index.names))
    while len(model) > 1 and (
        len(model) > max_sessions or sum(used.files for used in model.values()) > max_files
    ):
        del model[next(iter(model))]
