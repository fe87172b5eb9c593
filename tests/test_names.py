"""Promises of the names of checkpoint files, and of their order."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import (
    BACKUP_SUFFIX,
    LATEST_NAME,
    FileName,
    doubtful,
    ending,
    fine_name,
    fine_names,
    id_of_name,
    in_order,
    is_backup,
    is_leftover,
    name_fits,
    next_name,
    next_stamp,
    parse_name,
    parse_names,
    without_backups,
)
from aiocheckpoint.errors import StorageError
from tests.any_ids import any_ids
from tests.formats import make_name

_MICROSECONDS_OF_YEAR_9000 = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_stamps = st.integers(0, _MICROSECONDS_OF_YEAR_9000)

_days = st.tuples(st.integers(1000, 9998), st.integers(1, 12), st.integers(1, 31))
_seconds = st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
_fractions = st.none() | st.integers(0, 999_999)


@st.composite
def _file_names(draw: st.DrawFn) -> FileName:
    """Draw any name that may be that of a checkpoint file, also of a day that never was."""
    day = "{:04}{:02}{:02}".format(*draw(_days))
    second = "{:02}{:02}{:02}".format(*draw(_seconds))
    fraction = draw(_fractions)
    middle = "" if fraction is None else f"{fraction:06}_"
    name = parse_name(f"cp_{day}_{second}_{middle}{draw(st.sampled_from(['x', '1_y', 'é']))}.json")
    assert name is not None
    return name


_pieces = st.text(st.characters(exclude_characters="/\0"), max_size=4)
_odd_names = st.builds(
    "{}cp_2026{}_041200_{}{}.json{}".format,
    st.sampled_from(["", "", "", "x", "\n"]),
    st.sampled_from(["0511", "0512", "1311"]),
    st.sampled_from(["", "123456_", "000000_", "12345_"]),
    _pieces | st.sampled_from(["x", "1_y", "a\nb", "\udcff", ".json"]),
    st.sampled_from(["", "", "", ".backup", "\n"]),
)


class _Saved(NamedTuple):
    """A save of a history: when, and its name."""

    now: int
    name: FileName


@st.composite
def _histories(draw: st.DrawFn) -> list[_Saved]:
    """Draw saves of ours and of Rust's in turn, microseconds to seconds after one another."""
    now = draw(st.integers(1_700_000_000_000_000, 1_700_000_010_000_000))
    saved: list[_Saved] = []
    pauses = st.integers(1, 9) | st.integers(1, 999_999) | st.integers(1, 3_000_000)
    for number, (is_rust, pause) in enumerate(draw(st.lists(st.tuples(st.booleans(), pauses)))):
        now += pause
        if is_rust:
            second = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y%m%d_%H%M%S")
            name = parse_name(f"cp_{second}_{draw(st.sampled_from('az'))}{number}.json")
            assert name is not None
        else:
            last = max((earlier.name for earlier in saved), default=None)
            name = make_name(f"m{number}", next_stamp(now, last))
        saved.append(_Saved(now, name))
    return saved


class TestOrderBesideRust:
    """Of our files and Rust's, whose names have whole seconds, in one directory."""

    @given(_histories())
    def test_is_that_of_saving(self, history: list[_Saved]) -> None:
        """Whoever saved, and however many times in a second, the order of saving is found."""
        names = sorted(saved.name for saved in history)
        times = {saved.name.text: saved.now * 1000 for saved in history}
        modified = {name.text: times[name.text] for name in doubtful(names)}

        assert in_order(names, modified) == [saved.name for saved in history]

    @given(_histories(), st.randoms(use_true_random=False))
    def test_of_ours_follows_the_names_alone(self, history: list[_Saved], random: Random) -> None:
        """Whatever the times of the files, ours are in the order of their names, none is lost."""
        names = sorted(saved.name for saved in history)
        modified = {name.text: random.randrange(2 * 10**18) for name in doubtful(names)}

        ordered = in_order(names, modified)

        assert [name for name in ordered if not name.is_rust] == [
            name for name in names if not name.is_rust
        ]
        assert sorted(ordered) == names

    @given(_histories())
    def test_files_without_their_times_follow_the_names(self, history: list[_Saved]) -> None:
        """A copy that lost the times of the files is ordered by the names, as well as they tell."""
        names = sorted(saved.name for saved in history)

        ordered = in_order(names, {name.text: 1_000 for name in names})

        assert [name.stamp for name in ordered] == [name.stamp for name in names]

    def test_no_time_is_asked_for_where_names_tell(self) -> None:
        """Files of Rust seconds apart from all others are not looked at."""
        texts = [f"cp_20260511_0412{second:02}_x.json" for second in range(0, 60, 3)]
        names = [name for name in map(parse_name, texts) if name is not None]

        assert doubtful(names) == set()

    @given(st.lists(_file_names(), unique=True))
    def test_any_names_can_be_ordered(self, names: list[FileName]) -> None:
        """No name, not of the last second of the calendar either, stands in the way."""
        last = parse_name("cp_99991231_235959_x.json")
        assert last is not None
        names = sorted({*names, last})

        assert in_order(names, dict.fromkeys((n.text for n in names), 0)) == names


