"""What to prune; pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

NameT = TypeVar("NameT")
KeyT = TypeVar("KeyT", bound=Hashable)


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


def expired(times: Mapping[KeyT, datetime], oldest: datetime) -> set[KeyT]:
    """
    Return what to remove so that nothing stays that is older than a time.

    Args:
        times: when each was saved.
        oldest: the first time that stays.
    """
    return {key for key, time in times.items() if time < oldest}
