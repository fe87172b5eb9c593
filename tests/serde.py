"""
What the Rust crate does to a checkpoint, told again with the standard library alone.

The promise is interoperability, so the tests of the format share no code with it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

_POWERS_OF_TEN = [float(f"1e{exponent}") for exponent in range(309)]
_MAX_U64 = 2**64 - 1

FloatText = Callable[[float], str]


def print_float(value: float) -> str:
    """Print a float as serde_json 1.0.150 and later do: shortest digits, `1e+16`, `0.00001`."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = len(text) + exponent
    if value == 0:
        number = "0.0"
    elif len(text) <= point <= 16:
        number = text + "0" * exponent + ".0"
    elif 0 < point <= 16:
        number = f"{text[:point]}.{text[point:]}"
    elif -5 < point <= 0:
        number = f"0.{'0' * -point}{text}"
    else:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        number = f"{text[0]}{fraction}e{point - 1:+}"
    return "-" * sign + number


def print_float_before_1_0_150(value: float) -> str:
    """Print a float as serde_json did while it used the `ryu` crate: `1e16`."""
    return print_float(value).replace("e+", "e")


def read_float(text: str) -> float:
    """Read a number with a fraction or exponent as serde_json does without `float_roundtrip`."""
    mantissa, _, exponent_text = text.lower().lstrip("-").partition("e")
    integer, _, fraction = mantissa.partition(".")
    significand, exponent, full = 0, int(exponent_text or 0), False
    for place, digit in enumerate(integer + fraction):
        full = full or significand * 10 + int(digit) > _MAX_U64
        if not full:
            significand = significand * 10 + int(digit)
            exponent -= place >= len(integer)
        elif place < len(integer):
            exponent += 1
    value = float(significand)
    while abs(exponent) > 308 and value != 0.0:
        if exponent > 0:
            raise OverflowError("number out of range")
        value /= 1e308
        exponent += 308
    if value != 0.0:
        power = _POWERS_OF_TEN[abs(exponent)]
        value = value * power if exponent >= 0 else value / power
    return math.copysign(value, -1.0 if text.startswith("-") else 1.0)


def canonical(value: Any, float_text: FloatText = print_float) -> str:
    """Return the text that is hashed: keys sorted, no white space, non-ASCII as it is."""
    match value:
        case dict():
            members = (
                f"{json.dumps(key, ensure_ascii=False)}:{canonical(item, float_text)}"
                for key, item in sorted(value.items())
            )
            return f"{{{','.join(members)}}}"
        case list() | tuple():
            return f"[{','.join(canonical(item, float_text) for item in value)}]"
        case float():
            return float_text(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def checksum(document: dict[str, Any], float_text: FloatText = print_float) -> str:
    """Return the SHA-256 of a document's canonical text."""
    return hashlib.sha256(canonical(document, float_text).encode()).hexdigest()


def write(document: dict[str, Any], float_text: FloatText = print_float) -> bytes:
    """Return the file that a Rust writer makes of a document, on one line."""
    extra = {"_checksum": checksum(document, float_text), "_version": "1.0"}
    return canonical(document | extra, float_text).encode()


def read(body: bytes) -> dict[str, Any]:
    """Return the document in a file as a Rust reader gets it; AssertionError when refused."""
    document: dict[str, Any] = json.loads(body, parse_float=read_float)
    assert document.pop("_version") == "1.0"
    assert document.pop("_checksum") == checksum(document)
    return document
