"""What another process does in the middle of a call, at a chosen moment, misleads nobody."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    SessionChangedError,
    StorageError,
    blob_digest,
)
from aiocheckpoint.testing.faults import FaultyFiles
from tests.conftest import MakeWriter
from tests.promises.places import holding, on_disk, session_files
from tests.promises.records import record
from tests.promises.tasks import Writer, save_many

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
A, B = blob_digest(b"a"), blob_digest(b"b")


class Meanwhile(FaultyFiles):
    """
    A disk on which something else is done in the middle of a call.

    Args:
        work: what is done, by others.
        operation: before, or after, which kind of call.
        part: of the path that the call is about.
        times: how often it is done.
        before: how many such calls pass before it is.
        is_after: whether after the call.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[object]],
        operation: str,
        part: str = "/s/",
        *,
        times: int = 1,
        is_after: bool = False,
        before: int = 0,
    ) -> None:
        super().__init__()
        self.work = work
        self.operation = operation
        self.part = part
        self.times = times
        self.is_after = is_after
        self.before = before
        self.is_armed = False
        self.loop = asyncio.get_running_loop()

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        is_met = operation == self.operation and self.part in path
        if is_met and not self.is_after:
            self._do()
        result = super().call(operation, path, function, *args, **kwargs)
        if is_met and self.is_after:
            self._do()
        return result

    def _do(self) -> None:
        if self.is_armed and self.before:
            self.before -= 1
        elif self.is_armed and self.times:
            self.times -= 1
            asyncio.run_coroutine_threadsafe(_awaited(self.work()), self.loop).result(60)


async def _awaited(work: Awaitable[object]) -> None:
    await work


Read = Callable[[Writer, str], Awaitable[Any]]
READS: dict[str, Read] = {
    "load": lambda reader, key: reader.load("s", key),
    "newest": lambda reader, key: reader.load("s"),
    "load_many": lambda reader, key: reader.load_many("s", [key]),
    "list": lambda reader, key: reader.list("s"),
    "ids": lambda reader, key: reader.ids("s"),
    "saved_ids": lambda reader, key: reader.read("s", lambda session: session.saved_ids(limit=1)),
}


