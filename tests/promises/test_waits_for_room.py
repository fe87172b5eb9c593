"""What has begun and then finds no room on the disk waits for some no longer than it is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter, StorageFullError
from aiocheckpoint._disk.append import Appender
from aiocheckpoint._engine.demand import Demand
from aiocheckpoint._format.entries import Entry
from tests.conftest import MakeWriter
from tests.faults import Hold
from tests.promises.records import record

_GUARD_SECONDS = 20


class FullDisk:
    """
    A journal that takes no contents, and a wait for room that lasts until the test ends it.

    Attributes:
        is_full: whether it is.
        hold: where the wait is.
        waited_seconds: how long each wait was to be at most.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        self.hold = Hold()
        self.waited_seconds: list[float] = []
        append = Appender.append

        def appended(
            appender: Appender,
            entries: Sequence[Entry],
            bodies: Sequence[bytes],
            *args: Any,
            **options: Any,
        ) -> Any:
            if self.is_full and bodies:
                raise StorageFullError("write", "slot", errno.ENOSPC, "full")
            return append(appender, entries, bodies, *args, **options)

        def waited(_: Demand, seconds: float) -> None:
            self.waited_seconds.append(seconds)
            self.hold()

        patch.setattr(Appender, "append", appended)
        patch.setattr(Demand, "wait_for_flush", waited)


@pytest.fixture(name="disk")
def _disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FullDisk]:
    disk = FullDisk(monkeypatch)
    yield disk
    disk.hold.release()


async def test_a_save_is_refused_in_time(make_writer: MakeWriter, disk: FullDisk) -> None:
    """Its limit is `lock_timeout_seconds`, also where the wait for room would go on."""
    writer = make_writer(lock_timeout_seconds=0.05)
    async with asyncio.timeout(_GUARD_SECONDS):
        with pytest.raises(StorageFullError, match=r"^write failed on .*no room for 0\.05 s"):
            await writer.save(record("s", "a"))
    assert disk.waited_seconds == [0.05]
    disk.is_full = False
    disk.hold.release()
    async with asyncio.timeout(_GUARD_SECONDS):
        while not await _is_saved(writer, "b"):
            pass
    assert await writer.ids("s") == ("b",), "what was refused came back"


async def _is_saved(writer: AsyncCheckpointWriter[Any], checkpoint_id: str) -> bool:
    """Save, unless that takes longer than the writer's patience: a machine may be slow."""
    with contextlib.suppress(StorageFullError):
        return bool(await writer.save(record("s", checkpoint_id)))
    return False


async def test_a_save_is_withdrawn_at_once(make_writer: MakeWriter, disk: FullDisk) -> None:
    """A caller that is cancelled, or whose time is up, leaves; who shared its commit waits on."""
    writer = make_writer()
    stays, cancelled = (asyncio.create_task(writer.save(record("s", key))) for key in "ab")
    await asyncio.to_thread(disk.hold.wait_arrived)
    async with asyncio.timeout(_GUARD_SECONDS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await writer.save(record("s", "c"))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert not stays.done()
    disk.is_full = False
    disk.hold.release()
    assert await stays == "a"
    assert await writer.ids("s") == ("a",), "what was withdrawn was saved"


async def test_a_save_that_was_cancelled_before_ends_then(
    make_writer: MakeWriter, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is cancelled while it is written ends as soon as there is no room for it."""
    writer = make_writer()
    begun, refusing = Hold(), Appender.append

    def held(*args: Any, **options: Any) -> Any:
        begun()
        return refusing(*args, **options)

    monkeypatch.setattr(Appender, "append", held)
    saving = asyncio.create_task(writer.save(record("s", "a")))
    await asyncio.to_thread(begun.wait_arrived)
    saving.cancel()
    await asyncio.sleep(0)
    assert not saving.done()
    begun.release()
    async with asyncio.timeout(_GUARD_SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await saving
    assert disk.waited_seconds == []
    disk.is_full = False
    assert await writer.ids("s") == ()
