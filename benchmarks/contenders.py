"""All contenders by name; the others beside those of `savers`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import aiofiles
import aiofiles.os

from benchmarks.documents import Document
from benchmarks.rounds import UnavailableError
from benchmarks.savers import (
    FILE,
    FLOOR,
    IDLE,
    JOURNAL,
    NONE,
    SQLITE,
    UPDATE,
    Floor,
    Idle,
    Ours,
    Saver,
    Updating,
)
from benchmarks.savers import Sqlite as _Sqlite

if TYPE_CHECKING:
    from agent_framework import FileCheckpointStorage

MICROSOFT = "FileCheckpointStorage"
AIOFILES = "aiofiles + json"


class Microsoft(Saver):
    """Microsoft Agent Framework's file storage: one indented JSON file a checkpoint."""

    durable = "NO: no fsync at all"

    def __init__(self) -> None:
        self._storage: FileCheckpointStorage
        self._last: dict[str, str] = {}

    async def open(self, directory: Path) -> None:
        try:
            from agent_framework import FileCheckpointStorage
        except ImportError as error:
            raise UnavailableError("pip install agent-framework-core") from error
        self._storage = FileCheckpointStorage(directory)

    async def save(self, session: str, step: int, document: Document) -> None:
        from agent_framework import WorkflowCheckpoint

        checkpoint = WorkflowCheckpoint(
            workflow_name=session,
            graph_signature_hash="benchmark",
            previous_checkpoint_id=self._last.get(session),
            state={"messages": document.messages, "tool_results": document.tool_results},
            iteration_count=step,
        )
        self._last[session] = await self._storage.save(checkpoint)

    async def load(self, session: str) -> object:
        return await self._storage.load(self._last[session])

    async def close(self) -> None:
        pass


class Plain(Saver):
    """What one writes oneself with aiofiles: temporary file, fsync, rename."""

    durable = "content yes, its name no (directory not synced)"

    def __init__(self) -> None:
        self._directory: Path
        self._last: dict[str, Path] = {}

    async def open(self, directory: Path) -> None:
        self._directory = directory

    async def save(self, session: str, step: int, document: Document) -> None:
        text = json.dumps(
            {
                "session_id": session,
                "iteration": step,
                "messages": document.messages,
                "tool_results": document.tool_results,
            }
        )
        path = self._directory / f"{session}-{step}.json"
        temporary = path.with_suffix(".tmp")
        async with aiofiles.open(temporary, "w", encoding="utf-8") as file:
            await file.write(text)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, path)
        self._last[session] = path

    async def load(self, session: str) -> object:
        async with aiofiles.open(self._last[session], encoding="utf-8") as file:
            return json.loads(await file.read())

    async def close(self) -> None:
        pass


SAVERS: dict[str, Callable[[], Saver]] = {
    JOURNAL: lambda: Ours("journal", "yes: journal synced, files follow"),
    FILE: lambda: Ours("file", "yes: file and directory synced"),
    NONE: lambda: Ours("none", "NO: asked not to sync"),
    UPDATE: Updating,
    SQLITE: _Sqlite,
    MICROSOFT: Microsoft,
    AIOFILES: Plain,
    FLOOR: Floor,
    IDLE: Idle,
}
