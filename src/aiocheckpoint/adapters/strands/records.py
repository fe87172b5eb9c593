"""What is stored of what Strands Agents keeps."""

from __future__ import annotations

from typing import NamedTuple

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.adapters._documents import DocumentRecord

_SEPARATORS = 2


class StoredValue(DocumentRecord, tag="strands.StoredValue"):
    """
    The bytes under one key; its session and its id, one behind the other, are the key.

    Attributes:
        revision: another one with each write, which begins with who wrote.
    """

    revision: str


class Place(NamedTuple):
    """
    Where a key is kept.

    Attributes:
        session_id: the key up to its second slash, as `session/support-42/`, or as far as it goes.
        checkpoint_id: the rest.
    """

    session_id: str
    checkpoint_id: str


def place_of(key: str, prefix: str = "") -> Place:
    """
    Return where a key beneath a prefix is kept; keys that differ differ in that.

    Raises:
        InvalidArgumentError: it is no text.
    """
    given: object = key
    if not isinstance(given, str):
        raise InvalidArgumentError("key", given, "text")
    key = prefix + given
    end = 0
    for _ in range(_SEPARATORS):
        end = key.find("/", end) + 1 or end
    return Place(key[:end], key[end:])


def value_at(place: Place, revision: str) -> StoredValue:
    """Return a value that is still without its bytes."""
    return StoredValue(
        session_id=place.session_id, checkpoint_id=place.checkpoint_id, revision=revision
    )


def is_of_one_session(prefix: str) -> bool:
    """Tell whether all keys that begin so are kept in one session."""
    return prefix.count("/") >= _SEPARATORS
