"""Transcripts of the Claude Agent SDK: `python -m benchmarks.adapters.claude_agent_turns`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from claude_agent_sdk import InMemorySessionStore
from claude_agent_sdk import SessionStore as FrameworkStore

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from benchmarks.adapters.turns import TURNS, Open, Store, measure, text
from benchmarks.postgres_server import postgres_server
from benchmarks.rounds import UnavailableError

SESSION_ID = str(uuid.UUID(int=1))


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
            "sessionId": SESSION_ID,
            "cwd": "/home/ann/shop",
            "gitBranch": "main",
            "isSidechain": False,
            "timestamp": f"2026-11-26T0{turn // 60}:{turn % 60:02}:{number:02}.000Z",
            "message": {"role": role, "content": content},
        }
        for number, (role, content) in enumerate(contents)
    ]


class Transcript:
    """A transcript in a store of the framework's kind, another one in each directory."""

    def __init__(self, store: FrameworkStore, directory: Path) -> None:
        self._store = store
        self._key: Any = {"project_key": directory.name, "session_id": SESSION_ID}

    async def write(self, turn: int) -> None:
        """Append a turn, as the framework does at its end."""
        await self._store.append(self._key, entries(turn))

    async def read(self) -> int:
        """Load it, as the framework does before it goes on."""
        return len(await self._store.load(self._key) or [])


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
        yield Transcript(SessionStore(writer), directory)


@asynccontextmanager
async def lines(directory: Path, *, is_synced: bool) -> AsyncIterator[Store]:
    """Open a file of lines."""
    yield Lines(directory, is_synced=is_synced)


_IN_MEMORY: dict[Path, FrameworkStore] = {}


@asynccontextmanager
async def in_memory(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own store."""
    yield Transcript(_IN_MEMORY.setdefault(directory, InMemorySessionStore()), directory)


class Rows:
    """A table of a row an entry, as the example of a store in the framework's repository has it."""

    def __init__(self, pool: asyncpg.Pool, transcript: str) -> None:
        self._pool = pool
        self._transcript = transcript

    async def write(self, turn: int) -> None:
        """Append a turn in one statement."""
        await self._pool.execute(
            "INSERT INTO entries (transcript, entry) SELECT $1, unnest($2::jsonb[])",
            self._transcript,
            [json.dumps(entry) for entry in entries(turn)],
        )

    async def read(self) -> int:
        """Read it."""
        rows = await self._pool.fetch(
            "SELECT entry FROM entries WHERE transcript = $1 ORDER BY number", self._transcript
        )
        return len([json.loads(row["entry"]) for row in rows])


@asynccontextmanager
async def rows(directory: Path, *, url: str) -> AsyncIterator[Store]:
    """Connect to the table, and make it."""
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        await pool.execute(
            "CREATE TABLE IF NOT EXISTS entries (transcript text, number bigserial, entry jsonb,"
            " PRIMARY KEY (transcript, number))"
        )
        yield Rows(pool, directory.name)


@asynccontextmanager
async def ours_in_postgres(directory: Path, *, url: str) -> AsyncIterator[Store]:
    """Open the adapter on a database."""
    async with SessionStore(url) as store:
        await store.list_sessions("none")  # connect, as the pool above has done
        yield Transcript(store, directory)


def on_server(stack: ExitStack) -> dict[str, Open]:
    """Start a PostgreSQL on the disk that is measured, and return what runs there."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--directory")
    directory = parser.parse_known_args()[0].directory
    parent = stack.enter_context(tempfile.TemporaryDirectory(dir=directory))
    try:
        url = stack.enter_context(postgres_server(Path(parent))).format("postgres")
    except UnavailableError as error:
        sys.stderr.write(f"without PostgreSQL: {error}\n")
        return {}
    return {
        "a row an entry in PostgreSQL": partial(rows, url=url),
        "`SessionStore` in PostgreSQL": partial(ours_in_postgres, url=url),
    }


if __name__ == "__main__":
    whole = [entry for turn in range(TURNS) for entry in entries(turn)]
    with ExitStack() as server:
        measure(
            {
                "`InMemorySessionStore`": in_memory,
                "a file of lines, not synced": partial(lines, is_synced=False),
                "a file of lines, synced": partial(lines, is_synced=True),
                "`SessionStore`": ours,
                '`SessionStore`, `"none"`': partial(ours, durability="none"),
                **on_server(server),
            },
            len(json.dumps(whole)),
        )
