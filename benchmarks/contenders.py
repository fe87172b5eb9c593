"""Everybody who saves the same documents, each used the way its own documentation shows."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

import aiofiles
import aiofiles.os
import msgspec
from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.writer import Durability
from benchmarks.documents import Document
from benchmarks.harness import Contender, Run, Saver, UnavailableError, Workload

if TYPE_CHECKING:
    from agent_framework import FileCheckpointStorage
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

JOURNAL = "aiocheckpoint journal"
FILE = "aiocheckpoint file"
NONE = "aiocheckpoint none"
SQLITE = "AsyncSqliteSaver"
MICROSOFT = "FileCheckpointStorage"
AIOFILES = "aiofiles + json"
RUST = "sh-layer2 (Rust)"
FLOOR = "floor"

_RUST_DIRECTORY = Path(__file__).parent / "rust"
_RUST_PROGRAM = "sh-layer2-saves"
_FLOOR_THREADS = 16
_FLOOR_FILE_BYTES = 64 * 1024 * 1024


def _session_id(session: int) -> str:
    return f"session-{session}"


class Ours(Saver):
    """This library, in one of its durabilities."""

    def __init__(
        self, name: str, durability: Durability, durable: str, files: LocalFiles | None = None
    ) -> None:
        self.name = name
        self.durable = durable
        self._durability = durability
        self._files = files
        self._writer: AsyncCheckpointWriter[CheckpointData]

    async def open(self, workload: Workload) -> None:
        self._writer = AsyncCheckpointWriter(
            workload.directory, durability=self._durability, files=self._files
        )

    async def save(self, session: int, step: int, document: Document) -> None:
        await self._writer.save(document.checkpoint(_session_id(session), step))

    async def load(self, session: int) -> object:
        return await self._writer.load(_session_id(session))

    async def close(self) -> None:
        await self._writer.aclose()


class SlowSyncs(LocalFiles):
    """File operations of a disk whose syncs take longer than those of this one."""

    def __init__(self, delay_seconds: float) -> None:
        super().__init__()
        self._delay_seconds = delay_seconds

    def call(
        self,
        operation: str,
        path: str,
        function: Callable[P, ResultT],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> ResultT:
        """Wait before each sync."""
        if operation.startswith("sync"):
            time.sleep(self._delay_seconds)
        return super().call(operation, path, function, *args, **kwargs)


class Sqlite(Saver):
    """LangGraph's checkpointer for asyncio and SQLite: one connection, WAL, synchronous=FULL."""

    name = SQLITE
    durable = "yes: WAL synced at each commit"

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._saver: AsyncSqliteSaver
        self._parents: dict[int, str] = {}

    async def open(self, workload: Workload) -> None:
        try:
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
        except ImportError as error:
            raise UnavailableError("pip install langgraph-checkpoint-sqlite") from error
        database = AsyncSqliteSaver.from_conn_string(str(workload.directory / "checkpoints.sqlite"))
        self._saver = await self._stack.enter_async_context(database)
        self._parents.clear()
        await self._saver.setup()

    async def hurry(self) -> None:
        """Sync no more, to fill a database that is only read afterwards."""
        await self._saver.conn.execute("PRAGMA synchronous=OFF")

    async def save(self, session: int, step: int, document: Document) -> None:
        from langgraph.checkpoint.base import empty_checkpoint

        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {
            "messages": document.messages,
            "tool_results": document.tool_results,
        }
        versions: dict[str, str | int | float] = {"messages": step, "tool_results": step}
        checkpoint["channel_versions"] = versions
        configurable = {"thread_id": _session_id(session), "checkpoint_ns": ""}
        if session in self._parents:
            configurable["checkpoint_id"] = self._parents[session]
        self._parents[session] = checkpoint["id"]
        await self._saver.aput(
            {"configurable": configurable},
            checkpoint,
            {"source": "loop", "step": step, "parents": {}},
            versions,
        )

    async def load(self, session: int) -> object:
        configurable = {"thread_id": _session_id(session), "checkpoint_ns": ""}
        return await self._saver.aget_tuple({"configurable": configurable})

    async def list(self, session: int) -> int:
        """Go through all checkpoints of a session, as LangGraph gives them: whole."""
        configurable = {"thread_id": _session_id(session), "checkpoint_ns": ""}
        return len([item async for item in self._saver.alist({"configurable": configurable})])

    async def close(self) -> None:
        await self._stack.aclose()


class Microsoft(Saver):
    """Microsoft Agent Framework's file storage: one indented JSON file a checkpoint."""

    name = MICROSOFT
    durable = "NO: no fsync at all"

    def __init__(self) -> None:
        self._storage: FileCheckpointStorage
        self._last: dict[int, str] = {}

    async def open(self, workload: Workload) -> None:
        try:
            from agent_framework import FileCheckpointStorage
        except ImportError as error:
            raise UnavailableError("pip install agent-framework-core") from error
        self._storage = FileCheckpointStorage(workload.directory)

    async def save(self, session: int, step: int, document: Document) -> None:
        from agent_framework import WorkflowCheckpoint

        checkpoint = WorkflowCheckpoint(
            workflow_name=_session_id(session),
            graph_signature_hash="benchmark",
            previous_checkpoint_id=self._last.get(session),
            state={"messages": document.messages, "tool_results": document.tool_results},
            iteration_count=step,
        )
        self._last[session] = await self._storage.save(checkpoint)

    async def load(self, session: int) -> object:
        return await self._storage.load(self._last[session])

    async def close(self) -> None:
        self._last.clear()


