"""
One of the processes whose machine loses power; run by `power_cut`.

It works until it is killed, and writes a line before each call and one after it: whoever reads
them knows exactly what was acknowledged, and what was under way.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable
from typing import Any, Literal, TypeAlias

import msgspec

from aiocheckpoint import AsyncCheckpointWriter, BlobRecord, blob_digest
from tests.promises.records import CREATED_AT

SHARED = "shared"
_OWN_SESSIONS = 3
_MOST_KEPT = 12
_MOST_TEXT = 40_000
_BLOB_BYTES = 20_000

Durability: TypeAlias = Literal["journal", "file", "none"]


class Step(BlobRecord):
    """A checkpoint of which everything follows from its ids and its serial number."""

    serial: int
    text: str


def step(session_id: str, checkpoint_id: str, serial: int) -> Step:
    """Return the checkpoint; every fourth refers to a blob, which two in a row share."""
    text = f"{session_id}/{checkpoint_id}/{serial} é "
    size = random.Random(serial).choice((50, 500, 5000, _MOST_TEXT))
    blobs = blobs_of(serial)
    return Step(
        session_id=session_id,
        checkpoint_id=checkpoint_id,
        created_at=CREATED_AT,
        serial=serial,
        text=(text * (size // len(text) + 1))[:size],
        blob_digests=tuple(blobs),
    )


def blobs_of(serial: int) -> dict[str, bytes]:
    """Return the blobs of a checkpoint by their digests."""
    if serial % 4 > 1:
        return {}
    blob = random.Random(serial // 4).randbytes(_BLOB_BYTES)
    return {blob_digest(blob): blob}


class Began(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """
    A call is about to be made.

    Attributes:
        at: when, by the machine's monotonic clock, in nanoseconds.
        task: which makes it; each makes one after the other.
        kind: what it does.
        session: of which session.
        ids: with which checkpoints; empty for all of the session.
        serial: of the save, 0 for others.
    """

    at: int
    task: str
    kind: Literal["save", "delete", "drop", "flush"]
    session: str
    ids: tuple[str, ...] = ()
    serial: int = 0


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """
    The call of a task was acknowledged.

    Attributes:
        at: when.
        task: whose.
        count: how many checkpoints a delete says it has removed; -1 for other calls.
    """

    at: int
    task: str
    count: int = -1


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """
    A call failed, or a read showed what must not be; the process ends.

    Attributes:
        task: whose.
        error: what was raised.
    """

    task: str
    error: str


Line: TypeAlias = Began | Returned | Failed


def _tell(line: Line) -> None:
    # One write: whole, and with the other end before anything else can happen.
    os.write(1, msgspec.json.encode(line) + b"\n")


class Task:
    """
    Makes calls about its session, one after the other.

    Args:
        writer: of the process.
        name: of the task, in all runs.
        session: which it works on.
        dice: for all choices.
        serials: of its saves, from here on.
    """

    def __init__(
        self,
        writer: AsyncCheckpointWriter[Step],
        name: str,
        session: str,
        dice: random.Random,
        serial: int,
    ) -> None:
        self._writer = writer
        self._name = name
        self._session = session
        self._dice = dice
        self._serial = serial

    async def run(self) -> None:
        try:
            if self._session == SHARED:
                await self._share()
            else:
                await self._own()
        except Exception as error:
            _tell(Failed(task=self._name, error=f"{type(error).__name__}: {error}"))
            raise

    async def _own(self) -> None:
        """Work on a session of which nobody else knows."""
        kept = set(await self._writer.ids(self._session))
        await self._read(kept)
        while True:
            if len(kept) >= _MOST_KEPT or (kept and self._dice.random() < 0.3):
                if self._dice.random() < 0.15:
                    await self._drop(len(kept))
                    kept.clear()
                    continue
                gone = self._dice.sample(sorted(kept), self._dice.randint(1, min(3, len(kept))))
                await self._delete(gone)
                kept -= set(gone)
            else:
                again = kept and self._dice.random() < 0.3
                await self._save(self._dice.choice(sorted(kept)) if again else self._new_id())
                kept.add(self._last_id)
            if self._dice.random() < 0.1:
                await self._read(kept)

    async def _read(self, kept: set[str]) -> None:
        listed = [meta.checkpoint_id for meta in await self._writer.list(self._session)]
        assert sorted(listed) == sorted(kept), f"listed: {sorted(listed)}, saved: {sorted(kept)}"
        newest = await self._writer.load(self._session)
        assert (newest.checkpoint_id if newest else None) == (listed[0] if listed else None)

    async def _share(self) -> None:
        """
        Work on the session of all processes.

        A checkpoint whose id begins with `gift` is left to the other process once it is saved.
        """
        mine = f"own-{self._name}-"
        while True:
            ids = await self._writer.ids(SHARED)
            gifts = [i for i in ids if i.startswith("gift-") and f"-{self._name}-" not in i]
            own = [i for i in ids if i.startswith(mine)]
            chosen = self._dice.choice(gifts + own) if gifts + own else ""
            if chosen and (len(own) + len(gifts) >= _MOST_KEPT or self._dice.random() < 0.3):
                await self._delete([chosen])
            elif chosen and self._dice.random() < 0.3:
                await self._save(chosen)
            else:
                kind = self._dice.choice(("own", "gift"))
                await self._save(f"{kind}-{self._name}-{self._serial}")

    def _new_id(self) -> str:
        return f"{self._name}-{self._serial}"

    async def _save(self, checkpoint_id: str) -> None:
        serial = self._serial
        self._serial += 1
        self._last_id = checkpoint_id
        save = self._writer.save(step(self._session, checkpoint_id, serial), blobs=blobs_of(serial))
        await self._make("save", save, ids=(checkpoint_id,), serial=serial)
        if self._dice.random() < 0.01:
            await self._make("flush", self._writer.flush())

    async def _delete(self, ids: list[str]) -> None:
        delete = self._writer.delete_many(self._session, ids)
        await self._make("delete", delete, ids=tuple(ids))

    async def _drop(self, count: int) -> None:
        async def drop() -> int:
            return count if await self._writer.delete_session(self._session) else 0

        await self._make("drop", drop())

    async def _make(self, kind: Any, call: Awaitable[Any], **fields: Any) -> None:
        at = time.monotonic_ns()
        _tell(Began(at=at, task=self._name, kind=kind, session=self._session, **fields))
        result = await call
        count = result if kind in ("delete", "drop") else -1
        _tell(Returned(at=time.monotonic_ns(), task=self._name, count=count))


async def _work(root: str, process: str, seed: str, serial: str, durability: Durability) -> None:
    sessions = [SHARED, *(f"{process}-{number}" for number in range(_OWN_SESSIONS))]
    writer = AsyncCheckpointWriter(
        root,
        record_type=Step,
        durability=durability,
        max_journal_bytes=1 << 20,  # small, so that its parts are used again and again
        lock_timeout_seconds=20,
    )
    async with writer, asyncio.TaskGroup() as group:
        for number, session in enumerate(sessions):
            name = f"{process}{number}"
            dice = random.Random(f"{seed} {name}")
            # The serials of a process are 4 * n + 0..3: no two saves have the same.
            first = int(serial) + number * 100_000
            group.create_task(Task(writer, name, session, dice, first).run())


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))  # type: ignore[arg-type] # the durability is one
