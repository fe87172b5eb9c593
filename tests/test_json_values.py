"""Promises of the check of JSON values."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiocheckpoint._format import json_values
from aiocheckpoint._format.json_values import (
    MAX_DEPTH,
    encode_exactly,
    find_float,
    is_too_deep,
)
from aiocheckpoint.errors import CheckpointEncodeError
from tests import json_documents


class Role(enum.StrEnum):
    USER = "user"


class OldRole(str, enum.Enum):  # noqa: UP042 - prints otherwise than a StrEnum
    TOOL = "tool"


class Number(enum.IntEnum):
    ONE = 1


class Colour(enum.Enum):
    RED = "red"


class Code(enum.Enum):
    OK = 0


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    """As numpy.float64 is one."""


class Changing(list[Any]):
    """Holds bytes when it is looked at first, and nothing later, as if a thread took them out."""

    def __iter__(self) -> Iterator[Any]:
        looked_at = vars(self).setdefault("looked_at", [])
        looked_at.append(True)
        return iter([b"x"] if len(looked_at) == 1 else [])


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Point(msgspec.Struct):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", ["first", "second"])  # noqa: PYI024


def _nested(depth: int, innermost: Any = None) -> Any:
    """Return `depth` containers in one another, lists and dicts by turns."""
    value = innermost
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def _floats_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _floats_in(item)]
    if isinstance(value, list):
        return [found for item in value for found in _floats_in(item)]
    return [value] if isinstance(value, float) else []


def _refusal(document: dict[str, Any]) -> CheckpointEncodeError:
    with pytest.raises(CheckpointEncodeError) as refused:
        encode_exactly(document)
    return refused.value


class TestEncodeExactly:
    @given(st.dictionaries(json_documents.texts, json_documents.values, max_size=4))
    def test_accepts_every_json_document(self, document: dict[str, Any]) -> None:
        """Any document comes back equal from the text, and its floats are all there."""
        text, floats = encode_exactly(document)

        decoded = json.loads(text)
        assert decoded == document
        assert list(decoded) == sorted(document)
        assert sorted(map(repr, floats)) == sorted(map(repr, _floats_in(document)))

    @pytest.mark.parametrize(
        ("value", "decoded"),
        [
            (OrderedDict(a=[1.5]), {"a": [1.5]}),
            (defaultdict(list, a=[OrderedDict(b=1)]), {"a": [{"b": 1}]}),
            (Role.USER, "user"),
            (OldRole.TOOL, "tool"),
            ({Role.USER: 1, Text("x"): 2}, {"user": 1, "x": 2}),
        ],
    )
    def test_accepts_what_json_writes_by_value(self, value: Any, decoded: Any) -> None:
        """Subclasses of containers, text enums and keys of any text type are taken."""
        text, floats = encode_exactly({"v": value})

        assert json.loads(text) == {"v": decoded} == {"v": value}
        assert floats == _floats_in(decoded)

    @pytest.mark.parametrize(
        ("value", "path", "reason"),
        [
            (math.nan, "v", "is nan"),
            ([0.5, {"a b": -math.inf}], "v[1]['a b']", "is -inf"),
            ([math.inf], "v[0]", "is inf"),
            (2**64, "v", "beyond 64 bits"),
            ([[-(2**63) - 1]], "v[0][0]", "beyond 64 bits"),
            ({"k": 10**5000}, "v.k", "beyond 64 bits"),
            ("\ud800", "v", "lone surrogate"),
            ([OldRole.TOOL, {"a": "x\udfff"}], "v[1].a", "lone surrogate"),
            ({"a": {"\ud800": 1}}, "v.a", "lone surrogate"),
            ({"a": [{1: 2}]}, "v.a[0]", "key 1;"),
            ({"a": {None: 2}}, "v.a", "key None;"),
            ([{"ok": 1, True: 2}], "v[0]", "key True;"),
            ({("x" * 1000,): 2}, "v", "key ('xxx"),
            ({10**5000: 2}, "v", "key <int>;"),
            ({Unshowable(): 2}, "v", "key <Unshowable>;"),
            (b"bytes", "v", "bytes"),
            ([bytearray(b"x")], "v[0]", "bytearray"),
            ([1, {2}], "v[1]", "set"),
            ((1, 2), "v", "tuple"),
            ([{"args": ()}], "v[0].args", "tuple"),
            ([Pair(1, 2)], "v[0]", "Pair"),
            (datetime(2026, 1, 1, tzinfo=UTC), "v", "datetime"),
            (Decimal("1.5"), "v", "Decimal"),
            ({"p": Point(1)}, "v.p", "Point"),
            (Colour.RED, "v", "Colour"),
            (Number.ONE, "v", "Number"),
            (Text("x"), "v", "Text"),
            (Whole(1), "v", "Whole"),
            (Real(1.5), "v", "Real"),
            (msgspec.Raw(b"[1, 2]"), "v", "Raw"),
            (msgspec.UNSET, "v", "UnsetType"),
            (object(), "v", "object"),
            ({"": {"1": print}}, "v['']['1']", "function"),
        ],
    )
    def test_refuses_what_would_come_back_changed(self, value: Any, path: str, reason: str) -> None:
        """A value that JSON cannot hold exactly is refused, its path and the reason named."""
        error = _refusal({"fine": [1, "x", None], "v": value})

        assert error.path == path
        assert reason in error.reason

    def test_names_the_first_of_many(self) -> None:
        """The path is that of the first bad value in reading order."""
        error = _refusal({"a": [{"x": [1, {"y": b"1"}]}, b"2"], "b": b"3"})

        assert error.path == "a[0].x[1].y"

    @pytest.mark.parametrize("innermost", [1, "x", [], {}])
    def test_reads_to_the_limit_of_depth(self, innermost: Any) -> None:
        """`MAX_DEPTH` containers in one another are taken, one more is refused."""
        is_container = not isinstance(innermost, (int, str))
        fits = {"v": _nested(MAX_DEPTH - 1 - is_container, innermost)}
        over = {"v": _nested(MAX_DEPTH - is_container, innermost)}

        assert json.loads(encode_exactly(fits)[0]) == json.loads(json.dumps(fits))
        assert "nested deeper than 127" in _refusal(over).reason

    def test_long_path_is_cut(self) -> None:
        """A path is at most 200 characters long."""
        error = _refusal({"v": _nested(300)})

        assert error.path.startswith("v[0].k[0].k")
        assert len(error.path) == 200

    def test_cycle_is_refused_at_once(self) -> None:
        """A document that contains itself, many times over, ends in an error, not in a hang."""
        node: dict[str, Any] = {"name": "root"}
        node["children"] = [{"parent": node, "again": node} for _ in range(10)]

        error = _refusal({"v": node})

        assert error.path.startswith("v.children[0].parent.children[0].parent")
        assert "nested deeper" in error.reason

    def test_shared_parts_are_no_cycle(self) -> None:
        """One object in several places is written in each of them."""
        part = {"x": [1.5]}

        text, floats = encode_exactly({"a": part, "b": [part, part]})

        assert json.loads(text) == {"a": part, "b": [part, part]}
        assert floats == [1.5, 1.5, 1.5]

    def test_document_changed_meanwhile_is_refused(self) -> None:
        """A bad value that is gone when its path is looked for is refused all the same."""
        error = _refusal({"v": Changing()})

        assert str(error) == "cannot save: the document cannot be encoded: a value is not JSON"


class TestFindFloat:
    @pytest.mark.parametrize(
        ("document", "path", "value"),
        [
            ({"a": [1.5, {"b": -2.5}], "c": 2.5}, "a[1].b", -2.5),
            ({"a": 2, "b": 2.0}, "b", 2.0),
        ],
    )
    def test_names_the_first_of_a_magnitude(
        self, document: dict[str, Any], path: str, value: float
    ) -> None:
        """The first float of the magnitude is found, whatever its sign, and no int."""
        assert find_float(document, abs(value)) == (path, value)


def _depth(text: bytes) -> int:
    """Count containers in one another, byte by byte, up to the first bracket that does not fit."""
    open_brackets: list[int] = []
    deepest, in_string, escaped = 0, False, False
    for byte in text:
        if in_string:
            if escaped:
                escaped = False
            elif byte == ord("\\"):
                escaped = True
            elif byte == ord('"'):
                in_string = False
        elif byte == ord('"'):
            in_string = True
        elif byte in b"[{":
            open_brackets.append(byte)
            deepest = max(deepest, len(open_brackets))
        elif byte == ord("\\") or (
            byte in b"]}" and (not open_brackets or open_brackets.pop() + 2 != byte)
        ):
            return deepest
    return deepest


_junk = st.lists(
    st.sampled_from(['"', "\\", "[", "]", "{", "}", '\\"', "\\\\", "a", "\n", "[[[", "}}}", "é"]),
    max_size=8,
).map("".join)


class TestIsTooDeep:
    @given(
        depth=st.integers(MAX_DEPTH - 3, MAX_DEPTH + 3) | st.integers(1, 400),
        keys=st.lists(_junk, min_size=1, max_size=5),
        siblings=st.lists(_junk | json_documents.values, max_size=3),
        indent=st.sampled_from([None, 0, 2]),
        ascii_only=st.booleans(),
    )
    @example(MAX_DEPTH, ['"'], ["\\"], None, True)
    @example(MAX_DEPTH + 1, ['\\"'], ["]" * 300], None, True)
    def test_agrees_with_a_naive_count(
        self, depth: int, keys: list[str], siblings: list[Any], indent: int | None, ascii_only: bool
    ) -> None:
        """It answers for every JSON text as a scanner does that reads byte by byte."""
        value: Any = [*siblings]
        for level in range(depth - 1):
            key = keys[level % len(keys)]
            value = {key: value} if level % 2 else [key, value, *siblings]
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()

        assert is_too_deep(text) == (_depth(text) > MAX_DEPTH)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"[]", b"x", b'"\\"']),
                st.integers(1, 300),
            ),
            max_size=8,
        ).map(lambda runs: b"".join(part * count for part, count in runs))
    )
    def test_bounds_the_decoder_on_any_bytes(self, text: bytes) -> None:
        """What it lets pass takes no decoder deeper than twice the limit."""
        if not is_too_deep(text):
            assert _depth(text) <= 2 * MAX_DEPTH

    @pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
    def test_nesting_of_100_000_is_seen(self, bracket: bytes) -> None:
        """A text that would overflow a decoder's stack is told from its bytes."""
        assert is_too_deep(bracket * 100_000)

    @pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7])
    @pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
    def test_text_is_looked_at_in_pieces(
        self, depth: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wherever a text is cut into pieces, within strings too, the answer is the same."""
        monkeypatch.setattr(json_values, "_CHUNK_BYTES", chunk_bytes)
        inner: Any = ["[", '"]]"[', {"{": "\\"}, "]"]
        for _ in range(depth - 2):
            inner = ["]", inner, "["]

        assert is_too_deep(json.dumps(inner).encode()) == (depth > MAX_DEPTH)

    def test_many_flat_containers_are_not_deep(self) -> None:
        """Breadth is not depth."""
        assert not is_too_deep(b"[" + b"[],{}," * 50_000 + b"[]]")
