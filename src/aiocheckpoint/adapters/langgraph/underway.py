"""What is being stored, for whoever looks at a thread meanwhile."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Event, get_running_loop, sleep
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from aiocheckpoint import SessionId

_OfLoop = dict[SessionId, set[Event]]

_ROUNDS = 4  # of the loop: by then LangGraph has begun to store what waited for what is stored
_MAX_WAITS = 32  # for a run that does not end


class Underway:
    """
    What one saver is storing.

    LangGraph stores in the background, one behind the other, also when the run is left in which it
    did, as by a `break` at an interrupt. The next run begins with a look, and would begin from an
    older state. Nobody waits for another loop: it may be blocked by who waits.
    """

    def __init__(self) -> None:
        # An Event knows no loop until somebody waits for it, so a loop that is dropped goes.
        self._stored: WeakKeyDictionary[AbstractEventLoop, _OfLoop] = WeakKeyDictionary()

    @contextmanager
    def storing(self, session_id: SessionId) -> Iterator[None]:
        """Note that something is being stored in the block."""
        loop, stored = get_running_loop(), Event()
        of_loop = self._stored.setdefault(loop, {})
        of_loop.setdefault(session_id, set()).add(stored)
        try:
            yield
        finally:
            of_loop[session_id].discard(stored)
            if not of_loop[session_id]:
                del of_loop[session_id]
            if not loop.is_closed():
                stored.set()

    async def settled(self, session_id: SessionId, *, is_run: bool) -> None:
        """
        Wait until what this loop is storing is there, or could not be stored.

        Args:
            session_id: where.
            is_run: whether to wait also for what comes right behind it, of a run that was left.

        Cost: a few rounds of the loop for a run. Whoever stores makes none: that is more often.
        """
        of_loop = self._stored.setdefault(get_running_loop(), {})
        for _ in range(_MAX_WAITS if is_run else 1):
            if not await _is_storing(of_loop, session_id, _ROUNDS if is_run else 0):
                return
            for stored in tuple(of_loop[session_id]):
                await stored.wait()


async def _is_storing(of_loop: _OfLoop, session_id: SessionId, rounds: int) -> bool:
    """Tell whether something is being stored, or is within some rounds of the loop, all of them."""
    for _ in range(rounds):
        if session_id in of_loop:
            return True
        await sleep(0)
    return session_id in of_loop
