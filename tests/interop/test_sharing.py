"""Both sides at work in one directory: pointer, order, deletes, ids, leftovers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointRecord,
)
from aiocheckpoint._disk.files import LocalFiles
from tests.conftest import MakeWriter
from tests.interop.comparison import comparable, document_of
from tests.interop.driver import Rust, RustError
from tests.interop.flat import flatten
from tests.on_disk import path_of

pytestmark = pytest.mark.interop

Writer = AsyncCheckpointWriter[CheckpointData]
Arguments = ParamSpec("Arguments")
ResultT = TypeVar("ResultT")


async def _off_loop(
    work: Callable[Arguments, ResultT], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> ResultT:
    return await asyncio.to_thread(work, *args, **kwargs)


def _checkpoint(checkpoint_id: str, **fields: Any) -> CheckpointData:
    return CheckpointData(session_id="s", checkpoint_id=checkpoint_id, **fields)


async def _rust_saves(rust: Rust, root: Path, checkpoint_id: str, **fields: Any) -> None:
    await rust.save(root, document_of(_checkpoint(checkpoint_id, **fields)))


async def _newest_of_rust(rust: Rust, root: Path) -> str | None:
    found = await rust.load(root, "s")
    return None if found is None else found["checkpoint_id"]


async def _newest_of_python(writer: Writer) -> str | None:
    found = await writer.load("s")
    return None if found is None else found.checkpoint_id


async def _ids(writer: Writer) -> list[str]:
    return [meta.checkpoint_id for meta in await writer.list("s")]


def _directory(root: Path) -> Path:
    return root / "s" / "checkpoints"


def _moved_to(root: Path, checkpoint_id: str, second: str, modified: int) -> Path:
    """Give Rust's file of an id the name and the time that it would have had at another time."""
    (path,) = _directory(root).glob(f"cp_*_{checkpoint_id}.json")
    moved = path.rename(path.with_name(f"cp_{second}_{checkpoint_id}.json"))
    os.utime(moved, (modified, modified))
    return moved


