"""When a checkpoint on one side equals one on the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from aiocheckpoint import CheckpointData
from aiocheckpoint._format.floats import FloatSpelling, special_spellings
from tests.interop.flat import bits, flatten, from_bits


def document_of(record: CheckpointData) -> dict[str, Any]:
    """Return a record as the JSON document that it is."""
    document: dict[str, Any] = msgspec.to_builtins(record)
    return document


def comparable(document: dict[str, Any]) -> tuple[datetime, list[str]]:
    """
    Return what must be equal of two documents that say the same.

    Texts, integers and the bits of floats; of the time the instant, to the microsecond, as
    either side prints it in its own way.
    """
    created_at = msgspec.convert(document["created_at"], datetime)
    return created_at, flatten(document | {"created_at": None})


def floats_in(tokens: list[str]) -> Iterator[float]:
    """Yield the floats of a flat document."""
    return (from_bits(token[1:]) for token in tokens if token.startswith("d"))


def spellings_in(document: dict[str, Any]) -> Iterable[FloatSpelling]:
    """Return the floats of a document, without signs, that need another text than msgspec's."""
    return special_spellings(map(abs, floats_in(flatten(document)))).values()


def is_readable_as_printed(document: dict[str, Any]) -> bool:
    """Tell whether Rust is predicted to read all floats of its own file of `document` right."""
    return all(
        spelling.exact and spelling.written == spelling.printed
        for spelling in spellings_in(document)
    )


def as_rust_reads(document: dict[str, Any]) -> tuple[datetime, list[str]]:
    """
    Return `comparable` of what Rust is predicted to read from a file of ours.

    The same, but for the few floats that no digits make serde_json read right.
    """
    neighbours = {
        f"d{bits(sign * float(spelling.shortest))}": f"d{bits(sign * float(spelling.canonical))}"
        for spelling in spellings_in(document)
        if not spelling.exact
        for sign in (1, -1)
    }
    created_at, tokens = comparable(document)
    return created_at, [neighbours.get(token, token) for token in tokens]


def units_apart(one: float, other: float) -> int:
    """Return how many steps from one float to the next lie between two of the same sign."""
    return abs(int(bits(one), 16) - int(bits(other), 16))
