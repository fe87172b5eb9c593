"""Places have an identity: what is moved, remade or mounted over is followed, or named."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar, cast

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    StorageError,
    StoreBusyError,
    Transaction,
)
from aiocheckpoint.testing.faults import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.crash.disks import ext4, tmpfs
from tests.faults import Hold
from tests.promises.places import holding, on_disk, plain_ids, session_files
from tests.promises.records import record
from tests.promises.tasks import Writer, list_sessions, save_many
from tests.trees import remove

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
pytestmark = pytest.mark.blocking


async def ids(writer: Writer, session_id: str = "s") -> list[str]:
    """Return the ids of a session, newest first, as all ways of reading tell them."""
    found = [meta.checkpoint_id for meta in await writer.list(session_id)]
    newest = await writer.load(session_id)
    assert (newest and newest.checkpoint_id) == (found[0] if found else None)
    assert sorted(found, reverse=True) == list(await writer.ids(session_id))
    return found


# Roots


async def test_relative_path_and_chdir(
    make_writer: MakeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is what it was in the first call, whatever that found there."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    writer = make_writer(Path("state"))
    assert await writer.load("s") is None
    os.chdir(tmp_path / "second")
    await writer.save(record("s", "x"))
    assert (tmp_path / "first" / "state").is_dir()
    assert await ids(writer) == ["x"]
    os.chdir(tmp_path)
    remove(tmp_path / "first" / "state")
    await writer.save(record("s", "y"))
    assert await ids(make_writer(tmp_path / "first" / "state")) == ["y"]


async def test_moved_root(make_writer: MakeWriter, root: Path) -> None:
    """After a root was renamed all calls agree that nothing is where its path leads."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    moved = root.rename(root.with_name("moved"))
    assert await writer.load("s") is None
    assert await writer.list("s") == ()
    assert await writer.delete("s", "n1") is False
    assert await writer.delete_session("s") is False
    assert await list_sessions(writer) == []
    await writer.save(record("s", "after"))
    assert await ids(writer) == await ids(make_writer()) == ["after"]
    assert await ids(make_writer(moved)) == ["n1", "n0"]


