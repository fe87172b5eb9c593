"""On one PostgreSQL: how many durable saves a second, for how much of its log?"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.documents import Document, size_label
from benchmarks.postgres_server import postgres_server
from benchmarks.report import Answer, Bound, Row, Spread, Table, quantile, ratios
from benchmarks.rounds import Settings, UnavailableError, in_child, interleaved, start_together
from benchmarks.saving import Job, Run, Stopwatch

OURS = "aiocheckpoint"
PREPARED = "aiocheckpoint, statements prepared"
LANGGRAPH = "AsyncPostgresSaver"
NOTES = [
    "One server for all, fsync on; each run has its own database. Returned means committed.",
    "WAL: what the server's log grows by, with full pages after a checkpoint of the server.",
    f"{LANGGRAPH} as its documentation has it for many users: on a pool of 10 connections.",
]
_SESSIONS = (1, 32)


class PostgresRun(Struct, frozen=True, kw_only=True):
    """
    What a job took.

    Attributes:
        run: of its saves.
        wal_bytes: of the server's log.
    """

    run: Run
    wal_bytes: int

    @property
    def wal_per_save(self) -> float:
        """Bytes of the log for each save."""
        return self.wal_bytes / self.run.saves


class _Saver:
    @abstractmethod
    async def open(self, url: str) -> None: ...

    @abstractmethod
    async def save(self, session: str, step: int, document: Document) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...


class _Ours(_Saver):
    def __init__(self, statement_cache_size: int) -> None:
        self._statement_cache_size = statement_cache_size
        self._store: Any = None

    async def open(self, url: str) -> None:
        from aiocheckpoint.stores.postgres import PostgresStore

        self._store = PostgresStore(url, statement_cache_size=self._statement_cache_size)

    async def save(self, session: str, step: int, document: Document) -> None:
        await self._store.save(document.checkpoint(session, step))

    async def close(self) -> None:
        await self._store.aclose()


class _LangGraph(_Saver):
    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._saver: Any = None
        self._parents: dict[str, str] = {}

    async def open(self, url: str) -> None:
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
            from psycopg.rows import dict_row
            from psycopg_pool import AsyncConnectionPool
        except ImportError as error:
            raise UnavailableError(
                "pip install langgraph-checkpoint-postgres 'psycopg[binary,pool]'"
            ) from error
        kwargs: Any = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        pool: Any = AsyncConnectionPool(url, max_size=10, open=False, kwargs=kwargs)
        await self._stack.enter_async_context(pool)
        self._saver = AsyncPostgresSaver(pool)
        await self._saver.setup()

    async def save(self, session: str, step: int, document: Document) -> None:
        from langgraph.checkpoint.base import empty_checkpoint

        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {
            "messages": document.messages,
            "tool_results": document.tool_results,
        }
        versions = {"messages": str(step), "tool_results": str(step)}
        checkpoint["channel_versions"] = dict(versions)
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

    async def close(self) -> None:
        await self._stack.aclose()


def _saver(contender: str) -> _Saver:
    if contender == LANGGRAPH:
        return _LangGraph()
    return _Ours(100 if contender == PREPARED else 0)


def measure(job: Job) -> PostgresRun:
    """Carry out a job in this process; `directory` holds the URL."""
    return asyncio.run(_measure(job))


async def _measure(job: Job) -> PostgresRun:
    import asyncpg

    url = await asyncio.to_thread((job.directory / "url").read_text)
    saver = _saver(job.contender)
    connection: Any = await asyncpg.connect(url)
    await saver.open(url)
    try:
        await asyncio.gather(
            *(saver.save(job.session(n), 0, job.document(n, 0)) for n in range(job.sessions))
        )
        await connection.execute("checkpoint")
        await asyncio.to_thread(start_together)
        before = await connection.fetchval(_POSITION)
        watch = Stopwatch()
        until = time.perf_counter() + job.seconds
        await asyncio.gather(*(_live(saver, job, n, until, watch) for n in range(job.sessions)))
        watch.end()
        after = await connection.fetchval(_POSITION)
    finally:
        await saver.close()
        await connection.close()
    return PostgresRun(
        run=watch.closed(len(watch.latencies_seconds)), wal_bytes=int(after - before)
    )


_POSITION = "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


async def _live(saver: _Saver, job: Job, number: int, until: float, watch: Stopwatch) -> None:
    step = 0
    start = 0.0
    while start < until:
        step += 1
        start = time.perf_counter()
        await saver.save(job.session(number), step, job.document(number, step))
        end = time.perf_counter()
        watch.latencies_seconds.append(end - start)
        start = end


def run(settings: Settings) -> Answer:
    """Return a table of values, one of ratios, and the bounds."""
    try:
        with postgres_server(settings.directory) as url:
            return _answer(settings, url)
    except UnavailableError as error:
        print(f"Not measured: {error}")
        return Answer([], [])


def _answer(settings: Settings, url: str) -> Answer:
    count = 0

    def measured(case: tuple[int, str], directory: Path) -> PostgresRun:
        nonlocal count
        count += 1
        sessions, contender = case
        name = f"run_{count}"
        asyncio.run(_make_database(url.format("postgres"), name))
        (directory / "url").write_text(url.format(name), encoding="utf-8")
        return in_child(measure, Job.of(settings, contender, directory, sessions))

    contenders = (OURS, PREPARED, LANGGRAPH)
    cases = [(n, c) for n in ((1, 4) if settings.is_quick else _SESSIONS) for c in contenders]
    results = interleaved(settings, cases, measured)
    values: list[Row] = [_row(*case, runs) for case, runs in results.items()]
    ratio_rows: list[Row] = []
    bounds: list[Bound] = []
    for sessions, contender in results:
        if contender == LANGGRAPH or (sessions, LANGGRAPH) not in results:
            continue
        compared = _compared(results[sessions, contender], results[sessions, LANGGRAPH])
        ratio_rows.append({"sessions": sessions, "contender": contender, **compared})
        if contender == OURS and sessions == _SESSIONS[-1]:
            subject = f"PostgreSQL, sessions: {sessions}, of {LANGGRAPH}'s"
            bounds.append(
                Bound(f"saves/s, {subject}", compared["saves/s"], 3.0, 3.0, is_least=True)
            )
            bounds.append(
                Bound(f"WAL a save, {subject}", compared["WAL a save"], 0.5, 0.5, is_least=False)
            )
    size = size_label(settings.size_bytes)
    tables = [
        Table(f"Saves of {size} in PostgreSQL", values, [*NOTES, *results.notes()]),
        Table(f"Saves of {size} in PostgreSQL: ours / {LANGGRAPH}", ratio_rows),
    ]
    return Answer([table for table in tables if table.rows], bounds)


async def _make_database(url: str, name: str) -> None:
    import asyncpg

    connection: Any = await asyncpg.connect(url)
    await connection.execute(f"create database {name}")
    await connection.close()


def _row(sessions: int, contender: str, runs: Sequence[PostgresRun]) -> Row:
    latencies = [latency for each in runs for latency in each.run.latencies_seconds]
    return {
        "sessions": sessions,
        "contender": contender,
        "saves/s": Spread.of(each.run.per_second for each in runs),
        "CPU us a save": Spread.of(each.run.cpu_us for each in runs),
        "median ms": quantile(latencies, 0.5) * 1e3,
        "p99 ms": quantile(latencies, 0.99) * 1e3,
        "WAL a save": Spread.of(each.wal_per_save for each in runs),
    }


def _compared(one: Sequence[PostgresRun], other: Sequence[PostgresRun]) -> dict[str, Spread]:
    def ratio(number: Any) -> Spread:
        return ratios(map(number, one), map(number, other))

    return {
        "saves/s": ratio(lambda each: each.run.per_second),
        "CPU a save": ratio(lambda each: each.run.cpu_us),
        "median latency": ratio(lambda each: each.run.median_seconds),
        "WAL a save": ratio(lambda each: each.wal_per_save),
    }
