"""One error that comes once in weeks costs the call that meets it, and nothing after that."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointError,
    DurabilityUnknownError,
    StorageError,
    blob_digest,
)
from aiocheckpoint._disk.pending import Pending
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.conftest import MakeWriter
from tests.faults import Hold, RefusingFiles
from tests.promises.places import plain_ids
from tests.promises.records import Note, assert_whole, by_digest, note, record

_GUARD_SECONDS = 60
_IN_USE = ("create", "open", "open directory", "stat", "lock", "sync file", "write")
_BLOB = b"of a session that is owned"


class Refusing(RefusingFiles):
    """
    A disk that refuses what it is told to.

    Attributes:
        what: operation, and how the path ends; None for a sound disk.
    """

    def __init__(self, error_number: int) -> None:
        super().__init__(error_number)
        self.what: tuple[str, str] | None = None

    def is_refused(self, operation: str, path: str) -> bool:
        """Tell whether that is so of this one."""
        return self.what is not None and operation == self.what[0] and path.endswith(self.what[1])


async def test_while_saves_wait_for_room(make_writer: MakeWriter) -> None:
    """A save that waits for room is refused by an error of the disk; the next ones are made."""
    disk = Refusing(errno.EIO)
    writer = make_writer(files=disk, max_journal_bytes=1)
    await writer.save(record("s", "a"))
    await writer.flush()
    applier = Hold()
    disk.at("before_flush", applier)
    saves = [asyncio.create_task(writer.save(record(f"s{n}", "a"))) for n in range(3)]
    await asyncio.to_thread(applier.wait_arrived)
    disk.what = ("read", "control")
    async with asyncio.timeout(_GUARD_SECONDS):
        while not disk.refused:
            await asyncio.sleep(0)
        disk.what = None
        applier.release()
        for saved in await asyncio.gather(*saves, return_exceptions=True):
            assert isinstance(saved, str | StorageError), saved
        await writer.save(record("s", "b"))
        await writer.flush()
    assert await writer.ids("s") == ("b", "a")


async def test_while_it_is_planned_what_a_save_replaces(
    make_writer: MakeWriter, root: Path
) -> None:
    """A save that is refused is not made, also where the error comes when all else is decided."""
    disk = Refusing(errno.EMFILE)
    writer, other = make_writer(files=disk), make_writer()
    await writer.save(record("s", "a", 1))
    await writer.flush()
    await other.load("s")

    async def flushed() -> None:
        await other.save(record("t", "a"))
        await other.flush()

    loop = asyncio.get_running_loop()

    def just_before_the_commit() -> None:
        disk.at("lock", lambda: None)
        asyncio.run_coroutine_threadsafe(flushed(), loop).result(_GUARD_SECONDS)
        disk.what = ("open directory", "quarantine")

    disk.at("lock", just_before_the_commit)
    with pytest.raises(StorageError):
        await writer.save(record("s", "a", 2))
    assert disk.refused == 1
    disk.what = None

    for reader in (writer, other):
        assert assert_whole(await reader.load("s", "a")).iteration == 1
    await writer.flush()
    assert await asyncio.to_thread(plain_ids, root, "s") == ["a"]


@contextlib.asynccontextmanager
async def _used(root: Path, disk: FaultyFiles) -> AsyncIterator[None]:
    """Let a service own a session, save to it with a blob, and write files."""
    writer = AsyncCheckpointWriter(root, record_type=Note, files=disk)
    try:
        for number in range(2):
            with contextlib.suppress(CheckpointError):
                async with writer.own("s", wait=False) as owner:
                    await owner.save(note("s", f"c{number}", _BLOB), blobs=by_digest(_BLOB))
                    await writer.flush()
        yield
    finally:
        disk.arm(None)
        await writer.aclose()


def _others(root: Path) -> None:
    os.chown(root, 12345, 12345)


def _ours(root: Path) -> None:
    del root


@pytest.mark.blocking
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to list descriptors")
@pytest.mark.parametrize(
    "given",
    [
        _ours,
        pytest.param(
            _others, marks=pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives away")
        ),
    ],
)
@pytest.mark.parametrize("operation", [*_IN_USE, "change owner"])
@pytest.mark.some
@pytest.mark.few(4)
async def test_no_descriptor_is_lost(
    tmp_path: Path, operation: str, given: Callable[[Path], None]
) -> None:
    """Whatever call of the system fails: what was opened for it is closed with the writer."""
    leaks: list[str] = []
    # Where both can be, every second call fails in the one, and the others in the other.
    nth, step, was_met = (int(given is _others), 2, True) if os.geteuid() == 0 else (0, 1, True)
    while was_met:
        root = tmp_path / f"root-{nth}"
        root.mkdir()
        given(root)
        disk = FaultyFiles(Fault(errno.EIO, operation, nth))
        async with _used(root, disk):
            was_met = bool(disk.failed)
            failed = disk.failed[:1]
        leaks += [f"{path} after {failed}" for path in _open_below(root)]
        nth += step
    assert leaks == []


def _open_below(directory: Path) -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(f"{directory}/") or path == str(directory)]


@pytest.mark.parametrize("operation", ["stat", "write"])
async def test_a_flush_settles_what_was_unknown(make_writer: MakeWriter, operation: str) -> None:
    """After it a load tells what others see of a save whose outcome was unknown, for good."""
    disk = Refusing(errno.EIO)
    writer = make_writer(files=disk)
    await writer.save(record("s", "a"))
    await writer.flush()

    def just_behind_the_frame() -> None:
        disk.what = (operation, "control")

    disk.at("sync data", just_behind_the_frame)
    with pytest.raises(DurabilityUnknownError, match="after flush"):
        await writer.save(record("s", "b"))
    disk.at("sync data", lambda: None)
    disk.what = None

    await writer.flush()
    found = await writer.ids("s")
    assert found == await make_writer().ids("s")
    await writer.save(record("t", "a"))
    await writer.flush()
    assert await writer.ids("s") == found


@pytest.mark.parametrize("is_own", [True, False])
async def test_for_want_of_memory(
    make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch, *, is_own: bool
) -> None:
    """What was committed, and could not be entered for want of memory, is seen and written."""
    writer, other = make_writer(), make_writer()
    for each in (writer, other):
        await each.save(record("s", "a"))
        await each.flush()
    add, is_short = Pending.add, [is_own]

    def added(*args: Any) -> None:
        if is_short.pop():
            raise MemoryError
        is_short.append(False)
        add(*args)

    monkeypatch.setattr(Pending, "add", added)
    with contextlib.suppress(MemoryError):
        await writer.save(record("s", "b"))
    is_short[:] = [not is_own]
    with contextlib.suppress(MemoryError):
        await other.ids("s")
    monkeypatch.undo()
    for each in (writer, other):
        assert await each.ids("s") == ("b", "a")
    for each in (other, writer):
        await each.save(record("t", "a"))
        await each.flush()
    assert await make_writer().ids("s") == ("b", "a")


@pytest.mark.parametrize("operation", ["open", "stat", "read", "close", "list directory"])
async def test_recover_takes_no_error_for_damage(make_writer: MakeWriter, operation: str) -> None:
    """What cannot be read just then, for want of descriptors say, is not moved as if damaged."""
    disk = FaultyFiles()
    writer = make_writer(record_type=Note, files=disk)
    for number in range(2):
        await writer.save(note("s", f"c{number}", _BLOB), blobs=by_digest(_BLOB))
    await writer.flush()
    was_met, nth = True, 0
    while was_met:
        disk.arm(Fault(errno.EMFILE, operation, nth))
        with contextlib.suppress(StorageError):
            assert (await writer.recover("s")).quarantined == ()
        was_met = bool(disk.failed)
        disk.arm(None)
        assert await writer.load_blobs("s", by_digest(_BLOB)) == by_digest(_BLOB)
        assert await writer.ids("s") == ("c1", "c0")
        nth += 1
    assert nth > 1


async def test_check_tells_an_error_from_damage(make_writer: MakeWriter) -> None:
    """A blob that could not be read is a finding, and not said to be damaged."""
    disk = Refusing(errno.EMFILE)
    writer = make_writer(record_type=Note, files=disk)
    await writer.save(note("s", "a", _BLOB), blobs=by_digest(_BLOB))
    await writer.flush()
    disk.what = ("read", blob_digest(_BLOB))
    assert [found.kind for found in await writer.check()] == ["unreadable"]
    disk.what = None
    assert await writer.check() == ()
