"""What was deleted is gone from the disk: no byte of it is in any file under the root."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, Transaction
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.on_disk import path_of
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import files_with, on_disk, session_files
from tests.promises.records import Note, by_digest, note, record

Writer = AsyncCheckpointWriter[CheckpointData]
_SECRET = secrets.token_hex(24)


def secret(checkpoint_id: str, session_id: str = "s", copies: int = 30) -> CheckpointData:
    """Return a checkpoint that holds what must not stay."""
    data = record(session_id, checkpoint_id)
    data.messages = [{"role": "user", "content": f"it is {_SECRET}"}] * copies
    data.resume_hint = _SECRET
    return data


async def _assert_there(root: Path) -> None:
    assert await asyncio.to_thread(files_with, root, _SECRET)


async def _assert_gone(root: Path) -> None:
    assert await asyncio.to_thread(files_with, root, _SECRET) == []


async def _delete(writer: Writer) -> None:
    assert await writer.delete("s", "secret")


async def _delete_many(writer: Writer) -> None:
    assert await writer.delete_many("s", ["secret", "a"]) == 2


async def _delete_session(writer: Writer) -> None:
    assert await writer.delete_session("s")


async def _replace_and_delete(writer: Writer) -> None:
    await writer.save(record("s", "secret", 1))
    assert await writer.delete("s", "secret")


_WAYS: dict[str, Callable[[Writer], Awaitable[None]]] = {
    "delete": _delete,
    "delete_many": _delete_many,
    "delete_session": _delete_session,
    "replace-and-delete": _replace_and_delete,
}


async def _update(writer: Writer) -> None:
    async def work(session: Transaction[CheckpointData]) -> None:
        session.delete("secret")

    await writer.update("s", work)


_LAST = {
    "delete": _delete,
    "delete_many": lambda writer: writer.delete_many("s", ["secret"]),
    "update": _update,
}


@pytest.mark.parametrize("remove", _LAST.values(), ids=_LAST)
async def test_directories_go_with_the_last_checkpoint(
    make_writer: MakeWriter, root: Path, remove: Callable[[Writer], Awaitable[object]]
) -> None:
    """They are named by the session; a later save makes them anew, and others' files stay."""
    writer: Writer = make_writer()
    for mine in (False, True):
        await writer.save(secret("secret"))
        await on_disk(writer)
        if mine:
            await asyncio.to_thread((root / "s" / "mine.txt").write_text, "of somebody else")
        await remove(writer)
        await writer.flush()
        assert await asyncio.to_thread((root / "s").exists) is mine
    assert await asyncio.to_thread(lambda: [p.name for p in (root / "s").iterdir()]) == ["mine.txt"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EBUSY])
async def test_directories_that_cannot_go_hinder_nobody(
    make_writer: MakeWriter, root: Path, number: int
) -> None:
    """What is above them may be another user's: the delete is done, and the session goes on."""
    files = FaultyFiles()
    writer: Writer = make_writer(files=files)
    await writer.save(secret("secret"))
    await on_disk(writer)
    files.arm(Fault(number, "remove directory", for_ever=True))
    assert await writer.delete("s", "secret")
    await writer.flush()
    await writer.save(secret("again"))
    await on_disk(writer)
    assert await writer.ids("s") == ("again",)
    assert await asyncio.to_thread((root / "s").exists)


@pytest.mark.parametrize("left", ["s", "s/checkpoints", "s/blobs"])
async def test_directories_that_were_left_go(
    make_writer: MakeWriter, root: Path, left: str
) -> None:
    """Of a session that has no checkpoint any more, `delete_session` removes what is empty."""
    await asyncio.to_thread((root / left).mkdir, parents=True)
    writer: Writer = make_writer()
    await writer.save(record("t", "a"))
    assert await writer.delete_session("s") is False
    await writer.flush()
    assert not await asyncio.to_thread((root / "s").exists)


