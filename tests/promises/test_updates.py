"""Read, decide and write as one step: `update` and `update_many`, within and over processes."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    CheckpointTooLargeError,
    InvalidArgumentError,
    MissingBlobError,
    NestedCallError,
    SessionChangedError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    Transaction,
    WriterClosedError,
)
from aiocheckpoint._disk.append import Appender
from aiocheckpoint._format.entries import Entry
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.clocks import HOUR_SECONDS, Clock
from tests.conftest import MakeWriter
from tests.faults import Hold
from tests.promises import update_tasks
from tests.promises.conftest import Start
from tests.promises.records import Note, assert_whole, by_digest, note, record
from tests.promises.update_tasks import count_up

Session = Transaction[CheckpointData]
Writer = AsyncCheckpointWriter[CheckpointData]
Call = Callable[[], Coroutine[Any, Any, object]]


# One process


async def test_nothing_is_lost(make_writer: MakeWriter) -> None:
    """Of counts that many tasks make at once none is lost and none is made twice."""
    writer = make_writer()

    counts = await asyncio.gather(*(writer.update("s", count_up) for _ in range(100)))

    assert counts == [*range(1, 101)], "they did not run in the order of the calls"
    assert [meta.iteration for meta in await writer.list("s")] == [*range(100, 0, -1)]


@pytest.mark.blocking
async def test_threads_and_loops_take_turns(make_writer: MakeWriter) -> None:
    """So is none of those that loops in several threads make of one writer."""
    writer = make_writer()

    def run() -> None:
        asyncio.run(update_tasks.count(writer, "s", 25))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    await update_tasks.count(writer, "s", 25)
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert sorted(meta.iteration for meta in await writer.list("s")) == [*range(1, 101)]


async def test_work_is_called_once_where_nobody_interferes(make_writer: MakeWriter) -> None:
    """Whether there is a root yet, a session yet, files yet or not."""
    calls = []

    async def work(session: Session) -> int:
        calls.append(await session.ids())
        return await count_up(session)

    writer = make_writer()
    assert await writer.update("s", work) == 1
    assert await writer.update("s", work) == 2
    await writer.flush()
    assert await writer.update("s", work) == 3
    other = make_writer()
    assert await other.update("s", work) == 4
    assert await other.update("t", work) == 1
    assert await writer.update("s", work) == 5
    assert len(calls) <= 7, "it was called again more than once, after another writer's change"


async def test_one_hop_and_one_commit(make_writer: MakeWriter, no_flushing: None) -> None:
    """Appending to a session that is in memory takes one commit and no read in a thread."""
    writer = make_writer()
    await writer.update("s", count_up)
    before = writer.stats()

    async def append(session: Session) -> None:
        (newest,) = await session.ids(limit=1)
        assert await session.load(newest) == await session.load()
        assert await session.load("other") is None
        await count_up(session)

    await writer.update("s", append)
    await writer.update("s", append)

    after = writer.stats()
    # Ids are sorted by a thread once a session.
    assert (after.reads - before.reads, after.commits - before.commits) == (1, 2)


async def test_what_is_staged_is_one_step(make_writer: MakeWriter) -> None:
    """Reads do not see what is staged, and of an id the last word counts."""
    writer = make_writer()
    for name in ("a", "b", "c"):
        await writer.save(record("s", name))

    async def work(session: Session) -> tuple[str, ...]:
        session.save(record("s", "d"))
        session.save(record("s", "e", 1))
        session.delete("a", "d", "unknown")
        session.save(record("s", "e", 2))
        session.delete("c")
        session.save(record("s", "c", 3))
        return await session.ids()

    assert await writer.update("s", work) == ("c", "b", "a")
    assert [(m.checkpoint_id, m.iteration) for m in await writer.list("s")] == [
        ("c", 3), ("e", 2), ("b", 0),
    ]  # fmt: skip


async def test_a_session_is_replaced(make_writer: MakeWriter) -> None:
    """What is staged after `delete_session` is all that there is then."""
    writer = make_writer()
    for name in ("a", "b"):
        await writer.save(record("s", name))

    async def replace(session: Session) -> None:
        session.save(record("s", "never"))
        session.delete_session()
        session.save(record("s", "b", 1))

    await writer.update("s", replace)
    await writer.flush()

    assert [(m.checkpoint_id, m.iteration) for m in await writer.list("s")] == [("b", 1)]

    async def drop(session: Session) -> None:
        session.delete_session()

    await writer.update("s", drop)
    assert [s async for s in writer.sessions()] == []


async def test_other_changes_wait(make_writer: MakeWriter) -> None:
    """What is called while an update goes on takes effect after it, in the order of the calls."""
    writer = make_writer()
    await writer.save(record("s", "before"))
    may_go_on = asyncio.Event()
    has_begun = asyncio.Event()

    async def work(session: Session) -> tuple[str, ...]:
        has_begun.set()
        await may_go_on.wait()
        session.save(record("s", "updated"))
        return await session.ids()

    update = asyncio.create_task(writer.update("s", work))
    await has_begun.wait()
    calls: list[Any] = [
        writer.save(record("s", "x", 1)),
        writer.delete("s", "before"),
        writer.update("s", count_up),
        writer.save(record("s", "x", 7)),
        writer.delete_many("s", ["updated"]),
        writer.copy_session("t", "s"),
    ]
    later = [asyncio.create_task(call) for call in calls]
    await writer.save(record("other", "is not held up"))
    assert await writer.load("s") == record("s", "before"), "reads are not held up"
    assert not any(task.done() for task in later[:-1])
    may_go_on.set()

    assert await update == ("before",)
    await asyncio.gather(*later)
    listed = [(m.checkpoint_id, m.iteration) for m in await writer.list("s")]
    assert listed == [("x", 7), ("n000002", 2)]


async def test_changes_called_before_come_first(make_writer: MakeWriter) -> None:
    """An update sees what was called before it, whether that had ended or not."""
    writer = make_writer()

    saves = [writer.save(record("s", f"a{n}", n)) for n in range(20)]
    *_, count = await asyncio.gather(*saves, writer.update("s", count_up))

    assert count == 20


async def test_a_waiting_change_can_be_cancelled(make_writer: MakeWriter) -> None:
    """A change or an update that waits for an update is withdrawn, and holds nobody up."""
    writer = make_writer()
    may_go_on = asyncio.Event()

    async def work(session: Session) -> None:
        await may_go_on.wait()
        await count_up(session)

    first = asyncio.create_task(writer.update("s", work))
    waiting = [
        asyncio.create_task(call)
        for call in (writer.save(record("s", "never")), writer.update("s", count_up))
    ]
    last = asyncio.create_task(writer.update("s", count_up))
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert all(
        isinstance(r, asyncio.CancelledError)
        for r in await asyncio.gather(*waiting, return_exceptions=True)
    )
    may_go_on.set()
    await first

    assert await last == 2
    assert await writer.ids("s") == ("n000002", "n000001")


async def test_cancelled_work_changes_nothing(make_writer: MakeWriter) -> None:
    """An update that is cancelled in its work leaves all as it was, and lets the next one in."""
    writer = make_writer()
    await writer.update("s", count_up)
    has_begun = asyncio.Event()

    async def work(session: Session) -> None:
        await count_up(session)
        has_begun.set()
        await asyncio.Event().wait()

    update = asyncio.create_task(writer.update("s", work))
    await has_begun.wait()
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update

    assert await writer.update("s", count_up) == 2


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_at_any_step(make_writer: MakeWriter, steps: int) -> None:
    """Wherever it is cancelled, all that it has staged is there or nothing, and that stays so."""
    writer = make_writer()
    await writer.update("s", count_up)

    async def work(session: Session) -> None:
        for name in ("left", "right"):
            await session.load()
            session.save(record("s", name))
        session.delete("n000001")

    update = asyncio.create_task(writer.update("s", work))
    for _ in range(steps):
        await asyncio.sleep(0)
    update.cancel()
    await asyncio.gather(update, return_exceptions=True)

    left = await writer.ids("s")
    assert left in (("n000001",), ("right", "left"))
    if not update.cancelled():
        assert left == ("right", "left")
    await writer.flush()
    assert await writer.ids("s") == left


async def test_an_error_of_the_work_changes_nothing(make_writer: MakeWriter) -> None:
    """Nothing is committed where the work raises, and its error is what is raised."""
    writer = make_writer()
    await writer.save(record("s", "a"))

    async def work(session: Session) -> None:
        await count_up(session)
        session.delete("a")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await writer.update("s", work)
    assert await writer.ids("s") == ("a",)


async def test_a_refusal_refuses_all(make_writer: MakeWriter) -> None:
    """Where one of what is staged is refused, nothing is stored, of no session."""
    writer = make_writer(record_type=Note, max_bytes=50_000)
    await writer.save(note("s", "a", b"old"), blobs=by_digest(b"old"))

    async def lacks_a_blob(sessions: Mapping[str, Transaction[Note]]) -> None:
        sessions["s"].delete("a")
        sessions["s"].save(note("s", "b", b"new"), blobs=by_digest(b"new"))
        sessions["t"].save(note("t", "c", b"never given"))

    async def is_too_large(sessions: Mapping[str, Transaction[Note]]) -> None:
        sessions["s"].delete("a")
        sessions["t"].save(note("t", "c", text='"' * 49_950))

    with pytest.raises(MissingBlobError):
        await writer.update_many(["s", "t"], lacks_a_blob)
    with pytest.raises(CheckpointTooLargeError):
        await writer.update_many(["s", "t"], is_too_large)

    assert await writer.ids("s") == ("a",)
    assert await writer.ids("t") == ()
    assert await writer.load_blobs("s", by_digest(b"old")) == by_digest(b"old")
    with pytest.raises(MissingBlobError):
        await writer.load_blobs("s", by_digest(b"new"))


async def test_a_refusal_leaves_what_shares_its_commit(make_writer: MakeWriter) -> None:
    """What is committed with an update that is refused is stored, in its sessions and others."""
    files, hold = FaultyFiles(), Hold()
    writer = make_writer(files=files, record_type=Note)
    await writer.save(note("s", "a", b"old"), blobs=by_digest(b"old"))
    files.at("before_sync_log", hold)

    async def lacks_a_blob(sessions: Mapping[str, Transaction[Note]]) -> None:
        sessions["t"].save(note("t", "c", b"new"), blobs=by_digest(b"new"))
        sessions["s"].delete("a")
        sessions["s"].save(note("s", "b", b"never given"))

    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(writer.save(note("held", "h")))]
    await asyncio.to_thread(hold.wait_arrived)
    waiting += [
        asyncio.create_task(writer.save(note("s", "a", b"old"))),
        asyncio.create_task(writer.update_many(["s", "t"], lacks_a_blob)),
        asyncio.create_task(writer.save(note("u", "d", b"old"), blobs=by_digest(b"old"))),
    ]
    await asyncio.sleep(0)  # all of them wait by now
    hold.release()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [str, str, MissingBlobError, str]
    assert await writer.ids("s") == ("a",)
    assert await writer.ids("t") == ()
    for session in ("s", "u"):
        assert await writer.load_blobs(session, by_digest(b"old")) == by_digest(b"old")


async def test_a_disk_that_refuses(make_writer: MakeWriter) -> None:
    """Where the disk refuses the commit, nothing is there, and the next update works."""
    files = FaultyFiles()
    writer = make_writer(files=files)
    await writer.update("s", count_up)
    files.arm(Fault(errno.EIO, "sync data"))

    with pytest.raises(StorageError):
        await writer.update("s", count_up)
    files.arm(None)

    assert await writer.update("s", count_up) == 2


async def test_retention_holds(make_writer: MakeWriter) -> None:
    """`max_checkpoints` is kept with what an update stores."""
    writer = make_writer(max_checkpoints=3)

    async def work(session: Session) -> None:
        for number in range(5):
            session.save(record("s", f"a{number}"))

    await writer.update("s", work)

    assert await writer.ids("s") == ("a4", "a3", "a2")


async def test_retention_counts_the_last_word(make_writer: MakeWriter) -> None:
    """What is staged and then staged otherwise, or deleted, takes no place of what is kept."""
    writer = make_writer(max_checkpoints=2)
    await writer.save(record("s", "kept"))

    async def work(session: Session) -> None:
        session.save(record("s", "gone"))
        session.save(record("s", "new", 1))
        session.delete("gone")

    await writer.update("s", work)

    assert [meta.checkpoint_id for meta in await writer.list("s")] == ["new", "kept"]


async def test_nested_calls_are_refused(make_writer: MakeWriter) -> None:
    """Work that calls the writer for its session, or changes another one, is told so by name."""
    writer = make_writer()
    await writer.save(record("s", "a"))
    await writer.save(record("t", "a"))
    nested: dict[str, Call] = {
        "save": lambda: writer.save(record("s", "b")),
        "load": lambda: writer.load("s"),
        "load_many": lambda: writer.load_many("s", ["a"]),
        "list": lambda: writer.list("s"),
        "ids": lambda: writer.ids("s"),
        "read": lambda: writer.read("s", lambda session: session.ids()),
        "load_blobs": lambda: writer.load_blobs("s", []),
        "delete": lambda: writer.delete("s", "a"),
        "delete_many": lambda: writer.delete_many("s", ["a"]),
        "delete_session": lambda: writer.delete_session("s"),
        "copy_session": lambda: writer.copy_session("t", "s"),
        "recover": lambda: writer.recover("s"),
        "update": lambda: writer.update("s", count_up),
    }
    of_others: dict[str, Call] = {
        "save": lambda: writer.save(record("t", "b")),
        "delete": lambda: writer.delete("t", "a"),
        "update": lambda: writer.update("t", count_up),
        "update_many": lambda: writer.update_many(["t"], lambda _: asyncio.sleep(0)),
    }
    refused: list[str] = []

    async def work(session: Session) -> None:
        for call in [*nested.values(), *of_others.values()]:
            with pytest.raises(NestedCallError) as error:
                await call()
            refused.append(error.value.operation)
            with pytest.raises(NestedCallError):
                await asyncio.create_task(call())
        with pytest.raises(NestedCallError):
            await writer.aclose()
        assert await writer.load("t") == record("t", "a"), "others may be read"

    await writer.update("s", work)

    assert refused == [*nested, *of_others]
    assert await writer.ids("s") == await writer.ids("t") == ("a",)


@pytest.mark.blocking
def test_an_update_of_a_loop_that_ended_holds_nobody_up(make_writer: MakeWriter) -> None:
    """One that is collected with its loop, which nobody runs any more, gives its turn back."""
    writer = make_writer()

    async def work(session: Session) -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(writer.update("s", work))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    loop.call_exception_handler = lambda context: None  # type: ignore[method-assign]  # expected
    del task, loop
    gc.collect()

    async def save() -> None:
        async with asyncio.timeout(30):
            await writer.save(record("s", "a"))
        await writer.aclose()

    asyncio.run(save())


async def test_reads_side_by_side_are_of_one_moment(make_writer: MakeWriter) -> None:
    """What others change between reads that the work makes at once has it called again."""
    files, hold = FaultyFiles(), Hold()
    writer, other = make_writer(files=files), make_writer()
    await other.save(record("s", "a"))
    await other.flush()
    assert await writer.ids("s") == ("a",)
    files.at("close", hold)  # of the file of a checkpoint
    calls: list[tuple[str, ...]] = []

    async def work(session: Session) -> None:
        first = asyncio.create_task(session.load("a"))
        await asyncio.to_thread(hold.wait_arrived)
        if not calls:
            await other.save(record("s", "b"))
        calls.append(await session.ids())
        hold.release()
        await first
        session.save(record("s", "c"))

    await writer.update("s", work)

    assert calls == [("b", "a"), ("b", "a")], "one had read what there was before"


async def test_a_read_that_fails_over_what_changed_is_made_again(make_writer: MakeWriter) -> None:
    """What others have removed between two reads has the work called again, and is no damage."""
    writer, other = make_writer(record_type=Note), make_writer(record_type=Note)
    await other.save(note("s", "a", b"old"), blobs=by_digest(b"old"))
    await other.flush()
    assert await writer.ids("s") == ("a",)
    found: list[dict[str, bytes]] = []

    async def work(session: Transaction[Note]) -> None:
        head = await session.load("a")
        assert head is not None
        if head == note("s", "a", b"old"):
            await other.save(note("s", "a", b"new"), blobs=by_digest(b"new"))
        found.append(await session.load_blobs(head.blob_digests))

    await writer.update("s", work)

    assert found == [by_digest(b"new")]


async def test_a_task_that_outlives_the_work_may_call(make_writer: MakeWriter) -> None:
    """Once the update is over, a task that its work has started is one like any other."""
    writer = make_writer()
    is_over = asyncio.Event()

    async def later() -> str:
        await is_over.wait()
        return await writer.save(record("s", "later"))

    async def work(session: Session) -> asyncio.Task[str]:
        return asyncio.create_task(later())

    task = await writer.update("s", work)
    is_over.set()

    assert await task == "later"


async def test_a_transaction_ends_with_its_work(make_writer: MakeWriter) -> None:
    """Whoever keeps a transaction is refused by name afterwards."""
    writer = make_writer()

    async def work(session: Session) -> Session:
        return session

    kept = await writer.update("s", work)

    with pytest.raises(WriterClosedError):
        kept.save(record("s", "a"))
    with pytest.raises(WriterClosedError):
        kept.delete("a")
    with pytest.raises(WriterClosedError):
        await kept.load()


async def test_bad_work_is_refused(make_writer: MakeWriter) -> None:
    """What is no async function, and a record of another session, is refused by name."""
    writer = make_writer()
    plain: Any = lambda session: 1  # noqa: E731
    nothing: Any = None

    async def foreign(session: Session) -> None:
        session.save(record("t", "a"))

    for work in (plain, nothing, foreign):
        with pytest.raises(InvalidArgumentError):
            await writer.update("s", work)
    assert [s async for s in writer.sessions()] == []


async def test_closing_waits_for_updates(make_writer: MakeWriter) -> None:
    """`aclose` lets updates end that were called before, and the changes that wait for them."""
    writer = make_writer()
    has_begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def work(session: Session) -> None:
        has_begun.set()
        await may_go_on.wait()
        await count_up(session)

    update = asyncio.create_task(writer.update("s", work))
    await has_begun.wait()
    save = asyncio.create_task(writer.save(record("s", "after")))
    await asyncio.sleep(0)
    close = asyncio.create_task(writer.aclose())
    await asyncio.sleep(0)
    with pytest.raises(WriterClosedError):
        await writer.update("s", count_up)
    may_go_on.set()
    await asyncio.gather(update, save, close)

    assert [m.checkpoint_id for m in await make_writer().list("s")] == ["after", "n000001"]


async def test_closing_waits_no_longer_than_for_others(make_writer: MakeWriter) -> None:
    """An update that does not end keeps nobody from closing: it and what waits is refused."""
    writer = make_writer(lock_timeout_seconds=0.1)
    may_go_on = asyncio.Event()

    async def work(session: Session) -> None:
        await count_up(session)
        await may_go_on.wait()

    update = asyncio.create_task(writer.update("s", work))
    save = asyncio.create_task(writer.save(record("s", "waits")))
    await asyncio.sleep(0)
    await writer.aclose()
    may_go_on.set()

    for task in (update, save):
        with pytest.raises((WriterClosedError, StoreBusyError)):  # whichever comes first
            await task
    assert await make_writer().ids("s") == ()


async def test_crossing_updates_of_many_end(make_writer: MakeWriter) -> None:
    """Updates that have sessions in common, named in any order, run one after the other."""
    writer = make_writer()

    async def work(sessions: Mapping[str, Session]) -> None:
        for session in sessions.values():
            await count_up(session)

    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("a", "c"), ("c", "b")]
    await asyncio.gather(
        *(writer.update_many(pair, work) for pair in pairs * 10),
        *(writer.update(session_id, count_up) for session_id in "abc" * 10),
    )

    newest = [await writer.load(session_id) for session_id in "abc"]
    assert [data and data.iteration for data in newest] == [50, 50, 50]


async def test_many_that_wait_keep_their_order(make_writer: MakeWriter) -> None:
    """What is called before an update of several sessions comes first, however much waits."""
    files, hold = FaultyFiles(), Hold()
    writer = make_writer(files=files)
    await writer.save(record("a", "first"))
    files.at("before_sync_log", hold)

    async def work(sessions: Mapping[str, Session]) -> None:  # blindly: no condition helps
        sessions["a"].save(record("a", "done"))
        sessions["b"].delete("last")

    waiting = [asyncio.create_task(writer.save(record("c", "held")))]
    await asyncio.to_thread(hold.wait_arrived)
    names = [*(f"x{number}" for number in range(1500)), "last"]
    waiting += [asyncio.create_task(writer.save(record("b", name))) for name in names]
    update = asyncio.create_task(writer.update_many(["a", "b"], work))
    await asyncio.sleep(0)  # all of them wait by now
    hold.release()
    await asyncio.gather(*waiting, update)

    assert await writer.load("b", "last") is None
    assert len(await writer.ids("b")) == 1500


async def test_deletes_beside_a_save_that_finds_no_room_are_made_once(
    make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update is not told that the session has changed by a save that was then refused."""
    files, hold = FaultyFiles(), Hold()
    writer = make_writer(files=files)
    for session, name in (("s", "a"), ("s", "b"), ("t", "c")):
        await writer.save(record(session, name))
    append = Appender.append

    def full(self: Appender, entries: Sequence[Entry], bodies: Sequence[bytes], *args: Any,
             **options: Any) -> Any:  # fmt: skip
        if bodies:
            raise StorageFullError("write", "slot", errno.ENOSPC, "full")
        return append(self, entries, bodies, *args, **options)

    files.at("before_sync_log", hold)
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(writer.delete("t", "c"))]
    await asyncio.to_thread(hold.wait_arrived)
    monkeypatch.setattr(Appender, "append", full)
    monkeypatch.setattr("aiocheckpoint._engine.demand.Demand.wait_for_flush", lambda *_: None)

    async def delete_the_oldest(session: Session) -> None:
        session.delete((await session.saved_ids())[-1])

    waiting.append(asyncio.create_task(writer.save(record("s", "d"))))
    waiting.append(asyncio.create_task(writer.update("s", delete_the_oldest)))
    while writer.stats().waiting < 2:  # until both share a commit
        await asyncio.sleep(0)
    hold.release()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [bool, StorageFullError, type(None)]
    assert await writer.ids("s") == ("b",)