async def test_moved_root_that_is_only_read(make_writer: MakeWriter, root: Path) -> None:
    """The same holds for who only reads, also of a root without a journal."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await writer.aclose()
    shutil.rmtree(root / ".aiocheckpoint")
    reader = make_writer()
    assert await ids(reader) == ["n1", "n0"]
    assert await list_sessions(reader) == ["s"]
    root.rename(root.with_name("moved"))
    assert await list_sessions(reader) == []
    assert await ids(reader) == []
    (root / "t" / "checkpoints").mkdir(parents=True)
    for path in session_files(root.with_name("moved"), "s"):
        (root / "s" / "checkpoints").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "s" / "checkpoints")
    assert await list_sessions(reader) == ["s"]
    assert await ids(reader) == ["n1", "n0"]


@pytest.mark.parametrize("is_remade", [True, False])
async def test_removed_root(make_writer: MakeWriter, root: Path, is_remade: bool) -> None:
    """A root that was removed, and perhaps made again, is begun anew by the next save."""
    writer, reader = make_writer(), make_writer()
    await writer.save(record("s", "before"))
    assert await ids(reader) == ["before"]
    remove(root)
    if is_remade:
        root.mkdir()
    assert await ids(reader) == []
    await writer.save(record("s", "after"))
    for some in (writer, reader, make_writer()):
        assert await ids(some) == ["after"]
    await on_disk(writer)
    assert plain_ids(root, "s") == ["after"]


async def test_switched_symlink(make_writer: MakeWriter, tmp_path: Path) -> None:
    """Where the root is reached by a symlink, all go to where that leads now."""
    current = tmp_path / "current"
    for name in ("blue", "green"):
        (tmp_path / name).mkdir()
    current.symlink_to("blue")
    writer, reader = make_writer(current), make_writer(current)
    await writer.save(record("s", "of-blue"))
    assert await ids(reader) == ["of-blue"]
    for target, expected in (("green", []), ("blue", ["of-blue"]), ("green", [])):
        os.symlink(target, tmp_path / "new")
        (tmp_path / "new").replace(current)
        assert await ids(reader) == expected
    await writer.save(record("s", "of-green"))
    for some in (writer, reader):
        assert await ids(some) == ["of-green"]
    await on_disk(writer)
    assert plain_ids(tmp_path / "green", "s") == ["of-green"]
    assert await ids(make_writer(tmp_path / "blue")) == ["of-blue"]


async def test_switches_do_not_use_up_descriptors(make_writer: MakeWriter, tmp_path: Path) -> None:
    """However many sessions are in use, a switch keeps a few files open, not all directories."""
    current = tmp_path / "current"
    current.symlink_to("blue")
    (tmp_path / "blue").mkdir()
    (tmp_path / "green").mkdir()
    writer = make_writer(current)
    counts = []
    for target in ("green", "blue", "green", "blue"):
        saves = [writer.save(record(f"s{number}", "x")) for number in range(30)]
        await asyncio.gather(*saves)
        await on_disk(writer)
        counts.append(len(os.listdir("/dev/fd")))
        os.symlink(target, tmp_path / "new")
        (tmp_path / "new").replace(current)
    assert counts[-1] - counts[0] < 60


async def test_removed_private_directory(make_writer: MakeWriter, root: Path) -> None:
    """After `.aiocheckpoint` was removed no save is acknowledged into what is gone."""
    writer = make_writer()
    await writer.save(record("s", "n1"))
    await on_disk(writer)
    remove(root / ".aiocheckpoint")
    await writer.save(record("s", "n2"))
    assert await ids(make_writer()) == ["n2", "n1"]
    await writer.save(record("s", "n3"))
    assert await ids(writer) == ["n3", "n2", "n1"]


async def test_removed_private_directory_before_a_flush(
    make_writer: MakeWriter, root: Path, no_flushing: None
) -> None:
    """What was not in files yet when `.aiocheckpoint` was removed is written by who saved it."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await writer.save(record("t", "x"))
    assert await writer.delete("s", "n0")
    shutil.rmtree(root / ".aiocheckpoint")
    await writer.save(record("s", "n2"))
    await on_disk(writer)
    for some in (writer, make_writer()):
        assert await ids(some) == ["n2", "n1"]
        assert await ids(some, "t") == ["x"]


@pytest.mark.parametrize("is_saved_to", [True, False])
@pytest.mark.parametrize("operation", ["create", "sync file", "open directory"])
async def test_removed_private_directory_on_a_disk_that_fails(
    make_writer: MakeWriter, root: Path, no_flushing: None, operation: str, *, is_saved_to: bool
) -> None:
    """What cannot be written then is tried again, and until it is there `flush` raises."""
    disk = FaultyFiles()
    writer = make_writer(files=disk)
    await save_many(writer, "s", "n", 2)
    await writer.save(record("t", "x"))
    shutil.rmtree(root / ".aiocheckpoint")
    disk.arm(Fault(errno.EIO, operation, for_ever=True))
    if is_saved_to:
        with contextlib.suppress(StorageError):
            await writer.save(record("u", "y"))
    for _ in range(2):
        with pytest.raises(StorageError):
            await writer.flush()
    disk.arm(None)
    await writer.flush()
    for some in (writer, make_writer()):
        assert await ids(some) == ["n1", "n0"]
        assert await ids(some, "t") == ["x"]
    assert writer.stats().files_error is None


@pytest.mark.parametrize("name", ["lock", "turn", "applier", "control"])
async def test_one_file_of_the_private_directory_removed(
    make_writer: MakeWriter, root: Path, name: str
) -> None:
    """Whoever cleans up there, and takes a file that looks old: those at work go on at once."""
    one, two = make_writer(), make_writer()
    await one.save(record("s", "n1"))
    await two.save(record("s", "n2"))
    (root / ".aiocheckpoint" / name).unlink()
    for number, writer in enumerate((one, two, one, two), 3):
        await writer.save(record("s", f"n{number}"))
    for some in (one, two, make_writer()):
        assert await ids(some) == ["n6", "n5", "n4", "n3", "n2", "n1"]
        await some.flush()
    assert await one.check() == ()


