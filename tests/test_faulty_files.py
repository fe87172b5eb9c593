"""The disk that fails where told: it fails there, only there, and leaves no descriptor open."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData, DurabilityUnknownError, StorageError, StorageFullError
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.durabilities import SYNCED_FILES


def checkpoint(iteration: int) -> CheckpointData:
    """Return a checkpoint of session `s`."""
    return CheckpointData(session_id="s", iteration=iteration)


async def test_only_the_nth_call_fails(make_writer: MakeWriter, no_flushing: None) -> None:
    """A fault armed for the second call of a kind lets the first and the third pass."""
    disk = FaultyFiles()
    writer = make_writer(files=disk)
    await writer.save(checkpoint(0))
    disk.arm(Fault(errno.EIO, "sync data", nth=1))
    await writer.save(checkpoint(1))
    with pytest.raises(StorageError) as caught:
        await writer.save(checkpoint(2))
    await writer.save(checkpoint(3))
    assert (caught.value.operation, caught.value.errno) == ("sync data", errno.EIO)
    assert [meta.iteration for meta in await writer.list("s")] == [3, 1, 0]
    assert [call.operation for call in disk.failed] == ["sync data"]


async def test_a_fault_for_ever_ends_when_the_disk_is_healed(make_writer: MakeWriter) -> None:
    """Every call from the n-th on fails until the fault is taken away."""
    disk = FaultyFiles(Fault(errno.ENOSPC, "create", for_ever=True))
    writer = make_writer(files=disk, **SYNCED_FILES)
    with pytest.raises(DurabilityUnknownError):
        await writer.save(checkpoint(0))
    for iteration in (1, 2):
        with pytest.raises(StorageFullError):
            await writer.save(checkpoint(iteration))
    assert {call.operation for call in disk.failed} == {"create"}
    disk.arm(None)
    await writer.flush()
    await writer.save(checkpoint(3))
    assert [meta.iteration for meta in await writer.list("s")] == [3, 0]


def test_a_call_may_fail_after_its_effect(tmp_path: Path) -> None:
    """A rename that fails after its effect has renamed; one that fails before has not."""
    disk = FaultyFiles()
    directory = disk.open_path(str(tmp_path))
    (tmp_path / "old").touch()
    disk.arm(Fault(errno.EIO, "rename"))
    with pytest.raises(StorageError):
        disk.rename(directory, "old", "new")
    assert (tmp_path / "old").exists()
    disk.arm(Fault(errno.EIO, "rename", after_effect=True))
    with pytest.raises(StorageError):
        disk.rename(directory, "old", "new")
    disk.close_directory(directory)
    assert (tmp_path / "new").exists()


@pytest.mark.parametrize("operation", ["create", "close"])
def test_a_failed_call_leaks_no_descriptor(tmp_path: Path, operation: str) -> None:
    """An open that fails after its effect, and a close that fails, leave nothing open."""
    disk = FaultyFiles()
    directory = disk.open_path(str(tmp_path))
    before = len(os.listdir("/dev/fd"))
    disk.arm(Fault(errno.EIO, operation, after_effect=True))
    with pytest.raises(StorageError):
        disk.close(disk.create(directory, "file"), "file")
    assert len(os.listdir("/dev/fd")) == before
    disk.close_directory(directory)


@pytest.mark.parametrize("at_a_time", [21, pytest.param(7, marks=pytest.mark.campaign)])
@pytest.mark.long
async def test_short_reads_and_writes_change_nothing(
    make_writer: MakeWriter, at_a_time: int
) -> None:
    """A disk that takes and gives a few bytes at a time stores and loads the same."""
    disk = FaultyFiles()
    disk.largest_transfer_bytes = at_a_time
    writer = make_writer(files=disk, **SYNCED_FILES)
    data = checkpoint(1)
    await writer.save(data)
    assert disk.count("write") > 20
    disk.forget_calls()
    assert await writer.load("s") == data
    assert disk.count("read") > 20


async def test_an_action_runs_at_its_failpoint(make_writer: MakeWriter) -> None:
    """An action set for a failpoint runs once each time a save passes it."""
    disk = FaultyFiles()
    passed: list[str] = []
    disk.at("after_rename", lambda: passed.append("renamed"))
    await make_writer(files=disk, **SYNCED_FILES).save(checkpoint(1))
    assert passed == ["renamed"]


def test_threads_that_list_a_directory_see_all_of_it(tmp_path: Path) -> None:
    """Listing one open directory in several threads at once misses no name in any."""
    names = {f"name{number}" for number in range(300)}
    for name in names:
        (tmp_path / name).touch()
    files = LocalFiles()
    directory = files.open_path(str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: {*files.scan(directory)}, range(200))]
    files.close_directory(directory)
    assert all(each == names for each in found)
