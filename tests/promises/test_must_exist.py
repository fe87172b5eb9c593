"""A store that must exist is never begun: the place where none is found is named."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    CheckpointError,
    InvalidArgumentError,
    MissingStoreError,
    ReplacedStoreError,
    StorageError,
    open_store,
)
from aiocheckpoint._disk.files import LocalFiles
from tests.conftest import MakeWriter
from tests.crash.disks import tmpfs
from tests.faults import RefusingFiles
from tests.promises.places import session_files
from tests.promises.records import record
from tests.promises.tasks import list_sessions, save_many

pytestmark = pytest.mark.blocking


async def _load(session: Any) -> Any:
    return await session.load()


_CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "load": lambda store: store.load("s"),
    "list": lambda store: store.list("s"),
    "ids": lambda store: store.ids("s"),
    "verify": lambda store: store.verify("s", "x"),
    "check": lambda store: store.check(),
    "sessions": list_sessions,
    "read": lambda store: store.read("s", _load),
    "save": lambda store: store.save(record("s", "x")),
    "delete": lambda store: store.delete("s", "x"),
    "delete_session": lambda store: store.delete_session("s"),
    "copy_session": lambda store: store.copy_session("s", "t"),
    "update": lambda store: store.update("s", _load),
    "recover": lambda store: store.recover("s"),
    "flush": lambda store: store.flush(),
}


@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize("kind", ["nothing", "an empty directory", "another directory"])
@pytest.mark.some
async def test_every_call_names_a_place_where_no_store_is(root: Path, kind: str, call: str) -> None:
    """None answers as an empty store would, and nothing is made."""
    if kind != "nothing":
        root.mkdir()
    if kind == "another directory":
        (root / "src").mkdir()
    before = sorted(root.rglob("*"))
    async with AsyncCheckpointWriter(root, must_exist=True) as writer:
        for _ in range(2):
            with pytest.raises(MissingStoreError) as told:
                await _CALLS[call](writer)
            assert told.value.location == str(root)
        assert await writer.exists() is False
    assert sorted(root.rglob("*")) == before
    assert root.exists() is (kind != "nothing")


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_store_that_is_there_is_used(
    make_writer: MakeWriter, root: Path, is_deleted: bool
) -> None:
    """Also one whose sessions are all deleted, and from the first save of somebody else on."""
    writer = make_writer(must_exist=True)
    with pytest.raises(MissingStoreError):
        await writer.save(record("s", "early"))
    first = make_writer()
    await first.save(record("s", "n1"))
    if is_deleted:
        assert await first.delete_session("s")
        await first.flush()
    await writer.save(record("s", "n2"))
    assert await writer.exists()
    assert list(await make_writer().ids("s")) == (["n2"] if is_deleted else ["n2", "n1"])


async def test_files_alone_are_a_store(make_writer: MakeWriter, root: Path) -> None:
    """What was restored without a journal, or written by Rust, is one."""
    writer = make_writer()
    await writer.save(record("s", "n1"))
    await writer.aclose()
    shutil.rmtree(root / ".aiocheckpoint")
    assert session_files(root, "s")
    for changes in (False, True):
        async with AsyncCheckpointWriter(root, must_exist=True) as later:
            if changes:
                await later.save(record("s", "n2"))
            assert await later.exists()
            newest = await later.load("s")
            assert newest is not None
            assert newest.checkpoint_id == ("n2" if changes else "n1")


@pytest.mark.parametrize("call", ["load", "save", "sessions", "update", "flush"])
async def test_a_store_that_is_moved_away_from_a_writer(
    make_writer: MakeWriter, root: Path, call: str
) -> None:
    """Its sessions look new to nobody, no other one is begun, and it is used when it is back."""
    writer = make_writer(must_exist=True)
    await make_writer().save(record("s", "n0"))
    await save_many(writer, "s", "m", 2)
    await writer.flush()
    moved = root.rename(root.with_name("moved"))
    for _ in range(2):
        with pytest.raises(MissingStoreError):
            await _CALLS[call](writer)
    assert not root.exists()
    moved.rename(root)
    await writer.save(record("s", "n9"))
    assert list(await writer.ids("s")) == ["n9", "n0", "m1", "m0"]


async def _begun_by_another(path: Path) -> None:
    async with AsyncCheckpointWriter(path) as other:
        await other.save(record("elsewhere", "x"))


def _moved(root: Path) -> None:
    root.rename(root.with_name("moved"))


async def _moved_and_begun_anew(root: Path) -> None:
    _moved(root)
    await _begun_by_another(root)


async def _removed_and_begun_anew(root: Path) -> None:
    shutil.rmtree(root)
    await _begun_by_another(root)


async def _replaced_by_a_copy(root: Path) -> None:
    """Restore a backup where nobody was to be at work."""
    await asyncio.to_thread(shutil.copytree, root, root.with_name("copy"))
    _moved(root)
    root.with_name("copy").rename(root)


_REPLACED = [_moved_and_begun_anew, _removed_and_begun_anew, _replaced_by_a_copy]


def _tree(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("replace", _REPLACED)
@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize("has_saved", [True, False])
@pytest.mark.some
async def test_a_store_that_is_replaced_under_a_writer_is_not_gone_on_with(
    make_writer: MakeWriter,
    root: Path,
    replace: Callable[[Path], Awaitable[None]],
    call: str,
    *,
    has_saved: bool,
) -> None:
    """Another one at its place is named by every call, and stays as it is; a new writer uses it."""
    async with AsyncCheckpointWriter(root) as first:
        await save_many(first, "s", "n", 2)
    writer = AsyncCheckpointWriter(root, must_exist=True)
    assert await writer.load("s") is not None
    if has_saved:
        await writer.save(record("s", "n2"))
        await writer.flush()
    await replace(root)
    before = _tree(root)
    for _ in range(2):
        with pytest.raises(ReplacedStoreError) as told:
            await _CALLS[call](writer)
        assert told.value.location == str(root)
    assert await writer.exists() is False
    assert _tree(root) == before
    with pytest.raises(ReplacedStoreError) if has_saved else contextlib.nullcontext():
        await writer.aclose()
    later = make_writer(must_exist=True)
    await later.save(record("elsewhere", "y"))
    assert await later.exists()


class _UnreadableJournal(RefusingFiles):
    """Segments of the journal cannot be read, as long as that is so."""

    is_so = True

    def is_refused(self, operation: str, path: str) -> bool:
        return self.is_so and operation == "read" and "/log." in path


@pytest.mark.parametrize("must_exist", [True, False])
async def test_a_store_that_was_opened_and_replaced_before_it_was_read(
    root: Path, *, must_exist: bool
) -> None:
    """A first call that fails leaves the store open; what is read next is that of the path."""
    await _begun_by_another(root)
    files = _UnreadableJournal(errno.EIO)
    writer = AsyncCheckpointWriter(root, must_exist=must_exist, files=files)
    with pytest.raises(StorageError):
        await writer.save(record("s", "n1"))
    _moved(root)
    async with AsyncCheckpointWriter(root) as other:
        await other.save(record("elsewhere", "y"))
    files.is_so = False
    if must_exist:
        with pytest.raises(ReplacedStoreError):
            await writer.ids("elsewhere")
    else:
        assert list(await writer.ids("elsewhere")) == ["y"]
    with contextlib.suppress(ReplacedStoreError):
        await writer.aclose()


@pytest.mark.parametrize("call", ["load", "save"])
async def test_a_symlink_that_is_switched_to_another_store(
    make_writer: MakeWriter, tmp_path: Path, call: str
) -> None:
    """It is as if that had been put in its place, until the link leads back."""
    current = tmp_path / "current"
    for name in ("blue", "green"):
        await _begun_by_another(tmp_path / name)
    current.symlink_to("blue")
    writer = make_writer(current, must_exist=True)
    await writer.save(record("s", "n1"))
    for target in ("green", "blue"):
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").replace(current)
        if target == "green":
            with pytest.raises(ReplacedStoreError):
                await _CALLS[call](writer)
    await writer.save(record("s", "n2"))
    assert list(await writer.ids("s")) == ["n2", "n1"]


@pytest.mark.parametrize("call", ["load", "save"])
async def test_another_store_that_is_mounted_over_it(disk_directory: Path, call: str) -> None:
    """A directory of the same disk is another store, too; a disk is told by its number."""
    with tmpfs(disk_directory, 16 << 20) as disk:
        root, other = disk / "state", disk / "other"
        for path in (root, other):
            await _begun_by_another(path)
        writer = AsyncCheckpointWriter(root, must_exist=True)
        await writer.save(record("s", "n1"))
        mounts: list[tuple[list[str | Path], type[CheckpointError]]] = [
            (["--bind", other], ReplacedStoreError), (["-t", "tmpfs", "tmpfs"], StorageError),
        ]  # fmt: skip
        for mount, error in mounts:
            subprocess.run(["mount", *mount, root], check=True)
            try:
                with pytest.raises(error):
                    await _CALLS[call](writer)
            finally:
                subprocess.run(["umount", "--lazy", root], check=True)
        await writer.save(record("s", "n2"))
        assert list(await writer.ids("s")) == ["n2", "n1"]
        await writer.aclose()


class _Replacing(LocalFiles):
    """Files whose root is replaced at the moment when it is first opened to be changed."""

    def make_root(self, path: str) -> Any:
        root = Path(path)
        if not root.with_name("moved").exists():
            _moved(root)
            shutil.copytree(root.with_name("moved"), root)
        return super().make_root(path)


async def test_a_store_that_is_replaced_while_it_is_opened(root: Path) -> None:
    """What was looked at is what is saved to, or nothing is saved."""
    await _begun_by_another(root)
    async with AsyncCheckpointWriter(root, must_exist=True, files=_Replacing()) as writer:
        with pytest.raises(ReplacedStoreError):
            await writer.save(record("s", "n1"))
        assert await writer.load("s") is None


async def test_a_service_that_restarts_without_its_disk(disk_directory: Path) -> None:
    """It is refused below the mount point, where without this it would begin anew."""
    with tmpfs(disk_directory, 16 << 20) as disk:
        async with AsyncCheckpointWriter(disk / "state") as writer:
            await writer.save(record("s", "n1"))
        async with AsyncCheckpointWriter(disk / "state", must_exist=True) as writer:
            assert await writer.ids("s") == ("n1",)
    async with AsyncCheckpointWriter(disk / "state", must_exist=True) as writer:
        with pytest.raises(MissingStoreError, match="mounted"):
            await writer.load("s")
    assert not (disk / "state").exists()


async def test_those_who_share_a_location_share_the_word(root: Path) -> None:
    """A handle that must find a store is not given the one that begins it."""
    async with open_store(root) as begins, open_store(root, must_exist=True) as expects:
        with pytest.raises(MissingStoreError):
            await expects.load("s")
        await begins.save(CheckpointData(session_id="s"))
        assert await expects.load("s") is not None


def test_a_word_that_is_no_bool_is_refused(root: Path) -> None:
    """As is every other argument of a wrong type."""
    wrong: Any = "yes"
    for make in (AsyncCheckpointWriter, open_store):
        with pytest.raises(InvalidArgumentError, match="must_exist"):
            make(root, must_exist=wrong)