# Others


async def test_what_another_writer_has_saved_is_seen(make_writer: MakeWriter) -> None:
    """Work that stages nothing, or raises, was told what there is, whatever was in memory."""
    writer, other = make_writer(), make_writer()
    await writer.update("s", count_up)
    await other.update("s", count_up)

    async def newest(session: Session) -> int:
        data = await session.load()
        return data.iteration if data else 0

    async def fails(session: Session) -> None:
        raise KeyError(await newest(session))

    assert await writer.update("s", newest) == 2
    await other.update("s", count_up)
    with pytest.raises(KeyError, match="3"):
        await writer.update("s", fails)


async def test_gives_up_in_the_end(make_writer: MakeWriter, clock: Clock) -> None:
    """An update that is overtaken again and again says so, and what is the newest."""
    writer = make_writer(lock_timeout_seconds=HOUR_SECONDS)
    rival = make_writer()
    tries = 0

    async def work(session: Session) -> None:
        nonlocal tries
        tries += 1
        await session.load()
        await rival.save(record("s", f"rival{tries}"))
        session.save(record("s", "mine"))
        if tries == 3:
            clock.move_on(HOUR_SECONDS)

    with pytest.raises(SessionChangedError) as changed:
        await writer.update("s", work)

    assert tries == 3
    assert changed.value.newest_id == "rival3"
    assert "mine" not in await writer.ids("s")


