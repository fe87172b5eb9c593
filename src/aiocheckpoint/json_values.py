"""What may stand in a checkpoint: JSON values that come back as they went in; pure.

msgspec would write NaN as null, 1 and "1" as the same key and bytes as text, all in
silence. The check here goes through a document one level at a time, with the loops
inside C functions, and only a document that fails it is searched for the path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

from aiocheckpoint.errors import CheckpointEncodeError

MAX_DEPTH = 127
"""Containers inside one another, the document itself included; serde_json reads no more."""

_MIN_INT = -(2**63)
_MAX_INT = 2**64 - 1
_LEAVES = frozenset({str, int, float, bool, type(None)})
_PLAIN = _LEAVES | {dict, list, tuple}


def collect_floats(document: dict[str, Any]) -> list[float]:
    """
    Check that `document` is made of JSON values and return its floats.

    Tuples are taken for lists; subclasses of `dict`, `list` and `str` that msgspec encodes
    by value (`OrderedDict`, a `str` enum) for what they extend.

    Args:
        document: the whole document, keys being top-level fields.

    Raises:
        CheckpointEncodeError: with the path of the first value that is not JSON, not finite,
            beyond 64 bits, or nested deeper than `MAX_DEPTH`.
    """
    floats: list[float] = []
    dicts: list[dict[Any, Any]] = [document]
    lists: list[list[Any] | tuple[Any, ...]] = []
    for _ in range(MAX_DEPTH):
        if dicts and not set(map(type, chain.from_iterable(dicts))) <= {str}:
            _refuse(document)
        values = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
        kinds = set(map(type, values))
        if not kinds <= _PLAIN:
            _refuse(document)
            values = [_plain(value) for value in values]
            kinds = set(map(type, values))
        if float in kinds:
            level = [value for value in values if type(value) is float]
            if not all(map(math.isfinite, level)):
                _refuse(document)
            floats += level
        if int in kinds:
            integers = [value for value in values if type(value) is int]
            if min(integers) < _MIN_INT or max(integers) > _MAX_INT:
                _refuse(document)
        if kinds <= _LEAVES:
            return floats
        dicts = [value for value in values if type(value) is dict]
        lists = [value for value in values if type(value) is list or type(value) is tuple]
    raise CheckpointEncodeError(
        _deepest_path(document), f"is nested deeper than {MAX_DEPTH} levels; flatten it"
    )


def _plain(value: Any) -> Any:
    """Return what a value of an accepted subclass counts as."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    return str(value) if isinstance(value, str) else value


def _refuse(document: dict[str, Any]) -> None:
    """Raise for the first bad value in `document`; return if its odd types are acceptable."""
    for path, value in _walk(document):
        reason = _objection(value)
        if reason is not None:
            raise CheckpointEncodeError(path, reason)


def _objection(value: Any) -> str | None:
    match value:
        case bool() | str() | None | list() | tuple():
            return None
        case dict():
            odd = next((key for key in value if not isinstance(key, str)), None)
            return odd if odd is None else f"has the key {odd!r}; use str keys only"
        case int() if type(value) is int:
            fits = _MIN_INT <= value <= _MAX_INT
            return None if fits else "is an integer beyond 64 bits; save it as a str"
        case float() if type(value) is float:
            return None if math.isfinite(value) else f"is {value}, which JSON cannot hold"
        case _:
            return f"is a {type(value).__qualname__}, not a JSON value; convert it first"


def surrogate_path(document: dict[str, Any]) -> str:
    """Return the path of the first text in `document` with a lone surrogate."""
    for path, value in _walk(document):
        texts = [value] if isinstance(value, str) else value if isinstance(value, dict) else ()
        if any(isinstance(text, str) and not _is_utf8(text) for text in texts):
            return path
    return ""


def path_of_float(document: dict[str, Any], wanted: float) -> str:
    """Return the path of the first float in `document` equal to `wanted`."""
    found = (path for path, value in _walk(document) if type(value) is float and value == wanted)
    return next(found, "")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _deepest_path(document: dict[str, Any]) -> str:
    return max((path for path, _ in _walk(document, MAX_DEPTH)), key=_levels)[:200]


def _levels(path: str) -> int:
    return path.count(".") + path.count("[")


def _walk(document: dict[str, Any], max_levels: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield every value with its path, parents first, without recursion."""
    pending: list[tuple[str, Any, int]] = [("", document, 0)]
    while pending:
        path, value, level = pending.pop()
        yield path, value
        if level >= max_levels:
            continue
        if isinstance(value, dict):
            children = [(_member(path, key), item) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            children = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        else:
            continue
        pending.extend((name, item, level + 1) for name, item in reversed(children))


def _member(path: str, key: object) -> str:
    name = key if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
    return f"{path}.{name}" if path and not name.startswith("[") else f"{path}{name}"


_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")


def is_too_deep(data: bytes) -> bool:
    """
    Tell whether the JSON text nests deeper than `MAX_DEPTH`, before anything decodes it.

    A recursive decoder would run out of stack first. Works on any bytes: where the text is
    not JSON it may answer False, and the decoder then stops at the first error, at most
    `2 * MAX_DEPTH` deep. Cost: a few passes in C.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    structure = data.translate(_ONE_KIND_OF_BRACKET, _NOT_STRUCTURE)
    brackets = b"".join(structure.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        without_innermost = brackets.replace(b"[]", b"")
        if len(without_innermost) == len(brackets):
            break
        brackets = without_innermost
    return len(brackets) > MAX_DEPTH or b"[]" in brackets
