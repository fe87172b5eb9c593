"""On one PostgreSQL: how many durable saves, and runs of graphs, a second; for how much log?"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from benchmarks.documents import Document, growing_documents, size_label
from benchmarks.postgres_graphs import graphs
from benchmarks.postgres_server import make_database, postgres_server
from benchmarks.report import Answer, Bound, Row, Spread, Table, quantile, ratios
from benchmarks.rounds import Settings, UnavailableError, in_child, interleaved, start_together
from benchmarks.saving import Job, Run, Stopwatch

OURS = "aiocheckpoint"
UNPREPARED = "aiocheckpoint, no statements prepared"
LANGGRAPH = "AsyncPostgresSaver"
NOTES = [
    "One server for all, fsync on; each run has its own database. Returned means committed.",
    "Documents: each is another one, and shares about half of its text with the one before.",
    "Conversation: grows message by message, from half the size to one and a half, then another.",
    "WAL: what the server's log grows by right after a checkpoint, where pages are written whole.",
    "WAL later: the same in a second run of half the time, long after the checkpoint.",
    "Disk: what the database grew by in both.",
    f"{LANGGRAPH} as its documentation has it for many users: on a pool of 10 connections.",
]
Workload = Literal["documents", "conversation"]
_CASES: tuple[tuple[Workload, int], ...] = (
    ("documents", 1), ("documents", 32), ("conversation", 32),
)  # fmt: skip
_QUICK_CASES: tuple[tuple[Workload, int], ...] = (("conversation", 4),)


class PostgresJob(Struct, frozen=True, kw_only=True):
    """
    What one process does.

    Attributes:
        job: whose saves, where and how long.
        workload: what they save.
    """

    job: Job
    workload: Workload

    def document(self, number: int, step: int) -> Document:
        """Return what a session saves in a step."""
        if self.workload == "documents":
            return self.job.document(number, step)
        while True:
            conversation = growing_documents(self.job.size_bytes, number)
            if step < len(conversation):
                return conversation[step]
            step -= len(conversation)
            number = (number + 7) % 26


class PostgresRun(Struct, frozen=True, kw_only=True):
    """
    What a job took.

    Attributes:
        run: of its saves, right after a checkpoint of the server.
        wal_per_save: bytes of the server's log, in the same time.
        later_wal_per_save: the same, long after the checkpoint.
        disk_per_save: bytes that the database grew by in both.
    """

    run: Run
    wal_per_save: float
    later_wal_per_save: float
    disk_per_save: float


class _Saver:
    @abstractmethod
    async def open(self, url: str) -> None: ...

    @abstractmethod
    async def save(self, session: str, step: int, document: Document) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...


class _Ours(_Saver):
    def __init__(self, statement_cache_size: int | None) -> None:
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
        values: dict[str, Any] = {"messages": document.messages}
        if document.tool_results is not None:
            values["tool_results"] = document.tool_results
        checkpoint["channel_values"] = values
        versions = dict.fromkeys(values, str(step))
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
    return _Ours(0 if contender == UNPREPARED else None)


def measure(task: PostgresJob) -> PostgresRun:
    """Carry out a job in this process; `directory` holds the URL."""
    return asyncio.run(_measure(task))


async def _measure(task: PostgresJob) -> PostgresRun:
    import asyncpg

    job = task.job
    url = await asyncio.to_thread((job.directory / "url").read_text)
    saver = _saver(job.contender)
    connection: Any = await asyncpg.connect(url)
    await saver.open(url)
    try:
        await asyncio.gather(
            *(saver.save(job.session(n), 0, task.document(n, 0)) for n in range(job.sessions))
        )
        await connection.execute("checkpoint")
        await asyncio.to_thread(start_together)
        before = await connection.fetchrow(_TAKEN)
        watch = Stopwatch()
        steps = await _phase(saver, task, [0] * job.sessions, job.seconds, watch)
        watch.end()
        run = watch.closed(len(watch.latencies_seconds))
        middle = await connection.fetchrow(_TAKEN)
        later = Stopwatch()
        await _phase(saver, task, steps, job.seconds / 2, later)
        after = await connection.fetchrow(_TAKEN)
    finally:
        await saver.close()
        await connection.close()
    later_saves = len(later.latencies_seconds)
    return PostgresRun(
        run=run,
        wal_per_save=float(middle[0] - before[0]) / run.saves,
        later_wal_per_save=float(after[0] - middle[0]) / later_saves,
        disk_per_save=(after[1] - before[1]) / (run.saves + later_saves),
    )


_TAKEN = "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(current_database())"


async def _phase(
    saver: _Saver, task: PostgresJob, steps: Sequence[int], seconds: float, watch: Stopwatch
) -> list[int]:
    """Let every session save for some time, and return how far each has come."""
    until = time.perf_counter() + seconds
    lives = (_live(saver, task, n, step, until, watch) for n, step in enumerate(steps))
    return await asyncio.gather(*lives)


async def _live(
    saver: _Saver, task: PostgresJob, number: int, step: int, until: float, watch: Stopwatch
) -> int:
    start = 0.0
    while start < until:
        step += 1
        document = task.document(number, step)
        start = time.perf_counter()
        await saver.save(task.job.session(number), step, document)
        end = time.perf_counter()
        watch.latencies_seconds.append(end - start)
        start = end
    return step


def run(settings: Settings) -> Answer:
    """Return a table of values, one of ratios, and the bounds."""
    try:
        with postgres_server(settings.directory) as url:
            saves, runs = _answer(settings, url), graphs(settings, url)
            return Answer([*saves.tables, *runs.tables], [*saves.bounds, *runs.bounds])
    except UnavailableError as error:
        print(f"Not measured: {error}")
        return Answer([], [])


def _answer(settings: Settings, url: str) -> Answer:
    count = 0

    def measured(case: tuple[Workload, int, str], directory: Path) -> PostgresRun:
        nonlocal count
        count += 1
        workload, sessions, contender = case
        name = f"run_{count}"
        asyncio.run(make_database(url.format("postgres"), name))
        (directory / "url").write_text(url.format(name), encoding="utf-8")
        job = Job.of(settings, contender, directory, sessions)
        return in_child(measure, PostgresJob(job=job, workload=workload))

    contenders = (OURS, UNPREPARED, LANGGRAPH)
    chosen = _QUICK_CASES if settings.is_quick else _CASES
    cases = [(*case, contender) for case in chosen for contender in contenders]
    results = interleaved(settings, cases, measured)
    values: list[Row] = [_row(*case, runs) for case, runs in results.items()]
    ratio_rows: list[Row] = []
    bounds: list[Bound] = []
    for workload, sessions, contender in results:
        theirs = results.get((workload, sessions, LANGGRAPH))
        if contender == LANGGRAPH or theirs is None:
            continue
        compared = _compared(results[workload, sessions, contender], theirs)
        first: Row = {"of": workload, "sessions": sessions, "contender": contender}
        ratio_rows.append({**first, **compared})
        if contender == OURS and sessions == _CASES[-1][1]:
            subject = f"PostgreSQL, {workload}, sessions: {sessions}, of {LANGGRAPH}'s"
            bounds.append(
                Bound(f"saves/s, {subject}", compared["saves/s"], 3.0, 3.0, is_least=True)
            )
            bounds.append(
                Bound(f"WAL a save, {subject}", compared["WAL a save"], 0.5, 0.5, is_least=False)
            )
            bounds.append(
                Bound(f"WAL later, {subject}", compared["WAL later"], 0.5, 0.5, is_least=False)
            )
    size = size_label(settings.size_bytes)
    tables = [
        Table(f"Saves of {size} in PostgreSQL", values, [*NOTES, *results.notes()]),
        Table(f"Saves of {size} in PostgreSQL: ours / {LANGGRAPH}", ratio_rows),
    ]
    return Answer([table for table in tables if table.rows], bounds)


def _row(workload: Workload, sessions: int, contender: str, runs: Sequence[PostgresRun]) -> Row:
    latencies = [latency for each in runs for latency in each.run.latencies_seconds]
    return {
        "of": workload,
        "sessions": sessions,
        "contender": contender,
        "saves/s": Spread.of(each.run.per_second for each in runs),
        "CPU us a save": Spread.of(each.run.cpu_us for each in runs),
        "median ms": quantile(latencies, 0.5) * 1e3,
        "p99 ms": quantile(latencies, 0.99) * 1e3,
        "WAL a save": Spread.of(each.wal_per_save for each in runs),
        "WAL later": Spread.of(each.later_wal_per_save for each in runs),
        "disk a save": Spread.of(each.disk_per_save for each in runs),
    }


def _compared(one: Sequence[PostgresRun], other: Sequence[PostgresRun]) -> dict[str, Spread]:
    def ratio(number: Any) -> Spread:
        return ratios(map(number, one), map(number, other))

    return {
        "saves/s": ratio(lambda each: each.run.per_second),
        "CPU a save": ratio(lambda each: each.run.cpu_us),
        "median latency": ratio(lambda each: each.run.median_seconds),
        "WAL a save": ratio(lambda each: each.wal_per_save),
        "WAL later": ratio(lambda each: each.later_wal_per_save),
        "disk a save": ratio(lambda each: each.disk_per_save),
    }
