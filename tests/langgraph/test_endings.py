"""Savers in forked processes, and savers that nobody closes."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from aiocheckpoint import CheckpointId, WriterClosedError
from aiocheckpoint.adapters.langgraph import CheckpointSaver, ThreadRecord, session_of
from aiocheckpoint.adapters.langgraph.watches import Watches
from aiocheckpoint.testing import MemoryStore
from tests.children import run_in_child
from tests.concurrency.gates import GUARD_SECONDS
from tests.concurrency.site import join_dropped, open_descriptors, pool_threads
from tests.langgraph.graphs import chain_graph, chat_graph, thread
from tests.langgraph.promises import listed, put

pytestmark = pytest.mark.blocking


def _inputs() -> Any:
    return {"messages": [HumanMessage("hi")]}


def _invoke(saver: CheckpointSaver) -> int:
    graph = chat_graph().compile(checkpointer=saver)
    return len(graph.invoke(_inputs(), thread("t"))["messages"])


def _ainvoke(saver: CheckpointSaver) -> int:
    graph = chat_graph().compile(checkpointer=saver)
    return len(asyncio.run(graph.ainvoke(_inputs(), thread("t")))["messages"])


def _closed(saver: CheckpointSaver) -> str:
    saver.close()
    asyncio.run(saver.aclose())
    return "closed"


def test_made_before_a_fork(root: Path) -> None:
    """A saver that was not used yet works in each child by both forms, and in the parent."""
    saver = CheckpointSaver(root)
    assert run_in_child(lambda: (_invoke(saver), _ainvoke(saver), _closed(saver))) == (
        "(2, 4, 'closed')"
    )
    assert run_in_child(lambda: (_ainvoke(saver), _invoke(saver), _closed(saver))) == (
        "(6, 8, 'closed')"
    )
    assert _invoke(saver) == 10
    saver.close()


async def test_a_closed_one_is_not_entered(root: Path) -> None:
    """A block on a saver that was closed, or whose clone was, refuses at its begin."""
    closed, of_a_clone = CheckpointSaver(root), CheckpointSaver(root)
    await closed.aclose()
    clone: Any = of_a_clone.with_allowlist([])
    await clone.aclose()
    for saver in (closed, of_a_clone):
        with pytest.raises(WriterClosedError, match="the saver is closed"):
            async with saver:
                pytest.fail("it was entered")
        with pytest.raises(WriterClosedError, match="the saver is closed"), saver:
            pytest.fail("it was entered")


async def test_one_on_an_open_store_is_entered_again() -> None:
    """A saver that closes nothing, for its store was given open, may be used by many blocks."""
    store = MemoryStore(ThreadRecord)
    saver = CheckpointSaver(store)
    for step in range(2):
        async with saver:
            await put(saver, thread("t"), step=step)
    assert [found.metadata["step"] for found in await listed(saver, None)] == [1, 0]


class _Collecting(MemoryStore[ThreadRecord]):
    """A store whose save of one thread waits for that of another, at which all is collected."""

    def __init__(self) -> None:
        super().__init__(ThreadRecord)
        self._may_go_on = asyncio.Event()

    async def save(self, record: ThreadRecord, /, **options: Any) -> CheckpointId:
        """Store a checkpoint, in its time."""
        if record.thread_id == "left":
            await self._may_go_on.wait()
        else:
            gc.collect()
            self._may_go_on.set()
        return await super().save(record, **options)


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_a_stream_that_was_left_hangs_nobody(durability: Any) -> None:
    """A stream of which a part was taken may be collected in the thread that stores it."""
    gc.disable()
    try:
        with CheckpointSaver(_Collecting()) as saver:
            graph: Any = chain_graph(3).compile(checkpointer=saver)
            stream = graph.stream({"numbers": []}, thread("left"), durability=durability)
            next(stream)
            cycle: list[Any] = [stream]
            cycle.append(cycle)
            left = weakref.ref(stream)
            del stream, cycle
            storing = threading.Thread(target=_invoke, args=(saver,), daemon=True)
            storing.start()
            storing.join(GUARD_SECONDS)
            assert not storing.is_alive()
            assert left() is None
    finally:
        gc.enable()


def test_loops_that_were_closed_are_dropped(root: Path) -> None:
    """A saver that serves one loop after the other holds none of those that are over."""
    with CheckpointSaver(root) as saver:
        loops = []
        for number in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(put(saver, thread(number)))
            loop.close()
            loops.append(weakref.ref(loop))
            del loop
        gc.collect()
        assert [loop() for loop in loops[:-1]] == [None] * 2  # threads may hold the last one


def test_what_the_parent_was_doing() -> None:
    """What was being stored as a process forked holds up no run of the child."""
    known = Watches()
    session_id = session_of("t")
    known.of(session_id)
    assert run_in_child(lambda: known.find(session_id)) == "None"
    assert known.find(session_id) is not None


@pytest.mark.parametrize("use", [_invoke, _ainvoke])
@pytest.mark.few(1)
def test_used_before_a_fork(root: Path, use: Any) -> None:
    """A saver that was used opens its directory anew in each child, and goes on in the parent."""
    with CheckpointSaver(root) as saver:
        assert use(saver) == 2
        for count in (4, 10):
            counts = run_in_child(lambda: (_invoke(saver), _ainvoke(saver), _closed(saver)))
            assert counts == f"({count}, {count + 2}, 'closed')"
            assert use(saver) == count + 4
    with CheckpointSaver(root) as saver:
        assert use(saver) == 16


def test_closed_before_a_fork(root: Path) -> None:
    """A saver that was closed is closed in a child, too."""

    def refused() -> str:
        with pytest.raises(WriterClosedError):
            _invoke(saver)
        return "refused"

    with CheckpointSaver(root) as saver:
        assert _invoke(saver) == 2
    assert run_in_child(lambda: (_closed(saver), refused())) == "('closed', 'refused')"


def test_a_child_ends_beside_its_parent(root: Path) -> None:
    """What a child had of its parent's writer holds up neither of them, and is not closed twice."""
    with CheckpointSaver(root, durability="file") as saver:
        assert _invoke(saver) == 2
        assert run_in_child(lambda: _closed(saver)) == "closed"
        assert _invoke(saver) == 4
        assert saver.stats().files_error is None


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
def test_dropped_saver_gives_everything_back(root: Path) -> None:
    """A saver that nobody closed ends its threads and closes its files, and has stored all."""

    def use_and_drop() -> None:
        saver = CheckpointSaver(root)
        asyncio.run(put(saver, thread("t")))
        assert saver.get_tuple(thread("t")) is not None

    threads = pool_threads()
    use_and_drop()  # whatever the process opens once
    join_dropped(threads)
    descriptors = open_descriptors()
    use_and_drop()
    join_dropped(threads)
    assert open_descriptors() <= descriptors
    with CheckpointSaver(root) as saver:
        assert len(asyncio.run(listed(saver, thread("t")))) == 2


