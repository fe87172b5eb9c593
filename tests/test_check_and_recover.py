"""Finding what is wrong in a store, and the way back from it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    CheckpointCorruptError,
    CheckpointData,
    Finding,
    RecoveryReport,
    StorageError,
    blob_digest,
)
from aiocheckpoint._engine import check_journal
from tests.conftest import MakeWriter
from tests.durabilities import each_durability, writers_of_each_durability
from tests.faults import FaultyFiles, Hold, RefusingFiles
from tests.on_disk import on_disk, path_of
from tests.trees import checkpoint_files, session_directory, snapshot

Writer = AsyncCheckpointWriter[CheckpointData]


class Drawing(BlobRecord):
    """A record of an application's own."""


class ClosedDirectory(RefusingFiles):
    """A disk on which one directory cannot be opened."""

    def __init__(self, closed: str, error_number: int) -> None:
        super().__init__(error_number)
        self._closed = closed

    def is_refused(self, operation: str, path: str) -> bool:
        """Tell so of the directory."""
        return operation == "open directory" and path == self._closed


durability, make_writer = each_durability, writers_of_each_durability


def step(iteration: int, session_id: str = "s") -> CheckpointData:
    return CheckpointData(
        session_id=session_id, checkpoint_id=f"step-{iteration}", iteration=iteration
    )


async def save_steps(writer: Writer, count: int, session_id: str = "s") -> list[Path]:
    """Save so many checkpoints and return their files, oldest first."""
    for iteration in range(count):
        await writer.save(step(iteration, session_id))
    await on_disk(writer)
    return [path_of(meta) for meta in reversed(await writer.list(session_id))]


def in_short(findings: tuple[Finding, ...]) -> list[tuple[str, str, str | None]]:
    return [(finding.kind, path_of(finding).name, finding.session_id) for finding in findings]


async def newest_iteration(writer: Writer, session_id: str = "s") -> int | None:
    newest = await writer.load(session_id)
    return None if newest is None else newest.iteration


