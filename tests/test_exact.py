"""Promises of `aiocheckpoint.exact`: whatever it takes comes back the same."""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocheckpoint import (
    CheckpointData,
    CheckpointEncodeError,
    ExactValueError,
    InvalidArgumentError,
    exact,
)
from aiocheckpoint._format.json_values import encode_exactly
from tests import json_documents
from tests.conftest import MakeWriter
from tests.exact_values import described, values

BERLIN = ZoneInfo("Europe/Berlin")
TWICE = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)

# What stands in files, for ever: a value, and the JSON of it.
GOLDEN: list[tuple[Any, str]] = [
    (None, "null"),
    (
        [True, -(2**63), 2**64 - 1, -0.0, "é", {"a": {}}],
        '[true,-9223372036854775808,18446744073709551615,-0.0,"é",{"a":{}}]',
    ),
    (2**64, '{"!int":"18446744073709551616"}'),
    (-(2**63) - 1, '{"!int":"-9223372036854775809"}'),
    (2**2048 - 1, f'{{"!int":"{2**2048 - 1}"}}'),
    (-(2**2048), f'{{"!int":"-0x1{"0" * 512}"}}'),
    (float("nan"), '{"!float":"nan"}'),
    ([float("inf"), float("-inf")], '[{"!float":"inf"},{"!float":"-inf"}]'),
    ("C:\\é\ud83d\ude00\udfff", r'{"!str":"C:\\\\é\\ud83d\\ude00\\udfff"}'),
    (b"\x00\xff", '{"!bytes":"AP8="}'),
    ((), '{"!tuple":[]}'),
    ((1, (b"",)), '{"!tuple":[1,{"!tuple":[{"!bytes":""}]}]}'),
    ({3, "x", "b"}, '{"!set":["b","x",3]}'),
    (frozenset({(1, 2)}), '{"!frozenset":[{"!tuple":[1,2]}]}'),
    (
        {1: "a", None: {"b": 2**64}},
        '{"!dict":[[1,"a"],[null,{"b":{"!int":"18446744073709551616"}}]]}',
    ),
    ({"\ud800": 1}, r'{"!dict":[[{"!str":"\\ud800"},1]]}'),
    ({"!int": "5"}, '{"!dict":[["!int","5"]]}'),
    ({"!": 0}, '{"!dict":[["!",0]]}'),
    ({"!int": "5", "b": 0}, '{"!int":"5","b":0}'),
    (date(1, 2, 3), '{"!date":"0001-02-03"}'),
    (datetime.fromisoformat("2026-11-26T03:41"), '{"!datetime":"2026-11-26T03:41:00"}'),
    (datetime(2026, 11, 26, 3, 41, 5, 7, UTC), '{"!datetime":"2026-11-26T03:41:05.000007+00:00"}'),
    (
        datetime(2026, 11, 26, tzinfo=timezone(-timedelta(hours=3, seconds=1))),
        '{"!datetime":"2026-11-26T00:00:00-03:00:01"}',
    ),
    (
        datetime(2026, 11, 26, tzinfo=timezone(timedelta(hours=1), "CET")),
        '{"!datetime":"2026-11-26T00:00:00+01:00[CET]"}',
    ),
    (TWICE, '{"!datetime":"2026-10-25T02:30:00[Europe/Berlin]"}'),
    (TWICE.replace(fold=1), '{"!datetime":"2026-10-25T02:30:00;fold=1[Europe/Berlin]"}'),
    (time(2, 30, fold=1), '{"!time":"02:30:00;fold=1"}'),
    (
        time(2, 30, tzinfo=timezone(timedelta(microseconds=-1))),
        '{"!time":"02:30:00-00:00:00.000001"}',
    ),
    (timedelta(days=1), '{"!timedelta":"86400"}'),
    (timedelta(microseconds=-1_500_000), '{"!timedelta":"-1.500000"}'),
    (timedelta.min, '{"!timedelta":"-86399999913600"}'),
    (Decimal("1.20E+7"), '{"!decimal":"1.20E+7"}'),
    (
        [Decimal("-0"), Decimal("sNaN12"), Decimal("-Infinity")],
        '[{"!decimal":"-0"},{"!decimal":"sNaN12"},{"!decimal":"-Infinity"}]',
    ),
    (UUID(int=255), '{"!uuid":"00000000-0000-0000-0000-0000000000ff"}'),
]


