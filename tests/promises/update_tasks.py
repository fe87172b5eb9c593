"""What a worker can be told to do by `update` and `own`; each is given its writer first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TypeAlias

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    Transaction,
)
from tests.promises.records import record

Writer: TypeAlias = AsyncCheckpointWriter[CheckpointData]
Session: TypeAlias = Transaction[CheckpointData]


async def count_up(session: Session, name: str = "n") -> int:
    """Stage the record after the newest, and return its number."""
    newest = await session.load()
    number = newest.iteration + 1 if newest else 1
    session.save(record(session.session_id, f"{name}{number:06d}", number))
    return number


async def count(writer: Writer, session_id: str, times: int) -> list[int]:
    """Add one to a counter so many times; return what it was then."""
    return [await writer.update(session_id, count_up) for _ in range(times)]


async def count_in_many(writer: Writer, session_ids: list[str], times: int) -> None:
    """Add one to the counters of several sessions as one step, so many times."""

    async def work(sessions: Mapping[str, Session]) -> None:
        numbers = [await count_up(session) for session in sessions.values()]
        assert len(set(numbers)) == 1, numbers

    for _ in range(times):
        await writer.update_many(session_ids, work)


async def pop(writer: Writer, session_id: str) -> list[str]:
    """Take the newest out of a session until it is empty; return what was taken."""

    async def work(session: Session) -> str | None:
        for checkpoint_id in await session.ids(limit=1):
            session.delete(checkpoint_id)
            return checkpoint_id
        return None

    taken: list[str] = []
    while (found := await writer.update(session_id, work)) is not None:
        taken.append(found)
    return taken


async def save_once(writer: Writer, session_id: str, key: str) -> bool:
    """Save what has a key unless it is there; tell whether that was here."""

    async def work(session: Session) -> bool:
        if await session.load(key) is not None:
            return False
        session.save(record(session_id, key))
        return True

    return await writer.update(session_id, work)


async def save_pairs_for_ever(writer: Writer, session_id: str) -> AsyncIterator[int]:
    """Replace both of a pair of records as one step until the process is killed."""
    number = 0

    async def work(session: Session) -> None:
        for name in ("left", "right"):
            session.save(record(session_id, name, number, size=20_000))

    while True:
        number += 1
        await writer.update(session_id, work)
        if number == 3:
            yield number
