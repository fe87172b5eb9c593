"""What several writers, or another process, want at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import math
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from aiocheckpoint import DurabilityUnknownError, StoreBusyError, WriterClosedError
from aiocheckpoint.testing import FaultyFiles
from tests.clocks import HOUR_SECONDS, Clock
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import COMMIT, GUARD_SECONDS, ControlledFiles
from tests.concurrency.site import (
    Site,
    document,
    join_threads,
    open_descriptors,
    pool_threads,
)

pytestmark = pytest.mark.usefixtures("flushing")

_ROUNDS = 60
_PATIENCE_SECONDS = 0.1


@contextlib.asynccontextmanager
async def _locked_from_outside(root: Path, name: str = "lock") -> AsyncIterator[None]:
    """Hold a lock of the store as another process does."""
    descriptor = await asyncio.to_thread(_locked, root / ".aiocheckpoint" / name)
    try:
        yield
    finally:
        await asyncio.to_thread(os.close, descriptor)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


async def test_locked_journal_holds_up_changes_only(site: Site) -> None:
    """While another process holds the lock, reads go on; changes wait, and follow in order."""
    async with site.writer() as writer:
        await writer.save(document("s", 0))
        async with _locked_from_outside(site.root):
            waiting = [asyncio.ensure_future(writer.save(document("s", n))) for n in range(1, 6)]
            for _ in range(10):
                async with asyncio.timeout(GUARD_SECONDS):
                    assert await writer.load("s") == document("s", 0)
                    assert len(await writer.list("s")) == 1
            assert not any(save.done() for save in waiting)
        async with asyncio.timeout(GUARD_SECONDS):
            assert await asyncio.gather(*waiting) == [f"c{n}" for n in range(1, 6)]
    assert await site.saved_ids("s") == [f"c{n}" for n in range(6)]
    await site.assert_intact()


async def test_lock_that_is_never_free(site: Site) -> None:
    """A lock that stays taken is a clear error in time, and all works once it is free."""
    async with site.writer(lock_timeout_seconds=_PATIENCE_SECONDS) as writer:
        await writer.save(document("s", 0))
        await writer.flush()
        async with _locked_from_outside(site.root):
            calls = [
                *(asyncio.ensure_future(writer.save(document("s", n))) for n in range(1, 4)),
                asyncio.ensure_future(writer.delete("s", "c0")),
                asyncio.ensure_future(writer.flush()),
            ]
            async with asyncio.timeout(GUARD_SECONDS):
                results = await asyncio.gather(*calls, return_exceptions=True)
            for result in results:
                assert isinstance(result, StoreBusyError), results
                assert result.path == str(site.root / ".aiocheckpoint" / "lock")
                assert f"for {_PATIENCE_SECONDS} s" in str(result)
        await asyncio.wait_for(writer.save(document("s", 9)), GUARD_SECONDS)
    assert await site.saved_ids("s") == ["c0", "c9"]
    await site.assert_intact()


async def test_each_save_waits_its_own_time(default_site: Site, clock: Clock) -> None:
    """A save that has waited long enough for the lock fails alone; a later one goes on waiting."""
    async with default_site.writer(lock_timeout_seconds=HOUR_SECONDS) as writer:
        await writer.save(document("s", 0))
        log = writer._store.place.to_write().log
        async with _locked_from_outside(default_site.root):
            early = asyncio.ensure_future(writer.save(document("s", 1)))
            while log.waits_since is None:
                await asyncio.sleep(0.001)
            clock.move_on(HOUR_SECONDS / 2)
            late = asyncio.ensure_future(writer.save(document("s", 2)))
            await yield_to_loop(10)
            clock.move_on(HOUR_SECONDS * 3 / 4)
            with pytest.raises(StoreBusyError):
                await asyncio.wait_for(early, GUARD_SECONDS)
            assert not late.done()
        assert await asyncio.wait_for(late, GUARD_SECONDS) == "c2"
    assert await default_site.saved_ids("s") == ["c0", "c2"]
    await default_site.assert_intact()


async def test_save_that_waits_for_the_lock_is_withdrawn(site: Site) -> None:
    """A save that waits for another process has not begun: cancelled, it ends at once."""
    async with site.writer() as writer:
        await writer.save(document("s", 0))
        async with _locked_from_outside(site.root):
            saves = [asyncio.ensure_future(writer.save(document("s", n))) for n in (1, 2)]
            await yield_to_loop(10)
            saves[0].cancel()
            await asyncio.wait(saves[:1], timeout=GUARD_SECONDS)
            assert saves[0].cancelled()
            assert not saves[1].done()
        assert await asyncio.wait_for(saves[1], GUARD_SECONDS) == "c2"
    assert await site.saved_ids("s") == ["c0", "c2"]


async def test_read_that_waits_for_the_first_look_is_withdrawn(site: Site) -> None:
    """A read that waits for another process, as a first one may, ends at once when cancelled."""
    async with site.writer() as writer:
        await writer.save(document("s", 0))
    async with site.writer() as reader, _locked_from_outside(site.root):
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(reader.load, "s"),
            partial(reader.list, "s"),
            partial(reader.ids, "s"),
            partial(reader.load_many, "s", ["c0"]),
            partial(reader.verify, site.directory("s") / "latest.json"),
            partial(reader.read, "s", lambda session: session.saved_ids(limit=1)),
            partial(reader.copy_session, "s", "t"),
            partial(reader.recover, "s"),
            reader.check,
        ]
        reads = [asyncio.ensure_future(call()) for call in calls]
        await yield_to_loop(10)
        assert not any(read.done() for read in reads)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads, timeout=GUARD_SECONDS)
        assert all(read.cancelled() for read in reads)


async def test_first_look_waits_no_longer_than_the_limit(site: Site) -> None:
    """A read that cannot be answered says in time who is to blame; `check` makes it a finding."""
    async with site.writer() as writer:
        await writer.save(document("s", 0))
    async with site.writer(lock_timeout_seconds=_PATIENCE_SECONDS) as reader:
        async with _locked_from_outside(site.root):
            with pytest.raises(StoreBusyError):
                await asyncio.wait_for(reader.load("s"), GUARD_SECONDS)
            (finding,) = await asyncio.wait_for(reader.check(), GUARD_SECONDS)
            assert "locked" in finding.detail
        assert await asyncio.wait_for(reader.load("s"), GUARD_SECONDS) == document("s", 0)


async def test_slow_work_of_callers_holds_up_nobody_else(site: Site) -> None:
    """However many calls of `read` take their time, all other calls come through."""
    slow = threading.Event()

    async def takes_its_time(_: object) -> bool:
        return slow.wait(GUARD_SECONDS)

    async def is_not_called(_: object) -> None:
        pytest.fail("it was called")

    async with site.writer() as writer:
        await writer.save(document("s", 0))
        calls = [asyncio.ensure_future(writer.read("s", takes_its_time)) for _ in range(20)]
        await yield_to_loop(10)
        async with asyncio.timeout(GUARD_SECONDS):
            assert await writer.load("s") == document("s", 0)
            await writer.save(document("s", 1))
            assert await writer.copy_session("s", "t") == 2
            await writer.flush()
            assert await writer.check() == ()
        queued = asyncio.ensure_future(writer.read("s", is_not_called))
        await yield_to_loop(2)
        queued.cancel()
        await asyncio.wait([queued], timeout=GUARD_SECONDS)
        assert queued.cancelled()
        slow.set()
        assert await asyncio.gather(*calls) == [True] * 20


async def test_read_that_waits_for_a_thread_is_withdrawn(default_site: Site) -> None:
    """A load for which there is no thread yet has not begun: cancelled, it ends at once."""
    disk, opened, all_held = FaultyFiles(), threading.Event(), threading.Event()
    arrivals: list[int] = []

    def hold() -> None:
        if threading.current_thread().name == "aiocheckpoint-apply":  # it writes the save's file
            return
        arrivals.append(threading.get_ident())
        if len(arrivals) == 5:
            all_held.set()
        opened.wait(GUARD_SECONDS)

    async with default_site.writer(files=disk) as writer:
        await writer.save(document("s", 0))
        await writer.load("s")
        disk.at("stat", hold)
        held = [asyncio.ensure_future(writer.load("s")) for _ in range(5)]
        assert await asyncio.to_thread(all_held.wait, GUARD_SECONDS)
        queued = [asyncio.ensure_future(writer.load("s")) for _ in range(5)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await queued[0]
        for load in queued[1:]:
            load.cancel()
        await asyncio.wait(queued, timeout=GUARD_SECONDS)
        assert all(load.cancelled() for load in queued)
        assert not any(load.done() for load in held)
        opened.set()
        assert await asyncio.gather(*held) == [document("s", 0)] * 5
        assert len(set(arrivals)) == 5


async def test_nobody_is_blamed_for_a_slow_disk(default_site: Site) -> None:
    """Saves that wait for their own writer's commit do not say that another process is to blame."""
    files = ControlledFiles()
    async with default_site.writer(files=files, lock_timeout_seconds=_PATIENCE_SECONDS) as writer:
        await writer.save(document("s", 0))
        gate = files.hold(COMMIT)
        saves = [asyncio.ensure_future(writer.save(document("s", 1)))]
        await gate.arrival()
        saves += [asyncio.ensure_future(writer.save(document("s", n))) for n in range(2, 5)]
        await asyncio.sleep(3 * _PATIENCE_SECONDS)
        assert not any(save.done() for save in saves)
        gate.open()
        assert await asyncio.wait_for(asyncio.gather(*saves), GUARD_SECONDS) == [
            f"c{n}" for n in range(1, 5)
        ]


