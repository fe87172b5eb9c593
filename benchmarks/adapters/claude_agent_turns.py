"""Transcripts of the Claude Agent SDK: `python -m benchmarks.adapters.claude_agent_turns`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import asyncpg
import botocore.session
from claude_agent_sdk import InMemorySessionStore
from claude_agent_sdk import SessionStore as FrameworkStore
from tests.adapters.sdist import unpacked
from tests.stores.s3.ceph import Ceph, missing_programs

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from benchmarks.adapters.turns import TURNS, Store, measure, text
from benchmarks.postgres_server import postgres_server
from benchmarks.rounds import UnavailableError

SESSION_ID = str(uuid.UUID(int=1))
OURS, OURS_NOT_SYNCED = "`SessionStore`", '`SessionStore`, `"none"`'
THEIRS_IN_POSTGRES, OURS_IN_POSTGRES = "`PostgresSessionStore`", "`SessionStore` in PostgreSQL"
THEIRS_IN_S3, OURS_IN_S3 = "`S3SessionStore`", "`SessionStore` in S3"


@cache  # or making them would be a part of what is measured
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


class Published:
    """
    The stores that the framework publishes, as examples in its source distribution.

    They are not a part of what is installed, so the distribution of the installed version is
    downloaded, and they are loaded from there.

    Args:
        directory: to unpack it in.
    """

    def __init__(self, directory: Path) -> None:
        self._examples = unpacked("claude-agent-sdk", directory) / "examples" / "session_stores"

    def store(self, name: str) -> type[Any]:
        """Return the class of the store on a kind of server, as `Postgres`."""
        path = self._examples / f"{name.lower()}_session_store.py"
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # its dataclasses look there for their annotations
        spec.loader.exec_module(module)
        found: type[Any] = getattr(module, f"{name}SessionStore")
        return found


@asynccontextmanager
async def theirs_in_postgres(
    directory: Path, *, url: str, store: type[Any]
) -> AsyncIterator[Store]:
    """Connect, and make the table."""
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        opened = store(pool)
        await opened.create_schema()
        yield Transcript(opened, directory)


@asynccontextmanager
async def theirs_in_s3(directory: Path, *, store: type[Any]) -> AsyncIterator[Store]:
    """Make a client, as boto3 makes it."""
    client = botocore.session.Session().create_client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], region_name=os.environ["AWS_REGION"]
    )
    yield Transcript(store("bucket", "theirs", client), directory)


@asynccontextmanager
async def ours_at(directory: Path, *, url: str) -> AsyncIterator[Store]:
    """Open the adapter on a server."""
    async with SessionStore(url) as store:
        await store.list_sessions("none")  # connect, as the others have done
        yield Transcript(store, directory)


def in_postgres(stack: ExitStack, parent: Path, published: Published) -> dict[str, partial[Any]]:
    """Start a PostgreSQL on the disk that is measured, and return what runs there."""
    try:
        url = stack.enter_context(postgres_server(parent)).format("postgres")
    except UnavailableError as error:
        sys.stderr.write(f"without PostgreSQL: {error}\n")
        return {}
    store = published.store("Postgres")
    return {
        THEIRS_IN_POSTGRES: partial(theirs_in_postgres, url=url, store=store),
        OURS_IN_POSTGRES: partial(ours_at, url=url),
    }


def in_s3(stack: ExitStack, published: Published) -> dict[str, partial[Any]]:
    """Start Ceph's gateway, whose disk forgets, and return what runs there."""
    if missing := missing_programs():
        sys.stderr.write(f"without S3: {', '.join(missing)} of Ceph are not installed\n")
        return {}
    ceph = Ceph().start()
    stack.callback(ceph.stop)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "tkey",
        "AWS_SECRET_ACCESS_KEY": "tsecret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": ceph.url,
    }
    return {
        THEIRS_IN_S3: partial(theirs_in_s3, store=published.store("S3")),
        OURS_IN_S3: partial(ours_at, url="s3://bucket/ours"),
    }


def main() -> None:
    """Measure all that can run here."""
    whole = [entry for turn in range(TURNS) for entry in entries(turn)]
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--directory")
    directory = parser.parse_known_args()[0].directory
    with ExitStack() as stack:
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
        published = Published(parent)
        servers = in_postgres(stack, parent, published) | in_s3(stack, published)
        measure(
            {
                "`InMemorySessionStore`": in_memory,
                "a file of lines, not synced": partial(lines, is_synced=False),
                "a file of lines, synced": partial(lines, is_synced=True),
                OURS: ours,
                OURS_NOT_SYNCED: partial(ours, durability="none"),
                **servers,
            },
            len(json.dumps(whole)),
            beside=[
                (OURS, THEIRS_IN_POSTGRES),
                (OURS_IN_POSTGRES, THEIRS_IN_POSTGRES),
                (OURS_IN_S3, THEIRS_IN_S3),
                (OURS, "a file of lines, synced"),
                (OURS_NOT_SYNCED, "a file of lines, not synced"),
            ],
            connected=servers,
        )


if __name__ == "__main__":
    main()