def _dumped(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _through_json(value: Any, types: exact.Types = exact.Types({})) -> Any:  # noqa: B008
    """Return a value as it comes back from a file: through the check and the text of `save`."""
    text, _ = encode_exactly({"field": exact.to_json(value, types=types)})
    return exact.from_json(msgspec.json.decode(text)["field"], types=types)


class TestRoundTrip:
    @given(values)
    @example({float("nan"): float("nan"), Decimal("NaN"): (float("nan"),)})
    def test_every_value_comes_back_the_same(self, value: Any) -> None:
        """Kinds nested in each other come back equal, with their types, from what `save` writes."""
        assert described(_through_json(value)) == described(value)

    @given(values)
    def test_a_value_has_one_text(self, value: Any) -> None:
        """What was restored is written as before."""
        assert _dumped(exact.to_json(_through_json(value))) == _dumped(exact.to_json(value))

    @given(values)
    def test_what_was_made_can_be_a_value_again(self, value: Any) -> None:
        """JSON with escapes in it, written exactly, comes back with the escapes."""
        once = exact.to_json(value)

        assert _dumped(_through_json(once)) == _dumped(once)
        assert described(exact.from_json(_through_json(once))) == described(value)

    @given(json_documents.values.filter(lambda value: '{"!' not in _dumped(value)))
    def test_plain_json_stays_as_it_is(self, value: Any) -> None:
        """What is JSON, and looks like no escape, is not touched, not even copied."""
        assert exact.to_json(value) is value
        assert exact.from_json(value) is value

    def test_plain_parts_are_not_copied(self) -> None:
        """Beside a value with an escape all others stay the very objects that they are."""
        state = {"messages": [{"role": "user"}], "seen": (1, [2])}
        encoded = exact.to_json(state)

        assert encoded["messages"] is state["messages"]
        assert state == {"messages": [{"role": "user"}], "seen": (1, [2])}

    def test_order_of_keys_is_kept_where_they_are_pairs(self) -> None:
        """A dict with keys of several types comes back in its order, from a file as well."""
        keys = [2, "b", 1, "a", (3,)]

        assert list(_through_json(dict.fromkeys(keys))) == keys

    def test_limits_of_python_do_not_matter(self) -> None:
        """Long integers pass where Python refuses their digits, decimals in any context."""
        long = 7 * 10**5000
        value = {long: [-long, Decimal("1.23456E+99"), 2**2048 - 1]}
        text = _dumped(exact.to_json(value))
        digits = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(640)
        try:
            with localcontext(Context(prec=2, capitals=0, Emax=9)):
                assert _dumped(exact.to_json(value)) == text
                assert described(_through_json(value)) == described(value)
        finally:
            sys.set_int_max_str_digits(digits)

    async def test_comes_back_from_a_writer(self, make_writer: MakeWriter) -> None:
        """All kinds at once are saved, loaded from another writer, and the same."""
        state = {"kinds": [value for value, _ in GOLDEN], (1, 2): {"nested": {(3,): {4}}}}
        async with make_writer() as writer:
            record = CheckpointData(session_id="s", tool_results=exact.to_json(state))
            await writer.save(record)
        async with make_writer() as writer:
            loaded = await writer.load("s")

        assert loaded is not None
        assert described(exact.from_json(loaded.tool_results)) == described(state)


class TestFormat:
    @pytest.mark.parametrize(("value", "text"), GOLDEN)
    def test_is_what_it_always_was(self, value: Any, text: str) -> None:
        """Each kind has the text that was written by the first version, and is read from it."""
        assert _dumped(exact.to_json(value)) == text
        assert described(exact.from_json(json.loads(text))) == described(value)

    def test_sets_have_one_order(self) -> None:
        """Equal sets have equal texts, in whatever order they were filled."""
        items = ["b", 3, (1,), b"", None, 2**70, "a"]
        texts = {_dumped(exact.to_json(set(order))) for order in itertools.permutations(items, 5)}
        again = {
            _dumped(exact.to_json({*reversed(order)})) for order in itertools.combinations(items, 5)
        }

        assert again <= texts
        assert len(again) == 21
        assert len(texts) == 21


class Role(enum.StrEnum):
    USER = "user"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Stamp(datetime):
    """As pandas and pendulum have one."""


class Odd(tzinfo):
    def utcoffset(self, _: object) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _: object) -> None:
        return None

    def tzname(self, _: object) -> None:
        return None


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError("no")


