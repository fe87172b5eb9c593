"""How many saves a second for long, when files have to keep up?"""

from __future__ import annotations

from msgspec.structs import replace

from benchmarks.bench_save import NOTES
from benchmarks.documents import size_label
from benchmarks.report import Answer, Bound, Row, Table
from benchmarks.rounds import Settings
from benchmarks.savers import JOURNAL, SQLITE
from benchmarks.saving import compared, measured, rows

_SESSIONS = 32


def run(settings: Settings) -> Answer:
    """Return a table of values, one of ratios, and the bound."""
    sessions = 4 if settings.is_quick else _SESSIONS
    long = replace(settings, seconds=settings.sustained_seconds)
    results = measured(long, (JOURNAL, SQLITE), sessions)
    comparison = compared(results[JOURNAL], results[SQLITE])
    size = size_label(settings.size_bytes)
    title = f"Saves of {size} for {long.seconds:g} s"
    columns: Row = {"sessions": sessions}
    return Answer(
        [
            Table(title, rows(results, columns), NOTES),
            Table(f"{title}: {JOURNAL} / {SQLITE}", [{**columns, **comparison}]),
        ],
        [
            Bound(f"{what}, sustained, of {SQLITE}'s", comparison[what], 3.5, 4.0)
            for what in ("saves/s", "until closed")
        ],
    )
