"""A disk that is really full costs the save that did not fit, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointError, StorageFullError
from aiocheckpoint._engine.journal import JournaledSave, parse_segment
from aiocheckpoint._format import names as layout
from aiocheckpoint.writer import Durability
from tests.crash.checker import see_all
from tests.crash.disks import ext4, filled, tmpfs
from tests.crash.machine import Machine
from tests.crash.victim import BootedFiles

pytestmark = pytest.mark.blocking

_DISK_BYTES = 32 << 20
_SESSION = "s"


@pytest.fixture(name="disk", params=["ext4", "tmpfs"])
def _disk(request: pytest.FixtureRequest, disk_directory: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        if request.param == "ext4":
            yield stack.enter_context(ext4(disk_directory, _DISK_BYTES)).path
        else:
            yield stack.enter_context(tmpfs(disk_directory, _DISK_BYTES))


def _checkpoint(number: int, size_bytes: int = 1000) -> CheckpointData:
    return CheckpointData(
        session_id=_SESSION,
        checkpoint_id=f"n{number}",
        iteration=number,
        resume_hint="x" * size_bytes,
    )


@pytest.mark.parametrize("durability", ["journal", "file", "none"])
async def test_a_save_that_does_not_fit(disk: Path, durability: Durability) -> None:
    """The error names a path, the old state loads, and the next save works once there is room."""
    async with AsyncCheckpointWriter(disk / "state", durability=durability) as writer:
        await _save(writer, 1)
        with filled(disk):
            for number in (2, 3):
                with pytest.raises(StorageFullError) as caught:
                    await _save(writer, number, 200_000)
                assert caught.value.errno == errno.ENOSPC
                assert caught.value.path.startswith(str(disk / "state"))
                assert caught.value.path in str(caught.value)
                assert await _iterations(writer) == [1]
        await _save(writer, 4)
        assert await _iterations(writer) == [4, 1]
        assert await writer.check() == ()
    await _assert_reopened(disk, [4, 1])


async def test_a_journal_that_cannot_be_extended(disk: Path) -> None:
    """A save for which the journal has no room fails; it is usable again once there is some."""
    async with AsyncCheckpointWriter(disk / "state") as writer:
        await _save(writer, 1)
        with filled(disk, leaving_bytes=1 << 20):
            with pytest.raises(StorageFullError) as caught:
                await _save(writer, 2, 6 << 20)
            assert f"/{layout.PRIVATE_DIRECTORY}/{layout.JOURNAL_PREFIX}" in caught.value.path
            assert await _iterations(writer) == [1]
        await _save(writer, 3, 6 << 20)
        assert await _iterations(writer) == [3, 1]
        assert await writer.check() == ()
    await _assert_reopened(disk, [3, 1])


async def test_a_disk_that_fills_during_replay(disk: Path, victim: subprocess.Popen[bytes]) -> None:
    """Replay without room fails and keeps the journals; with room it brings everything back."""
    machine = Machine(victim, disk / "state", "journal")
    assert machine.live("after_sync_journal", 40)
    journals = _journals(disk)
    unflushed = [path for path in _journaled_files(disk) if path.exists()]
    for path in unflushed:
        os.truncate(path, 0)  # as a power cut does it
    assert unflushed

    with filled(disk):
        async with AsyncCheckpointWriter(disk / "state", files=BootedFiles("next")) as writer:
            with pytest.raises(StorageFullError):
                await writer.load("s0")
            with pytest.raises(CheckpointError):
                await see_all(writer)
        assert set(_journals(disk)) == set(journals)

    await machine.inspect(boot="next")
    assert _journals(disk) == []


def _journals(disk: Path) -> list[Path]:
    return sorted(disk.glob(f"state/{layout.PRIVATE_DIRECTORY}/{layout.JOURNAL_PREFIX}*"))


def _journaled_files(disk: Path) -> list[Path]:
    """Return the checkpoint files that replay can bring back."""
    return [
        disk / "state" / entry.session / layout.CHECKPOINTS_DIRECTORY / entry.name
        for path in _journals(disk)
        for entry in parse_segment(path.read_bytes(), str(path)).entries
        if isinstance(entry, JournaledSave)
    ]


async def _save(
    writer: AsyncCheckpointWriter[CheckpointData], number: int, size_bytes: int = 1000
) -> None:
    await writer.save(_checkpoint(number, size_bytes))


async def _iterations(writer: AsyncCheckpointWriter[CheckpointData]) -> list[int]:
    """Return what loads, newest first; the newest must be what `load` gives."""
    metas = await writer.list(_SESSION)
    loaded = [await writer.load(_SESSION, meta.checkpoint_id) for meta in metas]
    assert all(record is not None for record in loaded)
    assert await writer.load(_SESSION) == loaded[0]
    return [record.iteration for record in loaded if record is not None]


async def _assert_reopened(disk: Path, iterations: list[int]) -> None:
    async with AsyncCheckpointWriter(disk / "state") as writer:
        assert await _iterations(writer) == iterations
        assert await writer.check() == ()