Pair = namedtuple("Pair", ["first", "second"])  # noqa: PYI024

REFUSED: list[tuple[Any, str, str]] = [
    ({"a": [0, {"b": object()}]}, "a[1].b", "is a object"),
    ([(0, Role.USER)], "[0][1]", "is a Role, not a plain str"),
    ([Level.LOW], "[0]", "is a Level, not a plain int"),
    ([Text("x")], "[0]", "is a Text, not a plain str"),
    ([OrderedDict(a=1)], "[0]", "is a OrderedDict, not a plain dict"),
    ([defaultdict(list)], "[0]", "is a defaultdict, not a plain dict"),
    ({"p": Pair(1, 2)}, "p", "is a Pair, not a plain tuple"),
    ({"t": Stamp(2026, 1, 1)}, "t", "is a Stamp, not a plain datetime"),
    ({"t": datetime(2026, 1, 1, tzinfo=Odd())}, "t", "has a Odd as its time zone"),
    ({"t": time(1, tzinfo=timezone(timedelta(0), "\ud800"))}, "t", "lone surrogate"),
    ({"not a name": bytearray()}, "['not a name']", "is a bytearray"),
    ({"a": {(1, "x"): {5: Silent()}}}, "a[(1, 'x')][5]", "is a Silent"),
    ({"a": {Silent(): 1}}, "a", "has a key that is a Silent"),
    ({"a": {(0, Level.LOW): 1}}, "a", "has a key that is a Level"),
    ({"a": {Text("x"): 1}}, "a", "has a key that is a Text"),
    ({"a": {(Silent(),): 0}}, "a", "has a key that is a Silent"),
    ({"a": {(10**5000,): Level.LOW}}, "a[", "is a Level"),
    ({"a": {(1, Level.LOW)}}, "a", "has an item that is a Level"),
    ({"a": msgspec.UNSET}, "a", "is a UnsetType"),
    ({"a": 1j}, "a", "is a complex"),
    ({"a": Role}, "a", "is a EnumType"),
]


class TestRefused:
    @pytest.mark.parametrize(("value", "path", "reason"), REFUSED)
    def test_says_where_and_why(self, value: Any, path: str, reason: str) -> None:
        """What cannot come back the same is refused, with its path."""
        with pytest.raises(CheckpointEncodeError) as caught:
            exact.to_json(value)

        assert caught.value.path == path or (path.endswith("[") and caught.value.path[:2] == path)
        assert reason in caught.value.reason

    def test_path_begins_where_the_value_stands(self) -> None:
        """Whoever puts a value into a record can have its path in the record."""
        with pytest.raises(CheckpointEncodeError, match=r"messages\[3\]\.content is a object"):
            exact.to_json({"content": object()}, path="messages[3]")
        with pytest.raises(ExactValueError, match=r"messages\[3\]\.x has the key '!new'"):
            exact.from_json({"x": {"!new": 1}}, path="messages[3]")

    def test_a_zone_unknown_to_the_system_is_refused_at_save(self) -> None:
        """A time is not saved in a zone in which nobody could read it."""
        with open("/usr/share/zoneinfo/Europe/Berlin", "rb") as file:
            invented = ZoneInfo.from_file(file, key="Europe/Atlantis")
        with open("/usr/share/zoneinfo/Europe/Berlin", "rb") as file:
            nameless = ZoneInfo.from_file(file)

        for zone, reason in ((invented, "Europe/Atlantis"), (nameless, "ZoneInfo with a key")):
            with pytest.raises(CheckpointEncodeError, match=reason):
                exact.to_json(datetime(2026, 1, 1, tzinfo=zone))


