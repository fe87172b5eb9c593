"""How long does a save or a load of one large document hold up the event loop?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.contenders import AIOFILES, SAVERS
from benchmarks.documents import KB, MB, size_label
from benchmarks.report import Answer, Row, Spread, Table, ratios
from benchmarks.rounds import Settings, in_child, interleaved
from benchmarks.savers import JOURNAL, SQLITE
from benchmarks.saving import Job
from benchmarks.ticker import Ticker

_NOTES = [
    "One call at a time beside a ticker of a millisecond; the longest lateness during the call.",
    (
        "`encode` is the bare `msgspec.json.encode` of the same document, which no serialiser that"
        " takes a snapshot can avoid; measured in the same process."
    ),
]


class Call(Struct, frozen=True):
    """A call's time and the longest lateness in it, in seconds."""

    seconds: float
    stall: float


class Calls(Struct, frozen=True):
    """Of a round: both calls, and the bare encode in seconds."""

    save: Call
    load: Call
    encode: float


def run(settings: Settings) -> Answer:
    """Return a table for each size."""
    sizes = (100 * KB,) if settings.is_quick else (MB, 10 * MB)
    return Answer([_measured(settings, size_bytes) for size_bytes in sizes])


def _measured(settings: Settings, size_bytes: int) -> Table:
    def measure(contender: str, directory: Path) -> Calls:
        job = Job.of(settings, contender, directory, 1)
        return in_child(calls, replace(job, size_bytes=size_bytes))

    results = interleaved(settings, (JOURNAL, SQLITE, AIOFILES), measure)
    rows: list[Row] = []
    for name, rounds in results.items():
        encodes = [one.encode for one in rounds]
        rows.append(_row("save", name, [one.save for one in rounds], encodes))
        rows.append(_row("load", name, [one.load for one in rounds], encodes))
    rows.sort(key=lambda row: row["call"] == "load")
    title = f"Stall of the event loop by one call with {size_label(size_bytes)}"
    return Table(title, rows, [*_NOTES, *results.notes()])


def _row(call: str, name: str, found: Sequence[Call], encodes: Sequence[float]) -> Row:
    return {
        "call": call,
        "contender": name,
        "stall ms": Spread.of(one.stall * 1e3 for one in found),
        "call ms": Spread.of(one.seconds * 1e3 for one in found),
        "encode ms": Spread.of(encode * 1e3 for encode in encodes),
        "stall / encode": ratios((one.stall for one in found), encodes),
    }


def calls(job: Job) -> Calls:
    """Save once to get warm, then measure a save and a load of it."""
    return asyncio.run(_calls(job))


async def _calls(job: Job) -> Calls:
    saver = SAVERS[job.contender]()
    session, document = job.session(0), job.document(0, 0)
    await saver.open(job.directory)
    try:
        await saver.save(session, 0, document)
        record = document.checkpoint(session, 1)
        start = time.perf_counter()
        msgspec.json.encode(record)
        encode = time.perf_counter() - start
        save = await _timed(saver.save(session, 1, document))
        return Calls(save, await _timed(saver.load(session)), encode)
    finally:
        await saver.close()


async def _timed(work: Awaitable[object]) -> Call:
    async with Ticker() as ticker:
        start = time.perf_counter()
        await work
        end = time.perf_counter()
    return Call(end - start, max(ticker.lateness_seconds))
