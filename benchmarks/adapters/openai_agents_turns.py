"""Conversations of the OpenAI Agents SDK: `python -m benchmarks.adapters.openai_agents_turns`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from agents import SQLiteSession
from agents.memory import Session as FrameworkSession

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.openai_agents import Session, SessionRecord
from benchmarks.adapters.turns import TURNS, Store, measure, text

OURS, THEIRS = "`Session`", "`SQLiteSession`"


@cache  # or making them would be a part of what is measured
def items(turn: int) -> list[Any]:
    """Return what a turn adds: a question, a call of a tool, what it returned, and the answer."""
    call_id = f"call-{turn}"
    answer = {"type": "output_text", "text": text(turn + 2000, 600), "annotations": []}
    return [
        {"role": "user", "content": text(turn, 400)},
        {
            "type": "function_call",
            "call_id": call_id,
            "name": "look_up",
            "arguments": json.dumps({"order": turn}),
        },
        {"type": "function_call_output", "call_id": call_id, "output": text(turn + 1000, 600)},
        {"type": "message", "id": f"msg-{turn}", "role": "assistant", "content": [answer]},
    ]


class Conversation:
    """A conversation, to which the runner adds at the end of a turn."""

    def __init__(self, session: FrameworkSession) -> None:
        self._session = session

    async def write(self, turn: int) -> None:
        """Add a turn."""
        await self._session.add_items(items(turn))

    async def read(self) -> int:
        """Return how many items there are, all of which are read."""
        return len(await self._session.get_items())


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=SessionRecord, durability=durability
    ) as writer:
        yield Conversation(Session("c", writer))


@asynccontextmanager
async def theirs(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own, which syncs each commit."""
    session = SQLiteSession("c", directory / "sessions.db")
    try:
        yield Conversation(session)
    finally:
        session.close()


if __name__ == "__main__":
    whole = [item for turn in range(TURNS) for item in items(turn)]
    measure(
        {
            THEIRS: theirs,
            OURS: ours,
            f'{OURS}, `"none"`': partial(ours, durability="none"),
        },
        len(json.dumps(whole)),
        beside=[(OURS, THEIRS)],
    )
