"""Promises of typed values: what JSON gives back as it was, and what it does not."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from aiocheckpoint._format.typed_values import (
    equality_tells,
    first_change,
    may_hold_tuples,
    to_json,
)
from aiocheckpoint.errors import CheckpointEncodeError


class Colour(enum.Enum):
    RED = "red"


class Role(enum.StrEnum):
    USER = "user"


class Code(enum.Enum):
    OK = 0


class Point(msgspec.Struct):
    x: Any
    y: Any = 0


class Leaf(msgspec.Struct, eq=False):
    value: Any


class AlwaysEqual(msgspec.Struct):
    value: Any

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Tree(msgspec.Struct):
    children: list[Tree]
    point: Point | None = None


@dataclass(eq=False)
class Box:
    content: Any = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    text: str
    raw: Any = field(default=None, compare=False)


class Pair(NamedTuple):
    first: Any
    second: Any


class FakeDatetime(datetime):
    """As freezegun's, pendulum's and pandas' are."""


class FakeDate(date):
    pass


class FakeTime(time):
    pass


class FakeDelta(timedelta):
    pass


class Moment(FakeDatetime):
    """Has nanoseconds, as those of pandas."""

    nanosecond = 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment)

    def __sub__(self, other: object) -> Any:
        return timedelta.resolution

    __hash__ = FakeDatetime.__hash__


_BERLIN = ZoneInfo("Europe/Berlin")
_TWICE = datetime(2026, 10, 25, 2, 30, tzinfo=_BERLIN)
_NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
_ODD = timezone(timedelta(hours=5, seconds=30))


class TestFirstChange:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (1, 1),
            (1, 1.0),
            (2**53, float(2**53)),
            ([1, (2,)], [1, (2,)]),
            (bytearray(b"x"), b"x"),
            ({1, 2}, frozenset({1, 2})),
            (Role.USER, "user"),
            (Point([1]), Point([1])),
            (Leaf(Leaf(1)), Leaf(Leaf(1))),
            (Box([Box(1)]), Box([Box(1)])),
            (Pair(1, 2), Pair(1, 2)),
            ({Reply("a", raw=1)}, {Reply("a", raw=1)}),
            (_TWICE, _TWICE.astimezone(UTC)),
            (_TWICE.replace(fold=1), _TWICE.replace(fold=1).astimezone(UTC)),
            (FakeDatetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
            (FakeDatetime(2026, 1, 1), _NAIVE),
            (Decimal("NaN"), Decimal("NaN")),
            (Decimal("sNaN"), Decimal("sNaN")),
        ],
    )
    def test_what_is_equal_is_no_change(self, before: Any, after: Any) -> None:
        """Values that came back equal are the same, even without an equality of their own."""
        assert first_change("f", before, after) is None

    @pytest.mark.parametrize(
        ("before", "after", "path"),
        [
            (2**53 + 1, float(2**53), "f"),
            (b"x", "eA==", "f"),
            (date(2026, 1, 1), "2026-01-01", "f"),
            ("2026-01-01", date(2026, 1, 1), "f"),
            ("red", Colour.RED, "f"),
            (Code.OK, 0, "f"),
            ((1, 2), [1, 2], "f"),
            ([1, 2], (1, 2), "f"),
            ([1], [1, 2], "f"),
            (Point(1), {"x": 1, "y": 0}, "f"),
            ({"x": 1}, Point(1), "f"),
            (Leaf(1), Point(1), "f"),
            ({1, 2}, [1, 2], "f"),
            ([1, 1], {1}, "f"),
            ({b"x"}, {"eA=="}, "f"),
            ({1: "a"}, {"1": "a"}, "f"),
            ({"a": [1, b"x"]}, {"a": [1, "eA=="]}, "f.a[1]"),
            ({"a b": Point(1, b"x")}, {"a b": Point(1, "eA==")}, "f['a b'].y"),
            ([Box(content=[b"x"])], [Box(content=["eA=="])], "f[0].content[0]"),
            (Leaf(Leaf(b"x")), Leaf(Leaf("eA==")), "f.value.value"),
            (Leaf(5), Leaf(6), "f.value"),
            (AlwaysEqual(1), AlwaysEqual(2), "f.value"),
            ([Reply("a", raw=b"x")], [Reply("a", raw="eA==")], "f[0].raw"),
            ({Reply("a", raw=b"x")}, {Reply("a", raw="eA==")}, "f.raw"),
            (Pair(1, (2,)), Pair(1, [2]), "f[1]"),
            (datetime(2026, 1, 1, tzinfo=_ODD), datetime(2026, 1, 1, tzinfo=UTC), "f"),
            (_NAIVE, datetime(2026, 1, 1, tzinfo=UTC), "f"),
            (Moment(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "f"),
            (timedelta(seconds=1), timedelta(seconds=2), "f"),
            (Decimal("1.0"), Decimal("1.00"), "f"),
            (object(), object(), "f"),
        ],
    )
    def test_what_is_not_is_a_change(self, before: Any, after: Any, path: str) -> None:
        """The path of the first part that came back as something else is named."""
        assert first_change("f", before, after) == path


class TestEqualityTells:
    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            (int, True),
            (datetime, True),
            (Colour, True),
            (dict[str, list[Point | None]], True),
            (Tree, True),
            (set[bytes] | None, True),
            (Any, True),
            (Decimal, False),
            (list[Decimal], False),
            (Leaf, False),
            (dict[str, Leaf | None], False),
            (AlwaysEqual, False),
            (Reply, False),
            (list[tuple[int, Box]], False),
            (Pair, False),
            (FakeDatetime, False),
        ],
    )
    def test_not_where_a_class_may_hide_something(self, annotation: Any, expected: bool) -> None:
        """Equality is believed of values whose every part it is known to look at."""
        assert equality_tells(annotation) is expected


