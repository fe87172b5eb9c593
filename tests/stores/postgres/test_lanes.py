"""Changes that are called while those before them end: each is sent, whenever it comes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from aiocheckpoint.stores.postgres.changes import Change, Delete
from aiocheckpoint.stores.postgres.commits import Commits

_ENOUGH_TURNS = 30


class _Server:
    """Answers when it is told to."""

    max_connections = 10
    options = SimpleNamespace(lock_timeout_seconds=1.0, lock_timeout_ms=1000)

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[bytes]]] = []

    async def run(self, *_: Any, **__: Any) -> list[bytes]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def location_of(self, session_id: str) -> str:
        return session_id

    def answer(self) -> None:
        """Say of all that was sent, one change at a time, that it removed nothing."""
        while self.asked:
            self.asked.pop().set_result([b"\x000"])


class _Bodies:
    """Of no saves."""

    async def packed(self, changes: list[Change], **_: Any) -> list[None]:
        return [None] * len(changes)

    def made(self, *_: Any) -> None:
        """Remember nothing."""


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(12))
async def test_what_is_called_while_all_who_send_end_is_sent(turns: int) -> None:
    """Two commits are answered at one moment, and the next call comes some turns later."""
    server: Any = _Server()
    bodies: Any = _Bodies()
    commits = Commits(server, bodies, None)
    made: list[asyncio.Task[int]] = []
    for name in "ab":
        made.append(asyncio.create_task(commits.make(Change(name, Delete(("1",))))))
        await _turns(_ENOUGH_TURNS)
    assert len(server.asked) == 2
    server.answer()
    await _turns(turns)
    made.append(asyncio.create_task(commits.make(Change("c", Delete(("1",))))))
    await _turns(_ENOUGH_TURNS)
    server.answer()
    await _turns(_ENOUGH_TURNS)
    assert all(task.done() for task in made)
    await commits.drained()