async def test_one_at_a_time_writes_files_though_its_lock_was_removed(
    make_writer: MakeWriter, root: Path
) -> None:
    """Who was there before and who came after agree again on who writes files for all."""
    disk, hold = FaultyFiles(), Hold()
    before = make_writer(lock_timeout_seconds=0.5)
    await before.save(record("s", "n1"))
    await before.flush()
    (root / ".aiocheckpoint" / "applier").unlink()
    after = make_writer(files=disk)
    disk.at("before_flush", hold)
    await after.save(record("s", "n2"))
    await asyncio.to_thread(hold.wait_arrived)
    try:
        with pytest.raises(StoreBusyError):
            await before.flush()
    finally:
        hold.release()
    await before.flush()
    assert await ids(before) == ["n2", "n1"]


def _removed(private: Path) -> None:
    shutil.rmtree(private)


def _emptied(private: Path) -> None:
    for path in private.iterdir():
        path.unlink()


def _replaced(private: Path) -> None:
    """Put the journal of another store in its place, as who restores the wrong backup."""
    shutil.rmtree(private)
    shutil.copytree(private.parent.with_name("other") / private.name, private)


async def _listed_ids(writer: Writer) -> list[str]:
    return [meta.checkpoint_id for meta in await writer.list("s")]


async def _own_sessions(writer: Writer) -> list[str]:
    return [name for name in await list_sessions(writer) if name != "elsewhere"]


async def _after(writer: Writer, change: Any) -> list[str]:
    await change
    return await _listed_ids(writer)


async def _next(transaction: Transaction[CheckpointData]) -> None:
    newest = await transaction.load()
    assert newest is not None
    transaction.save(newest.next(checkpoint_id="n3"))


async def _owned(writer: Writer) -> list[str]:
    async with writer.own("s") as owned:
        await owned.save(record("s", "n3"), expected="n2")
    return await _listed_ids(writer)


_Call = Callable[[Writer], Any]
_FIRST_CALLS: dict[str, tuple[_Call, list[str]]] = {
    "list": (_listed_ids, ["n2", "n1"]),
    "all ways of reading": (ids, ["n2", "n1"]),
    "sessions": (_own_sessions, ["s", "t"]),
    "expected": (lambda w: _after(w, w.save(record("s", "n3"), expected="n2")), ["n3", "n2", "n1"]),
    "update": (lambda w: _after(w, w.update("s", _next)), ["n3", "n2", "n1"]),
    "delete": (lambda w: _after(w, w.delete("s", "n2")), ["n1"]),
    "delete many": (lambda w: _after(w, w.delete_many("s", ["n1", "n2"])), []),
    "delete session": (lambda w: _after(w, w.delete_session("s")), []),
    "copy": (lambda w: _after(w, w.copy_session("s", "u")), ["n2", "n1"]),
    "flush": (lambda w: _after(w, w.flush()), ["n2", "n1"]),
    "own": (_owned, ["n3", "n2", "n1"]),
}


@pytest.mark.parametrize("remove_it", [_removed, _emptied, _replaced])
@pytest.mark.parametrize("call", _FIRST_CALLS)
@pytest.mark.few(11)
async def test_nothing_older_is_answered_without_the_journal(
    make_writer: MakeWriter,
    root: Path,
    no_flushing: None,
    caplog: pytest.LogCaptureFixture,
    call: str,
    remove_it: Callable[[Path], None],
) -> None:
    """Whatever a process calls first after `.aiocheckpoint` was removed, it knows what it knew."""
    other = make_writer(root.with_name("other"))
    await other.save(record("elsewhere", "x"))
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await writer.flush()
    await writer.save(record("s", "n2"))
    await writer.save(record("t", "x"))
    assert await writer.delete("s", "n0")
    remove_it(root / ".aiocheckpoint")
    made, expected = _FIRST_CALLS[call]
    assert await made(writer) == expected
    assert "was removed or replaced while this writer used it" in caplog.text
    await writer.flush()
    assert plain_ids(root, "t") == ["x"]
    assert await _listed_ids(make_writer()) == await _listed_ids(writer)


