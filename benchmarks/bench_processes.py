"""How many saves a second do several processes make on one root, and how evenly?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from msgspec.structs import replace

from benchmarks.documents import size_label
from benchmarks.report import Answer, Bound, Row, Spread, Table, ratios
from benchmarks.rounds import Settings, in_child, in_children, interleaved
from benchmarks.savers import JOURNAL, SQLITE
from benchmarks.saving import Job, Run, saves

_PROCESSES = 4
_SESSIONS = 16
_NOTES = [
    "The processes begin together; the last one to end, or to close, counts.",
    "Shares are of all saves, of the process that made least and of the one that made most.",
    "The longest wait is of a single save; `failed` gave up waiting for another process.",
]


def run(settings: Settings) -> Answer:
    """Return one table and the bound."""
    processes, sessions = (2, 2) if settings.is_quick else (_PROCESSES, _SESSIONS)

    def measure(contender: str, directory: Path) -> list[Run]:
        job = Job.of(settings, contender, directory, sessions)
        # One makes the store first: SQLite refuses processes that all switch to WAL at once.
        in_child(saves, replace(job, sessions=1, seconds=0, process=processes))
        return in_children(saves, [replace(job, process=number) for number in range(processes)])

    results = interleaved(settings, (JOURNAL, SQLITE), measure)
    found = [{"contender": name, **_values(rounds)} for name, rounds in results.items()]
    ratio = {
        what: ratios(map(speed, results[JOURNAL]), map(speed, results[SQLITE]))
        for what, speed in (("saves/s", _per_second), ("until closed", _closed_per_second))
    }
    size = size_label(settings.size_bytes)
    title = f"{processes} processes of {sessions} sessions on one root, saves of {size}"
    bound = Bound(f"saves/s, {processes} processes, of {SQLITE}'s", ratio["saves/s"], 4.0, 5.0)
    tables = [Table(title, found, _NOTES), Table(f"{title}: {JOURNAL} / {SQLITE}", [{**ratio}])]
    return Answer(tables, [bound])


def _per_second(runs: Sequence[Run]) -> float:
    return _saves(runs) / max(run.elapsed_seconds for run in runs)


def _closed_per_second(runs: Sequence[Run]) -> float:
    return _saves(runs) / max(run.closed_seconds for run in runs)


def _saves(runs: Sequence[Run]) -> int:
    return sum(run.saves for run in runs)


def _values(rounds: Sequence[Sequence[Run]]) -> Row:
    return {
        "saves/s": Spread.of(map(_per_second, rounds)),
        "until closed": Spread.of(map(_closed_per_second, rounds)),
        "least share %": Spread.of(_share(min, runs) for runs in rounds),
        "greatest share %": Spread.of(_share(max, runs) for runs in rounds),
        "longest wait ms": Spread.of(
            max(chain.from_iterable(run.latencies_seconds for run in runs)) * 1e3 for runs in rounds
        ),
        "CPU us a save": Spread.of(
            sum(run.cpu_seconds for run in runs) / _saves(runs) * 1e6 for runs in rounds
        ),
        "failed": sum(run.failures for run in chain.from_iterable(rounds)),
    }


def _share(choose: Callable[[list[int]], int], runs: Sequence[Run]) -> float:
    return 100 * choose([run.saves for run in runs]) / _saves(runs)
