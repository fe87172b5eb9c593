"""Who is compared in every table: this library, LangGraph's SQLite saver, and the floor."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiocheckpoint import AsyncCheckpointWriter, Transaction
from benchmarks.documents import Document

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

JOURNAL = "aiocheckpoint"
FILE = "aiocheckpoint file"
NONE = "aiocheckpoint none"
UPDATE = "aiocheckpoint update"
SQLITE = "AsyncSqliteSaver"
FLOOR = "floor"
IDLE = "nothing saved"

_FLOOR_THREADS = 16
_FLOOR_FILE_BYTES = 64 * 1024 * 1024


class Saver(ABC):
    """A contender, used as its own documentation shows."""

    durable: str
    """What is durable when its save returns."""

    @abstractmethod
    async def open(self, directory: Path) -> None:
        """Get ready; not measured."""

    @abstractmethod
    async def save(self, session: str, step: int, document: Document) -> None:
        """Save, as an application would with this contender."""

    async def load(self, session: str) -> object:
        """Return what was saved last, None if there is nothing."""
        raise NotImplementedError

    async def flush(self) -> None:  # noqa: B027 - most put nothing off
        """Finish what saves have put off."""

    @abstractmethod
    async def close(self) -> None:
        """Finish everything and let go."""


class Ours(Saver):
    """This library, in one of its durabilities."""

    def __init__(self, durability: Literal["journal", "file", "none"], durable: str) -> None:
        self.durable = durable
        self._durability = durability
        self._writer: AsyncCheckpointWriter[Any]

    async def open(self, directory: Path) -> None:
        self._writer = AsyncCheckpointWriter(directory, durability=self._durability)

    async def save(self, session: str, step: int, document: Document) -> None:
        await self._writer.save(document.checkpoint(session, step))

    async def load(self, session: str) -> object:
        return await self._writer.load(session)

    async def flush(self) -> None:
        await self._writer.flush()

    async def close(self) -> None:
        await self._writer.aclose()


class Updating(Ours):
    """This library, appending by `update`: a look at the newest id and a save, as one step."""

    def __init__(self) -> None:
        super().__init__("journal", "yes: journal synced, files follow")

    async def save(self, session: str, step: int, document: Document) -> None:
        async def append(transaction: Transaction[Any]) -> None:
            await transaction.ids(limit=1)
            transaction.save(document.checkpoint(session, step))

        await self._writer.update(session, append)


class Sqlite(Saver):
    """LangGraph's checkpointer for asyncio and SQLite: one connection, WAL, synchronous=FULL."""

    durable = "yes: WAL synced at each commit"

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._saver: AsyncSqliteSaver
        self._parents: dict[str, str] = {}

    async def open(self, directory: Path) -> None:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        database = AsyncSqliteSaver.from_conn_string(str(directory / "checkpoints.sqlite"))
        self._saver = await self._stack.enter_async_context(database)
        await self._saver.setup()

    async def hurry(self) -> None:
        """Sync no more, to fill a database that is only read afterwards."""
        await self._saver.conn.execute("PRAGMA synchronous=OFF")

    async def save(self, session: str, step: int, document: Document) -> None:
        from langgraph.checkpoint.base import empty_checkpoint

        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {
            "messages": document.messages,
            "tool_results": document.tool_results,
        }
        versions: dict[str, str | int | float] = {"messages": step, "tool_results": step}
        checkpoint["channel_versions"] = versions
        configurable = {"thread_id": session, "checkpoint_ns": ""}
        if session in self._parents:
            configurable["checkpoint_id"] = self._parents[session]
        self._parents[session] = checkpoint["id"]
        await self._saver.aput(
            {"configurable": configurable},
            checkpoint,
            {"source": "loop", "step": step, "parents": {}},
            versions,
        )

    async def load(self, session: str) -> object:
        configurable = {"thread_id": session, "checkpoint_ns": ""}
        return await self._saver.aget_tuple({"configurable": configurable})

    async def list(self, session: str) -> int:
        """Go through all checkpoints of a session, as LangGraph gives them: whole."""
        configurable = {"thread_id": session, "checkpoint_ns": ""}
        return len([item async for item in self._saver.alist({"configurable": configurable})])

    async def close(self) -> None:
        await self._stack.aclose()


class Floor(Saver):
    """The least that a durable save can cost: one hop, one pwrite in place, one fdatasync."""

    durable = "yes: bytes in a preallocated file, nothing else"

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_FLOOR_THREADS)
        self._descriptor: int
        self._offset = 0

    async def open(self, directory: Path) -> None:
        await self._hop(lambda: self._preallocate(directory / "floor"))

    def _preallocate(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.pwrite(self._descriptor, bytes(_FLOOR_FILE_BYTES), 0)
        os.fsync(self._descriptor)

    async def _hop(self, work: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def save(self, session: str, step: int, document: Document) -> None:
        if self._offset + len(document.text) > _FLOOR_FILE_BYTES:
            self._offset = 0
        offset = self._offset
        self._offset += len(document.text)
        await self._hop(lambda: self._write(document.text, offset))

    def _write(self, data: bytes, offset: int) -> None:
        os.pwrite(self._descriptor, data, offset)
        os.fdatasync(self._descriptor)

    async def close(self) -> None:
        await self._hop(lambda: os.close(self._descriptor))
        self._pool.shutdown()


class Idle(Saver):
    """Nothing is saved: what the measuring itself and the machine do."""

    durable = ""

    async def open(self, directory: Path) -> None:
        pass

    async def save(self, session: str, step: int, document: Document) -> None:
        pass

    async def close(self) -> None:
        pass
