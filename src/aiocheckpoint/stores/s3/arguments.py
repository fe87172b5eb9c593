"""What a store in a bucket may be told of its server."""

from __future__ import annotations

from aiocheckpoint.errors import InvalidArgumentError
from aiocheckpoint.kit import require_seconds


def require_time(**given: float) -> None:
    """
    Refuse what is no time above 0.

    Raises:
        InvalidArgumentError: one is none.
    """
    for name, seconds in given.items():
        require_seconds(name, seconds)
        if not seconds:
            raise InvalidArgumentError(name, seconds, "more than 0 seconds")


def require_texts(**given: object) -> None:
    """
    Refuse what is neither a text nor left out.

    Raises:
        InvalidArgumentError: one is neither.
    """
    for name, text in given.items():
        if text is not None and not isinstance(text, str):
            raise InvalidArgumentError(name, text, "a str, or None")
