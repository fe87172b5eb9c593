"""Synchronous callers run asynchronous work, from any thread and beside any loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    PortalBlockedError,
    ThreadStartError,
    _waiting,
)
from aiocheckpoint import portal as module
from aiocheckpoint.portal import Portal
from tests.children import run_in_child
from tests.concurrency.gates import GUARD_SECONDS
from tests.test_docs import blocks

pytestmark = pytest.mark.blocking

_NAME = "aiocheckpoint-portal"
_caller: ContextVar[str] = ContextVar("_caller")


async def _doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def _portal_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == _NAME}


def test_any_thread_may_call() -> None:
    """Threads that call at once get each its own answer, from one thread of the portal."""
    others = _portal_threads()
    with Portal() as portal, ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda number: portal.run(_doubled(number)), range(200))]

        assert answers == [2 * number for number in range(200)]
        assert len(_portal_threads() - others) == 1


async def test_works_within_a_running_loop() -> None:
    """A caller whose own loop runs gets its answer, also where that came from the portal."""
    with Portal() as outer, Portal() as inner:

        async def nested() -> int:
            return inner.run(_doubled(1)) + 1

        assert outer.run(nested()) == 3


def _left(pool: ThreadPoolExecutor, work: Callable[[], object]) -> weakref.ref[Any]:
    """Leave a generator that waits at its end, which the garbage collector finds."""

    def generator() -> Iterator[None]:
        pending = [pool.submit(work)]
        try:
            yield
        finally:
            wait(pending)

    left = generator()
    next(left)
    cycle: list[Any] = [left]
    cycle.append(cycle)
    return weakref.ref(left)


def test_a_generator_that_was_left_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is collected in the portal's thread and waits for it is told, and nobody else is."""
    monkeypatch.setattr(_waiting, "_LOOK_SECONDS", 0.01)
    may_go_on, errors = asyncio.Event(), queue.SimpleQueue[Exception]()

    async def slow() -> int:
        await may_go_on.wait()
        return 1

    async def collect() -> int:
        gc.collect()
        may_go_on.set()
        return 2

    with Portal() as portal, ThreadPoolExecutor(3) as pool:

        def work() -> None:
            try:
                portal.run(slow())
            except PortalBlockedError as error:
                errors.put(error)

        gc.disable()
        try:
            left = _left(pool, work)
            another = pool.submit(portal.run, slow())
            assert portal.run(collect()) == 2
            assert "may be done or not" in str(errors.get(timeout=GUARD_SECONDS))
            assert another.result(GUARD_SECONDS) == 1
            assert left() is None
        finally:
            gc.enable()


def test_the_collector_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody turns it off, not even for a moment: a process that is forked then would keep that."""
    monkeypatch.setattr(gc, "disable", lambda: pytest.fail("it was turned off"))
    with Portal() as portal:
        assert portal.run(_doubled(1)) == 2


async def _save_one(root: Path) -> None:
    async with AsyncCheckpointWriter(root) as writer:
        await writer.save(CheckpointData(session_id="s"))


_Store = AsyncCheckpointWriter[CheckpointData]


class _InterruptedError(BaseException):
    """What the handler of a signal raises, as at ctrl-c or at the time limit of a task."""


def _is_within(frame: FrameType | None, function: Any) -> bool:
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def _interrupted(call: Callable[[], object], at: int) -> bool:
    """
    Make a call that is interrupted at a moment; False where it has fewer.

    A handler of a signal is called where a function begins, or where one in C has returned. What
    Python does itself to start a thread does not stand that, and is left out.
    """
    moments = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal moments
        if event in ("call", "c_return") and not _is_within(frame, threading.Thread.start):
            moments += 1
            if moments == at:
                raise _InterruptedError

    sys.setprofile(count)
    try:
        call()
    except _InterruptedError:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.parametrize(
    ("way", "is_first", "step"),
    [("run", False, 1), ("read", False, 1), ("run", True, 5), ("read", True, 37)],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")  # never awaited
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_call_holds_nobody_up(
    root: Path, way: str, step: int, *, is_first: bool
) -> None:
    """Wherever a call is interrupted, those after it are answered, and the store can be closed."""
    asyncio.run(_save_one(root))
    for at in itertools.count(1, step):
        portal, store = Portal(), AsyncCheckpointWriter(root)

        async def load(reader: Any) -> Any:
            return await reader.read("s", lambda session: session.load())

        def call(portal: Portal = portal, store: _Store = store) -> Any:
            return portal.read(store, load) if way == "read" else portal.run(store.load("s"))

        if not is_first:
            call()
        was_interrupted = _interrupted(call, at)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(call).result(GUARD_SECONDS) is not None
            pool.submit(portal.run, store.aclose()).result(GUARD_SECONDS)
        portal.close()
        if not was_interrupted:
            break
    assert at > 20, "it was interrupted nowhere"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_interrupted_call_goes_on() -> None:
    """Wherever it is interrupted, it is done without another call, or nothing of it ever is."""
    with Portal() as portal:
        portal.run(_doubled(1))
        for at in itertools.count(3):  # behind the moment when `run` is called
            work = _doubled(2)
            was_interrupted = _interrupted(partial(portal.run, work), at)
            deadline = time.monotonic() + GUARD_SECONDS
            while inspect.getcoroutinestate(work) != inspect.CORO_CLOSED:
                assert time.monotonic() < deadline, f"it hangs at {at}"
                time.sleep(0)
            if not was_interrupted:
                break
        assert at > 20, "it was interrupted nowhere"


def test_waits_that_are_not_of_the_library_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a call from without is no reason to end it."""
    monkeypatch.setattr(_waiting, "_LOOK_SECONDS", 0.001)
    with Portal() as portal, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(portal.run, asyncio.sleep(0.05, "slept"))
        wait([answer])
        assert answer.result() == "slept"


