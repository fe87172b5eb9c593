"""A disk that is really full: what is there loads, deletes make room, and saving resumes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    DurabilityUnknownError,
    StorageFullError,
)
from tests.conftest import MakeWriter
from tests.durabilities import each_durability, writers_of_each_durability
from tests.on_disk import on_disk
from tests.trees import checkpoint_files

Writer = AsyncCheckpointWriter[CheckpointData]

durability, make_writer = each_durability, writers_of_each_durability

pytestmark = pytest.mark.timeout(300, method="thread")


def step(iteration: int, **fields: Any) -> CheckpointData:
    return CheckpointData(
        session_id="s", checkpoint_id=f"step-{iteration}", iteration=iteration, **fields
    )


def temporary_files(root: Path) -> list[Path]:
    return list(root.rglob(".tmp*"))


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount small disks in memory; only root may."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        directory = tmp_path / f"disk-{len(mounted)}"
        directory.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"no disk in memory can be mounted here: {done.stderr.strip()}")
        mounted.append(directory)
        return directory

    yield mount
    for directory in mounted:
        subprocess.run(["umount", "-l", str(directory)], check=True)


async def save_until_refused(writer: Writer) -> tuple[StorageFullError, int]:
    """Save large checkpoints until the disk refuses; return the error and how many there are."""
    saved = 0
    for iteration in range(1000):
        try:
            await writer.save(step(iteration, messages=["x" * 100_000]))
        except StorageFullError as error:
            return error, saved
        except DurabilityUnknownError:
            pass  # the journal has it, and its file has no room
        saved = iteration + 1
    raise AssertionError("the disk is never full")


async def made_until_refused(call: Callable[[int], Awaitable[object]]) -> int:
    """Make calls until the disk refuses one; return how many there were before."""
    for number in range(5_000):
        try:
            await call(number)
        except StorageFullError:
            return number
    raise AssertionError("the disk is never full")


def fill(disk: Path, left_bytes: int = 0) -> Path:
    """Fill a disk, but for some bytes."""
    path = disk / "filling"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, path.stat().st_size - left_bytes)
    return path


async def filled(disk: Path) -> Path:
    return await asyncio.to_thread(fill, disk)


class TestFullDisk:
    @pytest.mark.parametrize(
        ("options", "count", "size", "max_journal_bytes"),
        [
            ("size=48m", 8, 4_000_000, 64 << 20),
            ("size=24m", 8, 1_000_000, 4 << 20),
            ("size=48m,nr_inodes=400", 300, 1, 4 << 20),
        ],
        ids=["bytes", "bytes-of-a-small-journal", "inodes"],
    )
    async def test_old_state_loads_and_saving_resumes(
        self,
        make_writer: MakeWriter,
        small_disk: Callable[[str], Path],
        options: str,
        count: int,
        size: int,
        max_journal_bytes: int,
    ) -> None:
        """On a disk that is really full a save is refused, what is there loads, room helps."""
        disk = await asyncio.to_thread(small_disk, options)
        room = [disk / f"room-{number}" for number in range(count)]
        for path in room:
            await asyncio.to_thread(path.write_bytes, bytes(size))
        writer = make_writer(
            disk / "state", max_journal_bytes=max_journal_bytes, lock_timeout_seconds=2
        )

        refused, saved = await save_until_refused(writer)

        assert refused.errno == errno.ENOSPC
        assert str(disk) in refused.path
        assert saved > 5
        for reader in (writer, make_writer(disk / "state")):
            newest = await reader.load("s")
            assert newest is not None
            assert newest.iteration == saved - 1
            assert len(await reader.list("s")) == saved
        for path in room:
            await asyncio.to_thread(path.unlink)
        assert await writer.delete("s", "step-0") is True
        await on_disk(writer)
        await writer.save(step(saved))
        await on_disk(writer)
        assert [meta.iteration for meta in await writer.list("s")] == list(range(saved, 0, -1))
        assert await writer.check() == ()
        assert await asyncio.to_thread(temporary_files, disk) == []
        await writer.aclose()

    async def test_first_save_on_a_full_disk(
        self, make_writer: MakeWriter, small_disk: Callable[[str], Path]
    ) -> None:
        """Where there is no room for the first save nothing is left, and room is enough."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        filling = await filled(disk)
        writer = make_writer(disk / "state")
        with pytest.raises(StorageFullError):
            await writer.save(step(0, messages=["x" * 100_000]))
        assert await asyncio.to_thread(temporary_files, disk) == []
        assert await writer.load("s") is None

        await asyncio.to_thread(filling.unlink)

        await writer.save(step(0, messages=["x" * 100_000]))
        await writer.aclose()

    async def test_delete_makes_room_on_a_full_disk(
        self, make_writer: MakeWriter, small_disk: Callable[[str], Path]
    ) -> None:
        """Deleting needs no room of its own, or nobody could make any."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with make_writer(disk / "state") as writer:
            for iteration in range(3):
                await writer.save(step(iteration, messages=["x" * 100_000]))
        await filled(disk)

        writer = make_writer(disk / "state")

        assert await writer.delete("s", "step-0") is True
        assert await writer.delete("s", "step-2") is True  # the newest, which the pointer names
        assert [meta.iteration for meta in await writer.list("s")] == [1]
        await on_disk(writer)
        assert len(await asyncio.to_thread(checkpoint_files, disk / "state", "s")) == 1
        await writer.aclose()
        assert [meta.iteration for meta in await make_writer(disk / "state").list("s")] == [1]

    async def test_delete_session_makes_room_on_a_full_disk(
        self, make_writer: MakeWriter, small_disk: Callable[[str], Path]
    ) -> None:
        """Deleting a whole session needs no room either."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with make_writer(disk / "state") as writer:
            for iteration in range(3):
                await writer.save(step(iteration, messages=["x" * 100_000]))
        await filled(disk)

        async with make_writer(disk / "state") as writer:
            assert await writer.delete_session("s") is True

        async with make_writer(disk / "state") as writer:
            assert await writer.load("s") is None

    async def test_deleting_a_session_gets_through_when_no_more_single_deletes_do(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """Deletes of what has no files use up the reserve; that of the session still frees all."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=5) as writer:
            for iteration in range(20):
                await writer.save(step(iteration))
            await writer.flush()
            filling = await filled(disk)
            saved = await made_until_refused(
                lambda n: writer.save(CheckpointData(session_id="t", checkpoint_id=f"c{n}"))
            )
            deleted = await made_until_refused(lambda n: writer.delete("t", f"c{n}"))
            assert 32 < deleted < saved

            assert await writer.delete_session("t") is True
            for iteration in range(19):
                assert await writer.delete("s", f"step-{iteration}") is True
            await writer.flush()
            assert writer.stats().unflushed_changes == 0
            assert [meta.iteration for meta in await writer.list("s")] == [19]
            await asyncio.to_thread(filling.unlink)
            await writer.save(step(20))
            assert await writer.check() == ()

    @pytest.mark.usefixtures("no_flushing")
    async def test_less_room_than_the_journal_holds(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """Where only some files have room, those make room in the journal for the others."""
        disk = await asyncio.to_thread(small_disk, "size=28m")
        async with AsyncCheckpointWriter(disk / "state", max_journal_bytes=16 << 20) as writer:
            for number in range(24):
                large = ["x" * 500_000]
                await writer.save(CheckpointData(session_id=f"s{number}", messages=large))
            await asyncio.to_thread(fill, disk, 5_000_000)

            refused = 0
            while refused < 20:
                try:
                    await writer.flush()
                    break
                except StorageFullError:
                    refused += 1

            assert 0 < refused < 20
            assert await writer.check() == ()
        count = await asyncio.to_thread(lambda: len([*disk.glob("state/s*/checkpoints/cp_*.json")]))
        assert count == 24

    @pytest.mark.usefixtures("no_flushing")
    async def test_files_that_found_room_are_not_written_again(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """A session that has room for some of its files keeps those, and tries only the others."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with AsyncCheckpointWriter(disk / "state") as writer:
            for iteration in range(10):
                size = 2_000_000 if iteration == 5 else 10_000
                await writer.save(step(iteration, messages=["x" * size]))
            filling = await asyncio.to_thread(fill, disk, 1_000_000)
            with pytest.raises(StorageFullError):
                await writer.flush()
            first = await asyncio.to_thread(inodes, disk / "state")

            with pytest.raises(StorageFullError):
                await writer.flush()

            assert len(first) == 5
            second = await asyncio.to_thread(inodes, disk / "state")
            assert first.items() <= second.items()
            assert len(await writer.list("s")) == 10
            await asyncio.to_thread(filling.unlink)
            await writer.flush()
            assert await writer.check() == ()
        assert len(await asyncio.to_thread(inodes, disk / "state")) == 10


@pytest.mark.usefixtures("no_flushing")
class TestSmallDisk:
    """The journal leaves room for the files, or what it holds could not be removed any more."""

    @pytest.mark.parametrize("megabytes", [8, 16])
    @pytest.mark.parametrize("size", [1, 20_000])
    async def test_each_save_can_be_deleted(
        self, small_disk: Callable[[str], Path], megabytes: int, size: int
    ) -> None:
        """Where saves come before any file until one is refused, deletes one by one free all."""
        disk = await asyncio.to_thread(small_disk, f"size={megabytes}m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=5) as writer:
            saved = await made_until_refused(lambda n: writer.save(step(n, messages=["x" * size])))
            for number in range(saved):
                assert await writer.delete("s", f"step-{number}") is True
            await writer.flush()
            assert await writer.list("s") == ()
            await writer.save(step(saved))
            assert await writer.check() == ()

    @pytest.mark.parametrize("left_bytes", [100_000, 3_000_000])
    async def test_saving_goes_on_where_all_has_its_files(
        self, small_disk: Callable[[str], Path], left_bytes: int
    ) -> None:
        """With little room left saves pass as long as those before them are flushed."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=5) as writer:
            await writer.save(step(0, messages=["x" * 20_000]))
            await writer.flush()
            await asyncio.to_thread(fill, disk, left_bytes)
            for _ in range(200):
                await writer.save(step(0, messages=["x" * 20_000]))
                await writer.flush()
            assert [meta.iteration for meta in await writer.list("s")] == [0]


def inodes(root: Path) -> dict[str, int]:
    """Return which file each checkpoint is in."""
    return {path.name: path.stat().st_ino for path in checkpoint_files(root, "s")}
