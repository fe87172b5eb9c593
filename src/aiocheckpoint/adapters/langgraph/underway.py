"""What is being stored, for whoever looks at a thread meanwhile."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager

from aiocheckpoint import SessionId

# After so many rounds of the loop LangGraph has begun to store what waited for what is stored.
_ROUNDS = 4
_MAX_WAITS = 32  # for a run that does not end


class Underway:
    """
    What one saver is storing.

    LangGraph stores in the background, one behind the other, also when the run is left in which it
    did, as by a `break` at an interrupt. The next run begins with a look, and would begin from an
    older state. Nobody waits for another loop: it may be blocked by who waits.
    """

    def __init__(self) -> None:
        self._stored: dict[tuple[AbstractEventLoop, SessionId], set[Future[None]]] = {}

    @contextmanager
    def storing(self, session_id: SessionId) -> Iterator[None]:
        """Note that something is being stored in the block."""
        place = get_running_loop(), session_id
        stored = place[0].create_future()
        self._stored.setdefault(place, set()).add(stored)
        try:
            yield
        finally:
            self._end(place, stored, _ROUNDS)

    def _end(
        self, place: tuple[AbstractEventLoop, SessionId], stored: Future[None], rounds: int
    ) -> None:
        loop, is_over = place[0], place[0].is_closed()
        if rounds and not is_over:
            loop.call_soon(self._end, place, stored, rounds - 1)
            return
        self._stored[place].discard(stored)
        if not self._stored[place]:
            del self._stored[place]
        if not is_over:
            stored.set_result(None)

    async def settled(self, session_id: SessionId, *, is_run: bool) -> None:
        """
        Wait until what this loop is storing is there, or could not be stored.

        Args:
            session_id: where.
            is_run: whether to wait also for what comes right behind it, of a run that was left.
        """
        for _ in range(_MAX_WAITS if is_run else 1):
            stored = self._stored.get((get_running_loop(), session_id))
            if not stored:
                return
            await asyncio.wait(tuple(stored))
