"""Promises of what is pruned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocheckpoint._format.retention import surplus


@given(st.lists(st.text()), st.none() | st.integers(0, 20))
def test_the_newest_stay(names: list[str], max_kept: int | None) -> None:
    """What is to go is the oldest, and what stays is as many of the newest as may."""
    removed = list(surplus(names, max_kept))

    kept = names[len(removed) :]
    assert removed + kept == names
    assert len(kept) == (len(names) if max_kept is None else min(len(names), max_kept))


@pytest.mark.parametrize(
    ("max_kept", "removed"), [(None, []), (0, ["a", "b", "c"]), (2, ["a"]), (3, []), (9, [])]
)
def test_known_limits(max_kept: int | None, removed: list[str]) -> None:
    """A limit of 0 keeps none, None keeps all."""
    assert list(surplus(["a", "b", "c"], max_kept)) == removed
