"""How long does a load of the newest take, just saved and from disk?"""

from __future__ import annotations

import asyncio
import time
from itertools import chain
from pathlib import Path

from msgspec import Struct

from benchmarks.contenders import SAVERS
from benchmarks.documents import size_label
from benchmarks.report import Answer, Bound, Row, Table, quantile, ratios
from benchmarks.rounds import Settings, in_child, interleaved
from benchmarks.savers import JOURNAL, SQLITE, Saver
from benchmarks.saving import Job

_SESSIONS = 200
_STEPS = 3
_NOTES = [
    "Just saved: by the same writer, right before.",
    (
        f"From disk: the first load of each of {_SESSIONS} sessions of {_STEPS} checkpoints after"
        " closing and opening; again: the second. Files are in the page cache."
    ),
    f"`this / {SQLITE}` is of the medians, round by round. Its load is `aget_tuple`.",
]


class Loads(Struct, frozen=True):
    """Of a round: latencies in seconds."""

    just_saved: list[float]
    from_disk: list[float]
    again: list[float]


def run(settings: Settings) -> Answer:
    """Return one table and the bounds."""

    def measure(contender: str, directory: Path) -> Loads:
        sessions = 3 if settings.is_quick else _SESSIONS
        return in_child(loads, Job.of(settings, contender, directory, sessions))

    results = interleaved(settings, (JOURNAL, SQLITE), measure)
    rows: list[Row] = []
    bounds: list[Bound] = []
    for kind in Loads.__struct_fields__:
        rounds = {name: [getattr(one, kind) for one in found] for name, found in results.items()}
        medians = {name: [quantile(one, 0.5) for one in found] for name, found in rounds.items()}
        for name, found in rounds.items():
            latencies = list(chain.from_iterable(found))
            rows.append(
                {
                    "which": kind.replace("_", " "),
                    "contender": name,
                    "median us": quantile(latencies, 0.5) * 1e6,
                    "p99 us": quantile(latencies, 0.99) * 1e6,
                    f"this / {SQLITE}": ratios(medians[name], medians[SQLITE]),
                }
            )
        if kind != "again":
            what = f"load, {kind.replace('_', ' ')}, of {SQLITE}.aget_tuple's time"
            spread = ratios(medians[JOURNAL], medians[SQLITE])
            bounds.append(Bound(what, spread, 1.0, is_least=False))
    title = f"Loads of the newest, {size_label(settings.size_bytes)}"
    return Answer([Table(title, rows, _NOTES)], bounds)


def loads(job: Job) -> Loads:
    """Save, load, close, open and load, in this process."""
    return asyncio.run(_loads(job))


async def _loads(job: Job) -> Loads:
    saver = SAVERS[job.contender]()
    await saver.open(job.directory)
    try:
        await _save_and_load(job, saver, 0)
        just_saved = [await _save_and_load(job, saver, number) for number in range(job.sessions)]
    finally:
        await saver.close()
    saver = SAVERS[job.contender]()
    await saver.open(job.directory)
    try:
        await saver.load("no such session")
        from_disk, again = [
            [await _load(saver, job.session(number)) for number in range(job.sessions)]
            for _ in range(2)
        ]
    finally:
        await saver.close()
    return Loads(just_saved, from_disk, again)


async def _save_and_load(job: Job, saver: Saver, number: int) -> float:
    for step in range(_STEPS):
        await saver.save(job.session(number), step, job.document(number, step))
    return await _load(saver, job.session(number))


async def _load(saver: Saver, session: str) -> float:
    start = time.perf_counter()
    loaded = await saver.load(session)
    end = time.perf_counter()
    assert loaded is not None
    return end - start