class TestParseName:
    @given(st.lists(_odd_names, unique=True))
    def test_several_are_taken_apart_as_each_by_itself(self, texts: list[str]) -> None:
        """Those of a directory are what each of them is, in the order of their stamps."""
        assert parse_names(texts) == sorted(filter(None, map(parse_name, texts)))

    @given(st.lists(_odd_names, unique=True))
    def test_fine_names_are_those_of_ours_in_the_order_of_saving(self, texts: list[str]) -> None:
        """A directory in which texts tell the order has the names that are taken apart."""
        fine = fine_names(sorted(texts))

        if fine is not None:
            assert [*map(fine_name, fine)] == parse_names(texts)
            assert not any(name.is_rust for name in parse_names(texts))

    @given(st.lists(st.tuples(any_ids, _stamps)))
    def test_names_of_ours_are_fine(self, saved: list[tuple[str, int]]) -> None:
        """Whatever their ids are, but for the microsecond that stands for Rust's."""
        names = [make_name(*each) for each in saved]
        texts = [name.text for name in names if "_999999_" not in name.text]

        assert fine_names(sorted([*texts, LATEST_NAME])) == [
            name.text for name in parse_names(texts)
        ]

    @given(st.lists(_odd_names, unique=True), st.lists(st.tuples(any_ids, _stamps)))
    def test_backups_are_told_from_all_others(
        self, texts: list[str], saved: list[tuple[str, int]]
    ) -> None:
        """Each name of a directory is that of a backup or not, whatever else is there."""
        backups = {f"{make_name(*each).text}{BACKUP_SUFFIX}" for each in saved}
        listed = sorted({*texts, *backups})

        others, found = without_backups(listed)

        assert found == [text for text in listed if is_backup(text)]
        assert others == [text for text in listed if not is_backup(text)]

    @given(st.lists(_odd_names, unique=True), _odd_names)
    def test_names_are_found_by_their_ends(self, texts: list[str], suffix: str) -> None:
        """Those that end so are found, and no others, each once."""
        for end in (suffix, *texts, ".json", BACKUP_SUFFIX):
            assert [*ending(texts, end)] == [text for text in texts if text.endswith(end)]

    @given(any_ids, _stamps)
    def test_takes_a_made_name_apart(self, checkpoint_id: str, microseconds: int) -> None:
        """A name that was made for a checkpoint is taken apart into the same parts."""
        made = make_name(checkpoint_id, microseconds)

        parsed = parse_name(made.text)

        assert parsed is not None
        assert parsed.microseconds == microseconds
        if not made.is_rust:
            assert parsed == made
        assert encode_id(checkpoint_id, "checkpoint id") in parsed.id_names

    def test_ambiguous_name_may_be_of_two_ids(self) -> None:
        """Six digits in front of an id may be our microseconds or part of a Rust id."""
        name = parse_name("cp_20260511_041200_123456_x.json")

        assert name is not None
        assert (name.stamp, name.id_names) == ("20260511_041200_123456", ("x", "123456_x"))

    @pytest.mark.parametrize(
        ("text", "stamp", "id_names"),
        [
            ("cp_20260511_041200_x.json", "20260511_041200_999999", ("x",)),
            ("cp_20260511_041200_12345_x.json", "20260511_041200_999999", ("12345_x",)),
            ("cp_20260511_041200_1234567_x.json", "20260511_041200_999999", ("1234567_x",)),
            ("cp_20260511_041200_123456.json", "20260511_041200_999999", ("123456",)),
            ("cp_20260511_041200_123456_.json", "20260511_041200_999999", ("123456_",)),
            ("cp_20260511_041200_a b*.json.json", "20260511_041200_999999", ("a b*.json",)),
            ("cp_20260511_041200_a\nb.json", "20260511_041200_999999", ("a\nb",)),
            ("cp_20260511_041200_000000_x.json", "20260511_041200_000000", ("x", "000000_x")),
        ],
    )
    def test_takes_names_of_rust_apart(
        self, text: str, stamp: str, id_names: tuple[str, ...]
    ) -> None:
        """Rust's names hold whole seconds and any id; they count as the end of their second."""
        name = parse_name(text)

        assert name is not None
        assert (name.stamp, name.text, name.id_names) == (stamp, text, id_names)
        assert name.is_rust == stamp.endswith("999999")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "latest.json",
            "session_meta.json",
            "cp_20260511_041200_.json",
            "cp_20260511_041200_x.json.backup",
            "cp_20260511_041200_x.JSON",
            "xcp_20260511_041200_x.json",
            "cp_20260511_041200_x.json\n",
            "cp_20261311_041200_x.json",
            "cp_20260532_041200_x.json",
            "cp_20260500_041200_x.json",
            "cp_00260511_041200_x.json",
            "cp_20260511_241200_x.json",
            "cp_20260511_046000_x.json",
            "cp_20260511_041260_x.json",
            "cp_\u0662\u0660\u0662\u06660511_041200_x.json",
            "cp_20260511_041200_\udcff.json",
            ".tmp_cp_0123456789abcdef",
        ],
    )
    def test_other_names_are_not_checkpoints(self, text: str) -> None:
        """A name that no save gives is nobody's checkpoint."""
        assert parse_name(text) is None


