"""How large do LangGraph threads get on disk?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.graphs import ASYNC_SAVERS, MEMORY, OURS, SQLITE, chat, delta_chat, question
from benchmarks.report import Answer, Row, Table
from benchmarks.rounds import Settings, fresh_directory, in_child

_CHATS = {"whole list": chat, "DeltaChannel": delta_chat}
_NOTES = [
    "Turns of 1 KB by the user and 1 KB by the model, durability `async`, every checkpoint kept.",
    "Bytes of the files after closing; of InMemorySaver what it holds, serialized.",
    "`state` is the final state, serialized: the least that can be.",
]


class Conversation(NamedTuple):
    """What a process does."""

    directory: Path
    saver: str
    channel: str
    turns: int


def run(settings: Settings) -> Answer:
    """Return one table."""
    rows: list[Row] = []
    for turns in (2, 4) if settings.is_quick else (50, 500):
        for channel in _CHATS:
            row: Row = {"turns": turns, "messages in a": channel, "state, MB": 0.0}
            for saver in (OURS, SQLITE, MEMORY):
                with fresh_directory(settings) as directory:
                    conversation = Conversation(directory, saver, channel, turns)
                    state, held = in_child(sizes, conversation)
                    row["state, MB"] = state / 1e6
                    row[f"{saver}, MB"] = (held or _on_disk(directory)) / 1e6
            rows.append(row)
    return Answer([Table("Bytes after a conversation", rows, _NOTES)])


def sizes(conversation: Conversation) -> tuple[int, int]:
    """Return the bytes of the final state, and those that are held in memory."""
    return asyncio.run(_sizes(conversation))


async def _sizes(conversation: Conversation) -> tuple[int, int]:
    state: Any = None
    async with ASYNC_SAVERS[conversation.saver](conversation.directory) as saver:
        graph = _CHATS[conversation.channel]().compile(checkpointer=saver)
        for number in range(conversation.turns):
            config = {"configurable": {"thread_id": "t"}}
            state = await graph.ainvoke(question(number), config)
        held = _held(saver) if isinstance(saver, InMemorySaver) else 0
        return len(saver.serde.dumps_typed(state)[1]), held


def _held(saver: InMemorySaver) -> int:
    states = [*saver.blobs.values()]
    skeletons = [
        checkpoint
        for namespaces in saver.storage.values()
        for checkpoints in namespaces.values()
        for checkpoint in checkpoints.values()
    ]
    writes = [write for written in saver.writes.values() for write in written.values()]
    return _bytes_in([states, skeletons, writes])


def _bytes_in(value: Any) -> int:
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes_in, value))
    return 0


def _on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in _files(directory))


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                yield path
