"""Reads of callers without an event loop, of which the first is made in the caller's thread."""

from __future__ import annotations

import asyncio
import fcntl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    SessionReader,
    StoreBusyError,
    WriterClosedError,
    open_store,
)
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.kit import Reads
from aiocheckpoint.portal import Portal
from aiocheckpoint.testing import MemoryStore

pytestmark = pytest.mark.blocking
_Found = CheckpointData | None


async def _newest(session: SessionReader[Any]) -> _Found:
    return await session.load()


async def _loaded(store: Reads[Any]) -> _Found:
    return await store.read("s", _newest)


@pytest.fixture
def portal() -> Iterator[Portal]:
    """Make a portal, and close it."""
    with Portal() as portal:
        yield portal


@pytest.fixture
def saved(root: Path) -> Path:
    """Return a root with one checkpoint, closed."""

    async def save() -> None:
        async with AsyncCheckpointWriter(root) as writer:
            await writer.save(CheckpointData(session_id="s", checkpoint_id="first"))

    asyncio.run(save())
    return root


class AtCall(LocalFiles):
    """Does something after one of the system calls of one thread."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self.left = number
        self._act = act
        self._thread = threading.get_ident()

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Make the call, and then act if it is the one."""
        result = super().call(operation, path, function, *args, **kwargs)
        if threading.get_ident() == self._thread:
            self.left -= 1
            if self.left == 0:
                self._act()
        return result


def _interrupt() -> None:
    raise KeyboardInterrupt


def _at_each_call(saved: Path, try_one: Callable[[int], int]) -> int:
    """Try with the first system call of a read, the second and so on; return how many it has."""
    number = 1
    while try_one(number) <= 0:
        number += 1
    return number - 1


def test_no_thread_for_a_first_read(saved: Path, portal: Portal) -> None:
    """The first read of a directory starts no thread at all; what it has opened goes at the end."""
    threads = {*threading.enumerate()}
    writer = AsyncCheckpointWriter(saved)

    found = portal.read(writer, _loaded)

    assert found is not None
    assert found.checkpoint_id == "first"
    assert {*threading.enumerate()} <= threads
    again = portal.read(writer, _loaded)
    assert again == found
    portal.run(writer.aclose())
    with pytest.raises(WriterClosedError):
        portal.read(writer, _loaded)


def test_dropped_after_its_first_read(saved: Path, portal: Portal) -> None:
    """A writer that nobody has closed says so also where it has only been read."""
    writer = AsyncCheckpointWriter(saved)
    assert portal.read(writer, _loaded) is not None

    dropped = [writer]
    del writer
    with pytest.warns(ResourceWarning, match="not closed"):
        dropped.clear()


@pytest.mark.parametrize("kind", ["writer", "shared", "memory"])
def test_any_store(kind: str, root: Path, portal: Portal) -> None:
    """It is one call for stores whose threads answer, and for those that need an event loop."""
    makers: dict[str, Callable[[], Any]] = {
        "writer": lambda: AsyncCheckpointWriter(root),
        "shared": lambda: open_store(root),
        "memory": MemoryStore,
    }
    store = makers[kind]()

    assert portal.read(store, _loaded) is None  # nothing is there, and nothing is made
    assert not root.exists()
    for number in range(3):
        checkpoint_id = f"cp-{number}"
        portal.run(store.save(CheckpointData(session_id="s", checkpoint_id=checkpoint_id)))
        found = portal.read(store, _loaded)
        assert found is not None
        assert found.checkpoint_id == checkpoint_id
    portal.run(store.aclose())


def test_many_threads_read_first(saved: Path, portal: Portal) -> None:
    """Threads that are all the first get the same; one root stays open, and that is closed."""
    for _ in range(20):
        writer = AsyncCheckpointWriter(saved)
        together = threading.Barrier(4)

        def read(writer: Any = writer, together: threading.Barrier = together) -> _Found:
            together.wait(30)
            return portal.read(writer, _loaded)

        with ThreadPoolExecutor(4) as pool:
            found = [call.result(30) for call in [pool.submit(read) for _ in range(4)]]

        assert [record and record.checkpoint_id for record in found] == ["first"] * 4
        portal.run(writer.aclose())


def test_what_others_save_is_seen(saved: Path, portal: Portal) -> None:
    """What a first read has opened follows what other writers save afterwards."""
    reader, other = AsyncCheckpointWriter(saved), AsyncCheckpointWriter(saved)
    assert portal.read(reader, _loaded) is not None

    for number in range(3):
        checkpoint_id = f"later-{number}"
        portal.run(other.save(CheckpointData(session_id="s", checkpoint_id=checkpoint_id)))
        found = portal.read(reader, _loaded)
        assert found is not None
        assert found.checkpoint_id == checkpoint_id
    portal.run(other.aclose())
    portal.run(reader.aclose())


