"""A session whose files could not be written: a save to it alone gets through on a sound disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    SessionChangedError,
    StorageError,
    StorageFullError,
    Transaction,
)
from aiocheckpoint._engine import applier, demand
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import GUARD_SECONDS, holding, plain_ids, plain_newest, wait_until
from tests.promises.records import Note, by_digest, note, record

pytestmark = pytest.mark.blocking
Writer = AsyncCheckpointWriter[Note]

_OLD, _NEW = b"the blob of what waits", b"a new blob"
_RETRIED = r"\(noted by an earlier try\).*are being tried again, by flush\(\) at once"


async def _update(writer: Writer) -> None:
    async def replace(session: Transaction[Note]) -> None:
        newest = await session.load()
        assert newest is not None
        session.save(newest.next(checkpoint_id="new", text="updated"))

    await writer.update("s", replace)


async def _update_many(writer: Writer) -> None:
    async def replace(sessions: Any) -> None:
        for session in sessions.values():
            session.save(note(session.session_id, "new"))

    await writer.update_many(["other", "s"], replace)


async def _copy(writer: Writer) -> None:
    await writer.copy_session("other", "s")
    await writer.save(note("s", "new"))


_CHANGES: dict[str, Callable[[Writer], Awaitable[object]]] = {
    "save": lambda writer: writer.save(note("s", "new")),
    "replace": lambda writer: writer.save(note("s", "waits", text="replaced")),
    "on-condition": lambda writer: writer.save(note("s", "new"), expected="waits"),
    "blobs": lambda writer: writer.save(note("s", "new", _NEW), blobs=by_digest(_NEW)),
    "blobs-there": lambda writer: writer.save(note("s", "new", _OLD)),
    "update": _update,
    "update-many": _update_many,
    "copy": _copy,
}


class Scene:
    """
    A session `s` with a save that one process, alive, cannot write the files of.

    Args:
        make_writer: makes the processes' writers.
        error_number: what its disk says.
    """

    def __init__(self, make_writer: MakeWriter, error_number: int = errno.EIO) -> None:
        self.disk = FaultyFiles()
        self.one = make_writer(files=self.disk, record_type=Note)
        self._fault = Fault(error_number, "create", for_ever=True)

    async def begin(self) -> None:
        """Let its files fail."""
        for session_id in ("other", "s"):
            await self.one.save(note(session_id, "old"))
        await self.one.flush()
        self.disk.arm(self._fault)
        await self.one.save(note("s", "waits", _OLD), blobs=by_digest(_OLD))
        with pytest.raises(StorageError):
            await self.one.flush()


async def _refusal(call: Callable[[], Awaitable[object]]) -> StorageError | None:
    try:
        await call()
    except StorageError as error:
        return error
    return None


async def _patiently(call: Callable[[], Awaitable[object]], seconds: float = GUARD_SECONDS) -> None:
    """Make a call until it is not refused by the failure that was noted."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (refusal := await _refusal(call)) is not None:
        assert "earlier saves of the session wait" in str(refusal)
        assert loop.time() < end, f"it is refused for {seconds} s: {refusal}"
        await asyncio.sleep(0.001)


async def _gets_through(
    scene: Scene,
    make_writer: MakeWriter,
    change: str,
    seconds: float = GUARD_SECONDS,
    **options: Any,
) -> Writer:
    await scene.begin()
    two: Writer = make_writer(record_type=Note, **options)
    await _patiently(lambda: _CHANGES[change](two), seconds)
    return two


@pytest.mark.parametrize("durability", ["none", "journal", "file"])
@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.some
@pytest.mark.few(3)
async def test_beside_a_process_whose_disk_fails(
    make_writer: MakeWriter, root: Path, change: str, durability: str
) -> None:
    """Whatever saves to the session gets through where the files can be written, moments later."""
    scene = Scene(make_writer)
    two = await _gets_through(scene, make_writer, change, durability=durability)
    newest = await two.load("s")
    assert newest is not None
    assert newest.checkpoint_id == ("waits" if change == "replace" else "new")
    scene.disk.arm(None)
    await two.flush()
    assert plain_newest(root, "s") == newest.checkpoint_id
    assert {"old", "waits"} <= {*plain_ids(root, "s")}