async def test_retention_counts_what_had_no_files(
    make_writer: MakeWriter, root: Path, no_flushing: None
) -> None:
    """After `.aiocheckpoint` was removed the newest few are still the newest few."""
    writer = make_writer(max_checkpoints=3)
    await save_many(writer, "s", "n", 3)
    shutil.rmtree(root / ".aiocheckpoint")
    await writer.save(record("s", "n3"))
    assert await ids(writer) == ["n3", "n2", "n1"]


@pytest.mark.parametrize("has_saved", [True, False])
async def test_another_writer_answers_nothing_older(
    make_writer: MakeWriter, root: Path, no_flushing: None, has_saved: bool
) -> None:
    """Who did not save what the journal held writes its files, or waits for who may write."""
    writer, other = make_writer(), make_writer()
    if has_saved:
        await other.save(record("t", "x"))
    await save_many(writer, "s", "n", 2)
    assert await _listed_ids(other) == ["n1", "n0"]
    shutil.rmtree(root / ".aiocheckpoint")
    reading = asyncio.create_task(_listed_ids(other))
    if not has_saved:  # or nobody might
        await writer.save(record("s", "n2"))
    assert (await reading)[-2:] == ["n1", "n0"]


async def test_who_only_reads_is_told_when_nobody_writes(
    make_writer: MakeWriter, root: Path, no_flushing: None
) -> None:
    """It neither writes nor answers with less than it knew; its first save writes the files."""
    writer, reader = make_writer(), make_writer(lock_timeout_seconds=0)
    await save_many(writer, "s", "n", 2)
    assert await ids(reader) == ["n1", "n0"]
    shutil.rmtree(root / ".aiocheckpoint")
    for call in (reader.load("s"), reader.ids("s"), reader.check(), list_sessions(reader)):
        with pytest.raises(StorageError, match="save something, which does that"):
            await call
    with pytest.raises(StorageError, match="save something, which does that"):
        reader.read_blocking("s", _nothing)
    assert not (root / ".aiocheckpoint").exists()
    await reader.save(record("s", "n2"))
    assert await ids(reader) == ["n2", "n1", "n0"]


async def test_what_cannot_be_written_is_not_forgotten(
    make_writer: MakeWriter, root: Path, no_flushing: None
) -> None:
    """While the files of what only this process knows cannot be written, every call says so."""
    disk = FaultyFiles()
    writer = make_writer(files=disk)
    await save_many(writer, "s", "n", 2)
    shutil.rmtree(root / ".aiocheckpoint")
    disk.arm(Fault(errno.ENOSPC, "create", for_ever=True))
    for _ in range(2):
        for call in (writer.load("s"), writer.list("s"), writer.save(record("s", "n2"))):
            with pytest.raises(StorageError, match="only this process still has"):
                await call
    disk.arm(None)
    assert await ids(writer) == ["n1", "n0"]


async def test_a_deletion_stays_when_an_idle_process_wakes_up(
    make_writer: MakeWriter, root: Path, no_flushing: None
) -> None:
    """What others did since with a journal of their own is not undone by who knew the old one."""
    writer, idle = make_writer(), make_writer()
    await idle.save(record("t", "x"))
    await idle.flush()
    await save_many(writer, "s", "n", 2)
    assert await ids(idle) == ["n1", "n0"]
    shutil.rmtree(root / ".aiocheckpoint")
    assert await writer.delete("s", "n0")
    await writer.flush()
    assert await ids(idle) == ["n1"]


async def _nothing(_: object) -> None:
    """Read nothing."""


# Disks


def _mount(*command: str | Path) -> None:
    subprocess.run(["mount", *command], check=True, capture_output=True)


async def _is_refused(writer: AsyncCheckpointWriter[Any]) -> None:
    """See that every call names the disk that is not there, and none answers without it."""
    for call in (
        writer.load("s"),
        writer.list("s"),
        writer.delete("s", "step-1"),
        writer.delete_session("s"),
        writer.save(record("s", "refused")),
        list_sessions(writer),
        writer.check(),
    ):
        with pytest.raises(StorageError, match="disk"):
            await call