def test_a_timeout_of_the_work_is_its_own() -> None:
    """A TimeoutError that the work raises is its outcome."""

    async def work() -> None:
        raise TimeoutError("of the work")

    with Portal() as portal, pytest.raises(TimeoutError, match="of the work"):
        portal.run(work())


def test_errors_come_back() -> None:
    """What the work raises, the caller gets."""

    async def work() -> None:
        raise LookupError("nothing there")

    with Portal() as portal, pytest.raises(LookupError, match="nothing there"):
        portal.run(work())


def test_context_of_the_caller() -> None:
    """The work sees the context variables of whoever called, and not those of others."""

    async def work() -> str:
        return _caller.get("nobody")

    with Portal() as portal:
        assert portal.run(work()) == "nobody"
        token = _caller.set("Ann")
        assert portal.run(work()) == "Ann"
        _caller.reset(token)
        assert portal.run(work()) == "nobody"


def test_work_that_is_cancelled_before_it_begins() -> None:
    """Its caller is told, as of any that is cancelled."""
    with Portal() as portal, ThreadPoolExecutor() as threads:
        outcomes: list[Future[int]] = []

        async def cancel_all() -> None:
            waiting = threads.submit(portal.run, _doubled(1))
            while len(asyncio.all_tasks()) == 1:
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            outcomes.append(waiting)

        portal.run(cancel_all())
        with pytest.raises(CancelledError):
            outcomes[0].result(GUARD_SECONDS)


def test_its_own_thread_would_wait_for_itself() -> None:
    """A call from work of the same portal is refused instead of waiting for ever."""
    with Portal() as portal:

        async def work() -> int:
            return portal.run(_doubled(1))

        with pytest.raises(RuntimeError, match="wait for themselves"):
            portal.run(work())
        assert portal.run(_doubled(1)) == 2


def test_closing_waits_for_calls_in_other_threads() -> None:
    """A call that is on its way when the portal is closed comes back; the next one works."""
    portal = Portal()
    begun, go_on = threading.Event(), threading.Event()

    async def work() -> str:
        begun.set()
        while not go_on.is_set():
            await asyncio.sleep(0)
        return "done"

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: portal.run(work()))
        assert begun.wait(30)
        portal.close()
        go_on.set()
        assert call.result(30) == "done"
    assert portal.run(_doubled(1)) == 2
    portal.close()


@pytest.mark.parametrize("leaves_a_task", [False, True])
@pytest.mark.parametrize("way", ["close", "drop"])
def test_its_thread_ends(way: str, leaves_a_task: bool) -> None:
    """
    The thread ends when the portal is closed, and when nothing refers to it any more.

    What its work has left running is cancelled then, as that of a store that nobody has closed.
    """
    others = _portal_threads()
    portal = Portal()
    portal.run(_doubled(1))
    ended = threading.Event()
    left: list[asyncio.Task[None]] = []

    async def work() -> None:
        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        left.append(asyncio.ensure_future(endless()))
        await asyncio.sleep(0)

    if leaves_a_task:
        portal.run(work())
    (thread,) = _portal_threads() - others

    if way == "close":
        portal.close()
    del portal
    gc.collect()
    thread.join(30)

    assert not thread.is_alive()
    assert ended.is_set() == leaves_a_task


