"""Sessions of Strands Agents: `python -m benchmarks.adapters.strands_turns`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from strands import Agent
from strands.models import BedrockModel
from strands.session import SnapshotSessionManager
from strands.storage import LocalFileStorage

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.strands import SessionManager, StoredValue
from benchmarks.adapters.turns import TURNS, Store, measure, text


def messages(turn: int) -> list[Any]:
    """Return what a turn adds: a question, a call of a tool, what it returned, and the answer."""
    call = f"call-{turn}"
    result = {"toolUseId": call, "status": "success", "content": [{"text": text(turn + 1000, 600)}]}
    return [
        {"role": "user", "content": [{"text": text(turn, 400)}]},
        {
            "role": "assistant",
            "content": [
                {"toolUse": {"toolUseId": call, "name": "look_up", "input": {"order": turn}}}
            ],
        },
        {"role": "user", "content": [{"toolResult": result}]},
        {"role": "assistant", "content": [{"text": text(turn + 2000, 600)}]},
    ]


@cache  # or making it, which takes ten times as long as to restore, would be what is measured
def model() -> BedrockModel:
    """Return a model that nobody asks."""
    return BedrockModel()


def new_agent() -> Agent:
    """Return an agent without messages."""
    return Agent(model(), agent_id="a", callback_handler=None)


class Sessions:
    """A session of a manager; an agent keeps it in memory, and is saved after each turn."""

    def __init__(self, manager: SnapshotSessionManager) -> None:
        self._manager = manager
        self._agent: Agent | None = None

    async def write(self, turn: int) -> None:
        """Save the session with one more turn."""
        if self._agent is None:
            self._agent = new_agent()
            await self._manager.restore_snapshot(self._agent)
        self._agent.messages += messages(turn)
        await self._manager.save_snapshot(self._agent, is_latest=True)

    async def read(self) -> int:
        """Restore it in another agent."""
        agent = new_agent()
        await self._manager.restore_snapshot(agent)
        return len(agent.messages)


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=StoredValue, durability=durability
    ) as writer:
        yield Sessions(SessionManager("ann", writer))


@asynccontextmanager
async def theirs(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own."""
    storage = LocalFileStorage(str(directory))
    yield Sessions(SnapshotSessionManager("ann", storage=storage))


OURS, THEIRS = "`SessionManager`", "`LocalFileStorage`, not synced"
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
