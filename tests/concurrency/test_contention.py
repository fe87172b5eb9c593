"""Sessions that several writers, or somebody outside, want at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiocheckpoint import StoreBusyError, WriterClosedError
from aiocheckpoint._engine import commit
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import GUARD_SECONDS, ControlledFiles
from tests.concurrency.site import Site, document

pytestmark = pytest.mark.usefixtures("flushing")

_ROUNDS = 60


@contextlib.contextmanager
def _locked_from_outside(directory: Path) -> Iterator[None]:
    """Lock a session's directory as another process does."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.blocking  # the test itself takes the lock
async def test_locked_session_holds_up_only_itself(site: Site) -> None:
    """While another process holds a session, others go on; its own saves follow in order."""
    async with site.writer() as writer:
        await writer.save(document("locked", 0))
        with _locked_from_outside(site.directory("locked")):
            waiting = [
                asyncio.ensure_future(writer.save(document("locked", n))) for n in range(1, 6)
            ]
            for number in range(10):
                async with asyncio.timeout(GUARD_SECONDS):
                    await writer.save(document("free", number))
                    assert await writer.load("locked") == document("locked", 0)
            assert not any(save.done() for save in waiting)
        async with asyncio.timeout(GUARD_SECONDS):
            assert await asyncio.gather(*waiting) == [f"c{n}" for n in range(1, 6)]
    assert await site.saved_ids("locked") == [f"c{n}" for n in range(6)]
    await site.assert_intact()


@pytest.mark.blocking
async def test_lock_that_is_never_free(site: Site) -> None:
    """A session that stays locked is a clear error in time, and works once it is free."""
    async with site.writer(lock_timeout_seconds=0.05) as writer:
        await writer.save(document("s", 0))
        with _locked_from_outside(site.directory("s")):
            saves = [asyncio.ensure_future(writer.save(document("s", n))) for n in range(1, 4)]
            async with asyncio.timeout(GUARD_SECONDS):
                results = await asyncio.gather(*saves, return_exceptions=True)
            assert all(isinstance(result, StoreBusyError) for result in results), results
            assert all("for 0.05 s" in str(result) for result in results), results
        await asyncio.wait_for(writer.save(document("s", 9)), GUARD_SECONDS)
    assert await site.saved_ids("s") == ["c0", "c9"]
    await site.assert_intact()


@pytest.mark.blocking
@pytest.mark.parametrize("site", ["journal"], indirect=True)
async def test_each_save_waits_its_own_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that has waited long enough for a lock fails alone; a later one goes on waiting."""
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now, sleep=time.sleep)
    async with site.writer(lock_timeout_seconds=60.0) as writer:
        await writer.save(document("s", 0))
        with _locked_from_outside(site.directory("s")):
            monkeypatch.setattr(commit, "time", clock)
            early = asyncio.ensure_future(writer.save(document("s", 1)))
            await asyncio.sleep(0)
            now = 40.0
            late = asyncio.ensure_future(writer.save(document("s", 2)))
            await asyncio.sleep(0)
            now = 70.0
            with pytest.raises(StoreBusyError):
                await asyncio.wait_for(early, GUARD_SECONDS)
            assert not late.done()
        assert await asyncio.wait_for(late, GUARD_SECONDS) == "c2"
    assert await site.saved_ids("s") == ["c0", "c2"]
    await site.assert_intact()


@pytest.mark.blocking
@pytest.mark.parametrize("site", ["journal"], indirect=True)
@pytest.mark.parametrize("is_trying", [False, True], ids=["between-attempts", "amid-an-attempt"])
async def test_save_that_waits_for_a_lock_is_withdrawn(site: Site, is_trying: bool) -> None:
    """A save that waits for another process has not begun: cancelled, it ends at once."""
    files = ControlledFiles()
    async with site.writer(files=files, lock_timeout_seconds=4 * GUARD_SECONDS) as writer:
        await writer.save(document("s", 0))
        files.watch_operations()
        with _locked_from_outside(site.directory("s")):
            save = asyncio.ensure_future(writer.save(document("s", 1)))
            while files.operations.count("lock directory") < 2:
                await asyncio.sleep(0.001)
            gate = files.hold("lock directory" if is_trying else "nothing")
            if is_trying:
                await gate.arrival()
            save.cancel()
            await yield_to_loop(5)
            gate.open()
            await asyncio.wait([save], timeout=1)
            ended = save.done()
        await asyncio.wait([save], timeout=GUARD_SECONDS)
        await writer.save(document("s", 2))
    assert ended
    assert await site.saved_ids("s") == ["c0", "c2"]


@pytest.mark.blocking
async def test_delete_that_waits_for_a_replay_locks_no_session(site: Site, root: Path) -> None:
    """A first delete that waits for who replays leaves the session's lock to that one."""
    async with site.writer(durability="journal") as writer:
        await writer.save(document("s", 0))
    files = ControlledFiles()
    async with site.writer(files=files) as writer:
        assert await writer.load("s") is not None
        files.watch_operations()
        with _locked_from_outside(root / ".aiocheckpoint"):
            delete = asyncio.ensure_future(writer.delete("s", "c0"))
            while files.operations.count("lock directory") < 3:
                await asyncio.sleep(0.001)
            with _locked_from_outside(site.directory("s")):
                pass
        async with asyncio.timeout(GUARD_SECONDS):
            assert await delete
    await site.assert_intact()


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
