"""Transcripts of the Claude Agent SDK: `python -m benchmarks.adapters.claude_agent_turns`."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from claude_agent_sdk import InMemorySessionStore
from claude_agent_sdk import SessionStore as FrameworkStore

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from benchmarks.adapters.turns import TURNS, Store, measure, text

KEY: Any = {"project_key": "-home-ann-shop", "session_id": str(uuid.UUID(int=1))}


def entries(turn: int) -> list[Any]:
    """Return what a turn adds: a question, a call of a tool, what it returned, and the answer."""
    call = {"type": "tool_use", "id": f"call-{turn}", "name": "look_up", "input": {"order": turn}}
    result = {
        "type": "tool_result",
        "tool_use_id": f"call-{turn}",
        "content": [{"type": "text", "text": text(turn + 1000, 600)}],
    }
    contents: list[tuple[str, Any]] = [
        ("user", text(turn, 400)),
        ("assistant", [call]),
        ("user", [result]),
        ("assistant", [{"type": "text", "text": text(turn + 2000, 600)}]),
    ]
    return [
        {
            "type": role,
            "uuid": str(uuid.UUID(int=turn * 4 + number + 1)),
            "parentUuid": str(uuid.UUID(int=turn * 4 + number)),
            "sessionId": KEY["session_id"],
            "cwd": "/home/ann/shop",
            "gitBranch": "main",
            "isSidechain": False,
            "timestamp": f"2026-11-26T0{turn // 60}:{turn % 60:02}:{number:02}.000Z",
            "message": {"role": role, "content": content},
        }
        for number, (role, content) in enumerate(contents)
    ]


class Transcript:
    """A transcript in a store of the framework's kind."""

    def __init__(self, store: FrameworkStore) -> None:
        self._store = store

    async def write(self, turn: int) -> None:
        """Append a turn, as the framework does at its end."""
        await self._store.append(KEY, entries(turn))

    async def read(self) -> int:
        """Load it, as the framework does before it goes on."""
        return len(await self._store.load(KEY) or [])


class Lines:
    """A transcript in a file of lines, as the framework's program keeps it on its own disk."""

    def __init__(self, directory: Path, *, is_synced: bool) -> None:
        self._path = directory / "transcript.jsonl"
        self._is_synced = is_synced

    async def write(self, turn: int) -> None:
        """Append a turn."""
        lines = "".join(json.dumps(entry) + "\n" for entry in entries(turn))
        await asyncio.to_thread(self._write, lines)

    def _write(self, lines: str) -> None:
        with self._path.open("a") as file:
            file.write(lines)
            file.flush()
            if self._is_synced:
                os.fdatasync(file.fileno())

    async def read(self) -> int:
        """Read it."""
        content = await asyncio.to_thread(self._path.read_text)
        return len([json.loads(line) for line in content.splitlines()])


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=ClaudeRecord, durability=durability
    ) as writer:
        yield Transcript(SessionStore(writer))


@asynccontextmanager
async def lines(directory: Path, *, is_synced: bool) -> AsyncIterator[Store]:
    """Open a file of lines."""
    yield Lines(directory, is_synced=is_synced)


_IN_MEMORY: dict[Path, FrameworkStore] = {}


@asynccontextmanager
async def in_memory(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own store."""
    yield Transcript(_IN_MEMORY.setdefault(directory, InMemorySessionStore()))


if __name__ == "__main__":
    whole = [entry for turn in range(TURNS) for entry in entries(turn)]
    measure(
        {
            "`InMemorySessionStore`": in_memory,
            "a file of lines, not synced": partial(lines, is_synced=False),
            "a file of lines, synced": partial(lines, is_synced=True),
            "`SessionStore`": ours,
            '`SessionStore`, `"none"`': partial(ours, durability="none"),
        },
        len(json.dumps(whole)),
    )