def _wrapped(wrap: Callable[[Any], Any], count: int) -> Any:
    value: Any = "core"
    for _ in range(count):
        value = wrap(value)
    return value


class TestDepth:
    @pytest.mark.parametrize(
        ("wrap", "levels"),
        [
            (lambda value: [value], 1),
            (lambda value: {"a": value}, 1),
            (lambda value: (value,), 2),
            (lambda value: frozenset({value}), 2),
            (lambda value: {1: value}, 3),
            (lambda value: {"!x": value}, 3),
        ],
    )
    @pytest.mark.parametrize("core", ["core", b"core"])
    def test_whatever_passes_can_be_saved(
        self, wrap: Callable[[Any], Any], levels: int, core: Any
    ) -> None:
        """The deepest value that is taken is one that `save` takes and that comes back."""
        value = core
        room = 126 - (core != "core")
        for _ in range(room // levels):
            value = wrap(value)

        assert described(_through_json(value)) == described(value)
        for one_more in (wrap(value), [wrap(value)]):
            with pytest.raises(CheckpointEncodeError, match="nested deeper than 127 levels"):
                exact.to_json(one_more)

    @pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,)])
    def test_any_depth_has_a_named_error(self, wrap: Callable[[Any], Any]) -> None:
        """What nests a million times deeper than is allowed is refused as quickly."""
        value = _wrapped(wrap, 100_000)
        try:
            with pytest.raises(CheckpointEncodeError, match="nested deeper"):
                exact.to_json(value)
        finally:
            while not isinstance(value, str):  # or freeing it would take the stack
                value = next(iter(value.values() if isinstance(value, dict) else value))

    def test_cycles_have_a_named_error(self) -> None:
        """What contains itself, also many times over, is refused at once."""
        wide: list[Any] = []
        wide += [wide, {"again": wide}] * 50
        mapping: dict[Any, Any] = {}
        mapping[1] = (mapping, [mapping])

        for cycle in (wide, mapping, {"deep": (wide,)}):
            with pytest.raises(CheckpointEncodeError, match="nested deeper"):
                exact.to_json(cycle)
            with pytest.raises(ExactValueError, match=r"nested deeper|give what was loaded"):
                exact.from_json(cycle)

    @pytest.mark.parametrize("frames_left", [40, 80, 160, 320, 640])
    def test_what_is_left_of_the_stack_does_not_matter(self, frames_left: int) -> None:
        """A caller far down its stack gets the value or an error of ours, no `RecursionError`."""
        value = {"a": _wrapped(lambda inner: (inner,), 60)}
        encoded = exact.to_json(value)

        written = _far_down(frames_left, lambda: _outcome(exact.to_json, value))
        restored = _far_down(frames_left, lambda: _outcome(exact.from_json, encoded))

        assert written in ([encoded] if frames_left == 640 else [encoded, "nested too deep"])
        assert restored in ([value] if frames_left == 640 else [value, "nested too deep"])


def _far_down(frames_left: int, call: Callable[[], Any]) -> Any:
    """Return what a call returns that may go so many frames deeper."""
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back

    def descend(frames: int) -> Any:
        return descend(frames - 1) if frames > 0 else call()

    return descend(sys.getrecursionlimit() - depth - frames_left)


