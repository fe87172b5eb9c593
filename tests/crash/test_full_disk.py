"""A disk that is really full costs the saves that do not fit, and nothing else."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    Durability,
    DurabilityUnknownError,
    StorageFullError,
)
from aiocheckpoint._format import names as layout
from tests.crash.checker import require_allowed, see_all
from tests.crash.disks import ext4, filled, tmpfs
from tests.crash.machine import Machine

pytestmark = pytest.mark.blocking

_DISK_BYTES = 64 << 20
_SESSION = "s"
_LARGE_BYTES = 400_000
_MOST_SAVES = 200
_SECONDS = 0.5


@pytest.fixture(name="disk", params=["ext4", "tmpfs"])
def _disk(request: pytest.FixtureRequest, disk_directory: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        if request.param == "ext4":
            yield stack.enter_context(ext4(disk_directory, _DISK_BYTES)).path
        else:
            yield stack.enter_context(tmpfs(disk_directory, _DISK_BYTES))


def _opened(
    disk: Path, durability: Durability = "journal"
) -> AsyncCheckpointWriter[CheckpointData]:
    return AsyncCheckpointWriter(
        disk / "state", durability=durability, lock_timeout_seconds=_SECONDS
    )


def _checkpoint(number: int, size_bytes: int = 1000) -> CheckpointData:
    return CheckpointData(
        session_id=_SESSION,
        checkpoint_id=f"n{number}",
        iteration=number,
        resume_hint="x" * size_bytes,
    )


@pytest.mark.parametrize("durability", ["journal", "file", "none"])
@pytest.mark.few(2)
async def test_saves_that_do_not_fit(disk: Path, durability: Durability) -> None:
    """The error names a path, all else loads and can be deleted, and room is all that lacks."""
    async with _opened(disk, durability) as writer:
        await _save(writer, 1)
        await writer.flush()
        with filled(disk):
            expected = await _save_until_refused(writer, [1], disk)
            assert await _iterations(writer) == expected
            with suppress(DurabilityUnknownError):  # the journal has it, other files lack
                assert await writer.delete(_SESSION, "n1")
            expected.remove(1)
            assert await _iterations(writer) == expected
        await writer.flush()
        await _save(writer, 9000, _LARGE_BYTES)
        expected.insert(0, 9000)
        await writer.flush()
        assert await _iterations(writer) == expected
        assert await writer.check() == ()
    await _assert_reopened(disk, expected)


async def test_a_restart_while_the_disk_is_full(disk: Path) -> None:
    """Whoever comes next sees, deletes and refuses the same; with room everything is in files."""
    async with _opened(disk) as writer:
        await _save(writer, 1)
    with filled(disk):
        writer = _opened(disk)
        expected = await _save_until_refused(writer, [1], disk)
        with suppress(StorageFullError):  # parts of the journal that are free make room at times
            await writer.aclose()
        async with _opened(disk) as reader:
            assert await _iterations(reader) == expected
        writer = _opened(disk)
        expected = await _save_until_refused(writer, expected, disk)
        assert await writer.delete(_SESSION, "n1")
        expected.remove(1)
        with suppress(StorageFullError):
            await writer.aclose()
        async with _opened(disk) as reader:
            assert await _iterations(reader) == expected
    async with _opened(disk) as writer:
        await writer.flush()
        await _save(writer, 9000)
        await writer.flush()
    await _assert_reopened(disk, [9000, *expected])


@pytest.mark.few(1)
async def test_a_journal_that_cannot_be_extended(disk: Path) -> None:
    """A save for which the journal has no room fails; it is usable again once there is some."""
    async with _opened(disk) as writer:
        await _save(writer, 1)
        await writer.flush()
        with filled(disk, leaving_bytes=1 << 20):
            with pytest.raises(StorageFullError) as caught:
                await _save(writer, 2, 6 << 20)
            assert f"/{layout.PRIVATE_DIRECTORY}" in caught.value.path
            assert await _iterations(writer) == [1]
        await _save(writer, 3, 6 << 20)
        await writer.flush()
        assert await _iterations(writer) == [3, 1]
        assert await writer.check() == ()
    await _assert_reopened(disk, [3, 1])


@pytest.mark.few(1)
async def test_a_disk_that_is_full_after_a_crash(
    disk: Path, victim: subprocess.Popen[bytes]
) -> None:
    """What a dead process left in the journal loads without room, and is in files with it."""
    machine = Machine(victim, disk / "state", "journal")
    assert machine.live("before_publish", 40)

    with filled(disk):
        writer = _opened(disk)
        views = await see_all(writer)
        require_allowed(views, machine.ledger.allowed)
        with suppress(StorageFullError):
            await writer.flush()
        assert await see_all(writer, ("unwritten-session", *_UNFLUSHED)) == views
        with suppress(StorageFullError):
            await writer.aclose()
        async with _opened(disk) as reader:
            assert await see_all(reader, ("unwritten-session", *_UNFLUSHED)) == views
    machine.ledger.saw(views)
    async with _opened(disk) as writer:
        await writer.flush()

    await machine.inspect()


_UNFLUSHED = ("leftover", "stale-pointer", "dangling-pointer", "unflushed-journal")


async def _save(
    writer: AsyncCheckpointWriter[CheckpointData], number: int, size_bytes: int = 1000
) -> None:
    await writer.save(_checkpoint(number, size_bytes))


async def _save_until_refused(
    writer: AsyncCheckpointWriter[CheckpointData], there: list[int], disk: Path
) -> list[int]:
    """Save until there is no room; return what is there then, newest first."""
    there = list(there)
    while there[0] < _MOST_SAVES:
        try:
            await _save(writer, there[0] + 1, _LARGE_BYTES)
        except StorageFullError as error:
            if error.errno is None:  # a machine so slow that no file was tried within the time
                continue
            _require_named(error, disk)
            return there
        except DurabilityUnknownError:
            pass  # the journal has it, and its file has no room
        there.insert(0, there[0] + 1)
    raise AssertionError("the disk is never full")


def _require_named(error: StorageFullError, disk: Path) -> None:
    assert error.errno == errno.ENOSPC
    assert error.path.startswith(str(disk / "state"))
    assert error.path in str(error)


async def _iterations(writer: AsyncCheckpointWriter[CheckpointData]) -> list[int]:
    """Return what loads, newest first; the newest must be what `load` gives."""
    metas = await writer.list(_SESSION)
    loaded = [await writer.load(_SESSION, meta.checkpoint_id) for meta in metas]
    assert all(record is not None for record in loaded)
    assert await writer.load(_SESSION) == loaded[0]
    return [record.iteration for record in loaded if record is not None]


async def _assert_reopened(disk: Path, iterations: list[int]) -> None:
    async with _opened(disk) as writer:
        assert await _iterations(writer) == iterations
        assert await writer.check() == ()
