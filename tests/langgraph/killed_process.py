"""
A process that forks others, each of which runs a graph on a store until it is killed.

`python -m tests.langgraph.killed_process ROOT VISIT...`: a forked process kills itself at the
system call of that number. It prints `<thread> <runs>` after each run that was acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from langchain_core.messages import HumanMessage

from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.graphs import chat_graph, thread

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
RUNS = 4


class _DoomedFiles(LocalFiles):
    def __init__(self, visit: int) -> None:
        self._visit = visit
        self._visits = itertools.count(1)

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        if next(self._visits) == self._visit:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().call(operation, path, function, *args, **kwargs)


async def _work(root: str, name: str, visit: int) -> None:
    async with CheckpointSaver(root, files=_DoomedFiles(visit)) as saver:
        graph: Any = chat_graph("answer " * 300).compile(checkpointer=saver)
        for run in range(RUNS):
            inputs = {"messages": [HumanMessage(f"question {run}")]}
            await graph.ainvoke(inputs, thread(name), durability="sync")
            os.write(1, f"{name} {run + 1}\n".encode())


def main(root: str, *visits: str) -> None:
    """Fork one process for each visit."""
    for visit in visits:
        child = os.fork()
        if child == 0:
            asyncio.run(_work(root, f"t{visit}", int(visit)))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