@pytest.mark.parametrize("operation", ["stat", "open"])
@pytest.mark.parametrize(
    ("name", "key"), [*((name, "x") for name in READS), ("ids", "x" * 300), ("list", "x" * 300)]
)
@pytest.mark.some
async def test_a_checkpoint_is_replaced_while_it_is_read(
    make_writer: MakeWriter, name: str, key: str, operation: str
) -> None:
    """Of a checkpoint that is replaced in the middle of a read there is one: no none, no two."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await writer.save(record("s", key))
    await on_disk(writer)
    iterations = iter(range(1, 100))

    async def replace() -> None:
        await writer.save(record("s", key, next(iterations)))
        await on_disk(writer)

    files = Meanwhile(replace, operation, times=3)
    reader = make_writer(files=files)
    files.is_armed = True
    found = await READS[name](reader, key)
    match name:
        case "load" | "newest":
            assert found.checkpoint_id == key
        case "load_many":
            assert [one.checkpoint_id for one in found] == [key]
        case "list":
            assert [meta.checkpoint_id for meta in found] == [key, "n1", "n0"]
            assert [meta.problem for meta in found] == [None] * 3
        case "ids":
            assert found == tuple(sorted([key, "n1", "n0"], reverse=True))
        case _:
            assert found == (key,)


async def test_a_session_is_copied_while_one_is_replaced(make_writer: MakeWriter) -> None:
    """A checkpoint that is replaced while a copy looks what there is is copied, too."""
    writer = make_writer()
    await save_many(writer, "s", "n", 3)
    await on_disk(writer)

    async def replace() -> None:
        await writer.save(record("s", "n1", 10))
        await on_disk(writer)

    files = Meanwhile(replace, "open")
    copier = make_writer(files=files)
    files.is_armed = True
    assert await copier.copy_session("s", "t") == 3
    assert [meta.iteration for meta in await copier.list("t")] == [10, 2, 0]
    assert files.times == 0


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("change", ["replace", "delete"])
@pytest.mark.some
async def test_a_session_is_copied_while_it_changes(
    make_writer: MakeWriter, at: int, change: str
) -> None:
    """Whenever one is replaced or deleted while files are read, the others are copied, in order."""
    writer = make_writer()
    await save_many(writer, "s", "n", 4)
    await on_disk(writer)

    async def meanwhile() -> None:
        if change == "delete":
            await writer.delete("s", "n1")
        else:
            await writer.save(record("s", "n1", 10))
        await on_disk(writer)

    files = Meanwhile(meanwhile, "read", ".json", is_after=True, before=at)
    copier = make_writer(files=files)
    files.is_armed = True
    count = await copier.copy_session("s", "t")
    assert files.times == 0
    found = [(meta.checkpoint_id, meta.iteration) for meta in await copier.list("t")]
    assert count == len(found)
    assert [one for one in found if one[0] != "n1"] == [("n3", 3), ("n2", 2), ("n0", 0)]
    assert change == "delete" or dict(found)["n1"] in (1, 10)


async def test_a_session_is_copied_while_one_is_replaced_for_ever(make_writer: MakeWriter) -> None:
    """A copy of a session that never stands still ends, and has what was there all along."""
    writer, copier = make_writer(), make_writer()
    await save_many(writer, "s", "n", 40)
    await on_disk(writer)
    is_over = asyncio.Event()

    async def replace() -> None:
        for serial in itertools.count(100):
            await writer.save(record("s", "n1", serial))
            if serial % 3 == 0:
                await on_disk(writer)
            if is_over.is_set():
                return

    replacing = asyncio.ensure_future(replace())
    for number in range(5):
        assert await copier.copy_session("s", f"t{number}") == 40
        assert set(await copier.ids(f"t{number}")) == {f"n{n}" for n in range(40)}
    is_over.set()
    await replacing


async def test_a_copy_ends_however_fast_others_save(make_writer: MakeWriter) -> None:
    """What is saved while a session is copied is left out: the copy does not run after it."""
    writer = make_writer()
    await save_many(writer, "s", "n", 3)
    await on_disk(writer)
    serial = itertools.count()

    async def save() -> None:
        await writer.save(record("s", f"later-{next(serial)}"))
        await on_disk(writer)

    files = Meanwhile(save, "read", ".json", is_after=True, times=40)
    copier = make_writer(files=files)
    files.is_armed = True
    assert await copier.copy_session("s", "t") == 3
    assert 0 < files.times < 40
    files.is_armed = False
    assert await copier.ids("t") == ("n2", "n1", "n0")


async def _with_two_notes(make_writer: MakeWriter) -> AsyncCheckpointWriter[Note]:
    """Return a writer that has saved two checkpoints, each with a blob of its own, to files."""
    other: AsyncCheckpointWriter[Note] = make_writer(record_type=Note)
    await other.save(Note(session_id="s", checkpoint_id="x", blob_digests=(A,)), blobs={A: b"a"})
    await other.save(Note(session_id="s", checkpoint_id="y", blob_digests=(B,)), blobs={B: b"b"})
    await on_disk(other)
    return other


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("is_written", [True, False], ids=["files", "journal"])
@pytest.mark.some
async def test_a_checkpoint_with_blobs_is_removed_while_a_session_is_copied(
    make_writer: MakeWriter, root: Path, at: int, *, is_written: bool
) -> None:
    """Its blobs go with it, which is no damage, though its file may be there still."""
    other = await _with_two_notes(make_writer)

    async def remove() -> None:
        assert await other.delete("s", "x")
        if is_written:
            await on_disk(other)
        assert await copier.load("s", "x") is None  # so it has heard of it

    files = Meanwhile(remove, "read", ".json", is_after=True, before=at)
    copier: AsyncCheckpointWriter[Note] = make_writer(record_type=Note, files=files)
    files.is_armed = True
    with contextlib.ExitStack() as stack:
        if not is_written:
            await asyncio.to_thread(stack.enter_context, holding(root, "applier"))
        count = await copier.copy_session("s", "t")
    assert files.times == 0
    found = await copier.ids("t")
    assert count == len(found)
    assert found in (("y",), ("y", "x"))
    digests = [A, B] if "x" in found else [B]
    assert set(await copier.load_blobs("t", digests)) == set(digests)


async def test_the_newest_is_removed_by_hand_while_a_save_expects_it(
    make_writer: MakeWriter, root: Path
) -> None:
    """The save is refused by name, and the next one knows."""
    writer = make_writer()
    await save_many(writer, "s", "n", 2)
    await on_disk(writer)
    newest = (await asyncio.to_thread(session_files, root, "s"))[-1]

    async def remove() -> None:
        await asyncio.to_thread(newest.unlink)

    files = Meanwhile(remove, "open", newest.name)
    other = make_writer(files=files)
    files.is_armed = True
    with pytest.raises(StorageError, match="removed"):
        await other.save(record("s", "more"), expected="n1")
    with pytest.raises(SessionChangedError):
        await other.save(record("s", "more"), expected="n1")
    await other.save(record("s", "more"), expected="n0")
    await on_disk(other)


class Note(BlobRecord):
    """A record with blobs."""


async def test_check_beside_a_writer(make_writer: MakeWriter) -> None:
    """What is saved, replaced and removed while `check` looks is no finding."""
    writer: AsyncCheckpointWriter[Note] = make_writer(record_type=Note)
    contents = [b"%d" % number for number in range(40)]
    serial = iter(range(1, 100))

    async def save() -> None:
        content = contents[next(serial) % 40]
        digest = blob_digest(content)
        note = Note(session_id="s", checkpoint_id="x", blob_digests=(digest,))
        await writer.save(note, blobs={digest: content})
        await on_disk(writer)

    await save()
    for operation in ("list directory", "read", "stat"):
        files = Meanwhile(save, operation, times=10)
        reader = make_writer(record_type=Note, files=files)
        files.is_armed = True
        assert await reader.check() == ()
        assert files.times < 10


class _Toggling(Meanwhile):
    """A disk on which others do something each time before checkpoints, or blobs, are listed."""

    listed = ""

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        self.listed = path.rpartition("/")[2]
        return super().call(operation, path, function, *args, **kwargs)


async def test_check_beside_one_that_is_replaced_and_back(make_writer: MakeWriter) -> None:
    """A blob that went with its checkpoint is no finding, also where it comes and goes."""
    writer: AsyncCheckpointWriter[Note] = make_writer(record_type=Note)

    async def save(content: bytes) -> None:
        digest = blob_digest(content)
        note = Note(session_id="s", checkpoint_id="x", blob_digests=(digest,))
        await writer.save(note, blobs={digest: content})
        await on_disk(writer)

    async def toggle() -> None:
        await save(b"b" if files.listed == "blobs" else b"a")

    await save(b"a")
    files = _Toggling(toggle, "list directory", times=40)
    reader = make_writer(record_type=Note, files=files)
    files.is_armed = True
    assert await reader.check() == ()
    assert 0 < files.times < 38


async def test_a_blob_is_removed_while_it_is_looked_for(make_writer: MakeWriter) -> None:
    """A save does not rely on a blob that somebody else removed while it was being read."""
    other = await _with_two_notes(make_writer)

    async def remove() -> None:
        assert await other.delete("s", "x")
        assert await writer.load("s", "x") is None  # so it has heard of it

    files = Meanwhile(remove, "close", A, is_after=True)
    writer: AsyncCheckpointWriter[Note] = make_writer(record_type=Note, files=files)
    assert await writer.load("s") is not None
    files.is_armed = True
    await writer.save(Note(session_id="s", checkpoint_id="z", blob_digests=(A,)), blobs={A: b"a"})
    assert files.times == 0
    for some in (writer, other, make_writer(record_type=Note)):
        assert await some.load_blobs("s", [A]) == {A: b"a"}
    await on_disk(writer)
