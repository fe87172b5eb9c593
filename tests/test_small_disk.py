"""A disk that is really full: what is there loads, deletes make room, and saving resumes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    CheckpointData,
    DurabilityUnknownError,
    SessionOwnedError,
    StorageFullError,
    blob_digest,
)
from aiocheckpoint._disk.free_slots import FreeSlots
from aiocheckpoint._disk.locks import LockFiles
from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._engine import commit
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


def backup_files(disk: Path) -> list[Path]:
    return list(disk.rglob("*.backup"))


@pytest.fixture(autouse=True)
def _patient_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commits wait for files that make room as long as a slow machine needs."""
    monkeypatch.setattr(commit, "_FLUSH_SECONDS", 60.0)


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


def take_all_inodes(disk: Path, left: int = 0) -> list[Path]:
    """Make empty files until there can be no more, but for some, and return them."""
    made: list[Path] = []
    with contextlib.suppress(OSError):
        while True:
            path = disk / f"empty-{len(made)}"
            path.touch()
            made.append(path)
    for _ in range(left):
        made.pop().unlink()
    return made


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

    @pytest.mark.usefixtures("no_flushing")
    async def test_deleting_a_session_gets_through_when_no_more_single_deletes_do(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """Where others fill the disk deletes use up the reserve; that of a session still goes."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            for iteration in range(20):
                await writer.save(step(iteration))
            await writer.flush()
            others = [CheckpointData(session_id="t", checkpoint_id=f"c{n}") for n in range(900)]
            await asyncio.gather(*map(writer.save, others))
            filling = await filled(disk)
            deleted = await made_until_refused(lambda n: writer.delete("t", f"c{n}"))
            assert 32 < deleted < 900

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


class TestOwnersOnAFullDisk:
    """Who owns a session is written down when the journal is flushed, and that needs room."""

    async def test_an_owner_that_cannot_be_written_down(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """The flush raises by name, nobody else comes to own the session, and room is enough."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with (
            AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=0.5) as writer,
            AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=0.5) as other,
        ):
            await writer.save(step(0))
            await writer.flush()
            filling = await filled(disk)
            async with writer.own("s") as owner:
                with pytest.raises(StorageFullError) as caught:
                    await writer.flush()
                assert "/.aiocheckpoint/" in caught.value.path
                with pytest.raises(SessionOwnedError):
                    async with other.own("s"):
                        pass
                assert await writer.check() == ()
                await asyncio.to_thread(filling.unlink)
                await writer.flush()
                with pytest.raises(SessionOwnedError):
                    async with other.own("s"):
                        pass
                await owner.save(step(1))
            async with other.own("s") as owner:
                await owner.save(step(2))
            assert [meta.iteration for meta in await other.list("s")] == [2, 1, 0]

    async def test_no_inode_for_an_owner(self, small_disk: Callable[[str], Path]) -> None:
        """Where not even an empty file can be made, `own` raises by name, and works afterwards."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=60")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=0.5) as writer:
            await writer.save(step(0))
            await writer.flush()
            made = await asyncio.to_thread(take_all_inodes, disk)
            with pytest.raises(StorageFullError):
                async with writer.own("s"):
                    pass
            assert [meta.iteration for meta in await writer.list("s")] == [0]
            for path in made:
                await asyncio.to_thread(path.unlink)
            async with writer.own("s") as owner:
                await owner.save(step(1))


@pytest.mark.usefixtures("no_flushing")
class TestSmallDisk:
    """The journal leaves room for the files, or what it holds could not be removed any more."""

    @pytest.mark.parametrize(
        ("megabytes", "size"),
        [(8, 1), (8, 20_000), (16, 20_000), pytest.param(16, 1, marks=pytest.mark.campaign)],
    )
    async def test_each_save_can_be_deleted(
        self, small_disk: Callable[[str], Path], megabytes: int, size: int
    ) -> None:
        """Where saves come before any file until one is refused, deletes one by one free all."""
        disk = await asyncio.to_thread(small_disk, f"size={megabytes}m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            saved = await made_until_refused(lambda n: writer.save(step(n, messages=["x" * size])))
            for number in range(saved):
                assert await writer.delete("s", f"step-{number}") is True
            await writer.flush()
            assert await writer.list("s") == ()
            await writer.save(step(saved))
            assert await writer.check() == ()

    @pytest.mark.parametrize(
        ("megabytes", "size"),
        [
            (8, 1),
            pytest.param(8, 1_000, marks=pytest.mark.campaign),
            (8, 20_000),
            (16, 20_000),
            *(pytest.param(16, size, marks=pytest.mark.campaign) for size in (1, 1_000)),
        ],
    )
    async def test_each_of_those_saved_together_can_be_deleted(
        self, small_disk: Callable[[str], Path], megabytes: int, size: int
    ) -> None:
        """Of what shared its commits, and takes more room in files, each is deleted by itself."""
        disk = await asyncio.to_thread(small_disk, f"size={megabytes}m")
        assert await refused_deletes(disk, size) == []

    async def test_without_the_rule_deletes_are_refused(
        self, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A broken version, which saves what the disk has no room for, is found out."""
        monkeypatch.setattr(FreeSlots, "room_bytes", lambda *_: sys.maxsize)
        disk = await asyncio.to_thread(small_disk, "size=8m")
        assert await refused_deletes(disk, 1)

    async def test_a_delete_beside_saves_that_find_no_room(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """A delete that shares its commit with saves that are refused is made."""
        disk = await asyncio.to_thread(small_disk, "size=8m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            await writer.save(step(0))
            await writer.flush()
            filling = await filled(disk)
            large = [step(n, messages=["x" * 900_000]) for n in range(1, 5)]
            outcomes = await asyncio.gather(
                *map(writer.save, large), writer.delete("s", "step-0"), return_exceptions=True
            )
            assert StorageFullError in map(type, outcomes)
            assert outcomes[-1] is True
            assert await writer.load("s", "step-0") is None
            await asyncio.to_thread(filling.unlink)

    async def test_room_is_asked_for_under_the_lock(
        self, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Commits ask what is to be written while nobody changes it, also to refuse the rest."""
        holders: list[str] = []
        asked: list[bool] = []
        acquire, release, room_bytes = LockFiles.acquire, LockFiles.release, FreeSlots.room_bytes

        def acquired(locks: LockFiles) -> None:
            acquire(locks)
            holders.append(threading.current_thread().name)

        def released(locks: LockFiles) -> None:
            holders.clear()
            release(locks)

        def asking(slots: FreeSlots, wanted: int) -> int:
            name = threading.current_thread().name
            if name.endswith("commit"):
                asked.append(name in holders)
            return room_bytes(slots, wanted)

        monkeypatch.setattr(LockFiles, "acquire", acquired)
        monkeypatch.setattr(LockFiles, "release", released)
        monkeypatch.setattr(FreeSlots, "room_bytes", asking)
        disk = await asyncio.to_thread(small_disk, "size=8m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            records = [step(n, messages=["x" * 20_000]) for n in range(1_500)]
            outcomes = await asyncio.gather(*map(writer.save, records), return_exceptions=True)
            await writer.delete_session("s")
        assert StorageFullError in map(type, outcomes)
        assert asked
        assert all(asked)

    @pytest.mark.parametrize("left_bytes", [100_000, 3_000_000])
    async def test_saving_goes_on_where_all_has_its_files(
        self, small_disk: Callable[[str], Path], left_bytes: int
    ) -> None:
        """With little room left saves pass as long as those before them are flushed."""
        disk = await asyncio.to_thread(small_disk, "size=24m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            await writer.save(step(0, messages=["x" * 20_000]))
            await writer.flush()
            await asyncio.to_thread(fill, disk, left_bytes)
            for _ in range(200):
                await writer.save(step(0, messages=["x" * 20_000]))
                await writer.flush()
            assert [meta.iteration for meta in await writer.list("s")] == [0]


class TestFewInodes:
    """Inodes run out as bytes do, on a small ext4 before them: a first save takes four."""

    @pytest.mark.parametrize("sessions", [["s{0}-{1}"], ["s{0}-{1}", "old"]])
    async def test_all_that_is_saved_has_its_file(
        self, small_disk: Callable[[str], Path], sessions: list[str]
    ) -> None:
        """Bursts of new sessions are refused where no inode is left; one with a session is not."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=600")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            await writer.save(CheckpointData(session_id="old", checkpoint_id="c"))
            saved = {"old"}
            for burst in range(6):
                names = [each.format(burst, n) for n in range(50) for each in sessions]
                outcomes = await asyncio.gather(
                    *(writer.save(CheckpointData(session_id=n, checkpoint_id="c")) for n in names),
                    return_exceptions=True,
                )
                assert {type(outcome) for outcome in outcomes} <= {str, StorageFullError}
                both = zip(names, outcomes, strict=True)
                saved |= {name for name, outcome in both if isinstance(outcome, str)}
            await writer.flush()
            assert 100 < len(saved) < 300
            assert {session async for session in writer.sessions()} == saved
        assert all([await asyncio.to_thread(checkpoint_files, disk / "state", s) for s in saved])

    @pytest.mark.parametrize("flushes", [False, True])
    async def test_deletes_make_the_inodes_they_need(
        self, small_disk: Callable[[str], Path], request: pytest.FixtureRequest, flushes: bool
    ) -> None:
        """Where no new session has room, each is deleted, by the next writer too."""
        if not flushes:
            request.getfixturevalue("no_flushing")
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=600")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            saved = await made_until_refused(
                lambda n: writer.save(CheckpointData(session_id=f"s{n}"))
            )
            for number in range(saved // 2):
                assert await writer.delete_session(f"s{number}") is True
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            for number in range(saved // 2, saved):
                assert await writer.delete_session(f"s{number}") is True
            await writer.flush()
            await writer.save(CheckpointData(session_id="again"))
            assert [session async for session in writer.sessions()] == ["again"]

    @pytest.mark.usefixtures("no_flushing")
    async def test_others_take_them_all(self, small_disk: Callable[[str], Path]) -> None:
        """What waits for its file then is deleted, one by one, or written when there are some."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=1200")
        names = [f"s{number}" for number in range(200)]
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            for name in names:
                await writer.save(CheckpointData(session_id=name))
            made = await asyncio.to_thread(take_all_inodes, disk)
            with pytest.raises(StorageFullError):
                await writer.flush()
            for name in names[:150]:
                assert await writer.delete_session(name) is True
            for path in made:
                await asyncio.to_thread(path.unlink)
            await writer.flush()
            assert [session async for session in writer.sessions()] == sorted(names[150:])

    async def test_deleted_sessions_give_theirs_back(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """Directories that a writer keeps open take no inodes from others once they are gone."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=100")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            for number in range(100):
                await writer.save(CheckpointData(session_id=f"s{number}"))
                await writer.flush()
                await writer.delete_session(f"s{number}")
                await writer.flush()

    async def test_who_has_read_them_does_too(self, small_disk: Callable[[str], Path]) -> None:
        """Nor do those that a writer keeps open whose sessions another one has deleted."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=1000")
        async with (
            AsyncCheckpointWriter(disk / "state") as writer,
            AsyncCheckpointWriter(disk / "state") as reader,
        ):
            await writer.save(step(0))
            await writer.flush()
            before = (await asyncio.to_thread(os.statvfs, disk)).f_ffree
            for number in range(100):
                await writer.save(CheckpointData(session_id=f"s{number}"))
            await writer.flush()
            for number in range(100):
                await reader.load(f"s{number}")
            for number in range(100):
                await writer.delete_session(f"s{number}")
            await writer.flush()
            await reader.load("s")
            assert before - (await asyncio.to_thread(os.statvfs, disk)).f_ffree < 10

    async def test_backups_are_left_out(self, small_disk: Callable[[str], Path]) -> None:
        """Where there is room for a checkpoint and not for another name, it is written."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=200")  # a name takes one
        async with AsyncCheckpointWriter(disk / "state", max_backups=0) as writer:
            for number in range(4):
                await writer.save(step(number))
        made = await asyncio.to_thread(take_all_inodes, disk, 1)
        async with AsyncCheckpointWriter(disk / "state", max_backups=3) as writer:
            await writer.save(step(4))
            await writer.flush()
            assert await writer.check() == ()
            for path in made:
                await asyncio.to_thread(path.unlink)
            await writer.save(step(5))
            await writer.flush()
        assert len(await asyncio.to_thread(backup_files, disk)) == 3

    @pytest.mark.parametrize("left", [1, 2])
    async def test_replacing_saves_need_one(
        self, small_disk: Callable[[str], Path], left: int
    ) -> None:
        """What removes an older checkpoint goes on with an inode or two."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=200")
        async with AsyncCheckpointWriter(disk / "state", max_checkpoints=2) as writer:
            for number in range(3):
                await writer.save(step(number))
            await writer.flush()
            await asyncio.to_thread(take_all_inodes, disk, left)
            for number in range(3, 13):
                await writer.save(step(number))
                await writer.flush()
            assert [meta.iteration for meta in await writer.list("s")] == [12, 11]

    async def test_no_spare_takes_the_last(self, small_disk: Callable[[str], Path]) -> None:
        """A part of the journal that is made ahead leaves a few to the files of saves."""
        disk = await asyncio.to_thread(small_disk, "size=64m,nr_inodes=200")
        async with AsyncCheckpointWriter(disk / "state", max_backups=0) as writer:
            await writer.save(step(0))
            await writer.flush()
            await asyncio.to_thread(take_all_inodes, disk, 1)
            await writer.save(step(1, messages=["x" * 1_500_000]))
            await writer.flush()
            assert len(await writer.list("s")) == 2

    @pytest.mark.parametrize("left", [1, 2, 3])
    async def test_blobs_take_some(self, small_disk: Callable[[str], Path], left: int) -> None:
        """A blob and its directory count as well: without room for all the save is refused."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=200")
        digest = blob_digest(b"blob")
        record = BlobRecord(session_id="s", checkpoint_id="b", blob_digests=(digest,))
        async with AsyncCheckpointWriter(
            disk / "state", record_type=BlobRecord, max_backups=0
        ) as writer:
            await writer.save(BlobRecord(session_id="s", checkpoint_id="a"))
            await writer.flush()
            await asyncio.to_thread(take_all_inodes, disk, left)
            with contextlib.nullcontext() if left == 3 else pytest.raises(StorageFullError):
                await writer.save(record, blobs={digest: b"blob"})
            await writer.flush()
            assert len(await writer.list("s")) == (2 if left == 3 else 1)

    @pytest.mark.parametrize("left", [1, 2, 3])
    async def test_who_passes_finds_room(
        self, small_disk: Callable[[str], Path], left: int
    ) -> None:
        """Of several saves that wait none gets the room that another one was found to need."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=200")
        async with AsyncCheckpointWriter(disk / "state", max_backups=0) as writer:
            await writer.save(step(0))
            await writer.flush()
            await asyncio.to_thread(take_all_inodes, disk, left)
            calls = (
                writer.delete("s", "absent"),
                writer.delete("s", "absent"),
                writer.save(step(1)),
                writer.save(CheckpointData(session_id="new")),
            )
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes[2:]] == [str, StorageFullError]
            await writer.flush()

    async def test_bursts_share_commits(self, small_disk: Callable[[str], Path]) -> None:
        """Saves that have room wait for no flush, also where another one each would have none."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=400")
        async with AsyncCheckpointWriter(disk / "state", max_backups=0) as writer:
            await writer.save(step(0))
            await writer.flush()
            before = writer.stats().commits
            await asyncio.gather(*(writer.save(step(n)) for n in range(1, 301)))
            assert writer.stats().commits - before < 10

    async def test_large_saves_need_no_more_of_them(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """A few inodes are enough for saves of a few megabytes."""
        disk = await asyncio.to_thread(small_disk, "size=64m,nr_inodes=60")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            records = [step(n, messages=["x" * 2_000_000]) for n in range(6)]
            await asyncio.gather(*map(writer.save, records[:3]))
            for record in records[3:]:
                await writer.save(record)
            await writer.flush()
            assert len(await writer.list("s")) == 6

    @pytest.mark.parametrize(("files", "free"), [(0, 0), (1000, -1)], ids=["btrfs", "cephfs"])
    async def test_a_disk_that_counts_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, free: int
    ) -> None:
        """Saves pass where the system tells of no inodes, or of fewer than none."""
        real = await asyncio.to_thread(os.statvfs, tmp_path)
        told = os.statvfs_result((*real[:5], files, free, free, *real[8:]))
        monkeypatch.setattr(os, "fstatvfs", lambda _: told)
        async with AsyncCheckpointWriter(tmp_path / "state") as writer:
            await asyncio.gather(*(writer.save(step(n)) for n in range(100)))
            assert len(await writer.list("s")) == 100

    async def test_many_share_a_commit(self, small_disk: Callable[[str], Path]) -> None:
        """Where some of a burst find inodes, these are saved together."""
        disk = await asyncio.to_thread(small_disk, "size=64m,nr_inodes=5000")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            records = [CheckpointData(session_id=f"s{n}") for n in range(1_200)]
            await asyncio.gather(*map(writer.save, records))
            assert writer.stats().commits < 200

    async def test_none_is_left(self, small_disk: Callable[[str], Path]) -> None:
        """A save is refused at once; loads, deletes and closing go on."""
        disk = await asyncio.to_thread(small_disk, "size=24m,nr_inodes=200")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            for number in range(3):
                await writer.save(step(number))
            await writer.flush()
            await asyncio.to_thread(take_all_inodes, disk)
            with pytest.raises(StorageFullError):
                await writer.save(step(3))
            assert writer.stats().unflushed_changes == 0
            await writer.flush()
            assert await writer.delete("s", "step-0") is True
            await writer.flush()
            await writer.save(step(3))
        async with AsyncCheckpointWriter(disk / "state") as writer:
            assert [meta.iteration for meta in await writer.list("s")] == [3, 2, 1]


