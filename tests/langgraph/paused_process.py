"""
A process that runs a graph on a thread, and waits inside a node.

`python -m tests.langgraph.paused_process ROOT THREAD NAME`: it prints `waiting` in the node, goes
on at a line of its input, and prints how the run ended: `ended` or the error's type. At another
line it does the same anew.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from aiocheckpoint import SessionChangedError
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.graphs import thread


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _wait(state: MessagesState) -> dict[str, Any]:
    _say("waiting")
    await asyncio.to_thread(sys.stdin.readline)
    return {"messages": [AIMessage(f"{len(state['messages'])} before")]}


async def main(root: str, thread_id: str, name: str) -> None:
    """Run the graph until the input ends."""
    builder = StateGraph(MessagesState)
    builder.add_node("wait", _wait)
    builder.add_edge(START, "wait")
    builder.add_edge("wait", END)
    async with CheckpointSaver(root) as saver:
        graph = builder.compile(checkpointer=saver)
        again = True
        while again:
            inputs: Any = {"messages": [HumanMessage(f"{name} asks")]}
            try:
                await graph.ainvoke(inputs, thread(thread_id), durability="sync")
            except SessionChangedError as error:
                _say(type(error).__name__)
            else:
                _say("ended")
            again = bool(await asyncio.to_thread(sys.stdin.readline))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
