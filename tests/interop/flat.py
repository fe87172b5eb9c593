"""
A JSON value as a flat list of tokens, so that the transport neither nests, nor reads or prints
a number: `{"a": [1, 0.5]}` is `{ ka [ i1 d3fe0000000000000 ] }`. Equal lists are equal values,
down to the bits of a float.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_CLOSING = frozenset("]}")


def flatten(value: Any) -> list[str]:
    """Return the tokens of a JSON value, keys in order of code points."""
    return list(_tokens(value))


def _tokens(value: Any) -> Iterator[str]:
    match value:
        case None:
            yield "n"
        case bool():
            yield "t" if value else "f"
        case int():
            yield f"i{value}"
        case float():
            yield f"d{bits(value)}"
        case str():
            yield f"s{value}"
        case dict():
            yield "{"
            for key in sorted(value):
                yield f"k{key}"
                yield from _tokens(value[key])
            yield "}"
        case list() | tuple():
            yield "["
            for item in value:
                yield from _tokens(item)
            yield "]"
        case _:
            raise TypeError(type(value))


def unflatten(tokens: list[str]) -> Any:
    """Return the JSON value that tokens stand for."""
    rest = iter(tokens)
    value = _value(next(rest), rest)
    assert next(rest, None) is None
    return value


def _value(token: str, rest: Iterator[str]) -> Any:
    kind, text = token[0], token[1:]
    match kind:
        case "n":
            return None
        case "t" | "f":
            return kind == "t"
        case "i":
            return int(text)
        case "d":
            return from_bits(text)
        case "s":
            return text
        case "[":
            return [_value(item, rest) for item in _until_closed(rest)]
        case "{":
            return {key[1:]: _value(next(rest), rest) for key in _until_closed(rest)}
        case _:
            raise ValueError(token)


def _until_closed(rest: Iterator[str]) -> Iterator[str]:
    return iter(lambda: _opening_or_none(next(rest)), None)


def _opening_or_none(token: str) -> str | None:
    return None if token in _CLOSING else token


def bits(value: float) -> str:
    """Return the bits of a float as 16 hex digits."""
    return struct.pack(">d", value).hex()


def from_bits(digits: str) -> float:
    """Return the float of 16 hex digits."""
    value: float = struct.unpack(">d", bytes.fromhex(digits))[0]
    return value
