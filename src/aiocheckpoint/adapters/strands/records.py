"""What is stored of what Strands Agents keeps."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.adapters._documents import DocumentRecord
from aiocheckpoint.adapters._storage import Names

NAMES: Final = Names("strands")
_SEPARATORS = 2


class StoredValue(DocumentRecord, tag="strands.StoredValue"):
    """
    The bytes under one key: its session and its id, one behind the other, are `strands.` and it.

    Attributes:
        revision: another one with each write, which begins with who wrote.
    """

    revision: str


class Place(NamedTuple):
    """
    Where a key is kept.

    Attributes:
        session_id: named by the key up to its second slash, as `strands.session/support-42/`, or as
            far as it goes.
        checkpoint_id: the rest.
    """

    session_id: str
    checkpoint_id: str

    @property
    def key(self) -> str:
        """The whole key."""
        return NAMES.text_in(self.session_id) + self.checkpoint_id


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
    return Place(NAMES.of(key[:end]), key[end:])


def value_at(place: Place, revision: str) -> StoredValue:
    """Return a value that is still without its bytes."""
    return StoredValue(
        session_id=place.session_id, checkpoint_id=place.checkpoint_id, revision=revision
    )


def is_of_one_session(prefix: str) -> bool:
    """Tell whether all keys that begin so are kept in one session."""
    return prefix.count("/") >= _SEPARATORS