async def test_retention_goes_on_as_well(make_writer: MakeWriter, root: Path) -> None:
    """Retention drops what waited, too, once the files could be written."""
    scene = Scene(make_writer)
    await _gets_through(scene, make_writer, "save", max_checkpoints=1)
    scene.disk.arm(None)
    await scene.one.flush()
    assert plain_ids(root, "s") == ["new"]


async def test_mutant_is_noticed(make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no refused save lets the files be tried, it is refused for ever."""
    monkeypatch.setattr(demand.Demand, "found_waiting", lambda _: None)
    scene = Scene(make_writer)
    with pytest.raises(AssertionError, match="it is refused for"):
        await _gets_through(scene, make_writer, "save", seconds=0.5)
    scene.disk.arm(None)


@pytest.mark.parametrize(
    ("error_number", "kind"),
    [(errno.ENOSPC, StorageFullError), (errno.EIO, StorageError), (errno.EACCES, StorageError)],
)
@pytest.mark.usefixtures("no_flushing")
async def test_the_error_says_what_ends_it(
    make_writer: MakeWriter,
    monkeypatch: pytest.MonkeyPatch,
    error_number: int,
    kind: type[StorageError],
) -> None:
    """A refusal tells that the failure was noted earlier, and `flush`, which it names, ends it."""
    # Or the other process tries again first, and keeps all others from it until it is hurried.
    monkeypatch.setattr(applier, "_RETRY_SECONDS", (600.0,))
    scene = Scene(make_writer, error_number)
    await scene.begin()
    two = make_writer(record_type=Note)
    with pytest.raises(kind, match=_RETRIED) as refused:
        await two.save(note("s", "new"))
    assert (refused.value.operation, refused.value.errno) == ("create", error_number)
    assert Path(refused.value.path).is_dir()  # the temporary file has gone with its process
    assert two.stats().files_error is None
    await two.flush()
    await two.save(note("s", "new"))
    scene.disk.arm(None)


async def test_no_more_tries_than_usual(
    make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often saves are refused, the files are tried once in each of the usual pauses."""
    monkeypatch.setattr(applier, "_RETRY_SECONDS", (600.0,))
    scene = Scene(make_writer)
    await scene.begin()
    disk = FaultyFiles(Fault(errno.EIO, "create", for_ever=True))
    two = make_writer(record_type=Note, files=disk)
    while two.stats().files_error is None:
        with pytest.raises(StorageError):
            await two.save(note("s", "new"))
    tries = len(disk.failed)
    for _ in range(100):
        with pytest.raises(StorageError):
            await two.save(note("s", "new"))
    assert len(disk.failed) == tries
    for mended in (disk, scene.disk):
        mended.arm(None)
    await two.flush()  # which waits for no pause
    await two.save(note("s", "new"))


async def test_who_only_reads_writes_nothing(make_writer: MakeWriter) -> None:
    """A process that loads, lists and checks reads the save that waits, and tries no files."""
    scene = Scene(make_writer)
    await scene.begin()
    disk = FaultyFiles()
    reader = make_writer(record_type=Note, files=disk)
    newest = await reader.load("s")
    assert newest is not None
    assert newest.checkpoint_id == "waits"
    assert await reader.load_blobs("s", newest.blob_digests) == by_digest(_OLD)
    assert await reader.ids("s") == ("waits", "old")
    await reader.check()
    await reader.aclose()
    writes = {"create", "write", "rename", "link", "symlink", "remove", "make directory"}
    assert not writes & {call.operation for call in disk.calls}
    scene.disk.arm(None)


def test_what_a_dead_process_left_is_written_whatever_comes_of_the_first_change(
    start: Start, root: Path
) -> None:
    """A process whose only save was refused, by its condition, has written the files it found."""
    first = start()
    first.save(record("s", "old"))
    first.call("flush")
    with holding(root, "applier"):
        first.save(record("s", "waits"))
        first.kill()
    second = start()
    refused = second.call(tasks.save_if, record("s", "new"), "nobody's")
    assert isinstance(refused, SessionChangedError)
    wait_until(lambda: plain_ids(root, "s") == ["old", "waits"], "the files are written")
