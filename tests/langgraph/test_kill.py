"""Graphs that are killed go on from everything that was acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from aiocheckpoint import AsyncCheckpointWriter
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.graphs import chat_graph, thread
from tests.langgraph.killed_process import RUNS

pytestmark = pytest.mark.blocking


@pytest.mark.parametrize("kills", [8, pytest.param(300, marks=pytest.mark.campaign)])
async def test_graphs_killed_at_any_system_call(root: Path, kills: int) -> None:
    """Each thread has the runs that were acknowledged, whole, and goes on with the next."""
    visits = random.Random(1).sample(range(10, 1000), kills)
    done = subprocess.run(
        [sys.executable, "-m", "tests.langgraph.killed_process", root, *map(str, visits)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    acknowledged: dict[str, int] = {}
    for line in done.stdout.splitlines():
        name, runs = line.split()
        acknowledged[name] = int(runs)

    async with CheckpointSaver(root) as saver:
        graph: Any = chat_graph("answer " * 300).compile(checkpointer=saver)
        for visit in visits:
            state = await graph.aget_state(thread(f"t{visit}"))
            while state.tasks:  # `next` leaves out those whose writes are stored
                await graph.ainvoke(None, thread(f"t{visit}"))
                state = await graph.aget_state(thread(f"t{visit}"))
            messages = state.values.get("messages", [])
            assert len(messages) >= 2 * acknowledged.get(f"t{visit}", 0)
            assert len(messages) % 2 == 0
            inputs = {"messages": [HumanMessage("and now?")]}
            ended = await graph.ainvoke(inputs, thread(f"t{visit}"))
            assert ended["messages"][: len(messages)] == messages
    assert any(0 < runs < RUNS for runs in acknowledged.values())
    async with AsyncCheckpointWriter(root) as writer:
        findings = {finding.kind for finding in await writer.check()}
    assert findings <= {"leftover", "stale-pointer", "unused-blob"}
