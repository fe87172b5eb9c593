"""LangGraph graphs to run, and the savers to run them on."""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages

from aiocheckpoint.adapters.langgraph import CheckpointSaver

GraphSaver: TypeAlias = BaseCheckpointSaver[Any]

OURS = "CheckpointSaver"
SQLITE = "SqliteSaver"
NOTHING = "nothing stored"
MEMORY = "InMemorySaver"


class Numbers(TypedDict):
    """A state to which nodes add."""

    numbers: Annotated[list[int], operator.add]


def text(speaker: str, number: int) -> str:
    """Return what somebody says, of 1 KB."""
    words = f"{speaker} {number} "
    return (words * (1024 // len(words) + 1))[:1024]


def question(number: int) -> dict[str, list[HumanMessage]]:
    """Return the input of a turn of the chat."""
    return {"messages": [HumanMessage(text("question", number))]}


def _answer(state: Any) -> dict[str, list[AIMessage]]:
    return {"messages": [AIMessage(text("answer", len(state["messages"])))]}


def _with_answer(state_type: Any) -> Any:
    builder: Any = StateGraph(state_type)
    builder.add_node("answer", _answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


def chat() -> Any:
    """Return a graph of one node that answers."""
    return _with_answer(MessagesState)


def delta_chat() -> Any:
    """Return the same with messages in a channel of changes."""

    def add_many(state: Any, writes: Any) -> Any:
        for messages in writes:
            state = add_messages(state, messages)
        return state

    channel: Any = DeltaChannel(add_many, list)
    make_type: Any = TypedDict
    return _with_answer(make_type("State", {"messages": Annotated[list[Any], channel]}))


def _adder(number: int) -> Any:
    def node(_: Any) -> Any:
        return {"numbers": [number]}

    return node


def chain(length: int = 5) -> Any:
    """Return a graph of nodes one after the other."""
    builder = StateGraph(Numbers)
    for number in range(length):
        builder.add_node(f"node{number}", _adder(number))
        builder.add_edge(START if number == 0 else f"node{number - 1}", f"node{number}")
    builder.add_edge(f"node{length - 1}", END)
    return builder


GRAPHS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "chat": (chat, question),
    "chain of 5": (chain, lambda number: {"numbers": [number]}),
}
"""How to build each and what goes into a run."""


class Nothing(BaseCheckpointSaver[int]):
    """Serializes and stores nothing; hands back each thread's last checkpoint, for the next run."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, CheckpointTuple] = {}

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._last.get(config["configurable"]["thread_id"])

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread_id = config["configurable"]["thread_id"]
        place: RunnableConfig = {
            "configurable": {
                "thread_id": thread_id,
                "checkpoint_ns": "",
                "checkpoint_id": checkpoint["id"],
            }
        }
        self._last[thread_id] = CheckpointTuple(place, checkpoint, metadata)
        return place

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        pass

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        pass


@contextmanager
def _sqlite(directory: Path) -> Iterator[GraphSaver]:
    database = sqlite3.connect(directory / "checkpoints.sqlite", check_same_thread=False)
    with closing(database):
        yield SqliteSaver(database)


def _async_sqlite(directory: Path) -> AbstractAsyncContextManager[GraphSaver]:
    return AsyncSqliteSaver.from_conn_string(str(directory / "checkpoints.sqlite"))


@contextmanager
def _nothing(_: Path) -> Iterator[GraphSaver]:
    yield Nothing()


@asynccontextmanager
async def _async_nothing(_: Path) -> AsyncIterator[GraphSaver]:
    yield Nothing()


@asynccontextmanager
async def _memory(_: Path) -> AsyncIterator[GraphSaver]:
    yield InMemorySaver()


SYNC_SAVERS: dict[str, Callable[[Path], AbstractContextManager[GraphSaver]]] = {
    OURS: CheckpointSaver,
    SQLITE: _sqlite,
    NOTHING: _nothing,
}
ASYNC_SAVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[GraphSaver]]] = {
    OURS: CheckpointSaver,
    SQLITE: _async_sqlite,
    NOTHING: _async_nothing,
    MEMORY: _memory,
}
