"""Real LangGraph graphs: how many runs a second, and how many bytes on disk?"""

from __future__ import annotations

import asyncio
import itertools
import operator
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages

from aiocheckpoint.adapters.langgraph import CheckpointSaver
from benchmarks.harness import Settings, fresh_directory, interleaved
from benchmarks.report import Cell, Spread, Table, ratios

Saver = BaseCheckpointSaver[Any]
Saving = Callable[[Path], Any]

_DURABILITIES = ("sync", "async", "exit")
_TURNS_OF_A_THREAD = 10
_SPEED_NOTES = [
    "Runs of a compiled graph a second, all threads together; a thread begins anew after 10 runs.",
    "`/ sqlite` is formed round by round: median (p10-p90).",
    "AsyncSqliteSaver as it comes: WAL, `synchronous=FULL`. InMemorySaver keeps nothing.",
]
_SIZE_NOTES = [
    "Turns of 1 KB by the user and 1 KB by the model, durability `async`, every checkpoint kept.",
    "Bytes of the files after closing; of InMemorySaver what it holds, serialized.",
    "`state` is the final state, serialized: the least that can be.",
]


class Numbers(TypedDict):
    """A state to which nodes add."""

    numbers: Annotated[list[int], operator.add]


def _chat() -> Any:
    def answer(state: MessagesState) -> dict[str, list[AIMessage]]:
        return {"messages": [AIMessage(_text("answer", len(state["messages"])))]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


def _text(speaker: str, number: int) -> str:
    words = f"{speaker} {number} "
    return (words * (1024 // len(words) + 1))[:1024]


def _adder(number: int) -> Any:
    def node(_: Any) -> Any:
        return {"numbers": [number]}

    return node


def _chain(length: int = 5) -> Any:
    builder = StateGraph(Numbers)
    for number in range(length):
        builder.add_node(f"node{number}", _adder(number))
        builder.add_edge(START if number == 0 else f"node{number - 1}", f"node{number}")
    builder.add_edge(f"node{length - 1}", END)
    return builder


def _fan_out(width: int = 8) -> Any:
    builder = StateGraph(Numbers)
    builder.add_node("last", _adder(width))
    for number in range(width):
        builder.add_node(f"node{number}", _adder(number))
        builder.add_edge(START, f"node{number}")
        builder.add_edge(f"node{number}", "last")
    builder.add_edge("last", END)
    return builder


def _delta_chat() -> Any:
    def add_many(state: Any, writes: Any) -> Any:
        for messages in writes:
            state = add_messages(state, messages)
        return state

    channel: Any = DeltaChannel(add_many, list)
    make_type: Any = TypedDict

    def answer(state: Any) -> Any:
        return {"messages": [AIMessage(_text("answer", len(state["messages"])))]}

    builder: Any = StateGraph(make_type("State", {"messages": Annotated[list[Any], channel]}))
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


def _inputs(kind: str, number: int) -> Any:
    if kind == "chat":
        return {"messages": [HumanMessage(_text("question", number))]}
    return {"numbers": [number]}


_GRAPHS: dict[str, Callable[[], Any]] = {"chat": _chat, "chain of 5": _chain, "fan-out": _fan_out}


@asynccontextmanager
async def _sqlite(directory: Path) -> AsyncIterator[Saver]:
    async with AsyncSqliteSaver.from_conn_string(str(directory / "checkpoints.db")) as saver:
        yield saver


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[Saver]:
    yield InMemorySaver()


_SAVERS: dict[str, Saving] = {
    "aiocheckpoint": CheckpointSaver,
    "sqlite": _sqlite,
    "memory": _memory,
}


class Case:
    """Threads that run one graph on one saver."""

    def __init__(
        self, settings: Settings, saver: str, graph: str, durability: str, threads: int
    ) -> None:
        self.name = f"{graph} {durability} {threads} {saver}"
        self._settings = settings
        self._saver = saver
        self._graph = graph
        self._durability = durability
        self._threads = threads

    async def measure(self, number: int) -> float:
        """Return how many runs a second all threads made together."""
        directory = fresh_directory(self._settings, "langgraph", self.name, number)
        async with _SAVERS[self._saver](directory) as saver:
            graph = _GRAPHS[self._graph]().compile(checkpointer=saver)
            await self._run(graph, "warm")
            start = time.perf_counter()
            end = start + self._settings.seconds
            counts = await asyncio.gather(
                *(self._run_until(graph, thread, end) for thread in range(self._threads))
            )
            return sum(counts) / (time.perf_counter() - start)

    async def _run_until(self, graph: Any, thread: int, end: float) -> int:
        for count in itertools.count(1):
            await self._run(graph, f"{thread} {count // _TURNS_OF_A_THREAD}", count)
            if time.perf_counter() >= end:
                return count
        raise AssertionError("not reached")

    async def _run(self, graph: Any, thread_id: str, number: int = 0) -> None:
        config = {"configurable": {"thread_id": thread_id}}
        inputs = _inputs(self._graph, number)
        await graph.ainvoke(inputs, config, durability=self._durability)


async def run(settings: Settings) -> list[Table]:
    """Return a table of speed and one of sizes."""
    thread_counts = (1, 4) if settings.is_quick else (1, 32, 128)
    graphs = ("chat",) if settings.is_quick else tuple(_GRAPHS)
    points = [*itertools.product(graphs, _DURABILITIES, thread_counts)]
    cases = [Case(settings, saver, *point) for point in points for saver in _SAVERS]
    results = await interleaved(settings, cases, Case.measure)
    rows: list[dict[str, Cell]] = []
    for graph, durability, threads in points:
        found = {saver: results[f"{graph} {durability} {threads} {saver}"] for saver in _SAVERS}
        rows.append(
            {
                "graph": graph,
                "durability": durability,
                "threads": threads,
                **{f"{saver}, runs/s": Spread.of(speeds) for saver, speeds in found.items()},
                "aiocheckpoint / sqlite": ratios(found["aiocheckpoint"], found["sqlite"]),
            }
        )
    return [Table("Runs of LangGraph graphs", rows, _SPEED_NOTES), await _sizes(settings)]


async def _sizes(settings: Settings) -> Table:
    rows: list[dict[str, Cell]] = []
    for turns in (2, 4) if settings.is_quick else (50, 500):
        for channel, make in (("whole list", _chat), ("DeltaChannel", _delta_chat)):
            row: dict[str, Cell] = {"turns": turns, "messages in a": channel}
            for name, opened in _SAVERS.items():
                directory = fresh_directory(settings, "sizes", turns, channel, name)
                async with opened(directory) as saver:
                    state = await _converse(make().compile(checkpointer=saver), turns)
                    held = _held(saver) if isinstance(saver, InMemorySaver) else None
                    row["state, MB"] = len(saver.serde.dumps_typed(state)[1]) / 1e6
                row[f"{name}, MB"] = (_on_disk(directory) if held is None else held) / 1e6
            rows.append(row)
    return Table("Bytes after a conversation", rows, _SIZE_NOTES)


async def _converse(graph: Any, turns: int) -> Any:
    state: Any = None
    for number in range(turns):
        config = {"configurable": {"thread_id": "t"}}
        state = await graph.ainvoke(_inputs("chat", number), config)
    return state


def _held(saver: InMemorySaver) -> int:
    states = [*saver.blobs.values()]
    skeletons = [
        checkpoint
        for namespaces in saver.storage.values()
        for checkpoints in namespaces.values()
        for checkpoint in checkpoints.values()
    ]
    writes = [write for written in saver.writes.values() for write in written.values()]
    return _bytes_in([states, skeletons, writes])


def _bytes_in(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes_in, value))
    return 0


def _on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in _files(directory))


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                yield path
