"""How serde_json, the Rust reader, prints and reads a float; pure.

Two of its habits decide what may stand in a file that it must accept:

* it prints a positive exponent with a sign, `1e+16`, where msgspec prints `1e16`;
* without its feature `float_roundtrip`, which the crate does not set, it reads
  `digits * 10**exponent` with one rounding too many, so about one in ten floats of
  17 digits comes back as its neighbour and the checksum of the whole file fails.

The second is met by spelling such a float with other digits that both a correct
reader and serde_json take for the same number: `0.0133204769081237250` for `...725`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

_POWERS_OF_TEN = tuple(float(f"1e{exponent}") for exponent in range(309))
_LEAST_EXPONENT = -308
_MAX_SIGNIFICAND = 2**64
# Up to 15 digits and a power of ten up to 1e22 are exact in binary, so one division rounds once.
_ALWAYS_EXACT_LENGTH = 16


class FloatSpelling(NamedTuple):
    """
    One float of a document whose text needs care; all texts are without the sign.

    Attributes:
        shortest: what msgspec prints.
        printed: what serde_json prints for the very same float.
        canonical: what serde_json prints after reading `written`; goes into the checksum.
        written: what goes into the file.
        exact: whether serde_json reads back the very same float.
    """

    shortest: bytes
    printed: bytes
    canonical: bytes
    written: bytes
    exact: bool


def special_spellings(values: Iterable[float]) -> dict[bytes, FloatSpelling]:
    """Return the spelling of each finite float that must not be written as msgspec prints it."""
    texts = _shortest([abs(value) for value in values if value])
    candidates = {text for text in texts if len(text) > _ALWAYS_EXACT_LENGTH or b"e" in text}
    if not candidates:  # as of most documents
        return {}
    spellings = map(_spell, candidates)
    return {spelling.shortest: spelling for spelling in spellings if spelling is not None}


def rust_spellings(texts: Collection[bytes]) -> Iterator[dict[bytes, bytes]]:
    """
    Yield how Rust writers may have printed floats before they hashed them, the likeliest first.

    Rust hashes the float it was given, not the one that it will read back; a few of our
    floats had to be hashed as what Rust will read; and up to 1.0.146 serde_json printed `1e16`.

    Args:
        texts: unsigned JSON numbers with a fraction or an exponent; keys of the answers.
    """
    shortest = dict(zip(texts, _shortest([*map(float, texts)]), strict=False))
    yield {text: _serde_text(key) for text, key in shortest.items()}
    special = special_spellings(map(float, texts))
    canonical = {key: spelling.canonical for key, spelling in special.items()}
    yield {text: canonical.get(key, key) for text, key in shortest.items()}
    yield shortest


def _shortest(values: list[float]) -> list[bytes]:
    """Return what msgspec prints for floats; one empty text for none."""
    return msgspec.json.encode(values)[1:-1].split(b",")


def _spell(shortest: bytes) -> FloatSpelling | None:
    value = float(shortest)
    significand, exponent = _parts(shortest)
    read = _serde_reads(significand, exponent)
    if read == value and b"e" not in shortest:
        return None
    printed = _serde_text(shortest)
    if read == value:
        return FloatSpelling(shortest, printed, printed, printed, exact=True)
    written = _respell(value, significand, exponent)
    if written is not None:
        return FloatSpelling(shortest, printed, printed, written, exact=True)
    neighbour = _serde_text(msgspec.json.encode(read))
    return FloatSpelling(shortest, printed, neighbour, printed, exact=False)


def _serde_text(shortest: bytes) -> bytes:
    return shortest if b"e-" in shortest else shortest.replace(b"e", b"e+")


def _parts(text: bytes) -> tuple[int, int]:
    mantissa, _, exponent = text.partition(b"e")
    integer, _, fraction = mantissa.partition(b".")
    return int(integer + fraction), int(exponent or 0) - len(fraction)


def _serde_reads(significand: int, exponent: int) -> float:
    """Return the float serde_json makes of the digits: one rounding a step."""
    value = float(significand)
    if exponent < _LEAST_EXPONENT:
        value /= 1e308
        exponent += 308
    power = _POWERS_OF_TEN[abs(exponent)]
    return value * power if exponent >= 0 else value / power


def _respell(value: float, significand: int, exponent: int) -> bytes | None:
    """Return digits that serde_json and a correct reader both take for `value`, or None."""
    while significand < _MAX_SIGNIFICAND:
        start = float(significand)
        spacing = int(math.ulp(start))
        for steps in (0, 1, -1, 2, -2):
            centre = int(start) + steps * spacing
            if _serde_reads(centre, exponent) != value:
                continue
            reach = max(spacing // 2 - 1, 0)
            digits = min(max(significand, centre - reach), centre + reach)
            text = _plain_text(digits, exponent)
            if (
                digits < _MAX_SIGNIFICAND
                and _serde_reads(digits, exponent) == value
                and float(text) == value
            ):
                return text
        significand *= 10
        exponent -= 1
    return None


def _plain_text(digits: int, exponent: int) -> bytes:
    """Write `digits * 10**exponent` with every digit kept, positional where that stays short."""
    text = str(digits)
    point = len(text) + exponent
    if 0 < point < len(text):
        return f"{text[:point]}.{text[point:]}".encode()
    if -5 < point <= 0:
        return f"0.{'0' * -point}{text}".encode()
    return f"{text[0]}.{text[1:]}e{point - 1:+d}".encode()