async def test_restored_volume_mounted_over(make_writer: MakeWriter, disk_directory: Path) -> None:
    """A copy of the volume that is mounted over the root is told from it, whatever its inodes."""
    with ext4(disk_directory, 16 << 20) as disk:
        root = disk.path / "state"
        writer = make_writer(root)
        await writer.save(record("s", "step-0"))
        await on_disk(writer)
        await save_many(writer, "t", "n", 2)
        os.sync()
        copy = shutil.copy(disk_directory / "disk.img", disk_directory / "copy.img")
        _mount("-o", "loop", copy, disk.path)
        try:
            await _is_refused(writer)
            async with AsyncCheckpointWriter(root) as other:
                assert await ids(other) == ["step-0"]
        finally:
            subprocess.run(["umount", disk.path], check=True)
        await writer.save(record("s", "step-1"))
        async with AsyncCheckpointWriter(root) as other:
            assert await ids(writer) == await ids(other) == ["step-1", "step-0"]
        await writer.aclose()


async def test_a_disk_that_is_back_under_another_number(
    make_writer: MakeWriter, disk_directory: Path
) -> None:
    """It is not what the writer knows: the error says that a new writer goes on with it."""
    with ext4(disk_directory, 16 << 20) as disk:
        root = disk.path / "state"
        writer = make_writer(root)
        await writer.save(record("s", "step-0"))
        await on_disk(writer)
        os.sync()
        copy = shutil.copy(disk_directory / "disk.img", disk_directory / "copy.img")
        subprocess.run(["umount", "--lazy", disk.path], check=True)
        _mount("-o", "loop", copy, disk.path)
        advice = "has another number.*If it is not mounted, mount it; if it is, a new writer"
        with pytest.raises(StorageError, match=advice):
            await writer.load("s")
        again = make_writer(root, must_exist=True)
        await again.save(record("s", "step-1"))
        assert await ids(again) == ["step-1", "step-0"]
        await again.aclose()
        with pytest.raises(StorageError, match=advice):
            await writer.aclose()


@pytest.mark.parametrize("below", ["", "state"])
async def test_nothing_is_saved_beneath_a_mount(
    make_writer: MakeWriter, disk_directory: Path, below: str
) -> None:
    """When the volume is gone nothing is saved, or found empty, in the directory beneath it."""
    with ext4(disk_directory, 16 << 20) as disk:
        writer, reader = make_writer(disk.path / below), make_writer(disk.path / below)
        await save_many(writer, "s", "step-", 2)
        assert await ids(reader) == ["step-1", "step-0"]
        subprocess.run(["umount", "--lazy", disk.path], check=True)
        await _is_refused(writer)
        await _is_refused(reader)
        assert [*disk.path.iterdir()] == []
        with pytest.raises(StorageError, match="disk"):  # of what is not in files yet
            await writer.aclose()
        await reader.aclose()


async def test_stats_do_not_forget_what_an_unmounted_disk_lacks(
    make_writer: MakeWriter, disk_directory: Path
) -> None:
    """When the volume is gone `stats` tells so, and what had no file; the error says what to do."""
    with ext4(disk_directory, 16 << 20) as disk:
        writer = make_writer(disk.path / "state")
        await writer.save(record("s", "step-0"))
        await writer.flush()
        with holding(disk.path / "state", "applier"):
            await writer.save(record("s", "step-1"))
            subprocess.run(["umount", "--lazy", disk.path], check=True)
            with pytest.raises(StorageError, match=r"not there any more.*must_exist=True"):
                await writer.load("s")
            stats = writer.stats()
            assert (stats.unflushed_changes, stats.unflushed_bytes > 0) == (1, True)
            assert stats.lag_seconds > 0
            assert "not there any more" in str(stats.files_error)
        with pytest.raises(StorageError, match="disk"):
            await writer.aclose()


async def _fifty(session: Transaction[CheckpointData]) -> None:
    for number in range(50):
        session.save(record("s", f"n{number}"))