class TestOrder:
    @given(st.lists(_stamps, unique=True), any_ids)
    def test_names_sort_in_the_order_of_stamps(self, stamps: list[int], checkpoint_id: str) -> None:
        """Sorted as texts, or taken apart, names stand in the order of saving."""
        names = [make_name(checkpoint_id, stamp) for stamp in sorted(stamps)]

        assert sorted(names) == names
        assert sorted(name.text for name in names) == [name.text for name in names]
        assert [name.microseconds for name in names] == sorted(stamps)

    @given(_file_names(), _stamps)
    def test_next_stamp_is_after_the_newest(self, newest: FileName, now: int) -> None:
        """Whatever the clock says, the next name sorts after every name there is."""
        stamp = next_stamp(now, newest)

        assert stamp >= now
        assert make_name("", stamp) > newest
        assert make_name("", stamp).stamp > newest.stamp

    @given(_stamps)
    def test_next_stamp_never_looks_like_rust(self, now: int) -> None:
        """Our own stamps never end in the microsecond that stands for Rust's whole seconds."""
        stamp = next_stamp(now, None)

        assert stamp - now in {0, 1}
        assert not make_name("x", stamp).is_rust

    @given(st.none() | _file_names(), _stamps, st.integers(1, 1_000))
    def test_next_name_has_the_next_stamp(
        self, newest: FileName | None, now: int, leap: int
    ) -> None:
        """The name of the next save is made of the next stamp, however it is found."""
        name = next_name("x", now, newest, lambda: leap)

        assert name == make_name("x", next_stamp(now, newest, leap))

    def test_follows_the_clock(self) -> None:
        """The stamp is the time of saving, in UTC."""
        name = make_name("x", next_stamp(time.time_ns() // 1000, None))

        saved = datetime.strptime(name.stamp, "%Y%m%d_%H%M%S_%f").replace(tzinfo=UTC)
        assert abs((datetime.now(UTC) - saved).total_seconds()) < 5

    def test_day_that_never_was_counts_on(self) -> None:
        """The 31st of February, which some writer may have put there, is the 3rd of March."""
        odd, plain = (
            parse_name("cp_20260231_000000_x.json"),
            parse_name("cp_20260303_000000_x.json"),
        )

        assert odd is not None
        assert plain is not None
        assert odd.microseconds == plain.microseconds

    @pytest.mark.parametrize("fraction", ["", "999998_"])
    def test_end_of_time_is_a_named_error(self, fraction: str) -> None:
        """A file named for the last moment of the year 9999 makes the next save say so."""
        newest = parse_name(f"cp_99991231_235959_{fraction}x.json")

        with pytest.raises(StorageError, match=r"99991231.*move it away"):
            next_stamp(0, newest)

    def test_clock_beyond_the_calendar_is_a_named_error(self) -> None:
        """A clock that has passed the year 9999 is told from a file that is named for its end."""
        newest = parse_name("cp_99991231_235959_999998_x.json")
        assert newest is not None

        for last in (newest, None):
            with pytest.raises(StorageError, match="clock: it is past the year 9999"):
                next_stamp(newest.microseconds + 2, last)
        assert next_stamp(newest.microseconds, None) == newest.microseconds

    def test_last_stamp_of_all_can_be_given(self) -> None:
        """Up to the last microsecond but one there is a name."""
        stamp = next_stamp(0, parse_name("cp_99991231_235959_999997_x.json"))

        assert make_name("x", stamp).stamp == "99991231_235959_999998"


class TestNameFits:
    @given(any_ids, _stamps)
    def test_finds_every_file_of_an_id(self, checkpoint_id: str, microseconds: int) -> None:
        """The names of an id meet those in a file's name, whether we or Rust gave it."""
        ours = parse_name(make_name(checkpoint_id, microseconds).text)
        theirs = parse_name(f"cp_20260511_041200_{checkpoint_id}.json")

        assert ours is not None
        assert name_fits(ours, checkpoint_id)
        if theirs is not None:
            assert name_fits(theirs, checkpoint_id)

    @pytest.mark.parametrize(
        ("text", "fitting"),
        [
            ("cp_20260511_041200_123456_x.json", {"x", "123456_x"}),
            ("cp_20260511_041200_x.json", {"x"}),
            ("cp_20260511_041200_123456_~a%2fb.json", {"a/b", "~a%2fb", "123456_~a%2fb"}),
        ],
    )
    def test_no_other_id_fits(self, text: str, fitting: set[str]) -> None:
        """A file's name fits the ids that it may be of, as we or Rust name files, and no other."""
        name = parse_name(text)

        assert name is not None
        candidates = [*fitting, "", "X", "3456_x", "*", "123456", "a%2fb", "~a/b"]
        assert {value for value in candidates if name_fits(name, value)} == fitting


class TestOtherNames:
    @pytest.mark.parametrize(
        ("name", "leftover", "backup"),
        [
            (".tmp_cp_0123456789abcdef", True, False),
            (".tmp_checkpoint_x", True, False),
            (".tmp_latest_x", True, False),
            (".tmp_other", False, False),
            ("cp_20260511_041200_x.json", False, False),
            ("cp_20260511_041200_x.json.backup", False, True),
            ("latest.json.backup", False, False),
            ("latest.json", False, False),
            ("x.backup", False, False),
        ],
    )
    def test_leftovers_and_backups_are_told(self, name: str, leftover: bool, backup: bool) -> None:
        """Temporary files, ours and Rust's, and our backups are told from all other files."""
        assert is_leftover(name) is leftover
        assert is_backup(name) is backup

    @given(any_ids)
    def test_no_checkpoint_passes_for_another_kind(self, checkpoint_id: str) -> None:
        """Whatever its id, a checkpoint's name is no leftover, backup or pointer."""
        text = make_name(checkpoint_id, 0).text

        assert not is_leftover(text)
        assert not is_backup(text)
        assert text != LATEST_NAME
        assert is_backup(text + BACKUP_SUFFIX)


class TestIdOfName:
    @given(any_ids, _stamps)
    def test_is_the_id_that_was_given(self, checkpoint_id: str, microseconds: int) -> None:
        """A name of ours tells its id, unless that was too long for a name."""
        found = id_of_name(make_name(checkpoint_id, microseconds))

        assert found == checkpoint_id or (found is None and len(checkpoint_id.encode()) > 66)

    @pytest.mark.parametrize(
        ("text", "checkpoint_id"),
        [
            ("cp_20260511_041200_123456_x.json", "x"),
            ("cp_20260511_041200_x.json", "x"),
            ("cp_20260511_041200_a b.json", None),
        ],
    )
    def test_of_rust_is_told_where_it_is_safe(self, text: str, checkpoint_id: str | None) -> None:
        """A name of Rust's tells a safe id; for any other its body is asked."""
        name = parse_name(text)

        assert name is not None
        assert id_of_name(name) == checkpoint_id
