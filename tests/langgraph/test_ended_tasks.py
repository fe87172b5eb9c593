"""What graphs within tasks have stored goes with the checkpoint that their task followed."""

from __future__ import annotations

import operator
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from aiocheckpoint.adapters.langgraph import CheckpointSaver, session_of
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.promises import got, put

_THREAD: Any = thread("t")


class _State(TypedDict):
    number: int


def _graph(node: Any, **options: Any) -> Any:
    builder = StateGraph(_State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(**options)


def _calling(inner: Any) -> Any:
    async def call(state: _State) -> Any:
        return await inner.ainvoke({"number": state["number"]})

    return call


def _added(state: _State) -> dict[str, int]:
    return {"number": state["number"] + 1}


def _asking(state: _State) -> dict[str, int]:
    return {"number": state["number"] + interrupt("how many?")}


async def _namespaces(saver: CheckpointSaver) -> list[str]:
    """Return the namespaces of the thread, without the ids of tasks."""
    names = set()
    async for session_id in saver._store.sessions():
        record = await saver._store.load(session_id)
        assert record is not None
        names.add("|".join(part.partition(":")[0] for part in record.checkpoint_ns.split("|")))
    return sorted(names)


async def _sessions(saver: CheckpointSaver) -> int:
    return len([each async for each in saver._store.sessions()])


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_long_thread_keeps_none(make: MakeSaver, durability: Any) -> None:
    """With keep_last a thread holds the graphs of its last tasks alone, nested ones as well."""
    saver = make(keep_last=1)
    graph = _graph(_calling(_graph(_calling(_graph(_added)))), checkpointer=saver)
    for turn in range(5):
        await graph.ainvoke({"number": turn}, _THREAD, durability=durability)
        assert await _sessions(saver) <= 3
    assert (await graph.aget_state(_THREAD)).values == {"number": 5}


async def test_pruning_removes_those_of_others(make: MakeSaver) -> None:
    """Pruning removes what earlier processes left, by number, by age, and with their parents."""
    saver = make()
    graph = _graph(_calling(_graph(_calling(_graph(_added)))), checkpointer=saver)
    for turn in range(4):
        await graph.ainvoke({"number": turn}, _THREAD)
    assert await _sessions(saver) == 1 + 4 * 2
    other = make()
    await other.aprune(["t"], older_than=timedelta(hours=1))
    assert await _sessions(other) == 1 + 4 * 2
    await other.aprune(["t"], keep_last=4)
    assert await _sessions(other) == 1 + 1 * 2  # of the last turn, whose checkpoints are left
    await other.aprune(["t"], older_than=timedelta(0))
    assert await _namespaces(other) == [""]
    assert (await graph.aget_state(_THREAD)).values == {"number": 4}


async def test_what_is_not_over_stays(make: MakeSaver) -> None:
    """A graph within a task that waits for an answer goes on, however much was pruned."""
    saver = make(keep_last=1)
    graph = _graph(_calling(_graph(_asking)), checkpointer=saver)
    for turn in range(2):
        await graph.ainvoke({"number": turn}, _THREAD)
        await saver.aprune(["t"])
        await make().aprune(["t"], older_than=timedelta(0))
        assert await _namespaces(saver) == ["", "node"]
        ended = await graph.ainvoke(Command(resume=10), _THREAD)
        assert ended == {"number": turn + 10}


async def test_what_the_next_run_reads_stays(make: MakeSaver) -> None:
    """A graph within a node that keeps its own state from run to run is not a task's alone."""
    saver = make(keep_last=1)
    graph = _graph(_graph(_added, checkpointer=True), checkpointer=saver)
    for turn in range(3):
        await graph.ainvoke({"number": turn}, _THREAD)
    await saver.aprune(["t"])
    assert await _namespaces(saver) == ["", "node"]


@pytest.mark.parametrize("is_pruned_at_once", [False, True])
@pytest.mark.few(1)
async def test_what_a_run_from_an_older_one_takes_up_stays(
    make: MakeSaver, *, is_pruned_at_once: bool
) -> None:
    """A graph with a memory has the one that was then, from whatever is kept of the thread."""
    saver = make(keep_last=None if is_pruned_at_once else 4)
    graph = _graph(_remembering(), checkpointer=saver)
    for turn in range(6):
        await graph.ainvoke({"number": turn}, _THREAD)
    if is_pruned_at_once:
        await saver.aprune(["t"], keep_last=4)
    history = [state async for state in graph.aget_state_history(_THREAD)]
    starts = {state.values["number"]: state for state in history if state.next == ("node",)}
    assert 1 <= len(starts) < 6
    for turn, state in starts.items():
        assert await graph.ainvoke(None, state.config) == {"number": 100 * (turn + 1)}
    before = await _stored(saver)
    for turn in range(20):
        await graph.ainvoke({"number": turn}, _THREAD)
        if is_pruned_at_once:
            await saver.aprune(["t"], keep_last=4)
    assert await _stored(saver) <= 2 * before  # it is bounded


@pytest.mark.parametrize("is_pruned_at_once", [False, True])
async def test_what_a_run_from_a_fork_takes_up_stays(
    make: MakeSaver, *, is_pruned_at_once: bool
) -> None:
    """A fork made by an update takes up what was before its parent, also where that is gone."""
    saver = make(keep_last=None if is_pruned_at_once else 8)
    graph = _graph(_remembering(), checkpointer=saver)
    for turn in range(3):
        await graph.ainvoke({"number": turn}, _THREAD)
    history = [state async for state in graph.aget_state_history(_THREAD)]
    start = next(s for s in history if s.values["number"] == 1 and s.next == ("node",))
    fork = await graph.aupdate_state(start.config, {"number": 1}, as_node=START)
    if is_pruned_at_once:
        await saver.aprune(["t"], keep_last=1)
    for _ in range(2):
        assert await graph.ainvoke(None, fork) == {"number": 200}


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("keep_last", [1, 2, None])
@pytest.mark.some
async def test_what_is_asked_again_takes_up_the_same(
    make: MakeSaver, keep_last: int | None, durability: Any
) -> None:
    """Asked from the newest again and again, a graph with a memory remembers as without limits."""
    remembered = []
    for saver in (make(keep_last=keep_last), InMemorySaver()):
        inner = StateGraph(_Asked)
        inner.add_node("see", lambda state: {"seen": [state["number"]]})
        inner.add_node("ask", lambda state: {"seen": [interrupt([*state["seen"]])]})
        inner.add_edge(START, "see")
        inner.add_edge("see", "ask")
        graph = _graph(inner.compile(checkpointer=True), checkpointer=saver)
        for turn in range(3):
            await graph.ainvoke({"number": turn}, _THREAD, durability=durability)
        seen = []
        for _ in range(3):
            newest = (await graph.aget_state(_THREAD)).config
            ended = await graph.ainvoke(None, newest, durability=durability)
            seen.append(ended["__interrupt__"][0].value)
        remembered.append(seen)
    assert remembered[0] == remembered[1]


class _Asked(TypedDict):
    number: int
    seen: Annotated[list[Any], operator.add]


@pytest.mark.parametrize("is_pruned_at_once", [False, True])
@pytest.mark.parametrize("turns", [4, 6])
@pytest.mark.few(2)
async def test_what_is_taken_up_is_rebuilt(
    make: MakeSaver, turns: int, *, is_pruned_at_once: bool
) -> None:
    """Delta channels of what a run from a kept checkpoint takes up are whole, as without limits."""
    remembered = []
    for saver in (make(keep_last=None if is_pruned_at_once else 2), InMemorySaver()):
        builder = StateGraph(_Noting, output_schema=_State)
        builder.add_node("note", lambda state: {"notes": [state["number"]]})
        builder.add_node("count", lambda state: {"number": len(state["notes"])})
        builder.add_edge(START, "note")
        builder.add_edge("note", "count")
        graph = _graph(builder.compile(checkpointer=True), checkpointer=saver)
        for turn in range(turns):
            await graph.ainvoke({"number": turn}, _THREAD)
        if is_pruned_at_once and isinstance(saver, CheckpointSaver):
            await saver.aprune(["t"], keep_last=2)
        history = [state async for state in graph.aget_state_history(_THREAD)]
        start = next(state for state in history if state.next == ("node",))
        remembered.append(await graph.ainvoke(None, start.config))
    assert remembered[0] == remembered[1] == {"number": turns}


def _added_up(notes: list[Any] | None, writes: list[list[Any]]) -> list[Any]:
    return [*(notes or []), *(note for write in writes for note in write)]


class _Noting(TypedDict):
    number: int
    notes: Annotated[list[Any], DeltaChannel(_added_up, snapshot_frequency=2)]


def _remembering() -> Any:
    """Return a graph of several steps that counts its runs, as hundreds."""
    builder = StateGraph(_Counting)
    builder.add_node("count", lambda state: {"runs": 1})
    for step in range(5):
        builder.add_node(f"step{step}", lambda state: {})
        builder.add_edge(f"step{step - 1}" if step else "count", f"step{step}")
    builder.add_node("tell", lambda state: {"number": 100 * state["runs"]})
    builder.add_edge(START, "count")
    builder.add_edge("step4", "tell")
    return builder.compile(checkpointer=True)


class _Counting(TypedDict):
    number: int
    runs: Annotated[int, operator.add]


async def _stored(saver: CheckpointSaver) -> int:
    return sum([len(await saver._store.ids(s)) async for s in saver._store.sessions()])


@pytest.mark.parametrize("times", [2, 3])
async def test_one_that_a_task_runs_more_than_once(make: MakeSaver, times: int) -> None:
    """Each of its runs goes with the checkpoint that the task followed."""
    inner = _graph(_added)

    async def call(state: _State) -> dict[str, int]:
        for _ in range(times):
            state = await inner.ainvoke({"number": state["number"]})
        return {"number": state["number"]}

    saver = make(keep_last=1)
    graph = _graph(call, checkpointer=saver)
    for turn in range(5):
        await graph.ainvoke({"number": turn}, _THREAD)
        assert await _sessions(saver) <= 1 + times
    await make().aprune(["t"], older_than=timedelta(0))
    assert await _sessions(saver) == 1


@pytest.mark.parametrize(
    "followed",
    ["ffffffff-ffff-6fff-bfff-ffffffffffff", "00000000-0000-6000-8000-000000000001"],
    ids=["clocks-agree", "clock-behind"],
)
async def test_what_is_to_come_counts_as_there(make: MakeSaver, followed: str) -> None:
    """A task's graph may store before the checkpoint of its task; it stays, whatever the clocks."""
    saver = make()
    await put(saver, _THREAD)
    namespace = "node:00000000-0000-0000-0000-000000000000"
    config = await put(saver, thread("t", checkpoint_ns=namespace), parents={"": followed})
    await make().aprune(["t"])
    assert (await got(saver, config)).config == config
    assert await saver._store.load(session_of("t", namespace)) is not None
