"""Changes that are called while those before them end: each is sent, whenever it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from aiocheckpoint.stores.postgres.blobs import KnownBlobs
from aiocheckpoint.stores.postgres.changes import Change, Delete
from aiocheckpoint.stores.postgres.commits import Commits

_ENOUGH_TURNS = 30
_NOTHING, _BUSY, _BASELESS = b"\x000", b"\x04", b"\x05"


class _Server:
    """Answers when it is told to."""

    location = "server"
    max_connections = 10
    options = SimpleNamespace(lock_timeout_seconds=1.0, lock_timeout_ms=1000)

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[bytes]]] = []

    async def run(self, *_: Any, **__: Any) -> list[bytes]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def location_of(self, session_id: str) -> str:
        return session_id

    def answer(self, *outcomes: bytes) -> None:
        """Say of all that was sent, one change at a time, that it removed nothing, or this."""
        while self.asked:
            self.asked.pop().set_result([*outcomes] or [_NOTHING])

    def fail(self, error: Exception) -> None:
        """Raise this of all that was sent."""
        while self.asked:
            self.asked.pop().set_exception(error)


class _Bodies:
    """Of no saves."""

    blobs = KnownBlobs()

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


def _called(commits: Commits, session_ids: Sequence[str]) -> list[asyncio.Task[int]]:
    return [
        asyncio.create_task(commits.make(Change(session_id, Delete((str(number),)))))
        for number, session_id in enumerate(session_ids)
    ]


async def test_a_session_goes_on_when_all_before_is_made() -> None:
    """A part of a commit is repeated; what is called meanwhile comes behind it, and no earlier."""
    server: Any = _Server()
    bodies: Any = _Bodies()
    commits = Commits(server, bodies, None)
    made = _called(commits, "aa")
    await _turns(_ENOUGH_TURNS)
    server.answer(_NOTHING, _BASELESS)
    await _turns(_ENOUGH_TURNS)
    assert made[0].done()
    made += _called(commits, "aab")
    await _turns(_ENOUGH_TURNS)
    assert len(server.asked) == 2  # what is repeated of a, and b
    server.answer()
    await _turns(_ENOUGH_TURNS)
    assert [task.done() for task in made] == [True, True, False, False, True]
    server.answer(_NOTHING, _NOTHING)
    await _turns(_ENOUGH_TURNS)
    assert all(task.done() for task in made)
    await commits.drained()


@pytest.mark.parametrize("before", [(), (_BUSY, _BASELESS)], ids=["together", "held"])
async def test_a_fault_of_ours_is_told_to_all_who_wait(before: tuple[bytes, ...]) -> None:
    """What nobody foresaw hangs nobody: it is raised from each call, and the next calls work."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    server: Any = _Server()
    bodies: Any = _Bodies()
    commits = Commits(server, bodies, None)
    made = _called(commits, "ab")
    await _turns(_ENOUGH_TURNS)
    if before:
        server.answer(*before)
        await _turns(_ENOUGH_TURNS)
    server.fail(RuntimeError("a fault"))
    await _turns(_ENOUGH_TURNS)
    assert all(isinstance(task.exception(), RuntimeError) for task in made)
    made = _called(commits, "ab")
    await _turns(_ENOUGH_TURNS)
    server.answer(_NOTHING, _NOTHING)
    await _turns(_ENOUGH_TURNS)
    assert [await task for task in made] == [0, 0]
    await commits.drained()
    assert told == []


def test_a_loop_may_end_while_some_wait_for_a_connection() -> None:
    """All is cancelled at once, and everybody who waits hears of it: nothing hangs."""
    server: Any = _Server()
    bodies: Any = _Bodies()
    made: list[asyncio.Task[int]] = []

    async def main() -> None:
        commits = Commits(server, bodies, None)
        made.extend(_called(commits, "ab"))
        await _turns(_ENOUGH_TURNS)
        while not commits.may_wait.locked():
            await commits.may_wait.acquire()
        server.answer(_BUSY, _BUSY)
        await _turns(_ENOUGH_TURNS)

    asyncio.run(main())
    assert all(task.done() for task in made)
