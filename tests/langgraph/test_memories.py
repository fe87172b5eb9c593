"""Graphs within nodes beside other savers, and beside a store that refuses what they store."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from aiocheckpoint import CheckpointId, StorageError
from aiocheckpoint.adapters.langgraph import CheckpointSaver, ThreadChangedError, ThreadRecord
from aiocheckpoint.testing import MemoryStore
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.promises import put

_THREAD: Any = thread("t")


class _Text(TypedDict):
    text: str


class _Drafts(TypedDict):
    text: str
    drafts: Annotated[list[str], operator.add]


def _asking() -> StateGraph[Any, Any, Any, Any]:
    """Return a graph that drafts something, asks whether it is right, and tells all it has."""
    builder = StateGraph(_Drafts, output_schema=_Text)
    builder.add_node("draft", lambda state: {"drafts": [state["text"]]})
    builder.add_node("ask", lambda state: {"text": interrupt("+".join(state["drafts"]))})
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "ask")
    return builder


def _around(inner: Any, **options: Any) -> Any:
    builder = StateGraph(_Text)
    builder.add_node("node", inner)
    builder.add_edge(START, "node")
    return builder.compile(**options)


async def _asked(graph: Any, given: Any, config: Any = _THREAD, **options: Any) -> str:
    ended = await graph.ainvoke(given, config, **options)
    return str(ended["__interrupt__"][0].value)


async def _start_of(graph: Any, text: str) -> Any:
    states = [state async for state in graph.aget_state_history(_THREAD)]
    return next(s.config for s in states if s.next == ("node",) and s.values["text"] == text)


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("text", ["a", "b"])
async def test_time_travel_takes_up_a_memory_that_others_have_gone_on_with(
    make: MakeSaver, text: str, durability: Any
) -> None:
    """A run from an older checkpoint forks a graph with a memory, too, whoever ran it last."""
    one, two = (_around(_asking().compile(checkpointer=True), checkpointer=make()) for _ in "12")
    for graph, turn in ((one, "a"), (two, "b")):
        await _asked(graph, {"text": turn}, durability=durability)
        await graph.ainvoke(Command(resume="yes"), _THREAD, durability=durability)
    expected = {"a": "a", "b": "a+b"}[text]
    for _ in range(2):
        start = await _start_of(one, text)
        assert await _asked(one, None, start, durability=durability) == expected
        state = await one.aget_state(_THREAD, subgraphs=True)
        assert "+".join(state.tasks[0].state.values["drafts"]) == expected
    ended = await one.ainvoke(Command(resume="it is right"), _THREAD, durability=durability)
    assert ended == {"text": "it is right"}


async def test_in_code_that_is_not_asynchronous(make: MakeSaver) -> None:
    """The same by the synchronous methods."""
    one, two = (_around(_asking().compile(checkpointer=True), checkpointer=make()) for _ in "12")

    def turns() -> None:
        for graph, turn in ((one, "a"), (two, "b")):
            graph.invoke({"text": turn}, _THREAD, durability="sync")
            graph.invoke(Command(resume="yes"), _THREAD)
        states = [*one.get_state_history(_THREAD)]
        for text, expected in (("b", "a+b"), ("a", "a")):
            start = next(s for s in states if s.next == ("node",) and s.values["text"] == text)
            asked = one.invoke(None, start.config, durability="sync")
            assert asked["__interrupt__"][0].value == expected

    await asyncio.to_thread(turns)


async def test_who_begins_is_told_still(make: MakeSaver) -> None:
    """That a memory was once begun anew on purpose excuses nobody who finds none later."""
    one, two = make(), make()
    memory = thread("t", checkpoint_ns="node")
    graph = _around(_asking().compile(checkpointer=True), checkpointer=one)
    await _asked(graph, {"text": "a"})
    await _asked(graph, None, await _start_of(graph, "a"))  # there was none before
    await one.adelete_thread("t")
    for saver in (one, two):
        assert await saver.aget_tuple(memory) is None
    await put(two, memory)
    with pytest.raises(ThreadChangedError):
        await put(one, memory)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_run_side_by_side(make: MakeSaver, durability: Any) -> None:
    """A memory that several tasks of a step run at once is no conflict with itself."""

    class Drafts(TypedDict):
        drafts: Annotated[list[str], operator.add]

    def send(_state: Any) -> list[Send]:
        return [Send("memory", {"drafts": [f"{number}"]}) for number in range(4)]

    for saver in (make(), InMemorySaver()):
        memory = StateGraph(Drafts)
        for name in ("one", "two"):
            memory.add_node(name, lambda _state: {"drafts": ["and more"]})
        memory.add_edge(START, "one")
        memory.add_edge("one", "two")
        builder = StateGraph(Drafts)
        builder.add_node("memory", memory.compile(checkpointer=True))
        builder.add_conditional_edges(START, send)
        graph: Any = builder.compile(checkpointer=saver)
        for _ in range(2):
            ended = await graph.ainvoke({"drafts": []}, _THREAD, durability=durability)
        assert {*ended["drafts"]} == {"0", "1", "2", "3", "and more"}


class _Refusing(MemoryStore[ThreadRecord]):
    """A store that refuses what some graph stores, as often as it is told."""

    def __init__(self) -> None:
        super().__init__(ThreadRecord)
        self.refused = ""
        self.granted = 0
        self.refusals = 0

    async def save(self, record: ThreadRecord, /, **options: Any) -> CheckpointId:
        """Store a checkpoint, or refuse it."""
        inner = record.checkpoint_ns.rpartition("|")[2].partition(":")[0]
        if self.refusals and inner == self.refused and record.trigger == "loop":
            self.granted -= 1
            if self.granted < 0:
                self.refusals -= 1
                raise StorageError("save", record.session_id, 28, "no space left")
        return await super().save(record, **options)


def _nested(kind: str) -> Iterable[Any]:
    """Return a graph that asks within a node, or within a node of a graph within a node."""
    inner = _asking().compile(checkpointer=True if "memory" in kind else None)
    builder = StateGraph(_Text)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    yield builder.compile() if "deeper" in kind else inner


@pytest.mark.parametrize("is_synchronous", [False, True])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("kind", ["task", "memory", "deeper", "deeper memory"])
@pytest.mark.some
async def test_no_question_is_put_about_what_was_not_stored(
    kind: str, durability: Any, *, is_synchronous: bool
) -> None:
    """A graph within a node that could not be stored asks nobody: the run raises why."""
    store = _Refusing()
    store.refused = "inner" if "deeper" in kind else "node"
    async with CheckpointSaver(store) as saver:
        (inner,) = _nested(kind)
        graph = _around(inner, checkpointer=saver)

        async def run(given: Any) -> Any:
            if is_synchronous:
                return await asyncio.to_thread(graph.invoke, given, _THREAD, durability=durability)
            return await graph.ainvoke(given, _THREAD, durability=durability)

        for given in ({"text": "a"}, None, {"text": "b"}):
            store.granted, store.refusals = 0, 1
            with pytest.raises(StorageError, match="no space left"):
                await run(given)
            state = await graph.aget_state(_THREAD)
            assert not state.interrupts
        asked = await run(None)
        assert asked["__interrupt__"][0].value == "b"
        assert await run(Command(resume="yes")) == {"text": "yes"}


class _Shown(_Refusing):
    """A store that shows somebody the whole state whenever it refuses something."""

    def __init__(self) -> None:
        super().__init__()
        self.graph: Any = None

    async def save(self, record: ThreadRecord, /, **options: Any) -> CheckpointId:
        """Store a checkpoint, or refuse it, and show what is there by then."""
        try:
            return await super().save(record, **options)
        except StorageError:
            asyncio.get_running_loop().call_soon(self._show)
            raise

    def _show(self) -> None:
        self.page = asyncio.ensure_future(self.graph.aget_state(_THREAD, subgraphs=True))


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("kind", ["task", "memory", "deeper", "deeper memory"])
@pytest.mark.some
async def test_no_question_is_put_beside_whoever_looks(kind: str, durability: Any) -> None:
    """So it is where a page shows the state of the graph within as it could not be stored."""
    store = _Shown()
    store.refused = "inner" if "deeper" in kind else "node"
    async with CheckpointSaver(store) as saver:
        (inner,) = _nested(kind)
        store.graph = graph = _around(inner, checkpointer=saver)
        store.refusals = 1
        with pytest.raises(StorageError, match="no space left"):
            await graph.ainvoke({"text": "a"}, _THREAD, durability=durability)
        await store.page
        assert not (await graph.aget_state(_THREAD)).interrupts


@pytest.mark.long
async def test_no_question_of_many_is_put_about_what_was_not_stored() -> None:
    """So it is where the graphs of some hundred threads could not be stored at once."""
    store, threads = _Refusing(), [thread(f"{number}") for number in range(260)]
    store.refused, store.refusals = "node", len(threads)
    async with CheckpointSaver(store) as saver:
        (inner,) = _nested("memory")
        graph = _around(inner, checkpointer=saver)
        runs = (graph.ainvoke({"text": "a"}, each, durability="async") for each in threads)
        ended = await asyncio.gather(*runs, return_exceptions=True)
        assert {type(each) for each in ended} == {StorageError}


@pytest.mark.parametrize("is_synchronous", [False, True])
@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("failing", [1, 3, 6])
@pytest.mark.some
async def test_no_memory_is_lost_where_it_hands_over(
    failing: int, durability: Any, *, is_synchronous: bool
) -> None:
    """A graph with a memory that could not be stored, and ends by a command, is told of, too."""
    store = _Refusing()
    store.refused = "node"
    async with CheckpointSaver(store) as saver:
        agent = StateGraph(_Drafts)
        agent.add_node("draft", lambda state: {"drafts": [state["text"]]})
        agent.add_node("hand_over", _handing_over)
        agent.add_edge(START, "draft")
        agent.add_edge("draft", "hand_over")
        builder = StateGraph(_Text)
        builder.add_node("node", agent.compile(checkpointer=True))
        builder.add_node("again", _again, destinations=("node", END))
        builder.add_edge(START, "again")
        graph: Any = builder.compile(checkpointer=saver)

        async def run(given: Any) -> Any:
            if is_synchronous:
                return await asyncio.to_thread(graph.invoke, given, _THREAD, durability=durability)
            return await graph.ainvoke(given, _THREAD, durability=durability)

        store.granted, store.refusals = failing - 1, 1
        with pytest.raises(StorageError, match="no space left"):
            await run({"text": ""})
        await run(None)
        left = await graph.aget_state(_THREAD)
        assert (left.next, left.values) == ((), {"text": "...."})


def _handing_over(state: _Drafts) -> Any:
    update = {"text": "." * len(state["drafts"])}
    return Command(graph=Command.PARENT, goto="again", update=update)


def _again(state: _Text) -> Any:
    return Command(goto=END if len(state["text"]) == 4 else "node")