async def test_who_does_not_wait_is_served_where_nobody_else_is(site: Site) -> None:
    """With a patience of nothing all works as long as no other process holds the lock."""
    async with site.writer(lock_timeout_seconds=0) as writer:
        for number in range(20):
            await writer.save(document("s", number))
        assert await writer.delete("s", "c0")
        await writer.flush()
    assert await site.saved_ids("s") == [f"c{n}" for n in range(1, 20)]


async def test_files_that_another_process_keeps_to_itself(default_site: Site) -> None:
    """While another process may write files alone, saves go on, and who waits for files is told."""
    path = str(default_site.root / ".aiocheckpoint" / "applier")
    async with (
        default_site.writer(lock_timeout_seconds=_PATIENCE_SECONDS) as writer,
        default_site.writer(lock_timeout_seconds=_PATIENCE_SECONDS, durability="file") as patient,
    ):
        await writer.save(document("s", 0))
        await writer.flush()
        async with _locked_from_outside(default_site.root, "applier"):
            for number in range(1, 5):
                await asyncio.wait_for(writer.save(document("s", number)), GUARD_SECONDS)
            with pytest.raises(StoreBusyError) as busy:
                await asyncio.wait_for(writer.flush(), GUARD_SECONDS)
            assert busy.value.path == path
            with pytest.raises(DurabilityUnknownError) as unknown:
                await asyncio.wait_for(patient.save(document("s", 5)), GUARD_SECONDS)
            assert unknown.value.path == path
            assert await writer.load("s") == document("s", 5)
        await asyncio.wait_for(writer.flush(), GUARD_SECONDS)
    assert await default_site.saved_ids("s") == [f"c{n}" for n in range(6)]
    await default_site.assert_intact()


