"""What callers of frameworks hand in, where the framework itself does not look at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiocheckpoint.kit import encode_id
from aiocheckpoint.kit import listed as given_several
from aiocheckpoint.kit import require_count as require_number


def listed(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """
    Return several things.

    Raises:
        InvalidArgumentError: one text or one mapping, which are iterable too, or nothing iterable.
    """
    return given_several(name, values, single=(str, bytes, Mapping))


def require_count(name: str, value: object, least: int = 0) -> None:
    """
    Refuse what is neither None nor a whole number of at least so much.

    Raises:
        InvalidArgumentError: it is not.
    """
    if value is not None:
        require_number(name, value, least)


def require_text(name: str, value: object) -> None:
    """
    Refuse what cannot be an id.

    Raises:
        InvalidIdError: it is no text, or has a lone surrogate.
    """
    given: Any = value
    encode_id(given, name)