def _outcome(call: Callable[[Any], Any], argument: Any) -> Any:
    """Return what a call returns, or what its error says."""
    try:
        return call(argument)
    except (CheckpointEncodeError, ExactValueError) as error:
        return "nested too deep" if "nested too deep" in error.reason else error.reason


DAMAGED: list[tuple[Any, str, str]] = [
    ({"a": [{"!new": 1}]}, "a[0]", "has the key '!new'"),
    ({"!": 1}, "", "has the key '!'"),
    ({"a": {"!int": 5}}, "a['!int']", "is no int"),
    ({"a": {"!int": "five"}}, "a['!int']", "is no int"),
    ({"a": {"!int": "05"}}, "a['!int']", "is no int"),
    ({"a": {"!int": " 5"}}, "a['!int']", "is no int"),
    ({"a": {"!int": "٣"}}, "a['!int']", "is no int"),
    ({"a": {"!int": "9" * 5000}}, "a['!int']", "is no int"),
    ({"!float": "NaN"}, "['!float']", "is no float"),
    ({"!str": "\\q"}, "['!str']", "is no str"),
    ({"!str": "\\"}, "['!str']", "is no str"),
    ({"!bytes": "AP9"}, "['!bytes']", "is no bytes"),
    ({"!bytes": "A P8="}, "['!bytes']", "is no bytes"),
    ({"!bytes": "AP9="}, "['!bytes']", "is no bytes"),
    ({"!date": "2026-13-01"}, "['!date']", "is no date"),
    ({"!datetime": "2026-11-26"}, "['!datetime']", "is no datetime"),
    ({"!datetime": "2026-11-26T00:00:00Z"}, "['!datetime']", "is no datetime"),
    ({"!datetime": "2026-11-26T00:00:00[Europe/Atlantis]"}, "['!datetime']", "is no datetime"),
    ({"!datetime": "2026-11-26T00:00:00[../../etc/passwd]"}, "['!datetime']", "is no datetime"),
    ({"!datetime": "2026-11-26T00:00:00[/etc/passwd]"}, "['!datetime']", "is no datetime"),
    ({"!datetime": "2026-11-26T00:00:00+25:00"}, "['!datetime']", "is no datetime"),
    ({"!time": ""}, "['!time']", "is no time"),
    ({"!timedelta": "1.5"}, "['!timedelta']", "is no timedelta"),
    ({"!timedelta": "9" * 30}, "['!timedelta']", "is no timedelta"),
    ({"!decimal": "one"}, "['!decimal']", "is no decimal"),
    ({"!decimal": "1e3"}, "['!decimal']", "is no decimal"),
    ({"!uuid": "0"}, "['!uuid']", "is no uuid"),
    ({"!tuple": {"a": 1}}, "['!tuple']", "is no list"),
    ({"!tuple": [0, {"!set": "x"}]}, "['!tuple'][1]['!set']", "is no list"),
    ({"!set": [[1]]}, "['!set']", "is no set"),
    ({"!set": [1, True]}, "['!set']", "is in it twice"),
    ({"!dict": [["a", 1], ["a", 2]]}, "['!dict']", "is in it twice"),
    ({"!dict": [["a", 1, 2]]}, "['!dict']", "is no dict"),
    ({"!dict": [{"!tuple": ["a", 1]}]}, "['!dict']", "is no dict"),
    ({"!dict": [[["a"], 1]]}, "['!dict']", "is no dict"),
    ({"!own": "x"}, "['!own']", "is no value of a type"),
    ({"!own": [1, 2]}, "['!own']", "is no value of a type"),
    (
        {"!own": ["os.system", "true"]},
        "['!own']",
        "is of the type 'os.system', which is not in types",
    ),
    ({"a": [(1, 2)]}, "a[0]", "is a tuple"),
    ({"a": [b""]}, "a[0]", "is a bytes"),
]


