"""What is being stored, for whoever looks at a thread meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiocheckpoint import SessionId


class Underway:
    """
    What one saver is storing.

    LangGraph stores in the background, also when the run is left in which it did, as by a `break`
    at an interrupt. The next run begins with a look, and would begin from an older state. Nobody
    waits for another loop: it may be blocked by who waits.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._stored: dict[SessionId, set[asyncio.Future[None]]] = {}

    @contextmanager
    def storing(self, session_id: SessionId) -> Iterator[None]:
        """Note that something is being stored in the block."""
        stored = asyncio.get_running_loop().create_future()
        with self._mutex:
            self._stored.setdefault(session_id, set()).add(stored)
        try:
            yield
        finally:
            with self._mutex:
                left = self._stored[session_id]
                left.discard(stored)
                if not left:
                    del self._stored[session_id]
            if not stored.done():
                stored.set_result(None)

    async def settled(self, session_id: SessionId) -> None:
        """Wait until what this loop is storing by now is there, or could not be stored."""
        if session_id not in self._stored:
            return
        loop = asyncio.get_running_loop()
        with self._mutex:
            stored = [one for one in self._stored.get(session_id, ()) if one.get_loop() is loop]
        if stored:
            await asyncio.wait(stored)