def damage(path: Path) -> None:
    """Replace a file by a damaged one; its other names keep what they have."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-3])


def damage_in_place(path: Path) -> None:
    """Damage a file under all its names."""
    with path.open("r+b") as file:
        file.truncate(100)


class TestCheck:
    async def test_tells_every_kind_in_order(self, make_writer: MakeWriter, root: Path) -> None:
        """Each thing that is wrong is one finding with its file and session, in their order."""
        writer = make_writer(max_backups=0)
        for session_id in ("a", "b", "c", "d"):
            await save_steps(writer, 2, session_id)

        def harm() -> None:
            first, second = checkpoint_files(root, "a")
            damage(first)
            second.unlink()
            second.mkdir()
            (first.parent / ".tmp_cp_x").write_bytes(b"")
            first, second = checkpoint_files(root, "b")
            shutil.copyfile(checkpoint_files(root, "d")[0], first)
            second.unlink()
            first, second = checkpoint_files(root, "c")
            (first.parent / "latest.json").unlink()
            (first.parent / "latest.json").symlink_to(first.name)

        await asyncio.to_thread(harm)
        (a1, a2) = [p.name for p in await asyncio.to_thread(checkpoint_files, root, "a")]
        (b1,) = [p.name for p in await asyncio.to_thread(checkpoint_files, root, "b")]
        before = await asyncio.to_thread(snapshot, root)

        for checker in (writer, make_writer()):
            assert in_short(await checker.check()) == [
                ("leftover", ".tmp_cp_x", "a"),
                ("damaged", a1, "a"),
                ("unreadable", a2, "a"),
                ("misplaced", b1, "b"),
                ("dangling-pointer", "latest.json", "b"),
                ("stale-pointer", "latest.json", "c"),
            ]
        assert await asyncio.to_thread(snapshot, root) == before
        for session_id in ("a", "b", "c"):
            await writer.recover(session_id)
        await writer.save(step(9, "a"))

    @pytest.mark.parametrize("content", ["newest", "older", "garbage", ""])
    async def test_file_in_the_place_of_the_pointer(
        self, make_writer: MakeWriter, content: str
    ) -> None:
        """A copy that follows symlinks leaves a file: only one of the newest is as it should be."""
        writer = make_writer()
        older, newest = await save_steps(writer, 2)
        pointer = newest.with_name("latest.json")

        def replace() -> None:
            texts = {"newest": newest.read_bytes(), "older": older.read_bytes()}
            pointer.unlink()
            pointer.write_bytes(texts.get(content, content.encode()))

        await asyncio.to_thread(replace)
        told = [("stale-pointer", "latest.json", "s")]
        assert in_short(await writer.check()) == ([] if content == "newest" else told)
        await writer.save(step(2))
        await on_disk(writer)
        assert await writer.check() == ()

    async def test_damaged_backup_is_told(self, make_writer: MakeWriter) -> None:
        """A backup that could not be restored from is a finding too."""
        writer = make_writer()
        (path, _) = await save_steps(writer, 2)
        backup = Path(f"{path}.backup")
        await asyncio.to_thread(damage, backup)

        assert in_short(await writer.check()) == [("damaged", backup.name, "s")]
        await asyncio.to_thread(backup.unlink)

    async def test_details_are_sentences(self, make_writer: MakeWriter) -> None:
        """Every finding says in words what was found."""
        writer = make_writer()
        (path, _) = await save_steps(writer, 2)
        await asyncio.to_thread(damage, path)

        (finding,) = await writer.check()
        assert finding.detail
        await writer.recover("s")

    async def test_no_store_is_healthy_and_stays_away(self, writer: Writer, root: Path) -> None:
        """Where nothing was saved there is nothing wrong, and no directory is made."""
        assert await writer.check() == ()
        assert [session async for session in writer.sessions()] == []
        assert not await asyncio.to_thread(root.exists)

    @pytest.mark.parametrize("error_number", [errno.EIO, errno.EACCES, errno.EMFILE])
    async def test_directory_that_cannot_be_opened_is_not_healthy(
        self, make_writer: MakeWriter, root: Path, error_number: int
    ) -> None:
        """Check never calls healthy what it could not look into."""
        await save_steps(make_writer(), 1)
        writer = make_writer(files=ClosedDirectory(str(root / "s"), error_number))

        with contextlib.suppress(StorageError):
            assert [finding.kind for finding in await writer.check()] == ["unreadable"]

    @pytest.mark.parametrize("error_number", [errno.EIO, errno.EACCES, errno.EMFILE])
    async def test_session_is_never_left_out_for_an_error(
        self, make_writer: MakeWriter, root: Path, error_number: int
    ) -> None:
        """A session whose directory cannot be opened now is an error, not a session less."""
        await save_steps(make_writer(), 1)
        writer = make_writer(files=ClosedDirectory(str(root / "s"), error_number))

        with contextlib.suppress(StorageError):
            assert await found_sessions(writer) == ["s"]

    async def test_saves_of_a_living_writer_are_healthy(self, make_writer: MakeWriter) -> None:
        """What somebody who is alive is about to write to files is no finding."""
        busy, checker = make_writer(), make_writer()
        for iteration in range(20):
            await busy.save(step(iteration))
            if iteration % 5 == 0:
                assert await busy.check() == ()
                assert await checker.check() == ()

    @pytest.mark.damages_store
    async def test_rusts_saves_within_a_second_are_healthy(self, make_writer: MakeWriter) -> None:
        """Where two files have one second in their names, the file times tell the newest."""
        writer = make_writer(max_backups=0)
        (first, second) = await save_steps(writer, 2)

        def as_rust_does() -> None:
            earlier = second.rename(second.with_name("cp_20260101_000000_step-1.json"))
            later = first.rename(first.with_name("cp_20260101_000000_step-0.json"))
            os.utime(earlier, (1_700_000_000, 1_700_000_000))
            os.utime(later, (1_700_000_001, 1_700_000_001))
            (later.parent / "latest.json").unlink()
            (later.parent / "latest.json").symlink_to(later.name)

        await asyncio.to_thread(as_rust_does)
        reader = make_writer()

        assert await newest_iteration(reader) == 0
        assert await listed(reader) == [0, 1]
        assert await reader.check() == ()

    @pytest.mark.parametrize("moment", ["after_rename", "before_rename_pointer"])
    async def test_beside_a_save_shows_at_most_its_temporary_files(
        self, make_writer: MakeWriter, moment: str
    ) -> None:
        """A save that has its file and not yet its pointer is no damage."""
        files, hold = FaultyFiles(), Hold()
        busy, checker = make_writer(files=files), make_writer()
        await save_steps(checker, 2)
        files.at(moment, hold)
        saving = asyncio.ensure_future(busy.save(step(2)))
        await asyncio.to_thread(hold.wait_arrived)

        findings = await checker.check()
        hold.release()
        await saving

        assert {finding.kind for finding in findings} <= {"leftover"}

    async def test_beside_a_save_that_ends_meanwhile(self, make_writer: MakeWriter) -> None:
        """A save that takes place while check looks at the directory is no damage."""
        files, hold = FaultyFiles(), Hold()
        busy, checker = make_writer(), make_writer(files=files)
        await save_steps(busy, 2)
        assert await newest_iteration(checker) == 1
        files.at("read link", hold)
        checking = asyncio.ensure_future(checker.check())
        await asyncio.to_thread(hold.wait_arrived)
        await busy.save(step(2))
        await on_disk(busy)
        hold.release()

        assert await checking == ()


class TestRecover:
    async def test_moves_all_that_is_bad_and_nothing_else(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Damaged files go to the quarantine with their content, intact ones stay as they are."""
        writer = make_writer(max_backups=0)
        paths = await save_steps(writer, 6)
        bad = [paths[1], paths[3], paths[5]]
        for path in bad:
            await asyncio.to_thread(damage, path)
        contents = [await asyncio.to_thread(path.read_bytes) for path in bad]
        good = {path: await asyncio.to_thread(path.read_bytes) for path in paths[::2]}

        report = await writer.recover("s")

        assert report.session_id == "s"
        assert report.newest_valid_id == "step-4"
        moved = [*map(Path, report.quarantined)]
        assert [await asyncio.to_thread(path.read_bytes) for path in moved] == contents[::-1]
        for path in moved:
            assert path.parent == root / ".aiocheckpoint" / "quarantine" / "s"
            assert any(path.name.startswith(f"{wrong.name}.") for wrong in bad)
        for path, content in good.items():
            assert await asyncio.to_thread(path.read_bytes) == content
        assert await newest_iteration(writer) == 4
        assert [meta.iteration for meta in await writer.list("s")] == [4, 2, 0]
        assert await writer.check() == ()

    async def test_second_time_finds_nothing(self, make_writer: MakeWriter) -> None:
        """A recovery right after one has nothing to move and says the same newest."""
        writer = make_writer()
        (*_, newest) = await save_steps(writer, 3)
        await asyncio.to_thread(damage, newest)

        first = await writer.recover("s")
        second = await make_writer().recover("s")

        assert len(first.quarantined) == 1
        assert second.quarantined == ()
        assert second.newest_valid_id == first.newest_valid_id == "step-1"

    async def test_replaced_first_name_is_restored_from_the_backup(
        self, make_writer: MakeWriter
    ) -> None:
        """Where something was written over the first name, the backup takes its place again."""
        writer = make_writer()
        paths = await save_steps(writer, 3)
        await asyncio.to_thread(damage, paths[1])
        with pytest.raises(CheckpointCorruptError):
            await writer.load("s", "step-1")

        report = await writer.recover("s")

        assert (report.newest_valid_id, len(report.quarantined)) == ("step-2", 1)
        restored = await writer.load("s", "step-1")
        assert restored is not None
        assert restored.iteration == 1
        assert [meta.iteration for meta in await make_writer().list("s")] == [2, 1, 0]
        assert await writer.check() == ()
        await writer.save(step(3))

    @pytest.mark.damages_store
    async def test_backup_that_shares_the_damage_goes_along(self, make_writer: MakeWriter) -> None:
        """A backup is a second name of the same bytes; after a recovery check finds nothing."""
        writer = make_writer()
        paths = await save_steps(writer, 3)
        await asyncio.to_thread(damage_in_place, paths[1])
        assert [finding.kind for finding in await writer.check()] == ["damaged", "damaged"]

        await writer.recover("s")

        assert [meta.iteration for meta in await writer.list("s")] == [2, 0]
        assert await writer.check() == ()

    async def test_same_name_twice_in_the_quarantine(self, make_writer: MakeWriter) -> None:
        """What was moved aside before is never overwritten."""
        writer = make_writer(max_backups=0)
        moved: list[Path] = []
        for content in (b"first", b"second", b"third"):
            (path, *_) = await save_steps(writer, 1)
            again = path.with_name("cp_29990101_000000_000001_step-0.json")
            await asyncio.to_thread(again.write_bytes, content)
            moved += map(Path, (await writer.recover("s")).quarantined)

        contents = [await asyncio.to_thread(path.read_bytes) for path in moved]
        assert contents == [b"first", b"second", b"third"]

    async def test_other_sessions_are_not_touched(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A recovery is of one session; the damage of another stays to be seen."""
        writer = make_writer()
        for session_id in ("s", "t"):
            (*_, newest) = await save_steps(writer, 2, session_id)
            await asyncio.to_thread(damage, newest)
        before = await asyncio.to_thread(snapshot, root / "t")

        await writer.recover("s")

        assert await asyncio.to_thread(snapshot, root / "t") == before
        with pytest.raises(CheckpointCorruptError):
            await writer.load("t")
        await writer.recover("t")

    async def test_quarantine_is_no_session(self, make_writer: MakeWriter, root: Path) -> None:
        """What was moved aside is in no list, and stays when the session is deleted."""
        writer = make_writer()
        (*_, newest) = await save_steps(writer, 2)
        await asyncio.to_thread(damage, newest)
        (aside,) = (await writer.recover("s")).quarantined

        assert [session async for session in writer.sessions()] == ["s"]
        await writer.delete_session("s")
        assert [session async for session in writer.sessions()] == []
        assert await asyncio.to_thread(Path(aside).exists)
        assert await writer.recover("s") == await make_writer().recover("s")

    @pytest.mark.parametrize("pointer", ["gone", "dangling", "stale"])
    async def test_pointer_is_made_right(
        self, make_writer: MakeWriter, root: Path, pointer: str
    ) -> None:
        """After a recovery `latest.json` names the newest, whatever it named before."""
        writer = make_writer()
        (oldest, *_, newest) = await save_steps(writer, 3)
        link = newest.with_name("latest.json")

        def harm() -> None:
            link.unlink()
            if pointer != "gone":
                link.symlink_to("cp_none.json" if pointer == "dangling" else oldest.name)

        await asyncio.to_thread(harm)

        assert (await writer.recover("s")).quarantined == ()

        assert await asyncio.to_thread(os.readlink, link) == newest.name
        assert await writer.check() == ()

    async def test_what_was_never_written_is_quarantined_too(
        self, make_writer: MakeWriter, root: Path, no_flushing: None
    ) -> None:
        """A checkpoint that is in the journal alone is moved aside as a file, not dropped."""
        writer = make_writer(max_backups=0, record_type=Drawing)
        gone = blob_digest(b"gone")
        await writer.save(Drawing(session_id="s", checkpoint_id="intact"))
        first = Drawing(session_id="s", checkpoint_id="first", blob_digests=(gone,))
        await writer.save(first, blobs={gone: b"gone"})
        await writer.flush()
        await asyncio.to_thread((root / "s" / "blobs" / gone).unlink)
        await writer.save(first.next(checkpoint_id="broken"))
        (broken, *_) = await writer.list("s")

        report = await writer.recover("s")

        (aside, _) = report.quarantined
        assert report.newest_valid_id == "intact"
        assert await writer.verify(aside)
        assert Path(aside).name.startswith(f"{path_of(broken).name}.")
        assert await writer.recover("s") == RecoveryReport(
            session_id="s", newest_valid_id="intact", quarantined=()
        )

    async def test_beside_saves(self, make_writer: MakeWriter, root: Path) -> None:
        """Recoveries between saves of one session move the damaged file, and lose no save."""
        writer = make_writer(max_backups=0)
        (path, *_) = await save_steps(writer, 2)
        await asyncio.to_thread(damage, path)

        results = await asyncio.gather(
            *(writer.save(step(iteration)) for iteration in range(2, 12)),
            writer.recover("s"),
            *(writer.save(step(iteration)) for iteration in range(12, 22)),
            make_writer().recover("s"),
        )

        assert len(results) == 22
        assert [m.iteration for m in await writer.list("s")] == list(range(21, 0, -1))
        assert await writer.check() == ()

    async def test_keeps_every_byte(self, make_writer: MakeWriter, root: Path) -> None:
        """Every content that was there before, of checkpoints and of foreign files, is after."""
        writer = make_writer()
        paths = await save_steps(writer, 5)

        def harm() -> None:
            for number, path in enumerate(paths[1::2]):
                damage(path)
                (path.parent / f"foreign-{number}").write_bytes(b"not ours %d" % number)
            paths[4].write_bytes(b"")

        await asyncio.to_thread(harm)
        before = await asyncio.to_thread(snapshot, session_directory(root, "s"))

        await writer.recover("s")

        after = (await asyncio.to_thread(snapshot, root)).values()
        assert {entry for entry in before.values() if entry[0] == "file"} <= set(after)


async def listed(writer: Writer) -> list[int]:
    return [meta.iteration for meta in await writer.list("s")]


async def found_sessions(writer: Writer) -> list[str]:
    return [session async for session in writer.sessions()]


async def recovered(writer: Writer) -> str | None:
    return (await writer.recover("s")).newest_valid_id


async def save_fifth(writer: Writer) -> str:
    return await writer.save(step(5))


async def delete_second(writer: Writer) -> bool:
    return await writer.delete("s", "step-1")


async def delete_all(writer: Writer) -> bool:
    return await writer.delete_session("s")


async def copy(writer: Writer) -> int:
    return await writer.copy_session("s", "t")


async def load_deleted(writer: Writer) -> CheckpointData | None:
    return await writer.load("s", "step-2")


class TestAfterAPowerCut:
    """A copy of the store with the journal alone: no file of the session was written yet."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return {"durability": "journal"}

    @pytest.fixture(name="lost")
    async def _lost(
        self, make_writer: MakeWriter, root: Path, tmp_path: Path, no_flushing: None
    ) -> Path:
        copy = tmp_path / "after"
        writer = make_writer()
        for iteration in range(3):
            await writer.save(step(iteration))
        await writer.delete("s", "step-2")
        await asyncio.to_thread(shutil.copytree, root, copy)
        assert await asyncio.to_thread(os.listdir, copy) == [".aiocheckpoint"]
        return copy

    @pytest.mark.parametrize(
        ("call", "answer", "left"),
        [
            (newest_iteration, 1, [1, 0]),
            (load_deleted, None, [1, 0]),
            (listed, [1, 0], [1, 0]),
            (found_sessions, ["s"], [1, 0]),
            (delete_second, True, [0]),
            (delete_all, True, []),
            (copy, 2, [1, 0]),
            (recovered, "step-1", [1, 0]),
            (save_fifth, "step-5", [5, 1, 0]),
        ],
    )
    async def test_first_call_knows_all_that_was_acknowledged(
        self,
        make_writer: MakeWriter,
        lost: Path,
        call: Callable[[Writer], Awaitable[object]],
        answer: object,
        left: list[int],
    ) -> None:
        """Whatever is called first, saves are back and deletes are not undone."""
        writer = make_writer(lost)

        assert await call(writer) == answer

        assert await listed(writer) == left
        await on_disk(writer)
        assert await listed(writer) == left
        assert await writer.check() == ()

    async def test_check_tells_and_touches_nothing(
        self, make_writer: MakeWriter, lost: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Check reports the journal that waits for a flush, and leaves it as it is."""
        monkeypatch.setattr(check_journal, "_MOMENTS_SECONDS", 0.0)
        before = await asyncio.to_thread(snapshot, lost)
        writer = make_writer(lost)

        findings = await writer.check()

        assert [finding.kind for finding in findings] == ["unflushed-journal"]
        assert await asyncio.to_thread(snapshot, lost) == before
        assert await newest_iteration(writer) == 1