class Plain(Saver):
    """What one writes oneself with aiofiles: temporary file, fsync, rename."""

    name = AIOFILES
    durable = "content yes, its name no (directory not synced)"

    def __init__(self) -> None:
        self._directory: Path
        self._last: dict[int, Path] = {}

    async def open(self, workload: Workload) -> None:
        self._directory = workload.directory
        self._last.clear()

    async def save(self, session: int, step: int, document: Document) -> None:
        text = json.dumps(
            {
                "session_id": _session_id(session),
                "iteration": step,
                "messages": document.messages,
                "tool_results": document.tool_results,
            }
        )
        path = self._directory / f"{_session_id(session)}-{step}.json"
        temporary = path.with_suffix(".tmp")
        async with aiofiles.open(temporary, "w", encoding="utf-8") as file:
            await file.write(text)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, path)
        self._last[session] = path

    async def load(self, session: int) -> object:
        async with aiofiles.open(self._last[session], encoding="utf-8") as file:
            return json.loads(await file.read())

    async def close(self) -> None:
        pass


class Floor(Saver):
    """The least that a durable save can cost: one hop, one pwrite in place, one fdatasync."""

    name = FLOOR
    durable = "yes: bytes in a preallocated file, nothing else"

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor
        self._descriptor: int
        self._offset = 0

    async def open(self, workload: Workload) -> None:
        self._pool = ThreadPoolExecutor(min(_FLOOR_THREADS, workload.sessions))
        self._offset = 0
        await self._hop(lambda: self._preallocate(workload.directory / "floor"))

    def _preallocate(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.pwrite(self._descriptor, bytes(_FLOOR_FILE_BYTES), 0)
        os.fsync(self._descriptor)

    async def _hop(self, work: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def save(self, session: int, step: int, document: Document) -> None:
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


def import_rivals() -> None:
    """Import what is installed of other packages, which takes seconds the first time."""
    for module in ("agent_framework", "langgraph.checkpoint.sqlite.aio"):
        with suppress(ImportError):
            importlib.import_module(module)


class _RustTask(Struct):
    directory: str
    sessions: int
    seconds: float
    min_saves: int
    documents: list[msgspec.Raw]


class _RustReport(Struct):
    elapsed_seconds: float
    latencies_ns: list[int]


class RustCrate:
    """The real crate on a multi-threaded tokio runtime, in a process of its own."""

    name = RUST
    durable = "file and its directory yes, a new session's own directory no"

    async def run(self, workload: Workload) -> Run:
        """Carry out a workload in the Rust program; the first saves are not measured."""
        task = _RustTask(
            str(workload.directory),
            workload.sessions,
            workload.seconds,
            workload.min_saves,
            [msgspec.Raw(document.text) for document in workload.documents],
        )
        process = await asyncio.create_subprocess_exec(
            rust_program(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate(msgspec.json.encode(task))
        if process.returncode:
            raise UnavailableError(f"its program ended with status {process.returncode}")
        report = msgspec.json.decode(output, type=_RustReport)
        latencies = [nanoseconds / 1e9 for nanoseconds in report.latencies_ns]
        return Run(latencies, report.elapsed_seconds, report.elapsed_seconds)


def rust_program() -> Path:
    """
    Return the built Rust program.

    Raises:
        UnavailableError: it is not built.
    """
    target = Path(os.environ.get("CARGO_TARGET_DIR", _RUST_DIRECTORY / "target"))
    program = target / "release" / _RUST_PROGRAM
    if program.exists():
        return program
    if shutil.which("cargo") is None:
        raise UnavailableError("needs Rust: https://rustup.rs")
    raise UnavailableError("not built: run `cargo build --release --locked` in benchmarks/rust")


def journal(files: LocalFiles | None = None) -> Ours:
    """Return this library as it comes."""
    return Ours(JOURNAL, "journal", "yes: shared journal, replayed on opening", files)


def file(files: LocalFiles | None = None) -> Ours:
    """Return this library with two fsyncs for each save."""
    return Ours(FILE, "file", "yes: file and directory synced", files)


def none() -> Ours:
    """Return this library without any fsync."""
    return Ours(NONE, "none", "NO: asked not to sync")


Loader: TypeAlias = Ours | Sqlite | Microsoft | Plain


def loaders() -> list[Loader]:
    """Return those that load what they saved."""
    return [journal(), Sqlite(), Microsoft(), Plain()]


def contenders() -> list[Contender]:
    """Return all, in the order of the tables."""
    return [
        journal(), file(), none(), Sqlite(), Microsoft(), Plain(), RustCrate(), Floor(),
    ]  # fmt: skip
