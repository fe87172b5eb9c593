"""How long does one save of one session take, over the least that it could?"""

from __future__ import annotations

from benchmarks.documents import size_label
from benchmarks.report import Answer, Bound, Row, Table
from benchmarks.rounds import Settings
from benchmarks.savers import FLOOR, JOURNAL, SQLITE, UPDATE
from benchmarks.saving import Run, measured, ratio, rows

_NOTES = [
    (
        "The floor is one hop to a thread, one `pwrite` of the same bytes into a preallocated file"
        " and one `fdatasync`."
    ),
    f"{UPDATE} looks at the newest id and saves, as one step.",
    "`this / floor` is of the medians, round by round.",
]


def run(settings: Settings) -> Answer:
    """Return one table and the bounds."""
    results = measured(settings, (JOURNAL, UPDATE, SQLITE, FLOOR), 1)

    def median(run: Run) -> float:
        return run.median_seconds

    over_floor = {name: ratio(runs, results[FLOOR], median) for name, runs in results.items()}
    found: list[Row] = [
        {**row, "this / floor": over_floor[name]}
        for name, row in zip(results, rows(results, {}), strict=True)
    ]
    title = f"Latency of a save of {size_label(settings.size_bytes)}, 1 session"
    over_save = ratio(results[UPDATE], results[JOURNAL], median)
    bounds = [
        Bound("median latency over the floor", over_floor[JOURNAL], 1.6, 1.3, is_least=False),
        Bound("median of an update over a save", over_save, 1.5, 1.2, is_least=False),
    ]
    return Answer([Table(title, found, _NOTES)], bounds)
