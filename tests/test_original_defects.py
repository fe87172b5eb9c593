"""What the Rust original gets wrong, done right: one test or more for each of its eight defects."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointRecord, StorageError
from aiocheckpoint._format.log import Control, parse_control
from tests.conftest import MakeWriter
from tests.durabilities import SYNCED_FILES, journal_by_default, writers_of_each_durability
from tests.faults import Call, Fault, FaultyFiles
from tests.on_disk import on_disk, path_of
from tests.trees import checkpoint_files, session_directory, snapshot

pytestmark = pytest.mark.usefixtures("no_flushing")

Writer = AsyncCheckpointWriter[CheckpointData]


durability, make_writer = journal_by_default, writers_of_each_durability


def step(iteration: int, **fields: Any) -> CheckpointData:
    """Return a checkpoint of session `s`."""
    defaults = {"session_id": "s", "checkpoint_id": f"step-{iteration}"}
    return CheckpointData(**(defaults | fields), iteration=iteration)


class TestDefect1ConstantBackupName:
    async def test_max_backups_keeps_that_many(self, make_writer: MakeWriter, root: Path) -> None:
        """Three backups are of three different checkpoints, the ones superseded last."""
        writer = make_writer(max_backups=3)
        for iteration in range(6):
            await writer.save(step(iteration))
        await on_disk(writer)

        def backed_up() -> list[str]:
            return [path.name for path in sorted(session_directory(root, "s").glob("*.backup"))]

        files = await asyncio.to_thread(checkpoint_files, root, "s")
        assert len(files) == 6
        assert await asyncio.to_thread(backed_up) == [f"{path.name}.backup" for path in files[2:5]]


class TestDefect2SavingAnIdTwice:
    async def test_load_returns_the_newer(self, writer: Writer) -> None:
        """The second save of an id is what loads by it, and the session's newest."""
        await writer.save(step(1))
        await writer.save(step(1, resume_hint="newer"))

        for found in (await writer.load("s", "step-1"), await writer.load("s")):
            assert found is not None
            assert found.resume_hint == "newer"

    async def test_one_file_and_one_entry_are_left(self, writer: Writer, root: Path) -> None:
        """The second save leaves one file and one entry of the id."""
        await writer.save(step(1))
        await on_disk(writer)
        await writer.save(step(1))
        await on_disk(writer)

        assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 1
        assert len(await writer.list("s")) == 1

    async def test_delete_removes_all_of_it(self, make_writer: MakeWriter, root: Path) -> None:
        """Where somebody left two files of an id, a delete removes both."""
        saver = make_writer(max_backups=0)
        await saver.save(step(1))
        await on_disk(saver)
        (older,) = await asyncio.to_thread(checkpoint_files, root, "s")
        newer = older.with_name("cp_29990101_000000_000001_step-1.json")
        await asyncio.to_thread(os.link, older, newer)
        writer = make_writer()
        assert len(await writer.list("s")) == 1

        assert await writer.delete("s", "step-1") is True

        assert await writer.load("s", "step-1") is None
        await on_disk(writer)
        assert await asyncio.to_thread(checkpoint_files, root, "s") == []


class TestDefect3LookupByGlob:
    @pytest.mark.parametrize("pattern", ["*", "a*", "?", "[ab]", "a?", "", "[!x]*"])
    async def test_a_pattern_is_an_id_like_any_other(self, writer: Writer, pattern: str) -> None:
        """An id with glob characters matches no other checkpoint, and can be used itself."""
        for name in ("a", "ab", "b"):
            await writer.save(step(1, checkpoint_id=name))

        assert await writer.load("s", pattern) is None
        assert await writer.delete("s", pattern) is False
        await writer.save(step(2, checkpoint_id=pattern))
        assert await writer.delete("s", pattern) is True
        assert [meta.checkpoint_id for meta in await writer.list("s")] == ["b", "ab", "a"]

    @pytest.mark.parametrize("outside", ["../outside", "..", "/etc/x", "x/../../outside", "."])
    async def test_no_id_leaves_the_root(self, writer: Writer, root: Path, outside: str) -> None:
        """An id or session id that looks like a path stays inside the root, and works."""
        await writer.save(step(1, session_id=outside, checkpoint_id=outside))
        await on_disk(writer)

        assert await writer.load(outside, outside) is not None
        assert await asyncio.to_thread(os.listdir, root.parent) == [root.name]
        (meta,) = await writer.list(outside)
        assert path_of(meta).parent.parent.parent == root
        assert await asyncio.to_thread(path_of(meta).is_file)
        assert await writer.delete_session(outside) is True


