"""Conversations of Pydantic AI: `python -m benchmarks.adapters.pydantic_ai_turns`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_ai import (
    Conversation,
    ConversationTypeAdapter,
    ModelMessagesTypeAdapter,
)
from pydantic_ai.conversation_store import ConversationStore as FrameworkStore
from pydantic_ai.conversation_store import InMemoryConversationStore

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.pydantic_ai import ConversationStore, ConversationStoreRecord
from benchmarks.adapters.pydantic_ai_messages import messages
from benchmarks.adapters.turns import TURNS, Store, json_bytes, measure


class Conversations:
    """A conversation in a store of the framework's kind."""

    def __init__(self, store: FrameworkStore) -> None:
        self._store = store
        self._conversation = Conversation(conversation_id="c")

    async def write(self, turn: int) -> None:
        """Save the conversation with one more turn."""
        self._conversation.messages += messages(turn)
        await self._store.save(self._conversation)

    async def read(self) -> int:
        """Load it."""
        found = await self._store.load("c")
        return 0 if found is None else len(found.messages)


class OneFile:
    """A conversation in one file, as the framework's documentation has it; not synced."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "c.json"
        self._conversation = Conversation(conversation_id="c")

    async def write(self, turn: int) -> None:
        """Write it anew and rename it."""
        self._conversation.messages += messages(turn)
        await asyncio.to_thread(self._write, ConversationTypeAdapter.dump_json(self._conversation))

    def _write(self, content: bytes) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_bytes(content)
        temporary.replace(self._path)

    async def read(self) -> int:
        """Read it."""
        content = await asyncio.to_thread(self._path.read_bytes)
        return len(ConversationTypeAdapter.validate_json(content).messages)


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=ConversationStoreRecord, durability=durability
    ) as writer:
        yield Conversations(ConversationStore(writer))


@asynccontextmanager
async def one_file(directory: Path) -> AsyncIterator[Store]:
    """Open a file."""
    yield OneFile(directory)


_IN_MEMORY: dict[Path, FrameworkStore] = {}


@asynccontextmanager
async def in_memory(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's own store."""
    yield Conversations(_IN_MEMORY.setdefault(directory, InMemoryConversationStore()))


OURS, THEIRS = "`ConversationStore`", "`InMemoryConversationStore`"
FILE = "`dump_json` into a file"
NONE = f'{OURS}, `"none"`'

if __name__ == "__main__":
    whole = [message for turn in range(TURNS) for message in messages(turn)]
    measure(
        {
            THEIRS: in_memory,
            FILE: one_file,
            OURS: ours,
            NONE: partial(ours, durability="none"),
        },
        json_bytes(ModelMessagesTypeAdapter, whole),
        beside=[(OURS, THEIRS), (NONE, FILE)],
    )