def test_two_processes_count(start: Start) -> None:
    """Two processes that count at once in one session lose nothing and make nothing twice."""
    workers = [start(), start(), start()]

    begun = [worker.begin(update_tasks.count, "s", 60) for worker in workers]
    counts = [number for pending in begun for number in pending.result()]

    assert sorted(counts) == [*range(1, 181)]
    assert [meta.iteration for meta in workers[0].list("s")] == [*range(180, 0, -1)]


def test_two_processes_count_in_several_sessions(start: Start) -> None:
    """Nor do those that count in the same sessions, which have the same count for everybody."""
    workers = [start(), start()]

    begun = [
        worker.begin(update_tasks.count_in_many, order, 40)
        for worker, order in zip(workers, (["a", "b"], ["b", "a"]), strict=True)
    ]
    for pending in begun:
        pending.result()

    for session_id in ("a", "b"):
        assert [m.iteration for m in workers[0].list(session_id)] == [*range(80, 0, -1)]


def test_two_processes_pop(start: Start) -> None:
    """What two processes take out of one session, each has for itself."""
    workers = [start(), start()]
    for number in range(60):
        workers[0].save(record("s", f"item{number:02d}"))

    begun = [worker.begin(update_tasks.pop, "s") for worker in workers]
    taken = [item for pending in begun for item in pending.result()]

    assert sorted(taken) == [f"item{number:02d}" for number in range(60)]


def test_an_idempotency_key_counts_once(start: Start) -> None:
    """Of several callers that save the same key once, one does."""
    workers = [start(), start(), start()]

    for key in ("one", "two", "three"):
        begun = [worker.begin(update_tasks.save_once, "s", key) for worker in workers * 2]
        assert sum(pending.result() for pending in begun) == 1


def test_killed_amid_updates(start: Start) -> None:
    """Of a process that is killed amid updates, each is there as a whole or not at all."""
    worker = start()
    worker.begin(update_tasks.save_pairs_for_ever, "s").note()
    worker.kill()

    other = start()
    left, right = other.load("s", "left"), other.load("s", "right")
    assert assert_whole(left).iteration == assert_whole(right).iteration >= 3
