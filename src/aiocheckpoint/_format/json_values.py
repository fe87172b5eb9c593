"""What may stand in a checkpoint: JSON values that come back as they went in; pure.

msgspec would write NaN as null, bytes as text and a set as a list, all in silence. The check
here goes once through an encoded document, and only one that fails it is searched for the path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import accumulate
from types import NoneType
from typing import Any

import msgspec

from aiocheckpoint.errors import CheckpointEncodeError, shown

MAX_DEPTH = 127
"""Containers inside one another, the document itself included; serde_json reads no more."""

_MAX_PATH_LENGTH = 200
MIN_INT = -(2**63)
MAX_INT = 2**64 - 1
_PLAIN_TYPES = frozenset({bool, NoneType})

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def encode_exactly(document: dict[str, Any]) -> tuple[bytes, list[float]]:
    """
    Encode a document of JSON values, keys sorted, and return its floats beside the text.

    Subclasses of `dict` and `list`, and enums that extend `str`, are taken for what they extend,
    to which they are equal. A tuple is not: no list is equal to it.

    Args:
        document: the whole document, keys being top-level fields.

    Raises:
        CheckpointEncodeError: with the path of the first value that is not JSON, not finite,
            beyond 64 bits, not Unicode, or nested deeper than `MAX_DEPTH`.
    """
    try:
        # The encoder first: it stops at a cycle.
        text = _encode_sorted(document)
        floats, levels = _collect_floats(document)
        _require(levels <= MAX_DEPTH or not is_too_deep(text), "it is nested too deep")
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(document, error) from error
    return text, floats


def _collect_floats(document: dict[str, Any]) -> tuple[list[float], int]:
    """
    Return the floats of a document that could be encoded, and how many levels of values it has.

    Raises:
        ValueError: encoding changed it.
    """
    floats: list[float] = []
    levels = 0
    level: list[Any] = [document]
    while level:
        levels += 1
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is str:  # most are
                continue
            if kind is dict:
                below.extend(value.values())
            elif kind is list:
                below.extend(value)
            elif kind in _PLAIN_TYPES:
                continue
            elif kind is float:
                floats.append(value)
            elif kind is int:
                if not MIN_INT <= value <= MAX_INT:
                    raise ValueError("an integer is beyond 64 bits")
            else:
                below.extend(_parts_of_other(value))
        level = below
    _require(all(map(math.isfinite, floats)), "a float is not finite")
    return floats, levels


def _parts_of_other(value: object) -> Iterable[Any]:
    """Return what is in a value of a type that JSON has under another name."""
    if isinstance(value, dict):
        return dict.values(value)
    if isinstance(value, list):
        return value
    _require(isinstance(value, str) and isinstance(value, Enum), "a value is not JSON")
    return ()


def _require(condition: bool, objection: str) -> None:  # noqa: FBT001 - what is asked for
    if not condition:
        raise ValueError(objection)


def _refusal(document: dict[str, Any], error: Exception) -> CheckpointEncodeError:
    """Return the error for the first value that stands in the way of storing `document`."""
    objections = ((path, _objection(value, level)) for path, value, level in _walk(document))
    refusals = (
        CheckpointEncodeError(path[:_MAX_PATH_LENGTH], reason)
        for path, reason in objections
        if reason is not None
    )
    return next(refusals, CheckpointEncodeError("", f"cannot be encoded: {error}"))


def _objection(value: Any, level: int) -> str | None:
    match value:
        case str() if type(value) is str or isinstance(value, Enum):
            return None if is_unicode(value) else "holds a lone surrogate; replace it"
        case dict() | list() if level >= MAX_DEPTH:
            return f"is nested deeper than {MAX_DEPTH} levels; flatten it"
        case dict():
            return next(filter(None, map(_objection_to_key, value)), None)
        case list() | bool() | None:
            return None
        case int() if type(value) is int:
            fits = MIN_INT <= value <= MAX_INT
            return None if fits else "is an integer beyond 64 bits; save it as a str"
        case float() if type(value) is float:
            return None if math.isfinite(value) else f"is {value}, which JSON cannot hold"
        case _:
            return f"is a {type(value).__qualname__}, not a JSON value; convert it first"


def _objection_to_key(key: object) -> str | None:
    if not isinstance(key, str):
        return f"has the key {shown(key)[:80]}; use str keys only"
    return None if is_unicode(key) else "has a key with a lone surrogate; replace it"


def is_unicode(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: whether it has no lone surrogate."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def find_float(document: dict[str, Any], magnitude: float) -> tuple[str, float]:
    """Return the first float of that magnitude in `document`, its path before it."""
    found = ((path, value) for path, value, _ in _walk(document) if type(value) is float)
    return next((path, value) for path, value in found if abs(value) == magnitude)


def _walk(document: dict[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Yield every value with its path and its level, parents first, without recursion."""
    pending: list[tuple[str, Any, int]] = [("", document, 0)]
    while pending:
        path, value, level = pending.pop()
        yield path, value, level
        if isinstance(value, dict):
            children = [(member(path, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        else:
            continue
        pending.extend((name, item, level + 1) for name, item in reversed(children))


def member(path: str, key: object) -> str:
    """Return the path of a dict's item."""
    if not (isinstance(key, str) and key.isidentifier()):
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if path else key


_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")  # as signed bytes: deeper and out again
_CHUNK_BYTES = 64 * 1024


def is_too_deep(data: bytes) -> bool:
    """
    Tell whether the JSON text nests deeper than `MAX_DEPTH`, before anything decodes it.

    A recursive decoder would run out of stack first. Works on any bytes: where the text is
    not JSON it may answer False, and the decoder then stops at the first error, at most
    `2 * MAX_DEPTH` deep. Cost: a few passes in C; of what was made to nest so that these do
    not help also about 40 ns a bracket, in steps that hold the GIL for 2 ms each.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"..").replace(b'\\"', b"..")
    structure = data.translate(_ONE_KIND_OF_BRACKET, _NOT_STRUCTURE)
    shrunk, removed_levels = _without_leaves(structure)
    return _depth(shrunk) + removed_levels > MAX_DEPTH and _depth(structure) > MAX_DEPTH


def _without_leaves(structure: bytes) -> tuple[bytes, int]:
    """
    Remove the innermost containers again and again while that removes much.

    Two quotes side by side go too: few strings hold brackets. Both leave what follows them
    within a string, or outside of one, as it was.

    Returns:
        what is left, and how many levels less deep it is at most.
    """
    levels, removed_bytes = 0, len(structure)
    while removed_bytes > len(structure) // 8:
        smaller = structure.replace(b'""', b"").replace(b"[]", b"")
        removed_bytes = len(structure) - len(smaller)
        structure = smaller
        levels += 1
    return structure, levels


def _depth(structure: bytes) -> int:
    """Return how deep brackets outside of strings nest, of more than `MAX_DEPTH` not how much."""
    depths, deepest, is_text = [0], 0, False
    for start in range(0, len(structure), _CHUNK_BYTES):
        pieces = structure[start : start + _CHUNK_BYTES].split(b'"')
        brackets = b"".join(pieces[is_text::2])
        is_text ^= len(pieces) % 2 == 0
        steps = memoryview(brackets.translate(_STEPS)).cast("b")
        depths = [deepest, *accumulate(steps, initial=depths[-1])]
        deepest = max(depths)
        if deepest > MAX_DEPTH:
            break
    return deepest