class TestNewest:
    async def test_rust_follows_our_saves_and_deletes(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Rust loads what we saved last, and after its delete what we saved before."""
        seen = []
        for checkpoint_id in ("a", "b"):
            await writer.save(_checkpoint(checkpoint_id))
            seen.append(await _newest_of_rust(rust, root))
        await writer.delete("s", "b")
        seen.append(await _newest_of_rust(rust, root))
        await writer.delete("s", "a")
        seen.append(await _newest_of_rust(rust, root))

        assert seen == ["a", "b", "a", None]

    async def test_we_follow_rusts_saves_and_deletes(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """We load what Rust saved last, and after its delete what it saved before."""
        seen = []
        for checkpoint_id in ("a", "b"):
            await _rust_saves(rust, root, checkpoint_id)
            seen.append(await _newest_of_python(writer))
        for checkpoint_id in ("b", "a"):
            assert await rust.delete(root, "s", checkpoint_id)
            seen.append(await _newest_of_python(writer))
        await writer.save(_checkpoint("c"))  # mends the pointer, which Rust left dangling

        assert seen == ["a", "b", "a", None]

    async def test_pointer_dangling_after_a_delete_of_rust(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Rust's delete leaves the pointer dangling: loads go on, and a save mends it."""
        await writer.save(_checkpoint("a"))
        await writer.save(_checkpoint("b"))
        await rust.delete(root, "s", "b")

        found = [finding.kind for finding in await writer.check()]
        loaded = await _newest_of_python(writer), await _newest_of_rust(rust, root)
        await writer.save(_checkpoint("c"))

        assert found == ["dangling-pointer"]
        assert loaded == ("a", "a")
        assert await _newest_of_rust(rust, root) == "c"

    async def test_of_alternating_saves(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Of saves by both sides in turn, many in one second, load always returns the last."""
        for number in range(20):
            await _rust_saves(rust, root, f"rust{number}")
            after_rust = await _newest_of_python(writer), await _newest_of_rust(rust, root)
            await writer.save(_checkpoint(f"python{number}"))
            after_ours = await _newest_of_python(writer), await _newest_of_rust(rust, root)

            assert after_rust == (f"rust{number}",) * 2
            assert after_ours == (f"python{number}",) * 2

    async def test_of_saves_of_rust_in_one_second(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Rust's names tell its saves within a second not apart; the files' times do."""
        for checkpoint_id in ("c", "b", "a"):
            await _rust_saves(rust, root, checkpoint_id)
        for position, checkpoint_id in enumerate(("c", "b", "a")):
            await _off_loop(_moved_to, root, checkpoint_id, "20260511_041200", 1_000 + position)

        assert await _ids(writer) == ["a", "b", "c"]
        assert await _newest_of_python(writer) == "a"
        await writer.save(_checkpoint("d"))  # mends the pointer, which the renaming left dangling

    async def test_check_is_content_with_saves_of_rust_in_one_second(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """A pointer to Rust's last save of a second is not called stale."""
        for checkpoint_id in ("b", "a"):
            await _rust_saves(rust, root, checkpoint_id)
        for position, checkpoint_id in enumerate(("b", "a")):
            path = await _off_loop(
                _moved_to, root, checkpoint_id, "20260511_041200", 1_000 + position
            )
        pointer = _directory(root) / "latest.json"
        await _off_loop(pointer.unlink)
        await _off_loop(pointer.symlink_to, path.name)
        findings = await writer.check()
        await writer.delete_session("s")

        assert findings == ()


class _RustSavesMeanwhile(LocalFiles):
    """Lets Rust save a checkpoint while a save of ours is under way."""

    def __init__(self, rust: Rust, root: Path, checkpoint_id: str) -> None:
        super().__init__()
        self._rust = rust
        self._root = root
        self._due = [checkpoint_id]

    def reached(self, failpoint: str) -> None:
        while failpoint == "before_rename" and self._due:
            document = flatten(document_of(_checkpoint(self._due.pop())))
            self._rust.ask("save", root=str(self._root), document=document)
        super().reached(failpoint)


class TestRaces:
    async def test_save_of_rust_during_a_save_of_ours(
        self, make_writer: MakeWriter, root: Path, rust: Rust
    ) -> None:
        """What Rust, which takes no lock, saves during a save of ours is found by our writer."""
        await make_writer().save(_checkpoint("a"))
        writer = make_writer(files=_RustSavesMeanwhile(rust, root, "rust"))
        await writer.save(_checkpoint("b"))

        assert set(await _ids(writer)) == {"a", "b", "rust"}
        assert await writer.load("s", "rust") is not None
        assert await writer.delete("s", "rust")


class TestDeletes:
    async def test_of_rust_are_respected(self, writer: Writer, root: Path, rust: Rust) -> None:
        """What Rust deleted is neither loaded nor listed, also by a writer that knew it."""
        for checkpoint_id in ("a", "b", "c"):
            await writer.save(_checkpoint(checkpoint_id))
        before = await _ids(writer)
        deleted = await rust.delete(root, "s", "b")

        assert deleted
        assert before == ["c", "b", "a"]
        assert await _ids(writer) == ["c", "a"]
        assert await writer.load("s", "b") is None
        assert await writer.delete("s", "b") is False

    async def test_of_ours_are_respected(self, writer: Writer, root: Path, rust: Rust) -> None:
        """What we deleted, Rust neither loads nor lists, whichever side had saved it."""
        await _rust_saves(rust, root, "rust")
        await writer.save(_checkpoint("ours"))
        await writer.save(_checkpoint("kept"))
        deleted = [await writer.delete("s", name) for name in ("rust", "ours")]

        assert deleted == [True, True]
        assert [meta["checkpoint_id"] for meta in await rust.listing(root, "s")] == ["kept"]
        assert await rust.load(root, "s", "rust") is None
        assert await rust.delete(root, "s", "ours") is False

    async def test_of_an_id_that_rust_saved_twice(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Of an id Rust saved twice we load and list the newer, and delete both files."""
        for iteration, second in enumerate(("20200101_000000", "20210101_000000")):
            await _rust_saves(rust, root, "twice", iteration=iteration)
            path = await _off_loop(_moved_to, root, "twice", second, 1_000)
            await _off_loop(path.rename, path.with_suffix(".kept"))
        for path in await _off_loop(lambda: sorted(_directory(root).glob("*.kept"))):
            await _off_loop(path.rename, path.with_suffix(".json"))
        loaded = await writer.load("s", "twice")
        listed = [(meta.checkpoint_id, meta.iteration) for meta in await writer.list("s")]
        of_rust = await rust.load(root, "s", "twice")

        assert loaded is not None
        assert loaded.iteration == 1
        assert listed == [("twice", 1)]
        assert of_rust is not None
        assert of_rust["iteration"] == 0  # the crate finds the older one
        assert await writer.delete("s", "twice")
        assert await rust.load(root, "s", "twice") is None

    async def test_delete_session_leaves_what_is_rusts(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Deleting a session removes Rust's checkpoints with ours, and not Rust's other files."""
        await _rust_saves(rust, root, "rust")
        await writer.save(_checkpoint("ours"))
        state = root / "s" / "session_meta.json"
        await _off_loop(state.write_text, "{}")

        assert await writer.delete_session("s")
        assert await rust.listing(root, "s") == []
        assert await rust.load(root, "s") is None
        assert await _off_loop(state.read_text) == "{}"


class TestIds:
    async def test_that_rust_generates(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Sessions and checkpoints with ids generated by Rust are found by those ids."""
        session_id, checkpoint_id = await rust.call("new_ids")
        saved = CheckpointData(session_id=session_id, checkpoint_id=checkpoint_id)
        await rust.save(root, document_of(saved))

        assert await writer.load(session_id, checkpoint_id) == saved
        assert [found async for found in writer.sessions()] == [session_id]

    @pytest.mark.parametrize("checkpoint_id", ["123456_x", "a_b", "tool@5", "ä b", "x.json"])
    async def test_odd_checkpoint_ids_of_rust(
        self, writer: Writer, root: Path, rust: Rust, checkpoint_id: str
    ) -> None:
        """Any checkpoint id that Rust can make a file name of is loaded, listed and deleted."""
        await _rust_saves(rust, root, checkpoint_id)
        await writer.save(_checkpoint("x"))

        loaded = await writer.load("s", checkpoint_id)

        assert loaded is not None
        assert loaded.checkpoint_id == checkpoint_id
        assert await _ids(writer) == ["x", checkpoint_id]
        assert await writer.delete("s", checkpoint_id)
        assert await _ids(writer) == ["x"]
        assert await rust.load(root, "s", checkpoint_id) is None

    async def test_safe_ids_of_ours(self, writer: Writer, root: Path, rust: Rust) -> None:
        """A checkpoint of ours with safe ids is loaded and deleted by Rust under those ids."""
        saved = CheckpointData(session_id="Support-42.b", checkpoint_id="step-7.a")
        await writer.save(saved)

        loaded = await rust.load(root, "Support-42.b", "step-7.a")

        assert loaded is not None
        assert comparable(loaded) == comparable(document_of(saved))
        assert await rust.delete(root, "Support-42.b", "step-7.a")
        assert await writer.load("Support-42.b") is None
        await writer.delete_session("Support-42.b")  # its pointer dangles

    async def test_unsafe_checkpoint_ids_of_ours(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Rust loads and lists a checkpoint with an unsafe id of ours, but not by that id."""
        await writer.save(_checkpoint("tool@5"))

        assert await _newest_of_rust(rust, root) == "tool@5"
        assert [meta["checkpoint_id"] for meta in await rust.listing(root, "s")] == ["tool@5"]
        assert await rust.load(root, "s", "tool@5") is None
        assert await rust.load(root, "s", "~tool%405") is not None
        assert await rust.delete(root, "s", "~tool%405")
        assert await writer.load("s", "tool@5") is None
        await writer.save(_checkpoint("x"))  # mends the pointer, which Rust left dangling

    async def test_that_look_like_patterns(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Where Rust's glob takes another checkpoint for the one asked for, we find none."""
        await writer.save(_checkpoint("y_x"))
        for pattern in ("*", "x", "?_x", "[y]_x"):
            of_rust = await rust.load(root, "s", pattern)

            assert of_rust is not None
            assert of_rust["checkpoint_id"] == "y_x"
            assert await writer.load("s", pattern) is None
            assert await writer.delete("s", pattern) is False

    @pytest.mark.damages_store
    async def test_unsafe_session_ids(self, writer: Writer, root: Path, rust: Rust) -> None:
        """A session with an unsafe id is two sessions: Rust names its directory by the raw id."""
        of_rust = CheckpointData(session_id="me@home", checkpoint_id="rust")
        ours = CheckpointData(session_id="me@home", checkpoint_id="ours")
        await rust.save(root, document_of(of_rust))
        await writer.save(ours)

        seen = await rust.load(root, "me@home"), await rust.load(root, "~me%40home")

        assert [found and found["checkpoint_id"] for found in seen] == ["rust", "ours"]
        assert await writer.load("me@home") == ours
        assert [found async for found in writer.sessions()] == ["me@home"]
        assert [finding.kind for finding in await writer.check()] == ["misplaced"]


class TestLeftovers:
    async def test_fresh_temporary_files_of_rust_are_let_be(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """A save of Rust that is under way is neither seen nor disturbed."""
        await _rust_saves(rust, root, "a")
        under_way = _directory(root) / ".tmp_checkpoint_0b8f4a5c-7a0e-4a53-9d57-1c1f3f3c9a11"
        await _off_loop(under_way.write_text, '{"_checksum": "')
        await writer.save(_checkpoint("b"))

        assert await _ids(writer) == ["b", "a"]
        assert await _off_loop(under_way.exists)
        assert [finding.kind for finding in await writer.check()] == ["leftover"]
        await _off_loop(under_way.unlink)

    async def test_old_temporary_files_of_rust_are_removed(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """What a save of Rust left an hour and more ago, the next save of ours removes."""
        await _rust_saves(rust, root, "a")
        for name in (".tmp_checkpoint_0b8f4a5c", ".tmp_latest_0b8f4a5c"):
            await _off_loop((_directory(root) / name).write_text, "{")
            await _off_loop(os.utime, _directory(root) / name, (1_000, 1_000))
        await writer.save(_checkpoint("b"))

        left = await _off_loop(os.listdir, _directory(root))

        assert [name for name in left if name.startswith(".tmp")] == []

    async def test_backups_of_both(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Rust's own backup stays; that Rust removes backups of ours does no harm."""
        for number in range(3):
            await writer.save(_checkpoint(f"a{number}"))
        await _rust_saves(rust, root, "b", iteration=1)
        await rust.save(root, document_of(_checkpoint("c")), max_backups=1)
        for number in range(3):
            await writer.save(_checkpoint(f"d{number}"))

        left = await _off_loop(os.listdir, _directory(root))

        assert "latest.json.backup" in left
        assert sum(name.endswith(".json.backup") for name in left) == 4
        assert await _ids(writer) == ["d2", "d1", "d0", "c", "b", "a2", "a1", "a0"]


class _Counter(CheckpointRecord):
    count: int = 0


class _Step(CheckpointRecord):
    trigger: str
    iteration: int


class TestRecords:
    async def test_of_another_type_are_verified_only(
        self, root: Path, make_writer: MakeWriter, rust: Rust
    ) -> None:
        """Rust verifies a record of the application's own type, but neither loads nor lists it."""
        writer = make_writer(record_type=_Counter)
        await writer.save(_Counter(session_id="s", count=3))
        (meta,) = await writer.list("s")

        assert await rust.verify(path_of(meta))
        assert await rust.listing(root, "s") == []
        with pytest.raises(RustError, match="missing field"):
            await rust.load(root, "s")

    async def test_of_another_type_with_a_trigger_and_an_iteration(
        self, root: Path, make_writer: MakeWriter, rust: Rust
    ) -> None:
        """Rust also lists a record of the application's own type that has what its list shows."""
        writer = make_writer(record_type=_Step)
        await writer.save(_Step(session_id="s", checkpoint_id="x", trigger="timer", iteration=3))

        (meta,) = await rust.listing(root, "s")

        assert (meta["checkpoint_id"], meta["trigger"], meta["iteration"]) == ("x", "timer", 3)

    async def test_copies_keep_nanoseconds(self, writer: Writer, root: Path, rust: Rust) -> None:
        """A copied session keeps all that Rust wrote, nanoseconds of times included."""
        document = document_of(_checkpoint("a")) | {"created_at": "2026-05-11T04:12:00.123456789Z"}
        await rust.save(root, document)
        await writer.copy_session("s", "copy")

        copied = await rust.load(root, "copy")

        assert copied == document | {"session_id": "copy"}

    async def test_nanoseconds_are_rounded(self, writer: Writer, root: Path, rust: Rust) -> None:
        """Loading and listing round Rust's nanoseconds to microseconds."""
        document = document_of(_checkpoint("a")) | {"created_at": "2026-05-11T04:12:00.123456789Z"}
        await rust.save(root, document)
        loaded = await writer.load("s")
        (meta,) = await writer.list("s")

        assert loaded is not None
        assert loaded.created_at == datetime(2026, 5, 11, 4, 12, 0, 123457, UTC)
        assert meta.created_at == loaded.created_at

    @pytest.mark.damages_store
    @pytest.mark.parametrize("year", ["-0001", "+12026"])
    async def test_times_beyond_python(
        self, writer: Writer, root: Path, rust: Rust, year: str
    ) -> None:
        """A time that Python cannot express is an error that says so, not another time."""
        document = document_of(_checkpoint("a")) | {"created_at": f"{year}-05-11T04:12:00Z"}
        await rust.save(root, document)

        assert (await rust.load(root, "s")) == document
        with pytest.raises(CheckpointDecodeError, match="created_at"):
            await writer.load("s")

    @pytest.mark.parametrize("minutes", [0, 330, -570, 840, -1439])
    async def test_times_of_other_zones(
        self, writer: Writer, root: Path, rust: Rust, minutes: int
    ) -> None:
        """A time of any zone is the same instant on both sides."""
        zone = timezone(timedelta(minutes=minutes))
        saved = _checkpoint("a", created_at=datetime(2026, 5, 11, 4, 12, 0, 123456, zone))
        await writer.save(saved)

        loaded = await rust.load(root, "s")

        assert loaded is not None
        assert datetime.fromisoformat(loaded["created_at"]) == saved.created_at
        assert await writer.load("s") == saved