class TestDefect4OneSecondResolution:
    async def test_many_saves_in_a_second_keep_their_order(self, make_writer: MakeWriter) -> None:
        """Fifty saves within a moment are told apart by every later reader."""
        writer = make_writer()
        for iteration in range(50):
            await writer.save(step(iteration))

        metas = await make_writer().list("s")
        assert [meta.iteration for meta in metas] == list(range(49, -1, -1))

    async def test_order_is_not_that_of_file_times(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Turning all modification times round changes nothing."""
        writer = make_writer()
        for iteration in range(5):
            await writer.save(step(iteration))
        await on_disk(writer)

        def turn_round() -> None:
            for age, path in enumerate(checkpoint_files(root, "s")):
                os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))

        await asyncio.to_thread(turn_round)

        for reader in (writer, make_writer()):
            metas = await reader.list("s")
            assert [meta.iteration for meta in metas] == [4, 3, 2, 1, 0]
            newest = await reader.load("s")
            assert newest is not None
            assert newest.iteration == 4

    @pytest.mark.parametrize("restart", [False, True], ids=["same-writer", "after-restart"])
    async def test_order_survives_clock_steps(
        self, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch, *, restart: bool
    ) -> None:
        """A clock that stands still, or is put back by a day, does not change the order."""
        day = 86_400 * 10**9
        now = 1_795_000_000 * 10**9 + 999_998_000
        clock = [now, now, now + 1000, now - day, now - day, now + 2000, now - 2 * day]
        writer = make_writer()
        for iteration, nanoseconds in enumerate(clock):
            monkeypatch.setattr(time, "time_ns", lambda value=nanoseconds: value)
            await writer.save(step(iteration))
            if restart:
                await writer.aclose()
                writer = make_writer()
        monkeypatch.undo()

        metas = await make_writer().list("s")
        assert [meta.iteration for meta in metas] == list(range(len(clock) - 1, -1, -1))


def opened(files: FaultyFiles) -> list[str]:
    """Return the names of the checkpoint files opened to be read."""
    return [Path(call.path).name for call in session_calls(files) if call.operation == "open"]


def session_calls(files: FaultyFiles) -> list[Call]:
    """Return the calls on the directory of session `s`; flushing goes on elsewhere meanwhile."""
    return [call for call in files.calls if "/s/checkpoints" in call.path]


class TestDefect5CostGrowsWithTheSession:
    @pytest.mark.parametrize("call", ["save", "load", "load_id", "delete"])
    async def test_work_does_not_grow(self, make_writer: MakeWriter, call: str) -> None:
        """With 5 and with 50 checkpoints a call does the same file operations, none a listing."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "save": lambda: writer.save(step(101)),
            "load": lambda: writer.load("s"),
            "load_id": lambda: writer.load("s", "step-100"),
            "delete": lambda: writer.delete("s", "step-100"),
        }
        done: list[list[str]] = []
        for iteration in range(50):
            await writer.save(step(iteration))
            if iteration in (4, 49):
                await writer.save(step(100))
                await on_disk(writer)
                files.forget_calls()
                await calls[call]()
                await on_disk(writer)
                done.append([made.operation for made in session_calls(files)])
                for extra in ("step-100", "step-101"):
                    await writer.delete("s", extra)

        assert done[0] == done[1]
        assert "list directory" not in done[0]

    async def test_save_lists_no_directory_after_the_first(self, make_writer: MakeWriter) -> None:
        """Only the first save of a session in a process reads its directory's names."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        await on_disk(writer)
        files.forget_calls()

        for iteration in range(1, 20):
            await writer.save(step(iteration))
            await on_disk(writer)

        kinds = {call.operation for call in session_calls(files)}
        assert "create" in kinds
        assert not kinds & {"list directory", "open", "read"}

    async def test_list_opens_no_unchanged_file(self, make_writer: MakeWriter) -> None:
        """A second list opens nothing, and one after a save opens only the new file."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        for iteration in range(10):
            await writer.save(step(iteration))
        await on_disk(writer)
        await writer.list("s")
        files.forget_calls()

        await writer.list("s")
        assert opened(files) == []

        await writer.save(step(10))
        await on_disk(writer)
        files.forget_calls()
        (newest, *_) = await writer.list("s")
        assert opened(files) == [path_of(newest).name]

    async def test_list_after_another_writer_opens_only_what_is_new(
        self, make_writer: MakeWriter
    ) -> None:
        """What another writer added is read, what was known is not read again."""
        files = FaultyFiles()
        reader, other = make_writer(files=files), make_writer()
        for iteration in range(10):
            await other.save(step(iteration))
        await on_disk(other)
        await reader.list("s")
        await other.save(step(10))
        await on_disk(other)
        files.forget_calls()

        (newest, *_) = await reader.list("s")

        assert opened(files) == [path_of(newest).name]

    async def test_what_waits_for_its_file_is_listed_without_one(
        self, make_writer: MakeWriter
    ) -> None:
        """A list opens no file of a checkpoint that the journal still has."""
        files = FaultyFiles()
        writer = make_writer(files=files, durability="journal")
        for iteration in range(10):
            await writer.save(step(iteration))

        assert [meta.iteration for meta in await writer.list("s")] == list(range(9, -1, -1))
        assert opened(files) == []

    @pytest.mark.parametrize("kibibytes", [64, 1024])
    async def test_cold_list_reads_only_the_ends(
        self, make_writer: MakeWriter, kibibytes: int
    ) -> None:
        """A cold list of a large file reads 8 KiB of it."""
        saver = make_writer()
        await saver.save(step(1, messages=["x" * 1000] * kibibytes))
        await on_disk(saver)
        files = CountingReads()

        (meta,) = await make_writer(files=files).list("s")

        assert meta.iteration == 1
        assert files.bytes_read == 8192

    async def test_cold_list_of_small_files_reads_each_once(self, make_writer: MakeWriter) -> None:
        """A cold list reads no byte twice."""
        writer = make_writer()
        for iteration in range(5):
            await writer.save(step(iteration))
        await on_disk(writer)
        sizes = [
            (await asyncio.to_thread(path_of(meta).stat)).st_size for meta in await writer.list("s")
        ]
        files = CountingReads()

        await make_writer(files=files).list("s")

        assert files.bytes_read == sum(sizes)

    async def test_any_record_type_is_listed_by_its_ends(self, make_writer: MakeWriter) -> None:
        """The ends suffice for a record type of the application's, too."""
        saver = make_writer(record_type=Large)
        await saver.save(Large(session_id="s", blob="x" * 100_000))
        await on_disk(saver)
        files = CountingReads()

        (meta,) = await make_writer(record_type=Large, files=files).list("s")

        assert (meta.trigger, meta.iteration) == ("", 0)
        assert files.bytes_read == 8192