@pytest.mark.parametrize("is_flushed", [False, True], ids=["not-flushed", "flushed"])
@pytest.mark.parametrize("durability", ["journal", "file", "none"])
@pytest.mark.parametrize("remove", _WAYS.values(), ids=_WAYS)
async def test_after_delete_and_flush(
    make_writer: MakeWriter,
    root: Path,
    remove: Callable[[Writer], Awaitable[None]],
    durability: str,
    *,
    is_flushed: bool,
) -> None:
    """After a delete of any kind and `flush()` no file under the root holds what was deleted."""
    writer: Writer = make_writer(durability=durability)
    await writer.save(record("s", "a"))
    await writer.save(secret("secret"))
    await writer.save(record("s", "b"))
    await _assert_there(root)
    if is_flushed:
        await on_disk(writer)
    await remove(writer)
    await writer.flush()

    await _assert_gone(root)
    await writer.save(record("s", "c"))
    assert await writer.load("s", "secret") is None


@pytest.mark.parametrize("is_flushed", [False, True], ids=["not-flushed", "flushed"])
async def test_an_id_that_is_deleted_and_saved_again_at_once(
    make_writer: MakeWriter, root: Path, *, is_flushed: bool
) -> None:
    """An update that deletes an id and saves it again erases what it held."""

    async def redact(session: Transaction[CheckpointData]) -> None:
        session.delete("secret")
        session.save(record("s", "secret", 1))

    writer: Writer = make_writer(max_backups=0)
    await writer.save(secret("secret"))
    if is_flushed:
        await on_disk(writer)
    await writer.update("s", redact)
    await writer.flush()

    await _assert_gone(root)
    assert await writer.load("s", "secret") == record("s", "secret", 1)


async def test_what_was_pruned(make_writer: MakeWriter, root: Path) -> None:
    """What was replaced or pruned is gone at the latest after an explicit delete and `flush()`."""
    writer: Writer = make_writer(max_checkpoints=2, max_backups=0)
    await writer.save(secret("pruned"))
    await writer.save(secret("replaced"))
    await writer.save(record("s", "replaced", 1))
    for name in ("a", "b"):
        await writer.save(record("s", name))
    assert [meta.checkpoint_id for meta in await writer.list("s")] == ["b", "a"]
    assert await writer.delete("s", "a")
    await writer.flush()

    await _assert_gone(root)


async def test_with_its_backups(make_writer: MakeWriter, root: Path) -> None:
    """The backup of a checkpoint goes with it; that of a session with the session."""
    writer: Writer = make_writer(max_backups=3)
    for name in ("secret", "a", "b"):
        await writer.save(secret(name) if name == "secret" else record("s", name))
        await on_disk(writer)
    assert len(await asyncio.to_thread(files_with, root, _SECRET)) >= 2
    assert await writer.delete("s", "secret")
    await writer.flush()
    await _assert_gone(root)

    for name in ("secret", "c"):
        await writer.save(secret(name, "t") if name == "secret" else record("t", name))
        await on_disk(writer)
    assert await writer.delete_session("t")
    await writer.flush()
    await _assert_gone(root)
    assert not await asyncio.to_thread((root / "t").exists)


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("left", ["all", "some", "none"])
async def test_with_the_backups_of_what_others_removed(
    make_writer: MakeWriter, root: Path, left: str, is_fresh: bool
) -> None:
    """A file that Rust, or somebody by hand, removed leaves its backup: no delete leaves that."""
    writer: Writer = make_writer(max_backups=3)
    names = ["secret", "a", "b"] if left != "none" else ["secret", "b"]
    for name in names:
        await writer.save(secret(name) if name == "secret" else record("s", name))
        await on_disk(writer)
    for file in await asyncio.to_thread(session_files, root, "s"):
        if file.name.endswith("_secret.json") or left == "none":
            await asyncio.to_thread(file.unlink)
    await _assert_there(root)
    deleting = make_writer() if is_fresh else writer
    listed = [meta.checkpoint_id for meta in await deleting.list("s")]
    assert listed == ([] if left == "none" else ["b", "a"])
    if left == "all":
        assert await deleting.delete("s", "a")
        await deleting.flush()
        await _assert_there(root)  # for whoever wants it back: nobody asked for it to go
        assert not await deleting.delete("s", "secret")
        await deleting.flush()
        assert await deleting.ids("s") == ("b",)
    else:
        assert await deleting.delete_session("s") is (left == "some")
        await deleting.flush()
        assert not await asyncio.to_thread((root / "s").exists)
    await _assert_gone(root)
    assert await make_writer().check() == ()