async def test_a_session_on_a_disk_of_its_own(
    make_writer: MakeWriter, root: Path, disk_directory: Path
) -> None:
    """A session may be on another disk: it is saved, synced, recovered and deleted as any."""
    (root / "s").mkdir(parents=True)
    with tmpfs(root / "s", 16 << 20) as disk:
        (disk / "checkpoints").mkdir()
        _mount("--bind", disk, root / "s")
        try:
            files = FaultyFiles()
            writer = make_writer(files=files)
            await writer.update("s", _fifty)  # in one commit, so that they are synced together
            await on_disk(writer)
            assert files.count("sync disk") == 2
            damaged = session_files(root, "s")[-1]
            damaged.write_bytes(b"{}")
            report = await writer.recover("s")
            assert report.newest_valid_id == "n48"
            assert [Path(path).read_bytes() for path in report.quarantined] == [b"{}"]
            assert not damaged.exists()
            assert await writer.check() == ()
            assert await writer.delete_session("s")
            await on_disk(writer)
            assert [*(root / "s").iterdir()] in ([], [disk])
            assert await list_sessions(writer) == []
            await writer.save(record("s", "again"))
            await writer.aclose()
        finally:
            subprocess.run(["umount", root / "s"], check=True)


async def test_a_disk_mounted_over_a_session(
    make_writer: MakeWriter, root: Path, disk_directory: Path
) -> None:
    """A disk mounted over the directory of a session in use is what the session is from then on."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await on_disk(writer)
    with tmpfs(disk_directory, 16 << 20) as disk:
        _mount("--bind", disk, root / "s")
        try:
            assert await ids(writer) == await ids(make_writer()) == []
            await writer.save(record("s", "there"))
            await on_disk(writer)
            assert plain_ids(root, "s") == ["there"]
        finally:
            subprocess.run(["umount", "--lazy", root / "s"], check=True)
    assert await ids(writer) == ["n1", "n0"]


# File times


class Coarse(FaultyFiles):
    """A disk whose times are whole seconds: ext4 with inodes of 128 bytes, and FAT."""

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        found = super().call(operation, path, function, *args, **kwargs)
        if isinstance(found, os.stat_result):
            fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
            fields["st_mtime_ns"] -= fields["st_mtime_ns"] % 1_000_000_000
            return cast("ResultT", SimpleNamespace(**fields))
        return found


@pytest.mark.parametrize("coarse", [True, False])
async def test_changes_within_one_tick(
    make_writer: MakeWriter, root: Path, tmp_path: Path, coarse: bool
) -> None:
    """What somebody else puts there just after a look is found, however coarse the times are."""
    elsewhere = make_writer(tmp_path / "elsewhere")
    await save_many(elsewhere, "s", "n", 8)
    await on_disk(elsewhere)
    reader = make_writer(files=Coarse() if coarse else None)
    place = root / "s" / "checkpoints"
    place.mkdir(parents=True)
    expected: list[str] = []
    for path in session_files(tmp_path / "elsewhere", "s"):
        assert await ids(reader) == expected
        shutil.copy(path, place)
        expected.insert(0, f"n{len(expected)}")
    assert await ids(reader) == expected


async def test_a_change_right_after_a_flush(
    make_writer: MakeWriter, root: Path, tmp_path: Path
) -> None:
    """With times of whole seconds also what comes just after a flush of our own is found."""
    elsewhere = make_writer(tmp_path / "elsewhere")
    await elsewhere.save(record("s", "foreign"))
    await on_disk(elsewhere)
    [path] = session_files(tmp_path / "elsewhere", "s")
    writer = make_writer(files=Coarse())
    await writer.save(record("s", "ours"))
    await on_disk(writer)
    assert await ids(writer) == ["ours"]
    shutil.copy(path, root / "s" / "checkpoints" / "cp_29990101_000000_000000_foreign.json")
    newest = await writer.load("s")
    assert newest == record("s", "foreign")
    await writer.save(record("s", "last"))
    await on_disk(writer)


@pytest.mark.damages_store
async def test_a_file_replaced_within_one_tick(make_writer: MakeWriter, root: Path) -> None:
    """A file that Rust writes again within a second is listed as it is."""
    place = root / "s" / "checkpoints"
    place.mkdir(parents=True)
    writer = make_writer(root.with_name("elsewhere"))
    reader = make_writer(files=Coarse())
    for iteration in range(3):
        await writer.save(record("s", "x", iteration))
        await on_disk(writer)
        [path] = session_files(root.with_name("elsewhere"), "s")
        target = place / "cp_20260101_000000_x.json"
        await asyncio.to_thread(shutil.copyfile, path, target)
        assert [meta.iteration for meta in await reader.list("s")] == [iteration]