class Large(CheckpointRecord):
    """A record of an application."""

    blob: str = ""


class CountingReads(FaultyFiles):
    """Counts the bytes read of session `s`."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_read = 0

    def call(self, operation: str, path: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call(operation, path, function, *args, **kwargs)
        if operation == "read" and "/s/checkpoints" in path:
            self.bytes_read += len(result)
        return result


SYNCS = ("sync file", "rename", "sync directory")


def synced_directories(files: FaultyFiles, root: Path) -> list[str]:
    """Return which directories were synced, in order."""
    directory = session_directory(root, "s")
    names = {
        str(root.parent): "above the root",
        str(root): "root",
        str(directory.parent): "session",
        str(directory): "checkpoints",
        str(root / ".aiocheckpoint"): "own",
    }
    return [names.get(c.path, c.path) for c in files.calls if c.operation == "sync directory"]


class TestDefect6DirectoryIsNeverSyncedByFile:
    """Of a writer that syncs each file."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return SYNCED_FILES

    async def test_file_then_name_then_directory_then_answer(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A save gives the file its name, points at it, and syncs it and its directory."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        files.forget_calls()

        await writer.save(step(1))

        calls = [call for call in session_calls(files) if call.operation in SYNCS]
        (newest, _) = await writer.list("s")
        assert [call.operation for call in calls] == [
            "rename", "rename", "sync file", "sync directory",
        ]  # fmt: skip
        renamed, _, synced, directory = (call.path for call in calls)
        assert Path(renamed).name.startswith(".tmp_cp_")
        assert synced == str(newest.path)
        assert directory == str(session_directory(root, "s"))

    async def test_parents_of_new_directories_are_synced(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """The first save syncs the parent of every directory it made, before it returns."""
        files = FaultyFiles()

        await make_writer(files=files).save(step(0))

        synced = synced_directories(files, root)
        assert set(synced) == {"above the root", "root", "own", "session", "checkpoints"}

    async def test_pruning_comes_after_the_sync(self, make_writer: MakeWriter) -> None:
        """What a save makes superfluous is removed only when the save is durable."""
        files = FaultyFiles()
        writer = make_writer(files=files, max_checkpoints=1)
        await writer.save(step(0))
        files.forget_calls()

        await writer.save(step(1))

        kinds = [call.operation for call in files.calls]
        assert kinds.index("write") < kinds.index("sync data") < kinds.index("remove")

    async def test_root_is_synced_into_its_parent_after_a_failure(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Where the first sync of the root's parent failed, the next save makes up for it."""
        files = FaultyFiles(Fault(errno.EIO, "sync directory"))
        writer = make_writer(files=files)
        with pytest.raises(StorageError):
            await writer.save(step(0))
        assert files.failed[0].path == str(root.parent)

        await writer.save(step(0))

        assert synced_directories(files, root).count("above the root") > 1

    async def test_directory_made_anew_is_synced_again(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """A session that another process removed is synced into the root again."""
        files = FaultyFiles()
        ours = make_writer(files=files)
        await ours.save(step(0))
        await make_writer().delete_session("s")
        files.forget_calls()

        await ours.save(step(1))

        assert {"root", "session", "checkpoints"} <= set(synced_directories(files, root))


class TestDefect6DirectoryIsNeverSyncedByJournal:
    """Of a writer that shares syncs by a journal."""

    @pytest.fixture(name="durability")
    def _durability(self) -> dict[str, Any]:
        return {"durability": "journal"}

    async def test_journal_is_synced_before_any_file_appears(self, make_writer: MakeWriter) -> None:
        """A save writes and syncs the journal, and only then makes the file."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        files.forget_calls()

        await writer.save(step(1))
        await on_disk(writer)

        kinds = [call.operation for call in files.calls]
        assert kinds.index("write") < kinds.index("sync data") < kinds.index("create")
        journal = files.calls[kinds.index("sync data")].path
        assert files.calls[kinds.index("write")].path == journal

    async def test_journal_and_its_directories_are_synced(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """The first save syncs every directory that leads to the journal, before it returns."""
        files = FaultyFiles()

        await make_writer(files=files).save(step(0))

        calls = files.calls[: [call.operation for call in files.calls].index("sync data")]
        synced = {call.path for call in calls if call.operation == "sync directory"}
        assert {str(root.parent), str(root), str(root / ".aiocheckpoint")} <= synced

    async def test_delete_is_synced_before_the_removal(self, make_writer: MakeWriter) -> None:
        """A delete is durable in the journal before the file goes."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        await on_disk(writer)
        files.forget_calls()

        await writer.delete("s", "step-0")
        await on_disk(writer)

        kinds = [call.operation for call in files.calls]
        assert kinds.index("write") < kinds.index("sync data") < kinds.index("remove")

    async def test_journal_is_dropped_after_the_files_are_synced(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Closing syncs all files, directories and names before the journal lets go of them."""
        files = FaultyFiles()
        control = root / ".aiocheckpoint" / "control"
        flushed: list[Control | None] = []

        def look() -> None:
            flushed.append(parse_control(control.read_bytes(), str(control)))

        files.at("before_flush", look)
        files.at("after_flush", look)
        writer = make_writer(files=files)
        await writer.save(step(0))
        files.forget_calls()
        await writer.aclose()
        await asyncio.to_thread(look)

        before, after, end = (found.flushed if found else None for found in flushed)
        assert before == after
        assert (end or 0) > (after or 0)
        synced = [(call.operation, call.path) for call in files.calls]
        assert ("sync directory", str(session_directory(root, "s"))) in synced
        assert "sync file" in [call.operation for call in session_calls(files)]

    async def test_root_is_synced_into_its_parent_after_a_failure(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Where the first sync of the root's parent failed, the next save makes up for it."""
        files = FaultyFiles(Fault(errno.EIO, "sync directory"))
        writer = make_writer(files=files)
        with pytest.raises(StorageError):
            await writer.save(step(0))
        assert files.failed[0].path == str(root.parent)

        await writer.save(step(0))

        assert synced_directories(files, root).count("above the root") > 1


class TestDefect7BlockingCallsAndRaces:
    async def test_no_file_operation_on_the_loop(self, make_writer: MakeWriter) -> None:
        """Every file operation of every method is made by another thread than the loop's."""
        files = FaultyFiles()
        async with make_writer(files=files) as writer:
            await writer.save(step(1))
            await writer.load("s")
            (meta,) = await writer.list("s")
            await writer.verify(path_of(meta))
            await writer.copy_session("s", "t")
            assert [session async for session in writer.sessions()] == ["s", "t"]
            await writer.recover("s")
            await writer.check()
            await writer.delete("s", "step-1")
            await writer.delete_session("t")

        assert threading.get_ident() not in {call.thread for call in files.calls}

    async def test_concurrent_saves_of_a_session_do_not_race(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Saves at once from two writers are all kept, each writer's in its order."""
        writers = [make_writer(), make_writer()]
        await asyncio.gather(
            *(
                writer.save(step(iteration, checkpoint_id=f"{number}-{iteration}"))
                for iteration in range(20)
                for number, writer in enumerate(writers)
            )
        )

        metas = await make_writer().list("s")
        for number in range(2):
            mine = [m.iteration for m in metas if m.checkpoint_id.startswith(f"{number}-")]
            assert mine == list(range(19, -1, -1))
        await on_disk(writers[0])
        tree = await asyncio.to_thread(snapshot, session_directory(root, "s"))
        assert tree["latest.json"] == ("symlink", path_of(metas[0]).name.encode())


class TestDefect8SwallowedErrorsAndLeftovers:
    async def test_pointer_error_is_raised(self, make_writer: MakeWriter) -> None:
        """Whoever waits for files that lack `latest.json` is told so, and nothing is lost."""
        files = FaultyFiles()
        writer = make_writer(files=files)
        await writer.save(step(0))
        await on_disk(writer)
        files.arm(Fault(errno.EIO, "symlink", for_ever=True))

        async def save_to_disk() -> None:
            await writer.save(step(1))
            await on_disk(writer)

        with pytest.raises(StorageError) as refused:
            await save_to_disk()

        assert (refused.value.operation, refused.value.errno) == ("symlink", errno.EIO)
        newest = await make_writer().load("s")
        assert newest is not None
        assert newest.iteration == 1
        files.arm(None)
        await on_disk(writer)
        assert await writer.check() == ()

    async def test_leftovers_are_removed_by_the_next_save(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Temporary files of saves that were killed, ours and old ones of Rust's, disappear."""
        saver = make_writer()
        await saver.save(step(0))
        await on_disk(saver)
        directory = session_directory(root, "s")
        leftovers = [".tmp_cp_0123456789abcdef", ".tmp_checkpoint_x.json", ".tmp_latest_x"]

        def leave() -> None:
            for name in leftovers:
                (directory / name).write_bytes(b"half")
                os.utime(directory / name, (1_700_000_000, 1_700_000_000))

        await asyncio.to_thread(leave)
        writer = make_writer()
        assert [finding.kind for finding in await writer.check()] == ["leftover"] * 3

        await writer.save(step(1))
        await on_disk(writer)

        assert not set(leftovers) & set(await asyncio.to_thread(snapshot, directory))

    async def test_a_temporary_file_rust_is_writing_is_left(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """The Rust crate takes no lock: its temporary file is left while it may be in use."""
        writer = make_writer()
        await writer.save(step(0))
        await on_disk(writer)
        path = session_directory(root, "s") / ".tmp_checkpoint_x.json"
        await asyncio.to_thread(path.write_bytes, b"half")

        other = make_writer()
        await other.save(step(1))
        await on_disk(other)

        assert await asyncio.to_thread(path.read_bytes) == b"half"
        await asyncio.to_thread(path.unlink)
