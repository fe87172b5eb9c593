"""How do the other durabilities, stores and ways to save a file compare?"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench_save import NOTES
from benchmarks.contenders import AIOFILES, SAVERS
from benchmarks.documents import size_label
from benchmarks.report import Answer, Row, Table
from benchmarks.rounds import Settings
from benchmarks.rust_crate import DURABLE, RUST, rust_saves
from benchmarks.savers import FILE, FLOOR, JOURNAL, NONE, SQLITE
from benchmarks.saving import Job, Run, measured, ratio, saves, values

_CONTENDERS = (JOURNAL, FILE, NONE, SQLITE, AIOFILES, RUST, FLOOR)
_SESSIONS = (1, 32, 256)
_NOTES = [
    *NOTES,
    f"`{JOURNAL} / this` is of saves/s until acknowledged, round by round.",
    (
        "The Rust crate's saves block the runtime's threads: sessions that wait for one count in"
        " its saves/s, not in its latencies."
    ),
]


def run(settings: Settings) -> Answer:
    """Return a table for each number of sessions."""
    tables = [_table(settings, sessions) for sessions in ((4,) if settings.is_quick else _SESSIONS)]
    return Answer(tables)


def _table(settings: Settings, sessions: int) -> Table:
    results = measured(settings, _CONTENDERS, sessions, _work_of)
    rows: list[Row] = []
    for name, runs in results.items():
        speed = ratio(results[JOURNAL], runs, lambda run: run.per_second)
        rows.append(
            {
                "contender": name,
                **values(runs),
                f"{JOURNAL} / this": speed,
                "durable on return": DURABLE if name == RUST else SAVERS[name]().durable,
            }
        )
    at_once = "1 session" if sessions == 1 else f"{sessions} sessions"
    title = f"Saves of {size_label(settings.size_bytes)} by all contenders, {at_once}"
    return Table(title, rows, [*_NOTES, *results.notes()])


def _work_of(contender: str) -> Callable[[Job], Run]:
    return rust_saves if contender == RUST else saves
