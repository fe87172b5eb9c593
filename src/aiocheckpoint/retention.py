"""What to prune; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

NameT = TypeVar("NameT")


def surplus(names: Sequence[NameT], max_kept: int | None) -> Sequence[NameT]:
    """
    Return the names to remove so that the newest `max_kept` stay.

    Args:
        names: oldest first.
        max_kept: how many may stay; None for all.
    """
    if max_kept is None:
        return ()
    return names[: max(len(names) - max_kept, 0)]
