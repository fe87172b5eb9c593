"""How many durable saves a second, and how long does one take?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from benchmarks import contenders as who
from benchmarks.documents import KB, MB, documents, size_label
from benchmarks.harness import (
    Contender,
    Results,
    Run,
    Settings,
    Workload,
    fresh_directory,
    interleaved,
)
from benchmarks.report import Cell, Spread, Table, quantile, ratios

_SESSIONS = (1, 32, 256)
_SIZES = (1 * KB, 8 * KB, 100 * KB, 1 * MB, 10 * MB)
_LARGE_BYTES = 1 * MB
_SYNC_DELAYS_MS = (1, 4)
_NOTES = [
    (
        "Every session saves its next document when the last save has returned; its first is not"
        " counted. Median (p10-p90) over rounds; latencies over all saves of all rounds."
    ),
    "`until closed` also counts the time of closing, in which `journal` flushes what is left.",
    (
        "`journal / this`: saves a second of the default durability over this row's, round by"
        " round. Below 1 for the floor, which encodes nothing and makes no file."
    ),
    (
        "The Rust crate's saves block the runtime's threads: sessions that wait for one count in"
        " its saves/s, not in its latencies."
    ),
    "By number of sessions all contenders ran interleaved; tables of different numbers did not.",
]


async def run(settings: Settings) -> list[Table]:
    """Return tables by number of sessions and by size, and how the goals were met."""
    sizes, counts = ((1 * KB, 8 * KB), (1, 4)) if settings.is_quick else (_SIZES, _SESSIONS)
    rivals = who.contenders()
    by_sessions = {
        sessions: await _measured(settings, rivals, sessions, 8 * KB) for sessions in counts
    }
    tables = [
        _table(f"Saves of 8 KB, {_sessions(sessions)}", rivals, results)
        for sessions, results in by_sessions.items()
    ]
    tables[0].notes.extend(_NOTES)
    if not settings.is_quick:
        tables.append(_goals(by_sessions))
        tables += [await _with_slow_syncs(settings, delay_ms) for delay_ms in _SYNC_DELAYS_MS]
    for size in sizes:
        is_known = size == 8 * KB
        results = by_sessions[1] if is_known else await _measured(settings, rivals, 1, size)
        tables.append(_table(f"Saves of {size_label(size)}, 1 session", rivals, results))
    return tables


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions at once"


async def _measured(
    settings: Settings,
    rivals: Sequence[Contender],
    sessions: int,
    size_bytes: int,
    sync_delay_ms: int = 0,
) -> Results[Run]:
    different = documents(size_bytes, 16 if size_bytes < _LARGE_BYTES else 2)

    async def measure(contender: Contender, round_number: int) -> Run:
        directory = fresh_directory(
            settings, "save", sessions, size_bytes, sync_delay_ms, contender.name, round_number
        )
        workload = Workload(
            directory=directory, sessions=sessions, seconds=settings.seconds, documents=different
        )
        return await contender.run(workload)

    return await interleaved(settings, rivals, measure)


async def _with_slow_syncs(settings: Settings, delay_ms: int) -> Table:
    """Return how group commit compares where a sync takes longer than on this disk."""
    files = who.SlowSyncs(delay_ms / 1e3)
    rows: list[dict[str, Cell]] = []
    for sessions in _SESSIONS:
        rivals = [who.journal(files), who.file(files)]
        results = await _measured(settings, rivals, sessions, 8 * KB, delay_ms)
        speeds = {
            f"{name} saves/s": Spread.of(run.saves_per_second for run in results[name])
            for name in (who.JOURNAL, who.FILE)
        }
        ratio = _speed_ratio(results, who.JOURNAL, who.FILE)
        rows.append({"sessions": sessions, **speeds, "journal / file": ratio})
    note = "Simulated: each sync of this disk, with so long a wait in the thread before it."
    return Table(f"Saves of 8 KB, every sync {delay_ms} ms longer", rows, [note])


def _table(title: str, rivals: Sequence[Contender], results: Results[Run]) -> Table:
    missing = [f"{name}: {reason}" for name, reason in results.unavailable.items()]
    rows = [_row(contender, results) for contender in rivals if contender.name in results]
    return Table(title, rows, missing)


def _row(contender: Contender, results: Results[Run]) -> dict[str, Cell]:
    runs = results[contender.name]
    latencies = list(chain.from_iterable(run.latencies_seconds for run in runs))
    return {
        "contender": contender.name,
        "saves/s": Spread.of(run.saves_per_second for run in runs),
        "until closed": Spread.of(run.settled_saves_per_second for run in runs),
        "median ms": quantile(latencies, 0.5) * 1e3,
        "p99 ms": quantile(latencies, 0.99) * 1e3,
        "journal / this": _speed_ratio(results, who.JOURNAL, contender.name),
        "durable on return": contender.durable,
    }


def _speed_ratio(results: Results[Run], one: str, other: str) -> Spread:
    return ratios(*([run.saves_per_second for run in results[name]] for name in (one, other)))


def _latency_ratio(results: Results[Run], one: str, other: str) -> Spread:
    return ratios(
        *([quantile(run.latencies_seconds, 0.5) for run in results[name]] for name in (one, other))
    )


def _goals(by_sessions: dict[int, Results[Run]]) -> Table:
    speed = [(32, who.FILE, 4.0), (32, who.SQLITE, 5.0), (256, who.FILE, 8.0)]
    latency = [(1, who.FLOOR, 1.3), (1, who.SQLITE, 1.0)]
    rows: list[dict[str, Cell]] = []
    for sessions, other, least in speed:
        if other in by_sessions[sessions]:
            found = _speed_ratio(by_sessions[sessions], who.JOURNAL, other)
            goal = f"{_sessions(sessions)}: saves/s at least {least:g} x {other}"
            rows.append({"goal": goal, "ratio": found, "met": _met(is_met=found.median >= least)})
    for sessions, other, most in latency:
        if other in by_sessions[sessions]:
            found = _latency_ratio(by_sessions[sessions], who.JOURNAL, other)
            goal = f"{_sessions(sessions)}: median latency at most {most:g} x {other}"
            rows.append({"goal": goal, "ratio": found, "met": _met(is_met=found.median <= most)})
    return Table("Goals of saving, 8 KB documents", rows)


def _met(*, is_met: bool) -> str:
    return "yes" if is_met else "NO"