@pytest.mark.parametrize("form", ["sync", "async"])
def test_after_the_main_thread(root: Path, form: str) -> None:
    """
    In a thread that goes on after the main one, and in `atexit`, savers store and close.

    Where Python starts no thread any more, as 3.12.1 does, a new saver refuses to store, by name;
    one that was used goes on. To close works always, and nothing acknowledged is lost.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.langgraph.ending_process", root, form],
        capture_output=True, text=True, timeout=GUARD_SECONDS, check=False,
    )  # fmt: skip
    told = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    names = [f"{age} in {place}" for place in ("thread", "atexit") for age in ("used", "new")]
    steps = [f"{name}: {step}" for name in names for step in ("put", "close")]
    assert (done.returncode, [*told]) == (0, steps), done.stderr
    stored = {name for name in names if told[f"{name}: put"] == "True"}
    refused = {name for name in names if told[f"{name}: put"] == "refused"}
    assert {told[f"{name}: close"] for name in names} == {"True"}
    assert stored | refused == {*names}
    assert not refused or sys.version_info[:2] == (3, 12)
    assert not any(name.startswith("used") for name in refused)
    with CheckpointSaver(root) as saver:
        found = {each.config["configurable"]["thread_id"] for each in saver.list(None)}
    assert found == {"before", *stored}