class TestMayHoldTuples:
    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            (int, False),
            (list[dict[str, set[int]]], False),
            (tuple[int, int], True),
            (list[tuple[int, ...]], True),
            (dict[int, Any], True),
            (Point, True),
            (Tree, True),
            (Pair, True),
        ],
    )
    def test_looks_into_types(self, annotation: Any, expected: bool) -> None:
        """Where a tuple may stand, however deep, or anything at all."""
        assert may_hold_tuples(annotation) is expected


class TestToJson:
    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            (FakeDatetime(2026, 1, 1, 2, 0, 0, 5), _NAIVE.replace(hour=2, microsecond=5)),
            (FakeDatetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
            (FakeDatetime(2026, 1, 1, tzinfo=_BERLIN), datetime(2026, 1, 1, tzinfo=_BERLIN)),
            (FakeDate(2026, 1, 1), date(2026, 1, 1)),
            (FakeTime(1, 2, 3, 4), time(1, 2, 3, 4)),
            (FakeDelta(-1, 2, 3), timedelta(-1, 2, 3)),
            ({"a": [Point(FakeDate(2026, 1, 1))]}, {"a": [Point(date(2026, 1, 1))]}),
            ({FakeDate(2026, 1, 1): 1}, {date(2026, 1, 1): 1}),
        ],
    )
    @pytest.mark.parametrize("as_text", [False, True])
    def test_times_of_subclasses_are_plain_times(
        self, value: Any, plain: Any, as_text: bool
    ) -> None:
        """A time of a frozen clock, of pandas or of pendulum is written as the time it is."""
        assert to_json("f", value, as_text=as_text) == to_json("f", plain, as_text=as_text)

    def test_tuples_become_lists(self) -> None:
        """Where JSON itself is asked, what it makes of tuples is seen."""
        assert to_json("f", {1: ((1, 2),)}, as_text=True) == {"1": [[1, 2]]}

    @pytest.mark.parametrize("as_text", [False, True])
    @pytest.mark.parametrize(
        ("value", "path"),
        [
            (object(), "f"),
            ([1, object()], "f[1]"),
            ({"a b": {"c": object()}}, "f['a b'].c"),
            ([Point(1, Box(content=[object()]))], "f[0].y.content[0]"),
            (Reply("x", raw={object()}), "f.raw"),
            ({(1, 2): 3}, "f"),
        ],
    )
    def test_what_cannot_be_encoded_is_named(self, value: Any, path: str, as_text: bool) -> None:
        """The path leads to the innermost part that stands in the way."""
        with pytest.raises(CheckpointEncodeError, match="cannot be encoded") as refused:
            to_json("f", value, as_text=as_text)

        assert refused.value.path == path

    def test_cycle_ends(self) -> None:
        """A value that holds itself is refused as nested too deep."""
        cycle: list[Any] = []
        cycle.append(cycle)

        with pytest.raises(CheckpointEncodeError, match="nested too deep"):
            to_json("f", cycle, as_text=False)
