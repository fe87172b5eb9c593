"""How many durable saves a second, until acknowledged and until closed, for how much CPU?"""

from __future__ import annotations

from benchmarks.documents import size_label
from benchmarks.report import Answer, Bound, Row, Spread, Table
from benchmarks.rounds import Settings
from benchmarks.savers import JOURNAL, SQLITE
from benchmarks.saving import compared, measured, rows

NOTES = [
    "`until closed` counts the closing too: all files written and synced. CPU counts both.",
    "Latencies are over all saves of all rounds.",
]
_SESSIONS = (1, 32, 256)
_BOUNDS = [
    (1, "saves/s", 1.1, 1.3),
    (32, "saves/s", 4.5, 6.0),
    (256, "saves/s", 5.0, 8.0),
    (32, "until closed", 3.5, 4.5),
    (256, "until closed", 3.5, 4.5),
    (32, "CPU a save", 0.6, 0.4),
]


def run(settings: Settings) -> Answer:
    """Return a table of values, one of ratios, and the bounds."""
    found: list[Row] = []
    comparisons: dict[int, dict[str, Spread]] = {}
    for sessions in (1, 4) if settings.is_quick else _SESSIONS:
        results = measured(settings, (JOURNAL, SQLITE), sessions)
        found += rows(results, {"sessions": sessions})
        comparisons[sessions] = compared(results[JOURNAL], results[SQLITE])
    size = size_label(settings.size_bytes)
    ratios: list[Row] = [{"sessions": n, **spreads} for n, spreads in comparisons.items()]
    tables = [
        Table(f"Saves of {size}", found, NOTES),
        Table(f"Saves of {size}: {JOURNAL} / {SQLITE}", ratios),
    ]
    return Answer(tables, _bounds(comparisons))


def _bounds(comparisons: dict[int, dict[str, Spread]]) -> list[Bound]:
    return [
        Bound(
            f"{what}, sessions: {sessions}, of {SQLITE}'s",
            comparisons[sessions][what],
            limit,
            aim,
            is_least=what != "CPU a save",
        )
        for sessions, what, limit, aim in _BOUNDS
        if sessions in comparisons
    ]
