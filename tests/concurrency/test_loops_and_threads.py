"""One writer shared by event loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from tests.concurrency.backends import BACKENDS, Run
from tests.concurrency.coroutines import yield_to_loop
from tests.concurrency.gates import GUARD_SECONDS, ControlledFiles
from tests.concurrency.site import Site, Writer, document
from tests.concurrency.threads import LoopThread


def _new_uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


each_loop = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, _new_uvloop], ids=["asyncio", "uvloop"]
)


@each_loop
def test_call_order_across_threads(
    new_loop: Callable[[], asyncio.AbstractEventLoop], site: Site
) -> None:
    """Saves called from two threads with a loop each take effect in the order of the calls."""
    turns = random.Random(7)
    saves: list[Future[str]] = []
    with LoopThread(new_loop) as one, LoopThread(new_loop) as other:
        writer = site.writer()
        for number in range(100):
            loop = turns.choice((one, other))
            saves.append(loop.begin(partial(writer.save, document(f"s{number % 2}", number))))
        assert [save.result(GUARD_SECONDS) for save in saves] == [f"c{n}" for n in range(100)]
        newest = one.call(partial(writer.load, "s1")), other.call(partial(writer.load, "s0"))
        one.call(writer.aclose)
    assert newest == (document("s1", 99), document("s0", 98))
    for session in range(2):
        ids = asyncio.run(site.saved_ids(f"s{session}"))
        assert ids == [f"c{n}" for n in range(session, 100, 2)]
    asyncio.run(site.assert_intact())


def test_loops_at_full_speed(site: Site) -> None:
    """Two threads that save to the same sessions as fast as they can keep each its order."""

    def agents(thread: int) -> None:
        async def agent(session: str) -> None:
            for step in range(10):
                await writer.save(document(session, step, f"t{thread}-{step}"))
                assert await writer.load(session) is not None

        async def main() -> None:
            async with asyncio.timeout(GUARD_SECONDS), asyncio.TaskGroup() as group:
                for number in range(8):
                    group.create_task(agent(f"s{number}"))

        asyncio.run(main())

    writer = site.writer()
    failures: list[BaseException] = []
    threads = [threading.Thread(target=_guarded, args=(agents, n, failures)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * GUARD_SECONDS)
        assert not thread.is_alive()
    asyncio.run(writer.aclose())
    assert failures == []
    for number in range(8):
        ids = asyncio.run(site.saved_ids(f"s{number}"))
        for thread_number in range(2):
            expected = [f"t{thread_number}-{step}" for step in range(10)]
            assert [name for name in ids if name in expected] == expected
        assert len(ids) == 20
    asyncio.run(site.assert_intact())


def _guarded(work: Callable[..., Any], number: int, failures: list[BaseException]) -> None:
    try:
        work(number)
    except BaseException as error:  # noqa: BLE001 - reported by the test
        failures.append(error)


def test_one_loop_stops_while_the_other_saves(site: Site) -> None:
    """A save of a loop that stands still holds up nobody but itself, and ends when it runs."""
    files = ControlledFiles()
    writer = site.writer(files=files)
    with contextlib.closing(asyncio.new_event_loop()) as still:
        still.run_until_complete(writer.save(document("s", 0)))
        files.watch_operations()
        gate = files.hold(0)
        first = still.create_task(writer.save(document("s", 1)))
        still.run_until_complete(gate.arrival())
        third: Future[str]
        with LoopThread() as other:
            third = other.begin(partial(writer.save, document("s", 2)))
            gate.open()
            assert third.result(GUARD_SECONDS) == "c2"
            assert not first.done()
            assert other.call(partial(site.saved_ids, "s")) == ["c0", "c1", "c2"]
        assert still.run_until_complete(asyncio.wait_for(first, GUARD_SECONDS)) == "c1"
        still.run_until_complete(writer.aclose())


@pytest.mark.parametrize("run", BACKENDS)
def test_one_loop_after_another(run: Run, site: Site) -> None:
    """A writer that is used in one run of a loop works in the next, of whatever kind."""
    writer = site.writer()

    async def use(number: int) -> None:
        await asyncio.wait_for(_use(writer, number), GUARD_SECONDS)

    for number in range(3):
        run(partial(use, number))
    asyncio.run(use(3))
    run(writer.aclose)
    assert asyncio.run(site.saved_ids("s")) == [f"c{n}" for n in range(4)]


async def _use(writer: Writer, number: int) -> None:
    saves = [asyncio.ensure_future(writer.save(document(f"t{n}", number))) for n in range(5)]
    await writer.save(document("s", number))
    await asyncio.gather(*saves)
    assert await writer.load("s") == document("s", number)


def test_cancel_on_one_loop_leaves_the_other_alone(site: Site) -> None:
    """Cancelling a queued save on one loop withdraws that one, not its neighbour's."""
    files = ControlledFiles()
    with LoopThread() as one, LoopThread() as other:
        writer = site.writer(files=files)
        one.call(partial(writer.save, document("s", 0)))
        files.watch_operations()
        gate = files.hold(0)
        saves = [one.begin(partial(writer.save, document("s", 1)))]
        gate.wait_arrival()  # the others have to wait for the next commit
        saves += [
            loop.begin(partial(writer.save, document("s", number)))
            for number, loop in enumerate((other, one, other), start=2)
        ]
        one.call(partial(yield_to_loop, 10))
        saves[2].cancel()
        one.call(partial(yield_to_loop, 10))
        gate.open()
        kept = [save.result(GUARD_SECONDS) for save in saves if not save.cancelled()]
        assert kept == ["c1", "c2", "c4"]
        assert other.call(partial(site.saved_ids, "s")) == ["c0", "c1", "c2", "c4"]
        other.call(writer.aclose)