def test_damage_is_raised(saved: Path, portal: Portal) -> None:
    """A first read of a damaged checkpoint raises, and so does the next."""
    (path,) = saved.glob("s/checkpoints/cp_*.json")
    path.write_bytes(b"{}")
    writer = AsyncCheckpointWriter(saved)

    for _ in range(2):
        with pytest.raises(CheckpointCorruptError):
            portal.read(writer, _loaded)
    portal.run(writer.aclose())


def test_another_process_commits(saved: Path, portal: Portal) -> None:
    """A first read waits for a commit that is under way, for so long as it may."""
    with (saved / ".aiocheckpoint" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        impatient = AsyncCheckpointWriter(saved, lock_timeout_seconds=0.05)
        with pytest.raises(StoreBusyError):
            portal.read(impatient, _loaded)
        patient = AsyncCheckpointWriter(saved)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(lambda: portal.read(patient, _loaded))
            with pytest.raises(TimeoutError):
                call.result(0.2)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert call.result(30) is not None
    portal.run(impatient.aclose())
    portal.run(patient.aclose())


def test_interrupted_at_any_call(saved: Path, portal: Portal) -> None:
    """
    Ctrl-c anywhere in a first read leaves no lock and nothing half-known.

    Others can save at once, and the next read finds what they have saved.
    """

    def try_one(number: int) -> int:
        files = AtCall(number, _interrupt)
        writer = AsyncCheckpointWriter(saved, files=files)
        try:
            portal.read(writer, _loaded)
        except KeyboardInterrupt as error:
            kept = error  # whoever keeps it keeps its frames
            with (saved / ".aiocheckpoint" / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            del kept
        other = AsyncCheckpointWriter(saved)
        portal.run(other.save(CheckpointData(session_id="s", checkpoint_id=f"at-{number}")))
        found = portal.read(writer, _loaded)
        assert found is not None
        assert found.checkpoint_id == f"at-{number}"
        portal.run(other.aclose())
        portal.run(writer.aclose())
        return files.left

    assert _at_each_call(saved, try_one) > 20


def test_handler_of_a_signal_saves_at_any_call(saved: Path, portal: Portal) -> None:
    """
    What a signal's handler saves and reads amid a first read of its thread is there at once.

    No thread waits for the one that the handler has interrupted.
    """

    def try_one(number: int) -> int:
        checkpoint = CheckpointData(session_id="s", checkpoint_id=f"at-{number}")
        seen: list[_Found] = []

        def handle() -> None:
            portal.run(writer.save(checkpoint))
            seen.append(portal.read(writer, _loaded))

        files = AtCall(number, handle)
        writer = AsyncCheckpointWriter(saved, files=files)
        assert portal.read(writer, _loaded) is not None
        found = portal.read(writer, _loaded)
        if seen:
            assert [record and record.checkpoint_id for record in seen] == [f"at-{number}"]
            assert found is not None
            assert found.checkpoint_id == f"at-{number}"
        portal.run(writer.aclose())
        return files.left

    assert _at_each_call(saved, try_one) > 20


@pytest.mark.parametrize("step", ["save", "replace", "flush", "delete", "erase"])
@pytest.mark.some(2)
@pytest.mark.few(1)
def test_others_commit_at_any_call(step: str, saved: Path, portal: Portal) -> None:
    """
    A first read beside others returns what there was before or after what they did, whole.

    What they flush takes away the file, and the journal's part, that it was about to read.
    """
    applier = saved / ".aiocheckpoint" / "applier"

    async def act(other: AsyncCheckpointWriter[CheckpointData], number: int) -> None:
        if step in {"delete", "erase"}:
            await other.delete("s", "first")
        checkpoint_id = f"{number}" if step == "save" else "first"
        await other.save(
            CheckpointData(session_id="s", checkpoint_id=checkpoint_id, iteration=number)
        )
        if step in {"flush", "erase"}:
            await other.flush()

    def try_one(number: int) -> int:
        other = AsyncCheckpointWriter(saved)
        with applier.open() as lock:

            def beside() -> None:
                fcntl.flock(lock, fcntl.LOCK_UN)
                portal.run(act(other, number))

            if step == "erase":  # from the journal, that is
                fcntl.flock(lock, fcntl.LOCK_EX)
                before = CheckpointData(session_id="s", checkpoint_id="first", iteration=number - 1)
                portal.run(other.save(before))
            files = AtCall(number, beside)
            writer = AsyncCheckpointWriter(saved, files=files)
            found = portal.read(writer, _loaded)
        again = portal.read(writer, _loaded)
        portal.run(writer.aclose())
        portal.run(other.aclose())  # so that the journal does not grow
        if step not in {"delete", "erase"}:  # between that and the save there is nothing
            assert found is not None
        if found is not None:
            assert found.iteration in {number - 1, number}
        if files.left <= 0:
            assert again is not None
            assert again.iteration == number
        return files.left

    assert _at_each_call(saved, try_one) > 20
