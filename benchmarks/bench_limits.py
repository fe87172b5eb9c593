"""How many records a second take other stores, synchronously and grouped by hand?"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TypeAlias

from benchmarks.documents import documents, size_label
from benchmarks.report import Answer, Row, Table, ratios
from benchmarks.rounds import Settings, UnavailableError, in_child, interleaved
from benchmarks.savers import JOURNAL
from benchmarks.saving import Job, Run, Stopwatch, saves, values

Records: TypeAlias = Sequence[tuple[bytes, bytes]]
Commit: TypeAlias = Callable[[Records], object]

_RECORDS = 32
_LMDB_BYTES = 1 << 40
_WRITE_BYTES = 64 << 20
_NOTES = [
    (
        f"One thread commits {_RECORDS} records at a time, each commit synced: no event loop, no"
        " encoding, no file a checkpoint. Latencies are of commits."
    ),
    f"{JOURNAL}: {_RECORDS} sessions on an event loop, with the files. Latencies are of saves.",
    "SQLite is in WAL mode with `synchronous=FULL`; the last row is the bare system calls.",
]


def run(settings: Settings) -> Answer:
    """Return one table."""

    def measure(contender: str, directory: Path) -> Run:
        work = saves if contender == JOURNAL else commits
        return in_child(work, Job.of(settings, contender, directory, _RECORDS))

    results = interleaved(settings, (JOURNAL, *_STORES), measure)
    rows: list[Row] = []
    for name, runs in results.items():
        ours = (run.per_second for run in results[JOURNAL])
        ratio = ratios(ours, (run.per_second for run in runs))
        rows.append({"store": name, **values(runs), f"{JOURNAL} / this": ratio})
    title = f"Limits: {_RECORDS} records of {size_label(settings.size_bytes)} a commit"
    return Answer([Table(title, rows, [*_NOTES, *results.notes()])])


def commits(job: Job) -> Run:
    """Commit records in this process until the time is up; the first commit is not measured."""
    different = [document.text for document in documents(job.size_bytes, 16)]
    count = 0
    with _STORES[job.contender](job.directory) as commit:
        commit(_records(different, 0))
        watch = Stopwatch()
        until = time.perf_counter() + job.seconds
        while not count or time.perf_counter() < until:
            count += 1
            records = _records(different, count)
            start = time.perf_counter()
            commit(records)
            watch.latencies_seconds.append(time.perf_counter() - start)
        watch.end()
    return watch.closed(count * _RECORDS)


def _records(different: Sequence[bytes], number: int) -> Records:
    return [
        (b"session-%d/%08d" % (session, number), different[(session + number) % len(different)])
        for session in range(_RECORDS)
    ]


@contextmanager
def _sqlite(directory: Path) -> Iterator[Commit]:
    with closing(sqlite3.connect(directory / "database", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE records (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

        def commit(records: Records) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO records VALUES (?, ?)", records)
            database.execute("COMMIT")

        yield commit


@contextmanager
def _lmdb(directory: Path) -> Iterator[Commit]:
    try:
        import lmdb
    except ImportError as error:
        raise UnavailableError("pip install lmdb") from error
    with lmdb.open(str(directory), map_size=_LMDB_BYTES) as environment:

        def commit(records: Records) -> None:
            with environment.begin(write=True) as transaction:
                for key, value in records:
                    transaction.put(key, value)

        yield commit


@contextmanager
def _rocksdb(directory: Path) -> Iterator[Commit]:
    try:
        from rocksdict import Options, Rdict, WriteBatch, WriteOptions
    except ImportError as error:
        raise UnavailableError("pip install rocksdict") from error
    database = Rdict(str(directory / "database"), Options(raw_mode=True))
    options = WriteOptions()
    options.sync = True

    def commit(records: Records) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in records:
            batch.put(key, value)
        database.write(batch, options)

    try:
        yield commit
    finally:
        database.close()


@contextmanager
def _write(directory: Path) -> Iterator[Commit]:
    descriptor = os.open(directory / "file", os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(descriptor, bytes(_WRITE_BYTES), 0)
    os.fsync(descriptor)
    offset = 0

    def commit(records: Records) -> None:
        nonlocal offset
        data = b"".join(value for _, value in records)
        if offset + len(data) > _WRITE_BYTES:
            offset = 0
        os.pwrite(descriptor, data, offset)
        os.fdatasync(descriptor)
        offset += len(data)

    try:
        yield commit
    finally:
        os.close(descriptor)


_STORES: dict[str, Callable[[Path], AbstractContextManager[Commit]]] = {
    "sqlite3": _sqlite,
    "lmdb": _lmdb,
    "rocksdict": _rocksdb,
    "pwrite + fdatasync": _write,
}
