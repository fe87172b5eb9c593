"""Log and memory are bounded, however fast the saves come and however large they are."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeWriter
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import holding, log_bytes, plain_ids, session_files
from tests.promises.records import record
from tests.promises.workers import Pending, Worker

_MEBI = 1 << 20
_JOURNAL_BYTES = _MEBI
_SLACK_BYTES = 4 << 20  # slots are whole: a current one, a spare, and two half used
_GUARD_SECONDS = 20  # below `lock_timeout_seconds`, after which all is forgotten
_LARGE = 63 * _MEBI  # the limit of a document is 64 by default
_SESSIONS = [f"s{number}" for number in range(8)]


def _largest_log_until(done: Pending[Any], root: Path) -> int:
    """Return how large the log ever was, looking all the time."""
    largest = log_bytes(root)
    while not done.is_done(0.002):
        largest = max(largest, log_bytes(root))
    return max(largest, log_bytes(root))


@pytest.mark.parametrize("size", [2_000, 200_000, 1_500_000])
@pytest.mark.some(1)
@pytest.mark.long
def test_log_under_a_burst(start: Start, root: Path, size: int) -> None:
    """While saves come as fast as they can, the log stays near its limit, and all are stored."""
    worker = start(max_journal_bytes=_JOURNAL_BYTES)
    worker.save(record("s0", "begun"))
    count = max(30 * _JOURNAL_BYTES // (size * len(_SESSIONS)), 2) if size > 2_000 else 300
    saving = worker.begin(tasks.save_at_once, _SESSIONS, count, size)

    largest = _largest_log_until(saving, root)
    assert saving.result() == count * len(_SESSIONS)
    assert largest <= 2 * _JOURNAL_BYTES + 2 * (size + 8192) + _SLACK_BYTES
    assert len(worker.list("s3")) == count
    worker.call("flush")
    assert len(session_files(root, "s3")) == count
    assert plain_ids(root, "s3") == [f"n{number}" for number in range(count)]


@pytest.mark.long
def test_log_of_two_processes(start: Start, root: Path) -> None:
    """The limit is the root's, not each process's; the largest that is asked for counts."""
    workers = [start(max_journal_bytes=_JOURNAL_BYTES * factor) for factor in (1, 2)]
    for worker in workers:
        worker.save(record("s", "begun"))
    savings = [
        worker.begin(tasks.save_at_once, [f"p{n}-{name}" for name in _SESSIONS], 25, 50_000)
        for n, worker in enumerate(workers)
    ]

    largest = max(_largest_log_until(saving, root) for saving in savings)
    assert [saving.result() for saving in savings] == [200, 200]
    assert largest <= 2 * 2 * _JOURNAL_BYTES + 2 * 60_000 + _SLACK_BYTES


@pytest.mark.long
def test_memory_under_a_burst(start: Start) -> None:
    """What was saved does not stay in memory, however much it is."""
    worker = start(max_journal_bytes=_JOURNAL_BYTES)
    worker.call(tasks.save_at_once, _SESSIONS, 10, 100_000)
    worker.call("flush")
    before = worker.call(tasks.most_memory)
    for number in range(4):
        names = [f"{number}-{name}" for name in _SESSIONS]
        worker.call(tasks.save_at_once, names, 25, 100_000)

    assert worker.call(tasks.most_memory) - before < 24 * _MEBI  # of the 80 that were saved


def _save_large(worker: Worker, names: list[str]) -> list[Pending[list[str]]]:
    return [worker.begin(tasks.save_many, name, "large", 1, _LARGE) for name in names]


@pytest.mark.parametrize("journal_bytes", [_MEBI, 64 * _MEBI], ids=["small-log", "default"])
@pytest.mark.some(1)
@pytest.mark.long
def test_largest_documents(start: Start, root: Path, journal_bytes: int) -> None:
    """Documents up to the limit are saved, flushed and loaded, beside small ones."""
    worker = start(max_journal_bytes=journal_bytes)
    worker.save(record("small", "begun"))
    large = _save_large(worker, ["large"])
    small = worker.begin(tasks.save_many, "small", "n", 20)
    assert [save.result() for save in large] == [["large0"]]
    assert len(small.result()) == 20
    worker.call("flush")

    (path,) = session_files(root, "large")
    assert path.stat().st_size > _LARGE
    assert worker.call("verify", path)
    assert log_bytes(root) <= 2 * max(journal_bytes, _LARGE) + 4 * _MEBI
    worker.kill()
    second = start()
    assert second.load("large") == record("large", "large0", size=_LARGE)
    assert len(second.list("small")) == 21


@pytest.mark.long
def test_largest_document_after_a_kill(start: Start) -> None:
    """A document of the largest size that was only acknowledged is there after a kill."""
    first = start()
    for save in _save_large(first, ["large"]):
        save.result()
    first.kill()
    assert start().load("large", "large0") == record("large", "large0", size=_LARGE)


def test_memory_after_kills(start: Start, root: Path) -> None:
    """What killed processes have left in the log is not held in memory to load something else."""
    first = start()
    first.save(record("tiny", "tiny"))
    with holding(root, "applier"):  # or it would be in files
        saves = [first.begin(tasks.save_many, f"s{n}", "n", 3, 2 * _MEBI) for n in range(2)]
        for save in saves:
            save.result()
        first.kill()
        reader = start()
        before = reader.call(tasks.most_memory)
        assert reader.load("tiny") == record("tiny", "tiny")
        assert reader.call(tasks.most_memory) - before < 6 * _MEBI  # of 12 that are there
    assert log_bytes(root) > 12 * _MEBI


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_many_largest_documents(start: Start, root: Path) -> None:
    """Many documents of the largest size pass one after the other through a bounded log."""
    worker = start()
    names = [f"large{number}" for number in range(20)]
    for at in range(0, len(names), 2):
        pending = _save_large(worker, names[at : at + 2])
        largest = max(_largest_log_until(save, root) for save in pending)
        assert largest <= 2 * 64 * _MEBI + 2 * 64 * _MEBI + 4 * _MEBI
        for save in pending:
            save.result()
    worker.call("flush")
    for name in names:
        assert worker.load(name) == record(name, "large0", size=_LARGE)
    assert worker.call(tasks.most_memory) < 1 << 30


async def test_what_is_over_is_forgotten_while_one_call_waits(make_writer: MakeWriter) -> None:
    """A call that waits for an update keeps nothing in memory of those that others made since."""
    writer = make_writer()
    go_on = asyncio.Event()

    async def wait(_: object) -> None:
        await go_on.wait()

    updating = asyncio.create_task(writer.update("s", wait))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(writer.save(record("s", "waits")))
    await asyncio.sleep(0)
    tracemalloc.start()
    try:
        for number in range(300):
            await writer.save(record("t", f"n{number}", size=100_000))
        await writer.flush()
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        go_on.set()
        await asyncio.gather(updating, waiting)
    assert kept_bytes < 100 * 100_000


async def test_nothing_is_kept_of_what_was_saved_last(make_writer: MakeWriter) -> None:
    """When its file is written, a service that rests has no text of it in memory."""
    writer = make_writer(durability="file")
    await writer.save(record("s", "begun"))
    tracemalloc.start()
    try:
        await writer.save(record("t", "large", size=20 * _MEBI))
        async with asyncio.timeout(_GUARD_SECONDS):  # the threads let go of it moments later
            while tracemalloc.get_traced_memory()[0] >= 5 * _MEBI:
                await asyncio.sleep(0)
    finally:
        tracemalloc.stop()