class TestDamaged:
    @pytest.mark.parametrize(("value", "path", "reason"), DAMAGED)
    def test_says_where_and_why(self, value: Any, path: str, reason: str) -> None:
        """What `to_json` did not make is refused, with its path in the file, and no guess made."""
        with pytest.raises(ExactValueError) as caught:
            exact.from_json(value)

        assert caught.value.path == path
        assert reason in caught.value.reason

    @given(
        st.recursive(
            json_documents.scalars,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from([text.split('"')[1] for _, text in GOLDEN[2:5]]),
                    inner,
                    max_size=1,
                )
                | st.dictionaries(
                    st.sampled_from(
                        ["!tuple", "!set", "!dict", "!own", "!decimal", "!time", "!datetime"]
                    ),
                    inner,
                    max_size=1,
                )
            ),
        )
    )
    def test_any_json_has_a_value_or_a_named_error(self, value: Any) -> None:
        """Whatever stands in a file, reading it raises nothing but the error for it."""
        with contextlib.suppress(ExactValueError):
            exact.from_json(value)


class Point(NamedTuple):
    x: int
    y: Any = 0


class Money(msgspec.Struct, frozen=True):
    amount: Decimal
    currency: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Node:
    name: str
    children: tuple[Any, ...] = ()


@dataclass
class Counted:
    items: list[Any]
    count: int = field(init=False, default=0)


@dataclass
class Growing:
    items: list[Any]

    def __post_init__(self) -> None:
        self.items = [*self.items, "more"]


@dataclass
class Picky:
    items: list[Any]

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("no items")


