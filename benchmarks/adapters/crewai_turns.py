"""States of flows of CrewAI: `python -m benchmarks.adapters.crewai_turns`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from crewai.flow.persistence import FlowPersistence as FrameworkPersistence
from crewai.flow.persistence import SQLiteFlowPersistence

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.crewai import FlowPersistence, FlowRecord
from benchmarks.adapters.turns import TURNS, Store, measure, text


def messages(turn: int) -> list[Any]:
    """Return what a turn adds: a question, a call of a tool, what it returned, and the answer."""
    call = {"id": f"call-{turn}", "name": "look_up", "arguments": {"order": turn}}
    return [
        {"role": "user", "content": text(turn, 400)},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call-{turn}", "content": text(turn + 1000, 600)},
        {"role": "assistant", "content": text(turn + 2000, 600)},
    ]


class States:
    """A flow whose state is a conversation, saved after each turn."""

    def __init__(self, persistence: FrameworkPersistence) -> None:
        self._persistence = persistence
        self._state: dict[str, Any] = {"id": "f", "turn": 0, "messages": []}

    async def write(self, turn: int) -> None:
        """Save the state with one more turn."""
        self._state["turn"] = turn
        self._state["messages"] += messages(turn)
        self._persistence.save_state("f", "turn", self._state)

    async def read(self) -> int:
        """Load it."""
        state = self._persistence.load_state("f")
        return len(state["messages"]) if state else 0


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=FlowRecord, durability=durability
    ) as writer:
        yield States(FlowPersistence(writer))


@asynccontextmanager
async def theirs(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own."""
    yield States(SQLiteFlowPersistence(str(directory / "flows.db")))


OURS, THEIRS = "`FlowPersistence`", "`SQLiteFlowPersistence`"
NONE = f'{OURS}, `"none"`'

if __name__ == "__main__":
    whole = [message for turn in range(TURNS) for message in messages(turn)]
    measure(
        {
            THEIRS: theirs,
            OURS: ours,
            NONE: partial(ours, durability="none"),
        },
        len(json.dumps(whole)),
        beside=[(OURS, THEIRS), (NONE, THEIRS)],
    )
