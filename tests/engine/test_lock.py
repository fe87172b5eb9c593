"""Somebody else holds things up: stopped or killed with the lock, or a disk full of their writes.

How evenly real processes share the lock is measured in `tests/promises`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from aiocheckpoint import StoreBusyError
from aiocheckpoint._disk.files import LocalFiles
from tests.conftest import MakeWriter
from tests.engine.disk import Disk
from tests.engine.files import KilledError
from tests.engine.kernel import WouldWaitError
from tests.engine.process import Process, make_record, outcome
from tests.faults import Hold

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
_PATIENCE_SECONDS = 0.3


@contextlib.contextmanager
def _held(root: Path, name: str) -> Iterator[None]:
    """Hold one of the store's locks, as a process does that is stopped."""
    descriptor = os.open(root / ".aiocheckpoint" / name, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.blocking
@pytest.mark.parametrize("name", ["lock", "turn"])
async def test_stopped_with_the_lock(make_writer: MakeWriter, root: Path, name: str) -> None:
    """Changes are refused in time and by name, what is known is read, and then all goes on."""
    writer = make_writer(lock_timeout_seconds=_PATIENCE_SECONDS)
    await writer.save(make_record("s", "a", 1))
    with _held(root, name):
        began = time.monotonic()
        with pytest.raises(StoreBusyError) as refused:
            await writer.save(make_record("s", "refused", 2))
        assert _PATIENCE_SECONDS * 0.9 < time.monotonic() - began < 30
        assert refused.value.path.startswith(str(root))
        assert await writer.load("s") == make_record("s", "a", 1)
    await writer.save(make_record("s", "b", 3))
    assert [meta.checkpoint_id for meta in await writer.list("s")] == ["b", "a"]


@pytest.mark.blocking
async def test_stopped_while_it_applies(make_writer: MakeWriter, root: Path) -> None:
    """While another is stopped as the applier, saves are acknowledged, and a flush says why not."""
    writer = make_writer(lock_timeout_seconds=_PATIENCE_SECONDS)
    await writer.save(make_record("s", "a", 1))
    await writer.flush()
    with _held(root, "applier"):
        await writer.save(make_record("s", "b", 2))
        assert await writer.load("s") == make_record("s", "b", 2)
        with pytest.raises(StoreBusyError):
            await writer.flush()
    await writer.flush()


@pytest.mark.blocking
def test_killed_with_the_lock(disk: Disk) -> None:
    """A process that dies with the locks gives them back, whatever its forked child holds open."""
    victim, other = Process(disk), Process(disk)
    victim.save("s", "a")
    log = victim.to_write().log
    held = contextlib.ExitStack()
    held.enter_context(log.applying(lambda: None))
    held.enter_context(log.locked())
    assert isinstance(outcome(lambda: other.save("s", "waits")), WouldWaitError)
    with _forked_child():
        victim.kill()
        other.save("s", "b")
        other.flush()
        assert [key for key, _ in other.seen("s")] == ["a", "b"]
    with pytest.raises(KilledError):  # the dead give back nothing themselves
        held.close()


@contextlib.contextmanager
def _forked_child() -> Iterator[None]:
    """Keep a forked child alive, with what it has open."""
    theirs, ours = os.pipe()
    is_there, here = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing with threads
        child = os.fork()
    if child == 0:
        os.close(ours)
        os.write(here, b".")
        os.read(theirs, 1)
        os._exit(0)
    try:
        os.read(is_there, 1)
        yield
    finally:
        for descriptor in (theirs, ours, is_there, here):
            os.close(descriptor)
        os.waitpid(child, 0)


class BusyDisk(LocalFiles):
    """
    A disk on which whoever syncs files waits for somebody else's writes.

    Attributes:
        hold: where they wait.
    """

    def __init__(self) -> None:
        self.hold = Hold()

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        is_sync = operation in ("sync file", "sync directory", "sync disk")
        if is_sync and threading.current_thread().name == "aiocheckpoint-apply":
            self.hold()
        return super().call(operation, path, function, *args, **kwargs)


async def test_a_disk_full_of_others_writes(make_writer: MakeWriter) -> None:
    """While the disk is busy with what others wrote, saves are acknowledged; only flushes wait."""
    files = BusyDisk()
    writer = make_writer(files=files)
    other = make_writer()
    await writer.save(make_record("s", "first", 0))
    await asyncio.to_thread(files.hold.wait_arrived)
    flush: asyncio.Task[Any] = asyncio.create_task(writer.flush())
    for serial in range(20):
        await asyncio.wait_for(writer.save(make_record("s", f"c{serial}", serial)), 30)
        await asyncio.wait_for(other.save(make_record("t", f"c{serial}", serial)), 30)
    assert len(await other.list("s")) == 21
    assert not flush.done()
    files.hold.release()
    await flush
