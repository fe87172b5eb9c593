"""Real LangGraph graphs on one PostgreSQL, ours beside LangGraph's own saver."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.bench_langgraph import Case, GraphJob, Point, graph_runs
from benchmarks.graphs import ASYNC_SAVERS, GRAPHS, OURS, GraphSaver
from benchmarks.postgres_server import make_database
from benchmarks.report import Answer, Bound, Row, Spread, Table, ratios
from benchmarks.rounds import Settings, UnavailableError, in_child, interleaved
from benchmarks.saving import Run

LANGGRAPH = "AsyncPostgresSaver"
UNPREPARED = "CheckpointSaver, no statements prepared"
_THREADS = (1, 32)
_DURABILITIES = ("sync", "async")
_NOTES = [
    "Runs of a compiled graph, by `ainvoke`; a thread begins anew after 10 runs.",
    f"{LANGGRAPH} prepares its statements; {UNPREPARED}: as through PgBouncer.",
]


@asynccontextmanager
async def _theirs(directory: Path) -> AsyncIterator[GraphSaver]:
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool
    except ImportError as error:
        raise UnavailableError(
            "pip install langgraph-checkpoint-postgres 'psycopg[binary,pool]'"
        ) from error
    kwargs: Any = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    url = await asyncio.to_thread((directory / "url").read_text)
    pool: Any = AsyncConnectionPool(url, max_size=10, open=False, kwargs=kwargs)
    async with pool:
        saver: Any = AsyncPostgresSaver(pool)
        await saver.setup()
        yield saver


def _ours(directory: Path) -> AbstractAsyncContextManager[GraphSaver]:
    from aiocheckpoint.adapters.langgraph import CheckpointSaver

    return CheckpointSaver((directory / "url").read_text(encoding="utf-8"))


@asynccontextmanager
async def _unprepared(directory: Path) -> AsyncIterator[GraphSaver]:
    from aiocheckpoint.adapters.langgraph import CheckpointSaver, ThreadRecord
    from aiocheckpoint.stores.postgres import PostgresStore

    url = await asyncio.to_thread((directory / "url").read_text)
    async with (
        PostgresStore(url, record_type=ThreadRecord, statement_cache_size=0) as store,
        CheckpointSaver(store) as saver,
    ):
        yield saver


def measure(job: GraphJob) -> Run:
    """Run a graph in this process; `directory` holds the URL."""
    ASYNC_SAVERS.update({LANGGRAPH: _theirs, OURS: _ours, UNPREPARED: _unprepared})
    return graph_runs(job)


def graphs(settings: Settings, url: str) -> Answer:
    """Return a table of all graphs, and the bound."""
    numbers = itertools.count()

    def measured(case: Case, directory: Path) -> Run:
        name = f"graphs_{next(numbers)}"
        asyncio.run(make_database(url.format("postgres"), name))
        (directory / "url").write_text(url.format(name), encoding="utf-8")
        return in_child(measure, GraphJob(case, directory, settings.seconds))

    points = [
        Point("ainvoke", threads, graph, durability)
        for threads in ((1,) if settings.is_quick else _THREADS)
        for graph in (("chat",) if settings.is_quick else tuple(GRAPHS))
        for durability in (("sync",) if settings.is_quick else _DURABILITIES)
    ]
    cases = [Case(point, saver) for point in points for saver in (OURS, UNPREPARED, LANGGRAPH)]
    results = interleaved(settings, cases, measured)
    rows: list[Row] = []
    ratio_rows: list[Row] = []
    compared: dict[tuple[int, str], list[Spread]] = {}
    for case, runs in results.items():
        theirs = results.get(Case(case.point, LANGGRAPH))
        row: Row = {**case.point._asdict(), "saver": case.saver}
        rows.append({**row, "runs/s": Spread.of(run.per_second for run in runs)})
        if theirs and case.saver != LANGGRAPH:
            ratio = ratios((r.per_second for r in runs), (r.per_second for r in theirs))
            compared.setdefault((case.point.threads, case.saver), []).append(ratio)
            ratio_rows.append({**row, f"of {LANGGRAPH}'s": ratio})
    means: list[Row] = [
        {"threads": threads, "saver": saver, f"of {LANGGRAPH}'s": _mean(spreads)}
        for (threads, saver), spreads in compared.items()
    ]
    bounds = [
        _bound(_mean(spreads))
        for (threads, saver), spreads in compared.items()
        if (threads, saver) == (1, OURS)
    ]
    notes = [*_NOTES, *results.notes()]
    tables = [
        Table("LangGraph graphs in PostgreSQL", rows, notes),
        Table(f"LangGraph graphs in PostgreSQL: of {LANGGRAPH}'s", ratio_rows),
        Table("LangGraph graphs in PostgreSQL: geometric means", means),
    ]
    return Answer([table for table in tables if table.rows], bounds)


def _mean(spreads: Sequence[Spread]) -> Spread:
    by_round = zip(*(spread.rounds for spread in spreads), strict=True)
    return Spread.of(map(geometric_mean, by_round))


def _bound(mean: Spread) -> Bound:
    what = f"PostgreSQL, graph runs/s of {LANGGRAPH}'s, threads: 1, geometric mean"
    return Bound(what, mean, 1.0, 1.0)
