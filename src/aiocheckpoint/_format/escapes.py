"""How values that JSON lacks are marked in it; pure.

An object of one key is an escape if that key begins with the mark, and nothing else is. What
stands in files never changes: kinds are added, and none is given another meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiocheckpoint._format.json_values import MAX_DEPTH, member

MARK = "!"
DICT = "!dict"
OWN = "!own"
COLLECTIONS: dict[type, str] = {tuple: "!tuple", set: "!set", frozenset: "!frozenset"}

_MAX_PATH_LENGTH = 200


class RefusedError(Exception):
    """
    A value that is in the way, on its way up to where its path is known.

    Attributes:
        reason: what is wrong with it.
        cause: what told so.
        steps: keys and indexes from the value upwards.
    """

    def __init__(self, reason: str, cause: Exception | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.steps: list[object] = []

    def path_from(self, path: str) -> str:
        """Return the path of the value."""
        for step in reversed(self.steps):
            path = member(path, step)
        return path[:_MAX_PATH_LENGTH]


def with_changes(items: list[Any], changes: Iterable[tuple[int, Any]]) -> list[Any]:
    """Return a list with other items at some indexes."""
    items = list(items)
    for index, item in changes:
        items[index] = item
    return items


def require_level(level: int) -> None:
    """
    Refuse a container in which nothing can be read again.

    Args:
        level: how many containers it is in, the record itself included.

    Raises:
        RefusedError: it is too deep.
    """
    if level >= MAX_DEPTH:
        raise RefusedError(f"is nested deeper than {MAX_DEPTH} levels as JSON; flatten it")