@pytest.mark.parametrize("name", ["lock", "applier"])
def test_close_while_another_process_holds_a_lock(name: str, default_site: Site) -> None:
    """`aclose` says so in time; when the lock is free, threads and files are given back."""
    site = default_site

    async def use(name: str | None) -> None:
        writer = site.writer(lock_timeout_seconds=_PATIENCE_SECONDS)
        await writer.save(document("s", 0))
        if name is None:
            await writer.aclose()
            return
        async with _locked_from_outside(site.root, name):
            if name == "applier":
                await writer.save(document("s", 1))  # whose file is to be written
            with pytest.raises(StoreBusyError) as busy:
                await asyncio.wait_for(writer.aclose(), GUARD_SECONDS)
            assert busy.value.path.endswith(name)
            with pytest.raises(WriterClosedError):
                await writer.save(document("s", 2))

    asyncio.run(use(None))  # whatever the process opens once
    gc.collect()
    threads, descriptors = pool_threads(), open_descriptors()
    asyncio.run(use(name))
    join_threads(pool_threads(threads))
    gc.collect()
    assert open_descriptors() <= descriptors
    assert asyncio.run(site.saved_ids("s")) == (["c0", "c1"] if name == "applier" else ["c0"])
    asyncio.run(site.assert_intact())