class TestBurst:
    """Saves that come faster than their files are written wait for the room that those make."""

    @pytest.mark.parametrize("committer", ["this-writer", "another-writer"])
    async def test_room_that_is_gone_when_a_slot_is_prepared(
        self, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, committer: str
    ) -> None:
        """What a slot made ahead takes is given back, if files were promised it meanwhile."""
        disk = await asyncio.to_thread(small_disk, "size=8m")
        loop, prepare, prepared = asyncio.get_running_loop(), Slots.prepare, asyncio.Event()

        async def save_many() -> None:
            await asyncio.gather(*(writers[committer].save(step(n)) for n in range(600)))
            await asyncio.to_thread(fill, disk, 600 * 4096 + 300_000)

        def while_others_save(slots: Slots, size: int) -> None:
            if not prepared.is_set():
                loop.call_soon_threadsafe(prepared.set)
                asyncio.run_coroutine_threadsafe(save_many(), loop).result()
            prepare(slots, size)

        monkeypatch.setattr(Slots, "prepare", while_others_save)
        async with (
            AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer,
            AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as other,
        ):
            writers = {"this-writer": writer, "another-writer": other}
            await writer.save(step(0))
            await prepared.wait()
            await writer.flush()
            assert len(await writer.list("s")) == 600
            assert await writer.check() == ()

    @pytest.mark.parametrize("makes_slot_ahead", [False, True], ids=["", "slot-made-ahead"])
    @pytest.mark.parametrize(
        ("megabytes", "count", "size"), [(8, 1_500, 1), (16, 3_000, 1), (16, 300, 20_000)]
    )
    async def test_what_has_room_is_saved(
        self,
        small_disk: Callable[[str], Path],
        megabytes: int,
        count: int,
        size: int,
        makes_slot_ahead: bool,
    ) -> None:
        """Where the disk has room for all files in the end, no save of a burst is refused."""
        disk = await asyncio.to_thread(small_disk, f"size={megabytes}m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            if makes_slot_ahead:
                await writer.save(step(0, messages=["x" * size]))
                await writer.flush()
            await asyncio.gather(
                *(writer.save(step(n, messages=["x" * size])) for n in range(count))
            )
            await writer.flush()
            assert len(await writer.list("s")) == count

    @pytest.mark.parametrize(("bursts", "size"), [(40, 1), (8, 20_000)])
    async def test_all_that_is_saved_has_room(
        self, small_disk: Callable[[str], Path], bursts: int, size: int
    ) -> None:
        """After burst upon burst, until the disk is full, what was acknowledged has its file."""
        disk = await asyncio.to_thread(small_disk, "size=8m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            saved: set[str] = set()
            refused = 0
            for burst in range(bursts):
                records = [step(50 * burst + n, messages=["x" * size]) for n in range(50)]
                outcomes = await asyncio.gather(*map(writer.save, records), return_exceptions=True)
                saved |= {outcome for outcome in outcomes if isinstance(outcome, str)}
                refused += sum(type(outcome) is StorageFullError for outcome in outcomes)
            assert (refused > 0, len(saved) + refused) == (True, 50 * bursts)
            await writer.flush()
            assert {meta.checkpoint_id for meta in await writer.list("s")} == saved
            assert await writer.check() == ()

    async def test_what_has_no_room_is_refused_before_it_takes_any(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        """Of far more than fits some is saved and some refused, and nothing has got stuck."""
        disk = await asyncio.to_thread(small_disk, "size=8m")
        async with AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100) as writer:
            outcomes = await asyncio.gather(
                *(writer.save(step(n, messages=["x" * 20_000])) for n in range(1_500)),
                return_exceptions=True,
            )
            refused = [outcome for outcome in outcomes if outcome.__class__ is StorageFullError]
            saved = {outcome for outcome in outcomes if isinstance(outcome, str)}
            assert len(refused) + len(saved) == 1_500
            assert len(saved) > 200  # of the 390 that the disk could hold without a journal
            assert {meta.checkpoint_id for meta in await writer.list("s")} == saved
            assert await writer.delete_session("s") is True
            await writer.flush()


async def refused_deletes(disk: Path, size: int) -> list[StorageFullError]:
    """Save 50 at a time before any file until one is refused, then delete one by one."""
    refused = []
    writer = AsyncCheckpointWriter(disk / "state", lock_timeout_seconds=100)
    saved: list[object] = []
    for group in range(1_000):
        records = [step(50 * group + n, messages=["x" * size]) for n in range(50)]
        outcomes = await asyncio.gather(*map(writer.save, records), return_exceptions=True)
        saved += [outcome for outcome in outcomes if isinstance(outcome, str)]
        if len(saved) <= 50 * group + 49:
            break
    for checkpoint_id in saved:
        try:
            assert await writer.delete("s", str(checkpoint_id)) is True
        except StorageFullError as error:
            refused.append(error)
            break
    with contextlib.suppress(StorageFullError) if refused else contextlib.nullcontext():
        await writer.aclose()
    return refused


def inodes(root: Path) -> dict[str, int]:
    """Return which file each checkpoint is in."""
    return {path.name: path.stat().st_ino for path in checkpoint_files(root, "s")}
