"""Calls that wait in line for a session: for how long, and what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aiocheckpoint import StoreBusyError
from aiocheckpoint.kit import Turns

Advance = Callable[[float], None]


@pytest.fixture(name="advance")
def _advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    now = [0.0]
    monkeypatch.setattr("aiocheckpoint._lines.monotonic_seconds", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def nothing() -> None:
    """Be a change that begins."""


async def test_a_line_that_moves_is_not_busy(advance: Advance) -> None:
    """Each one before counts for itself, from when it went in or the call was made."""
    turns = Turns(10)
    first = await turns.take("s")
    second = asyncio.ensure_future(turns.take("s"))
    await asyncio.sleep(0)
    advance(9)
    place = turns.call("s", nothing)
    assert first is not None
    assert place is not None
    advance(9)
    assert turns.busy(place) is None  # though the first has held it for 18 seconds
    turns.give(first)
    advance(9)
    assert turns.busy(place) is None  # though it waits for as long
    advance(1)
    told = turns.busy(place)
    assert isinstance(told, StoreBusyError)
    assert (told.path, told.timeout_seconds, told.waiting) == ("session 's'", 10, 1)
    held = await second
    assert held is not None
    turns.give(held)
    assert turns.busy(place) is None
    assert turns.is_free("s")


async def test_who_waits_behind_one_that_waits_is_told_of_whom_it_waits_for(
    advance: Advance,
) -> None:
    """What holds one session and waits for another one holds nobody up that the other does not."""
    turns = Turns(10)
    first = await turns.take("b")
    second = asyncio.ensure_future(turns.take("b"))
    both = asyncio.ensure_future(turns.take(("a", "b")))
    await asyncio.sleep(0)
    place = turns.call("a", nothing)
    assert first is not None
    assert place is not None
    advance(9)
    turns.give(first)
    advance(9)
    assert turns.busy(place) is None
    advance(1)
    told = turns.busy(place)
    assert isinstance(told, StoreBusyError)
    assert (told.path, told.waiting) == ("session 'b'", 1)
    for waiting in (second, both):
        held = await waiting
        assert held is not None
        turns.give(held)
    assert turns.busy(place) is None


async def test_a_call_that_has_had_its_turn_waits_for_nobody() -> None:
    """Not even where no call may wait at all."""
    turns = Turns(0)
    first = await turns.take("s")
    place = turns.call("s", nothing)
    assert first is not None
    assert place is not None
    assert isinstance(turns.busy(place), StoreBusyError)
    turns.give(first)
    assert turns.busy(place) is None