@pytest.mark.parametrize("way", ["stop", "exit"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_ends_the_loop(way: str) -> None:
    """Where work of others has ended the loop, calls under way are told, and the next one works."""
    begun, go_on = threading.Event(), threading.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        def end() -> None:
            assert go_on.wait(GUARD_SECONDS)
            if way == "exit":
                raise SystemExit
            asyncio.get_running_loop().stop()
            for task in asyncio.all_tasks():
                task.cancel()

        asyncio.get_running_loop().call_soon(end)

    with Portal() as portal, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.run, endless())
        assert begun.wait(GUARD_SECONDS)
        portal.run(leave())
        (thread,) = [t for t in _portal_threads() if t is next(iter(portal._hosts.values())).thread]
        go_on.set()
        thread.join(GUARD_SECONDS)
        with pytest.raises(CancelledError):
            waiting.result(GUARD_SECONDS)
        assert pool.submit(portal.run, _doubled(1)).result(GUARD_SECONDS) == 2


def test_a_call_while_what_was_left_is_cancelled() -> None:
    """It is done by the next thread: the one that ends begins nothing more."""
    ending, asked = threading.Event(), threading.Event()

    async def leave() -> None:
        async def left() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                while not asked.is_set():
                    await asyncio.sleep(0)
                for _ in range(10):
                    await asyncio.sleep(0)

        tasks.append(asyncio.ensure_future(left()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    portal = Portal()
    portal.run(leave())
    (host,) = portal._hosts.values()
    portal.close()
    assert ending.wait(GUARD_SECONDS)
    portal._hosts[os.getpid()] = host  # as whoever has found it before it was closed
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(portal.run, _doubled(1))
        while not (host._calls or answer.done()):
            time.sleep(0)
        asked.set()
        assert answer.result(GUARD_SECONDS) == 2
    portal.close()


def test_nobody_finds_one_whose_thread_ends() -> None:
    """A portal that others find by a weak reference is found before its end, or not at all."""
    portal = Portal()
    reference = weakref.ref(portal)

    async def loop_of_it() -> Any:
        return asyncio.get_running_loop()

    loop = portal.run(loop_of_it())
    tell, found = loop.call_soon_threadsafe, []

    def tell_and_look(*args: Any) -> None:
        found.append(reference())
        tell(*args)

    loop.call_soon_threadsafe = tell_and_look
    del portal
    assert found == [None]


def test_a_forked_process_has_its_own() -> None:
    """A portal that was used before a fork works in the child, and goes on in the parent."""
    with Portal() as portal:
        portal.run(_doubled(1))

        assert run_in_child(lambda: portal.run(_doubled(2))) == "4"
        assert portal.run(_doubled(3)) == 6


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system grants no thread the error is named, and a later call works."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Portal() as portal:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ThreadStartError, match="can't start"):
                portal.run(_doubled(1))
        assert portal.run(_doubled(1)) == 2


def test_its_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the module saves what it says."""
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(module.__doc__ or "", 1)

    exec(compile(block.text, "portal", "exec"), {})

    assert len([*tmp_path.glob("checkpoints/support-42/checkpoints/cp_*.json")]) == 1


def test_a_store_from_threads_beside_a_loop(root: Path) -> None:
    """A store that is driven through a portal is the same to an event loop at the same time."""
    with Portal() as portal:
        writer = AsyncCheckpointWriter(root)

        def save(number: int) -> str:
            checkpoint = CheckpointData(session_id="s", checkpoint_id=f"sync-{number}")
            return portal.run(writer.save(checkpoint))

        async def main() -> int:
            saving = [asyncio.to_thread(save, number) for number in range(20)]
            beside = [
                writer.save(CheckpointData(session_id="s", checkpoint_id=f"async-{number}"))
                for number in range(20)
            ]
            await asyncio.gather(*saving, *beside)
            return len(await writer.ids("s"))

        assert asyncio.run(main()) == 40
        assert len(portal.run(writer.ids("s"))) == 40
        portal.run(writer.aclose())


@pytest.mark.parametrize("is_used", [False, True])
def test_closing_takes_no_thread_of_its_own(root: Path, is_used: bool) -> None:
    """What was never used by a portal is closed in the thread that asks, what was by the portal."""

    async def closed() -> str:
        await store.aclose()
        return threading.current_thread().name

    store = AsyncCheckpointWriter(root)
    with Portal() as portal:
        if is_used:
            portal.run(store.save(CheckpointData(session_id="s")))
        used = _NAME if is_used else threading.current_thread().name
        assert portal.run_close(closed()) == used


async def test_closing_within_a_running_loop(root: Path) -> None:
    """A caller whose own loop runs may close by a portal, too, used or not."""
    with Portal() as portal:
        portal.run_close(AsyncCheckpointWriter(root).aclose())


def test_closing_leaves_the_current_loop() -> None:
    """The event loop that a thread has set stays its own."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert Portal().run_close(_doubled(2)) == 4
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()
