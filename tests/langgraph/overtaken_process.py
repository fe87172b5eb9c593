"""
A process whose run is overtaken in its node, and killed before the checkpoint behind that.

`python -m tests.langgraph.overtaken_process ROOT DURABILITY`: it prints `asked` in its node, and
goes on when it is sent a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph

from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.graphs import thread


class Gate:
    """
    What a node waits at.

    Attributes:
        is_reached: set when it does.
        may_pass: ends it.
    """

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.may_pass = asyncio.Event()

    async def wait(self) -> None:
        """Wait there."""
        self.is_reached.set()
        await self.may_pass.wait()


def extended(state: Any, writes: Sequence[Any]) -> list[str]:
    """Add to a list of texts."""
    return [*(state or ()), *(text for texts in writes for text in texts)]


def answering(saver: CheckpointSaver | Literal[True], wait: Callable[[], Awaitable[object]]) -> Any:
    """Return a graph that notes questions and answers, and waits before it answers `slow`."""

    async def answer(state: Any) -> dict[str, list[str]]:
        question = state["notes"][-1]
        if question == "slow":
            await wait()
        return {"notes": [f"answer {question}"]}

    channel: Any = DeltaChannel(extended, list, snapshot_frequency=1000)
    make_type: Any = TypedDict
    builder: Any = StateGraph(make_type("State", {"notes": Annotated[list[str], channel]}))
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


async def begun(graph: Any, durability: str) -> None:
    """Wait until what a run stores before its first node is there, and not its input alone."""
    while durability != "exit" and (await graph.aget_state(thread("t"))).next in ((), (START,)):
        await asyncio.sleep(0)


class _Doomed(CheckpointSaver):
    is_answered = False

    async def aput(self, *args: Any) -> Any:
        if self.is_answered:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().aput(*args)


async def _main(root: str, durability: Any) -> None:
    async with _Doomed(root) as saver:

        async def wait() -> None:
            await begun(graph, durability)
            print("asked", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            saver.is_answered = True

        graph = answering(saver, wait)
        await graph.ainvoke({"notes": ["first"]}, thread("t"), durability="sync")
        await graph.ainvoke({"notes": ["slow"]}, thread("t"), durability=durability)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
