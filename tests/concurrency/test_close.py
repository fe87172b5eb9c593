"""Closing, and the end of a loop, with calls in flight."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import CheckpointError, StorageError
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.demand import Demand
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.concurrency import cancellations, scenarios
from tests.concurrency.backends import BACKENDS, Run
from tests.concurrency.cancellations import Kind, each_kind
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import COMMIT, GUARD_SECONDS, ControlledFiles
from tests.concurrency.site import (
    Site,
    Writer,
    document,
    join_dropped,
    join_threads,
    open_descriptors,
    pool_threads,
)
from tests.concurrency.threads import LoopThread
from tests.faults import Hold

each_backend = pytest.mark.parametrize("run", BACKENDS)


@each_kind()
async def test_cancelled_close_can_be_repeated(kind: Kind, root: Path) -> None:
    """A cancelled `aclose` loses nothing, and the next one closes all the same."""
    await scenarios.cancelled_close_can_be_repeated(Site(root, durability="file"), kind)


@each_kind(cancellations.native, cancellations.anyio_cancel_scope)
async def test_cancelled_close_flushes(kind: Kind, root: Path) -> None:
    """The same with a journal to flush."""
    await scenarios.cancelled_close_can_be_repeated(Site(root, durability="journal"), kind)


@pytest.mark.few(1)
def test_reads_in_flight(site: Site) -> None:
    """Reads called before `aclose` return as usual, and leave no file open."""
    main = partial(scenarios.close_with_reads_in_flight, site)
    asyncio.run(main())  # whatever the process opens once
    gc.collect()
    threads, descriptors = pool_threads(), open_descriptors()
    asyncio.run(main())
    join_threads(pool_threads(threads))
    gc.collect()
    assert open_descriptors() <= descriptors


def test_close_from_another_loop(site: Site) -> None:
    """`aclose` on one loop waits for the saves of another, which return as usual."""
    files = ControlledFiles()
    with LoopThread() as saving, LoopThread() as closing:
        writer = site.writer(files=files)
        saving.call(partial(writer.save, document("s", 0)))
        gate = files.hold(COMMIT)
        saves = [saving.begin(partial(writer.save, document("s", n))) for n in range(1, 5)]
        gate.wait_arrival()
        close = closing.begin(writer.aclose)
        gate.open()
        close.result(GUARD_SECONDS)
        assert [save.result(GUARD_SECONDS) for save in saves] == ["c1", "c2", "c3", "c4"]
        assert closing.call(partial(site.saved_ids, "s")) == ["c0", "c1", "c2", "c3", "c4"]
        saving.call(writer.aclose)


def test_close_ends_the_threads_at_once(site: Site) -> None:
    """No thread of a closed writer goes on waiting for the next round of files."""
    threads = pool_threads()
    files = ControlledFiles()

    async def close_with_save_in_flight() -> None:
        writer = site.writer(files=files)
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        save = asyncio.ensure_future(writer.save(document("s", 1)))
        await gate.arrival()
        closing = asyncio.ensure_future(writer.aclose())
        await yield_to_loop(10)
        gate.open()
        await asyncio.wait_for(closing, GUARD_SECONDS)
        assert await save == "c1"

    asyncio.run(close_with_save_in_flight())
    join_threads(pool_threads(threads))


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
def test_dropped_writer_gives_everything_back(site: Site) -> None:
    """A writer that nobody closed ends its threads, closes its files and has saved everything."""

    async def use_and_drop() -> None:
        writer = site.writer()
        await asyncio.gather(*(writer.save(document(f"s{n}", n)) for n in range(10)))
        await writer.load("s1")

    threads = pool_threads()
    asyncio.run(use_and_drop())  # whatever the process opens once
    join_dropped(threads)
    descriptors = open_descriptors()
    asyncio.run(use_and_drop())
    join_dropped(threads)
    assert open_descriptors() <= descriptors
    for number in range(10):
        assert asyncio.run(site.saved_ids(f"s{number}")) == [f"c{number}"]
    asyncio.run(site.assert_intact())


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
def test_dropped_writer_leaves_its_files(site: Site) -> None:
    """What a writer that nobody closed has saved is in files, with nothing left in the journal."""

    async def use_and_drop() -> None:
        await site.writer().save(document("s", 0))

    threads = pool_threads()
    asyncio.run(use_and_drop())
    join_dropped(threads)
    shutil.rmtree(site.root / ".aiocheckpoint")
    assert asyncio.run(site.saved_ids("s")) == ["c0"]


async def _save_on_a_bad_disk(writer: Writer, files: FaultyFiles, root: Path) -> None:
    files.arm(Fault(errno.EIO, "write", for_ever=True))
    await writer.save(document("s", 1))


async def _save_while_it_is_locked(writer: Writer, files: FaultyFiles, root: Path) -> None:
    descriptor = await asyncio.to_thread(os.open, root / ".aiocheckpoint" / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await asyncio.gather(writer.save(document("s", 1)), writer.delete("s", "c0"))
    finally:
        await asyncio.to_thread(os.close, descriptor)


async def _cancelled_save_on_a_bad_disk(writer: Writer, files: FaultyFiles, root: Path) -> None:
    hold = Hold()
    files.at("before_sync_log", hold)
    saving = asyncio.ensure_future(writer.save(document("s", 1)))
    await asyncio.to_thread(hold.wait_arrived)
    files.at("before_sync_log", lambda: None)
    files.arm(Fault(errno.EIO, "sync data", for_ever=True))
    saving.cancel()
    hold.release()
    await saving


async def _load_that_fails(writer: Writer, files: FaultyFiles, root: Path) -> None:
    files.arm(Fault(errno.EACCES, "read", for_ever=True))
    await writer.load("s")


async def _update_that_fails(writer: Writer, files: FaultyFiles, root: Path) -> None:
    files.arm(Fault(errno.EIO, "write", for_ever=True))

    async def work(session: Any) -> None:
        session.save(document("s", 1))

    await writer.update("s", work)


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
@pytest.mark.parametrize(
    "call",
    [
        _save_on_a_bad_disk, _save_while_it_is_locked, _cancelled_save_on_a_bad_disk,
        _load_that_fails, _update_that_fails,
    ],
)  # fmt: skip
async def test_dropped_writer_is_kept_by_no_error(
    default_site: Site, call: Callable[[Writer, FaultyFiles, Path], Awaitable[None]]
) -> None:
    """A writer whose call failed goes when it is dropped, without waiting for the collector."""

    async def fail_and_drop() -> weakref.ref[Writer]:
        files = FaultyFiles()
        writer = default_site.writer(files=files, lock_timeout_seconds=0.1)
        await writer.save(document("s", 0))
        await writer.flush()
        with contextlib.suppress(CheckpointError, asyncio.CancelledError):
            await call(writer, files, default_site.root)
        files.arm(None)
        return weakref.ref(writer)

    gc.collect()
    gc.disable()
    try:
        dropped = await fail_and_drop()
        async with asyncio.timeout(GUARD_SECONDS):
            while dropped() is not None:  # the committer is just about to forget the batch
                await asyncio.sleep(0)
    finally:
        gc.enable()


def test_what_is_due_is_done_before_the_end() -> None:
    """Files that are due are written, once, also where the end comes before their time."""
    tries = 0

    def opened() -> WritableRoot:
        nonlocal tries
        tries += 1
        raise StorageError("open", "/", None, "it is not there")

    demand = Demand()
    applier = Applier(demand, opened)
    demand.found_waiting()
    demand.end()
    applier.run()
    assert tries == 1


def test_after_the_main_thread(root: Path) -> None:
    """
    In threads that go on after the main one, amid a save as well, and in `atexit` all works.

    Where Python starts no thread any more, as 3.12.1 does, what needs one is refused by name.
    """
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "tests.concurrency.ending_process", root],
        capture_output=True, text=True, timeout=GUARD_SECONDS, check=False,
    )  # fmt: skip
    names = ("in flight", "thread", "new in thread", "atexit", "new in atexit")
    told = [line.rpartition(" ") for line in done.stdout.splitlines()]
    assert tuple(name for name, _, _ in told) == names, done.stderr
    outcomes = {outcome for _, _, outcome in told}
    if sys.version_info[:2] != (3, 12) or outcomes == {"True"}:
        assert (outcomes, done.stderr) == ({"True"}, "")
    assert (outcomes - {"True", "ThreadStartError"}, done.returncode) == (set(), 0)


@each_backend
def test_body_fails_with_saves_in_flight(run: Run, site: Site) -> None:
    """Leaving `async with` by an error lets the saves in flight end, and raises that error."""
    saves: list[asyncio.Future[str]] = []

    async def main() -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with site.writer() as writer:
                saves.extend(
                    asyncio.ensure_future(writer.save(document("s", n))) for n in range(20)
                )
                await asyncio.sleep(0)
                raise ZeroDivisionError
        assert await asyncio.gather(*saves) == [f"c{n}" for n in range(20)]
        assert await site.saved_ids("s") == [f"c{n}" for n in range(20)]

    run(main)


@pytest.mark.parametrize("saves_begun", [0, 1, 5, 40])
def test_run_ends_with_saves_in_flight(saves_begun: int, site: Site) -> None:
    """`asyncio.run` that cancels saves in flight leaves what was acknowledged, and no half save."""
    acknowledged: list[str] = []
    cancelled: list[str] = []

    async def save(writer: Writer, session: int, number: int) -> None:
        try:
            name = await writer.save(document(f"s{session}", number))
        except asyncio.CancelledError:
            cancelled.append(f"c{number}")
            raise
        acknowledged.append(name)

    async def main() -> None:
        tasks = [asyncio.ensure_future(save(writer, n % 4, n)) for n in range(80)]
        await asyncio.sleep(0)
        if saves_begun:
            await asyncio.wait(tasks[:saves_begun])

    async def close_and_look() -> None:
        await writer.aclose()
        found = {name for session in range(4) for name in await site.saved_ids(f"s{session}")}
        assert set(acknowledged) <= found
        assert found <= {*acknowledged, *cancelled}
        assert len(acknowledged) + len(cancelled) == 80
        assert cancelled or saves_begun
        await site.assert_intact()

    writer = site.writer()
    asyncio.run(main())
    asyncio.run(close_and_look())


def test_loop_abandoned_with_saves_in_flight(site: Site) -> None:
    """A loop that is closed under its saves holds up no other loop, and loses nothing begun."""
    files = ControlledFiles()
    writer = site.writer(files=files)
    asyncio.run(_save(writer, 0))
    gate = files.hold(COMMIT)
    abandoned = asyncio.new_event_loop()
    task = abandoned.create_task(writer.save(document("s", 1)))
    queued = abandoned.create_task(writer.save(document("s", 2)))
    abandoned.run_until_complete(gate.arrival())
    abandoned.run_until_complete(yield_to_loop(5))
    abandoned.close()
    gate.open()
    asyncio.run(asyncio.wait_for(_save(writer, 3), GUARD_SECONDS))
    asyncio.run(asyncio.wait_for(writer.aclose(), GUARD_SECONDS))
    for lost in (task, queued):
        lost._log_destroy_pending = False  # type: ignore[attr-defined]  # wanted here
    asyncio.run(site.assert_intact())
    assert asyncio.run(site.saved_ids("s")) == ["c0", "c1", "c2", "c3"]


async def _save(writer: Writer, number: int) -> None:
    await writer.save(document("s", number))
