"""A file's name stands for one content for ever, whatever clocks and other writers do."""

from __future__ import annotations

import errno
import itertools
import shutil
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, Durability, StorageError
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.on_disk import path_of

pytestmark = [pytest.mark.blocking, pytest.mark.usefixtures("no_flushing")]

_NOON = 1_795_000_000_000_000
_DAY = 86_400_000_000


@pytest.fixture(name="_clock", params=["stands", "goes back"])
def _clock_fixture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock stand still, or go back by a day with each look."""
    step = 0 if request.param == "stands" else -_DAY
    times = itertools.count(_NOON, step)
    monkeypatch.setattr("aiocheckpoint._engine.plan.now_microseconds", times.__next__)


def _record(checkpoint_id: str, iteration: int = 0) -> CheckpointData:
    return CheckpointData(session_id="s", checkpoint_id=checkpoint_id, iteration=iteration)


async def _name_of(writer: AsyncCheckpointWriter[CheckpointData], checkpoint_id: str) -> str:
    (found,) = [m for m in await writer.list("s") if m.checkpoint_id == checkpoint_id]
    return path_of(found).name


async def _found_after_crash(root: Path) -> list[tuple[str, int]]:
    """Return ids and iterations that a copy of the root shows, before and after a flush."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    async with AsyncCheckpointWriter(copy) as writer:
        before = [(meta.checkpoint_id, meta.iteration) for meta in await writer.list("s")]
        await writer.flush()
        after = [(meta.checkpoint_id, meta.iteration) for meta in await writer.list("s")]
        assert await writer.check() == ()
    shutil.rmtree(copy)
    assert before == after
    return after


@pytest.mark.usefixtures("_clock")
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_a_save_repeated_after_it_failed(root: Path, durability: Durability) -> None:
    """A save that failed and is made again stays, though the clock is behind for both."""
    files = FaultyFiles()
    async with AsyncCheckpointWriter(root, files=files, durability=durability) as writer:
        await writer.save(_record("first"))
        files.arm(Fault(errno.EIO, "sync data"))
        with pytest.raises(StorageError):
            await writer.save(_record("again", 1))
        files.arm(None)
        assert await _found_after_crash(root) == [("first", 0)]
        await writer.save(_record("again", 2))
        assert await _found_after_crash(root) == [("again", 2), ("first", 0)]
        await writer.save(_record("later", 3))
        expected = [("later", 3), ("again", 2), ("first", 0)]
        assert await _found_after_crash(root) == expected


@pytest.mark.usefixtures("_clock")
async def test_a_save_by_another_writer_after_a_delete(root: Path) -> None:
    """A name that was deleted is given to nothing else, by whoever, with the clock behind."""
    async with AsyncCheckpointWriter(root) as one, AsyncCheckpointWriter(root) as other:
        await one.save(_record("first"))
        given: list[str] = []
        for number, writer in enumerate((one, other, other, one)):
            await writer.save(_record("again", number))
            given.append(await _name_of(writer, "again"))
            assert await one.delete("s", "again")
            assert await _found_after_crash(root) == [("first", 0)]
        assert given == sorted(set(given))


@pytest.mark.usefixtures("_clock")
async def test_a_replaced_checkpoint(root: Path) -> None:
    """A replacement has a name of its own, behind all others, flushed or not."""
    async with AsyncCheckpointWriter(root) as one, AsyncCheckpointWriter(root) as other:
        given: list[str] = []
        for number in range(6):
            writer = (one, other)[number % 2]
            await writer.save(_record("same", number))
            given.append(await _name_of(writer, "same"))
            if number == 3:
                await writer.flush()
        assert given == sorted(set(given))
        assert await _found_after_crash(root) == [("same", 5)]
