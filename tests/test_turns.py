"""Calls that wait in line for a session: for how long, and what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from aiocheckpoint import StoreBusyError
from aiocheckpoint.kit import Turns

Advance = Callable[[float], None]


@pytest.fixture(name="advance")
def _advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    now = [0.0]
    monkeypatch.setattr("aiocheckpoint._turns.monotonic_seconds", lambda: now[0])

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


def begun_on_a_closed_loop(turns: Turns, *keys: str) -> Coroutine[object, None, object]:
    """Return a call that waits in line, and whose event loop is not there any more."""

    async def begin() -> Coroutine[object, None, object]:
        call = turns.take(keys)
        call.send(None)
        return call

    return asyncio.run(begin())


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("keys", [("s",), ("s", "t"), ("t", "s")])
def test_a_call_whose_loop_was_closed_leaves_the_line_once(
    keys: tuple[str, ...], is_held: bool
) -> None:
    """It is passed over when its turn comes; its own end later disturbs nobody."""
    turns = Turns()
    first = asyncio.run(turns.take(("s", "t")))
    gone = begun_on_a_closed_loop(turns, *keys)
    assert first is not None
    turns.give(first)
    assert turns.is_free("s")
    assert turns.is_free("t")
    held = asyncio.run(turns.take("s")) if is_held else None
    gone.close()
    assert turns.is_free("s") is not is_held
    if held is not None:
        turns.give(held)
    assert turns.is_free("s")


def test_any_number_of_calls_of_closed_loops_are_passed_over() -> None:
    """However many stand before it, the next call has its turn, in one line or in several."""
    turns, begun = Turns(), list[str]()
    first = asyncio.run(turns.take(("s", "t")))
    gone = [begun_on_a_closed_loop(turns, *"st"[:: 1 - 2 * (n % 2)]) for n in range(700)]
    turns.call("s", lambda: begun.append("s"))
    turns.call("t", lambda: begun.append("t"))
    assert first is not None
    turns.give(first)
    assert sorted(begun) == ["s", "t"]
    assert turns.is_free("s")
    assert turns.is_free("t")
    for call in gone:
        call.close()