@pytest.mark.parametrize("name", ["lock", "applier"])
async def test_close_waits_for_a_lock_once(name: str, default_site: Site) -> None:
    """Who closes while another process holds a lock is held up for one timeout, no longer."""
    patience = 5 * _PATIENCE_SECONDS
    loop = asyncio.get_running_loop()
    waited = [math.inf]
    for number in range(20):  # the machine may be busy
        writer = default_site.writer(lock_timeout_seconds=patience)
        await writer.save(document(f"s{number}", 0))
        async with _locked_from_outside(default_site.root, name):
            if name == "lock":
                with pytest.raises(StoreBusyError):
                    await writer.save(document("s", 1))
            else:
                await writer.save(document(f"s{number}", 1))  # whose file is to be written
            began = loop.time()
            with pytest.raises(StoreBusyError):
                await asyncio.wait_for(writer.aclose(), GUARD_SECONDS)
            waited.append(loop.time() - began)
        await writer.aclose()
        if waited[-1] < 1.8 * patience:
            break
    assert min(waited) < 1.8 * patience


async def test_replaced_checkpoint_is_always_there(site: Site) -> None:
    """While a checkpoint is replaced again and again, loading it gives one or the other."""
    acknowledged = 0

    async with site.writer() as writer, site.writer() as reader:
        await writer.save(document("s", 0, "one"))

        async def replace() -> None:
            nonlocal acknowledged
            for number in range(1, _ROUNDS):
                await writer.save(document("s", number, "one"))
                acknowledged = number

        async def read(load: Callable[[], Awaitable[object]]) -> None:
            while acknowledged < _ROUNDS - 1:
                floor = acknowledged
                loaded = await load()
                assert loaded in [document("s", n, "one") for n in range(floor, _ROUNDS)]

        async with asyncio.timeout(GUARD_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(replace())
            for source in (writer, reader):
                group.create_task(read(lambda source=source: source.load("s", "one")))  # type: ignore[misc]  # a default
                group.create_task(read(lambda source=source: source.load("s")))  # type: ignore[misc]
    assert await site.saved_ids("s") == ["one"]


async def test_session_deleted_under_its_savers(site: Site) -> None:
    """Writers that delete a session while others save to it get in nobody's way."""
    async with site.writer() as one, site.writer() as other:

        async def delete() -> None:
            for _ in range(_ROUNDS):
                await one.delete_session("s")
                await asyncio.sleep(0)

        async def save() -> None:
            for number in range(_ROUNDS):
                await other.save(document("s", number))
                loaded = await other.load("s", f"c{number}")
                assert loaded in (None, document("s", number))

        async with asyncio.timeout(GUARD_SECONDS):
            await asyncio.gather(delete(), save())
        await one.delete_session("s")
        assert await other.load("s") is None
        assert await other.list("s") == ()
        await other.save(document("s", 1))
        assert await one.load("s") == document("s", 1)
    await site.assert_intact()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_writer_does_not_survive_a_fork(site: Site) -> None:
    """In a forked child a writer refuses at once, and the parent's goes on."""
    writer = site.writer()
    asyncio.run(_save(site, writer.save(document("s", 0))))
    child = os.fork()
    if child == 0:
        os._exit(_exit_status_of_child(writer.load("s"), writer.save(document("s", 1))))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    asyncio.run(_save(site, writer.save(document("s", 2))))
    asyncio.run(writer.aclose())
    assert asyncio.run(site.saved_ids("s")) == ["c0", "c2"]
    asyncio.run(site.assert_intact())


async def _save(site: Site, saving: Awaitable[str]) -> None:
    await asyncio.wait_for(saving, GUARD_SECONDS)


def _exit_status_of_child(*calls: Awaitable[object]) -> int:
    async def refused() -> bool:
        results = await asyncio.gather(*calls, return_exceptions=True)
        return all(isinstance(result, WriterClosedError) for result in results)

    try:
        return 0 if asyncio.run(asyncio.wait_for(refused(), GUARD_SECONDS)) else 1
    except BaseException:  # noqa: BLE001 - a child must not go on as the test runner
        return 2
