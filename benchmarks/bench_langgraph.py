"""How many runs a second do real LangGraph graphs make?"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.graphs import ASYNC_SAVERS, GRAPHS, NOTHING, OURS, SQLITE, SYNC_SAVERS
from benchmarks.report import Answer, Bound, Row, Spread, Table, ratios
from benchmarks.rounds import Results, Settings, in_child, interleaved
from benchmarks.saving import Run, Stopwatch

Call = Literal["ainvoke", "invoke"]

_CALLS: tuple[Call, ...] = ("ainvoke", "invoke")
_DURABILITIES = ("sync", "async")
_SAVERS = (OURS, SQLITE, NOTHING)
_BOUNDS = {1: (1.15, 1.4), 32: (2.0, 2.5)}
_TURNS_OF_A_THREAD = 10
_NOTES = [
    "Runs of a compiled graph, all threads together; a thread begins anew after 10 runs.",
    "`ainvoke` with AsyncSqliteSaver, `invoke` with SqliteSaver and a thread of its own for each.",
    "The last column is what a saver could reach: the rest is LangGraph's own work.",
]


class Point(NamedTuple):
    """What is run."""

    call: Call
    threads: int
    graph: str
    durability: str


class Case(NamedTuple):
    """What is run on which saver."""

    point: Point
    saver: str


class GraphJob(NamedTuple):
    """What a process does."""

    case: Case
    directory: Path
    seconds: float


def run(settings: Settings) -> Answer:
    """Return a table of all graphs, one of their means, and the bounds."""
    means: list[Row] = []
    rows: list[Row] = []
    bounds: list[Bound] = []
    for call, threads in itertools.product(_CALLS, (4,) if settings.is_quick else (1, 32)):
        graphs = ("chat",) if settings.is_quick else tuple(GRAPHS)
        durabilities = ("async",) if settings.is_quick else _DURABILITIES
        products = itertools.product(graphs, durabilities)
        points = [Point(call, threads, graph, durability) for graph, durability in products]
        results = _measured(settings, points)
        rows += [_row(point, results) for point in points]
        acknowledged, closed, limit = (
            _mean(points, results, saver, is_closed=is_closed)
            for saver, is_closed in ((OURS, False), (OURS, True), (NOTHING, False))
        )
        columns: Row = {"call": call, "threads": threads}
        ours: Row = {f"{OURS}, runs/s": acknowledged, f"{OURS}, until closed": closed}
        means.append({**columns, **ours, f"{NOTHING}, runs/s": limit})
        if call == "ainvoke" and threads in _BOUNDS:
            what = f"graph runs/s of Async{SQLITE}'s, threads: {threads}, geometric mean"
            bounds.append(Bound(what, acknowledged, *_BOUNDS[threads]))
    tables = [
        Table("Runs of LangGraph graphs", rows, _NOTES),
        Table(f"LangGraph graphs: geometric means of the ratios to {SQLITE}", means),
    ]
    return Answer(tables, bounds)


def _measured(settings: Settings, points: Sequence[Point]) -> Results[Case, Run]:
    def measure(case: Case, directory: Path) -> Run:
        return in_child(graph_runs, GraphJob(case, directory, settings.seconds))

    cases = [Case(point, saver) for point in points for saver in _SAVERS]
    return interleaved(settings, cases, measure)


def _row(point: Point, results: Results[Case, Run]) -> Row:
    found = {saver: results[Case(point, saver)] for saver in _SAVERS}
    speeds = {saver: Spread.of(run.per_second for run in found[saver]) for saver in _SAVERS}
    return {
        **point._asdict(),
        **{f"{saver}, runs/s": speed for saver, speed in speeds.items()},
        f"{OURS} / {SQLITE}": _ratio(found[OURS], found[SQLITE], is_closed=False),
        f"{NOTHING} / {SQLITE}": _ratio(found[NOTHING], found[SQLITE], is_closed=False),
    }


def _ratio(one: Sequence[Run], other: Sequence[Run], *, is_closed: bool) -> Spread:
    def speed(run: Run) -> float:
        return run.closed_per_second if is_closed else run.per_second

    return ratios(map(speed, one), map(speed, other))


def _mean(
    points: Sequence[Point], results: Results[Case, Run], saver: str, *, is_closed: bool
) -> Spread:
    by_point = [
        _ratio(results[Case(point, saver)], results[Case(point, SQLITE)], is_closed=is_closed)
        for point in points
    ]
    by_round = zip(*(spread.rounds for spread in by_point), strict=True)
    return Spread.of(map(statistics.geometric_mean, by_round))


def graph_runs(job: GraphJob) -> Run:
    """Run a graph in this process until the time is up; the first run is not measured."""
    if job.case.point.call == "ainvoke":
        return asyncio.run(_with_tasks(job))
    return _with_threads(job)


async def _with_tasks(job: GraphJob) -> Run:
    point = job.case.point
    build, inputs = GRAPHS[point.graph]
    async with ASYNC_SAVERS[job.case.saver](job.directory) as saver:
        graph = build().compile(checkpointer=saver)

        async def run(thread: int | str, number: int) -> None:
            config = _config(thread, number)
            await graph.ainvoke(inputs(number), config, durability=point.durability)

        async def run_on(thread: int) -> None:
            for number in itertools.count():
                start = time.perf_counter()
                if start >= until and number:
                    return
                await run(thread, number)
                watch.latencies_seconds.append(time.perf_counter() - start)

        await run("warm", 0)
        watch = Stopwatch()
        until = time.perf_counter() + job.seconds
        await asyncio.gather(*map(run_on, range(point.threads)))
        watch.end()
    return watch.closed(len(watch.latencies_seconds))


def _with_threads(job: GraphJob) -> Run:
    point = job.case.point
    build, inputs = GRAPHS[point.graph]
    pool = ThreadPoolExecutor(point.threads)
    with SYNC_SAVERS[job.case.saver](job.directory) as saver, pool:
        graph = build().compile(checkpointer=saver)

        def run(thread: int | str, number: int) -> None:
            config = _config(thread, number)
            graph.invoke(inputs(number), config, durability=point.durability)

        def run_on(thread: int) -> None:
            for number in itertools.count():
                start = time.perf_counter()
                if start >= until and number:
                    return
                run(thread, number)
                watch.latencies_seconds.append(time.perf_counter() - start)

        run("warm", 0)
        watch = Stopwatch()
        until = time.perf_counter() + job.seconds
        list(pool.map(run_on, range(point.threads)))
        watch.end()
    return watch.closed(len(watch.latencies_seconds))


def _config(thread: int | str, number: int) -> Any:
    return {"configurable": {"thread_id": f"{thread} {number // _TURNS_OF_A_THREAD}"}}
