"""All contenders by name; the others beside those of `savers`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import aiofiles
import aiofiles.os

from benchmarks.documents import Document
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

AIOFILES = "aiofiles + json"


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
    AIOFILES: Plain,
    FLOOR: Floor,
    IDLE: Idle,
}