class Colour(enum.Enum):
    RED = (255, 0, 0)


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Secret:
    """Has no equality, and cannot be copied."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def __deepcopy__(self, _: object) -> Secret:
        raise TypeError("no copies")


TYPES = exact.Types(
    {
        "game.Point": Point,
        "game.Money": Money,
        "game.Node": Node,
        "game.Colour": Colour,
        "game.Rights": Rights,
        "game.Role": Role,
        "ordered": exact.OwnType(OrderedDict, lambda value: list(value.items()), OrderedDict),
        "bytearray": exact.OwnType(bytearray, bytes, bytearray),
        "secret": exact.OwnType(Secret, lambda secret: secret.key, Secret),
        "growing": Growing,
        "picky": Picky,
        "frozen": exact.OwnType(memoryview, bytes, bytes),
    }
)


class TestTypes:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Point(1, (2,)), '{"!own":["game.Point",{"x":1,"y":{"!tuple":[2]}}]}'),
            (Money(Decimal(1)), '{"!own":["game.Money",{"amount":{"!decimal":"1"}}]}'),
            (
                Money(Decimal(1), "EUR"),
                '{"!own":["game.Money",{"amount":{"!decimal":"1"},"currency":"EUR"}]}',
            ),
            (Colour.RED, '{"!own":["game.Colour",{"!tuple":[255,0,0]}]}'),
            (Rights.READ | Rights.WRITE, '{"!own":["game.Rights",3]}'),
            (
                {Role.USER: [Role.USER]},
                '{"!dict":[[{"!own":["game.Role","user"]},[{"!own":["game.Role","user"]}]]]}',
            ),
            (
                OrderedDict({"b": 1, "a": 2}),
                '{"!own":["ordered",[{"!tuple":["b",1]},{"!tuple":["a",2]}]]}',
            ),
            (bytearray(b"x"), '{"!own":["bytearray",{"!bytes":"eA=="}]}'),
            (Node("a", (Node("b"), {Point(1): Node("c")})), None),
        ],
    )
    def test_registered_types_come_back(self, value: Any, text: str | None) -> None:
        """Types that tell their parts, or whose parts somebody tells, come back as they were."""
        restored = _through_json([value], TYPES)

        assert restored == [value]
        assert type(restored[0]) is type(value)
        assert text in (None, _dumped(exact.to_json(value, types=TYPES)))

    def test_no_equality_is_needed(self) -> None:
        """A type of which no instance equals another comes back by its parts."""
        assert _through_json(Secret(b"k"), TYPES).key == b"k"

    def test_nothing_is_made_that_is_not_named(self) -> None:
        """A file cannot make anything of a type that its reader did not give."""
        encoded = exact.to_json({"at": Point(1)}, types=TYPES)

        with pytest.raises(ExactValueError, match=r"'game.Point', which is not in types") as caught:
            exact.from_json(encoded)
        assert caught.value.path == "at['!own']"
        with pytest.raises(CheckpointEncodeError, match="at is a Point"):
            exact.to_json({"at": Point(1)})

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (Growing([1]), "would not come back the same; mend the type 'growing'"),
            (Node("a", (Growing([1]),)), "would not come back the same; mend the type 'game.Node'"),
            (memoryview(b"x"), "would not come back the same; mend the type 'frozen'"),
            (Point(1, object()), "is a object"),
        ],
    )
    def test_what_would_not_come_back_is_refused_at_save(self, value: Any, reason: str) -> None:
        """A value that its type makes into another is refused while it can still be mended."""
        with pytest.raises(CheckpointEncodeError, match=reason):
            exact.to_json({"a": value}, types=TYPES)

    def test_failing_types_have_a_named_error(self) -> None:
        """Whatever `encode` and `decode` raise is told with its path, at save."""
        picky = Picky([1])
        picky.items.clear()
        with pytest.raises(
            CheckpointEncodeError, match=r"^cannot save: a\[0\] could not be read again.*no items"
        ):
            exact.to_json({"a": [picky]}, types=TYPES)
        del picky.items
        with pytest.raises(
            CheckpointEncodeError, match=r"^cannot save: a cannot be encoded.*items"
        ):
            exact.to_json({"a": picky}, types=TYPES)
        with pytest.raises(
            ExactValueError, match=r"a\['!own'\] cannot be made a 'picky'.*no items"
        ):
            exact.from_json({"a": {"!own": ["picky", {"items": []}]}}, types=TYPES)

    def test_a_type_within_itself_ends(self) -> None:
        """A type whose parts are itself again has an error, and the next value is not harmed."""
        own = exact.OwnType(Secret, lambda secret: secret, Secret)
        types = exact.Types({"secret": own})

        with pytest.raises(CheckpointEncodeError, match="nested deeper"):
            exact.to_json(Secret(b""), types=types)
        assert exact.to_json((1,), types=types) == {"!tuple": [1]}

    def test_old_names_are_read(self) -> None:
        """Of two names for a type the first is written, and both are read."""
        types = exact.Types({"new": Point, "old": Point})

        assert exact.to_json(Point(1), types=types)["!own"][0] == "new"
        assert exact.from_json({"!own": ["old", {"x": 1}]}, types=types) == Point(1)

    @pytest.mark.parametrize(
        "types",
        [
            {"x": int},
            {"x": dict},
            {"x": Secret},
            {"x": Counted},
            {"x": "Point"},
            {"x": exact.OwnType(tuple, list, tuple)},
            {"": Point},
            {"\ud800": Point},
            {1: Point},
            [Point],
        ],
    )
    def test_types_that_cannot_work_are_refused(self, types: Any) -> None:
        """A type whose values could not be made again is refused before anything is saved."""
        with pytest.raises(InvalidArgumentError):
            exact.Types(types)

    def test_types_are_made_beforehand(self) -> None:
        """A plain dict is refused by name."""
        for call in (exact.to_json, exact.from_json):
            with pytest.raises(InvalidArgumentError, match=r"give an exact\.Types"):
                call(1, types={"x": Point})  # type: ignore[arg-type]