async def test_with_its_blobs(make_writer: MakeWriter, root: Path) -> None:
    """A blob that no checkpoint refers to any more goes with the last one that did."""
    writer = make_writer(record_type=Note)
    blob = f"{_SECRET} {'x' * 50_000}".encode()
    for name in ("one", "two"):
        await writer.save(note("s", name, blob), blobs=by_digest(blob))
    await writer.save(note("s", "without"))
    assert await writer.delete("s", "one")
    await writer.flush()
    await _assert_there(root)
    assert await writer.delete("s", "two")
    await writer.flush()

    await _assert_gone(root)


async def test_damaged_ones_with_their_blobs(make_writer: MakeWriter, root: Path) -> None:
    """What nobody can read any more is erased by its id as well, and what it alone led to."""
    writer = make_writer(record_type=Note)
    blob = f"{_SECRET} {'x' * 50_000}".encode()
    for name in ("a", "b"):
        await writer.save(note("s", name, blob), blobs=by_digest(blob))
    await writer.flush()
    for meta in await writer.list("s"):
        await asyncio.to_thread(path_of(meta).write_text, _SECRET)
    kept = b"of others"
    await writer.save(note("s", "without", kept), blobs=by_digest(kept))
    await writer.aclose()
    other = make_writer(record_type=Note)
    for name in ("b", "a"):
        await _assert_there(root)
        assert await other.delete("s", name)
        await other.flush()

    await _assert_gone(root)
    assert await other.load_blobs("s", by_digest(kept)) == by_digest(kept)


async def test_large_ones(make_writer: MakeWriter, root: Path) -> None:
    """It holds for what fills much of the log as well, whatever came before and after it."""
    writer: Writer = make_writer(max_journal_bytes=1 << 20)
    for number in range(30):
        await writer.save(secret(f"n{number}", copies=2000))
        await writer.save(record("t", f"n{number}", size=20_000))
    assert await writer.delete_many("s", [f"n{number}" for number in range(30)]) == 30
    await writer.flush()

    await _assert_gone(root)
    assert len(await writer.list("t")) == 30


def test_what_another_process_saved(start: Start, root: Path) -> None:
    """It holds whoever saved it, while that process lives, and after it was killed."""
    saver, deleter = start(), start()
    for name in ("one", "two"):
        saver.save(secret(name))
    assert deleter.delete("s", "one")
    deleter.call("flush")
    assert len(saver.list("s")) == 1
    assert deleter.delete("s", "two")
    deleter.call("flush")
    assert files_with(root, _SECRET) == []

    saver.save(secret("three"))
    saver.kill()
    assert deleter.delete("s", "three")
    deleter.call("flush")
    assert files_with(root, _SECRET) == []


def test_after_a_kill(start: Start, root: Path) -> None:
    """A delete that was acknowledged before a kill is carried out by the next flush."""
    first = start()
    first.call(tasks.save_many, "s", "n", 5)
    first.save(secret("secret"))
    assert first.delete("s", "secret")
    first.kill()
    second = start()
    second.call("flush")
    assert files_with(root, _SECRET) == []
    assert second.ids("s") == ("n4", "n3", "n2", "n1", "n0")
