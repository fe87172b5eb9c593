"""One owner of a session at a time: `own`, within and over processes."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointData,
    InvalidArgumentError,
    NestedCallError,
    OwnershipLostError,
    SessionChangedError,
    SessionOwnedError,
    StorageError,
    Transaction,
    WriterClosedError,
)
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.children import run_in_child
from tests.conftest import MakeWriter
from tests.promises import owner_tasks, tasks
from tests.promises.conftest import Start
from tests.promises.places import wait_until
from tests.promises.records import record
from tests.promises.update_tasks import count_up

Writer = AsyncCheckpointWriter[CheckpointData]


def _owner_files(root: Path) -> list[Path]:
    return sorted((root / ".aiocheckpoint").glob("owner-*"))


# One process


async def test_first_come_first_served(make_writer: MakeWriter) -> None:
    """Tasks own a session one after the other, in the order in which they asked."""
    writer = make_writer()
    order: list[int] = []
    inside = 0

    async def own(number: int) -> int:
        nonlocal inside
        async with writer.own("s") as owner:
            inside += 1
            assert inside == 1
            order.append(number)
            await owner.save(record("s", f"n{number}"))
            await asyncio.sleep(0)
            inside -= 1
            return owner.token

    tokens = await asyncio.gather(*map(own, range(20)))

    assert order == [*range(20)]
    assert tokens == sorted(set(tokens))


@pytest.mark.blocking
async def test_threads_take_turns(make_writer: MakeWriter) -> None:
    """So do loops in several threads: a counter that is read and saved by owners is right."""
    writer = make_writer()
    threads = [
        threading.Thread(target=lambda: asyncio.run(owner_tasks.count_owned(writer, "s", 15)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert len(await writer.ids("s")) == 45


async def test_not_waiting(make_writer: MakeWriter) -> None:
    """Who does not want to wait is told at once; other sessions are free."""
    writer, other = make_writer(), make_writer()
    async with writer.own("s"):
        told = {writer: "a call of this process", other: f"process {os.getpid()} on "}
        for second, owner in told.items():
            with pytest.raises(SessionOwnedError) as owned:
                async with second.own("s", wait=False):
                    pytest.fail("it is owned")
            assert (owned.value.session_id, owned.value.waited_seconds) == ("s", 0.0)
            assert owned.value.owner.startswith(owner)
            assert owned.value.owner in str(owned.value)
            async with second.own("t", wait=False):
                pass
    async with other.own("s", wait=False):
        pass


@pytest.mark.parametrize("content", [b"", b'{"pid": "x", "host": 1}', b"\xff" * 9000], ids=len)
async def test_who_says_nothing_of_itself(
    make_writer: MakeWriter, root: Path, content: bytes
) -> None:
    """An owner of an older version, or one whose file is not ours, is one all the same."""
    writer, other = make_writer(), make_writer()
    async with writer.own("s"):
        (file,) = await asyncio.to_thread(lambda: [*root.glob(".aiocheckpoint/owner-*")])
        await asyncio.to_thread(file.write_bytes, content)
        with pytest.raises(SessionOwnedError) as owned:
            async with other.own("s", wait=False):
                pytest.fail("it is owned")
        assert owned.value.owner == ""


async def test_waiting_ends(make_writer: MakeWriter) -> None:
    """It is waited for no longer than `lock_timeout_seconds`, here and for another writer."""
    writer = make_writer()
    hasty = make_writer(lock_timeout_seconds=0.1)

    async def own(session_id: str) -> None:
        async with hasty.own(session_id):
            pytest.fail("it is owned")

    async with writer.own("s"), hasty.own("t"):
        for session_id in ("s", "t"):
            with pytest.raises(SessionOwnedError) as owned:
                await asyncio.create_task(own(session_id))
            assert owned.value.waited_seconds == 0.1


async def test_waiting_can_be_cancelled(make_writer: MakeWriter) -> None:
    """Who is cancelled while waiting owns nothing, and keeps nobody out."""
    writer, other = make_writer(), make_writer()
    async with writer.own("s"):
        waiting = [asyncio.create_task(owner_tasks.own_once(w, "s")) for w in (writer, other)]
        await asyncio.sleep(0.02)
        for task in waiting:
            task.cancel()
        assert all(
            isinstance(found, asyncio.CancelledError)
            for found in await asyncio.gather(*waiting, return_exceptions=True)
        )
    async with other.own("s", wait=False):
        pass
    async with writer.own("s", wait=False):
        pass


@pytest.mark.parametrize("steps", range(10))
async def test_cancelled_at_any_step(make_writer: MakeWriter, steps: int) -> None:
    """Wherever it is cancelled, nobody owns the session afterwards."""
    writer, other = make_writer(), make_writer()

    task = asyncio.create_task(owner_tasks.own_once(writer, "s"))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async with other.own("s", wait=False):
        pass


async def test_an_owner_writes(make_writer: MakeWriter) -> None:
    """Through an ownership a session is written as through the writer, with its conditions."""
    writer = make_writer()
    async with writer.own("s") as owner:
        assert owner.session_id == "s"
        assert await owner.save(record("s", "a"), expected=None) == "a"
        with pytest.raises(SessionChangedError):
            await owner.save(record("s", "b"), expected=None)
        assert await owner.update(count_up) == 1
        assert await owner.delete_many(["a", "unknown"]) == 1
        with pytest.raises(InvalidArgumentError):
            await owner.save(record("t", "a"))
        await writer.save(record("s", "beside"))
    assert await writer.ids("s") == ("n000001", "beside")

    for write in owner_tasks.ways_to_write(owner):
        with pytest.raises(OwnershipLostError) as lost:
            await write()
        assert (lost.value.session_id, lost.value.token) == ("s", owner.token)
    assert await writer.ids("s") == ("n000001", "beside")


async def test_tokens_grow(root: Path) -> None:
    """Also over deletes of the session, flushes and restarts."""
    tokens: list[int] = []
    for _ in range(3):
        async with AsyncCheckpointWriter(root) as writer:
            for _ in range(2):
                async with writer.own("s") as owner, writer.own("t") as other:
                    tokens.append(owner.token)
                    assert other.token != owner.token
                    await owner.save(record("s", "a"))
                await writer.delete_session("s")
                await writer.flush()

    assert tokens == sorted(set(tokens))


async def test_tokens_grow_with_the_clock_and_without_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup knows no token that was given; where one is known, a clock may go back."""
    seconds = 2_000_000_000
    tokens: list[int] = []
    for is_restored, change in ((False, 0), (True, 1), (False, -1000), (False, 0)):
        seconds += change
        now = seconds * 1_000_000
        monkeypatch.setattr("aiocheckpoint._engine.session_plan.now_microseconds", lambda: now)  # noqa: B023 - it is used in this turn
        if is_restored:
            await asyncio.to_thread(shutil.rmtree, root / ".aiocheckpoint")
        async with AsyncCheckpointWriter(root) as writer:
            for _ in range(2):
                async with writer.own("s") as owner:
                    tokens.append(owner.token)
                    await owner.save(record("s", "a"))

    assert tokens[0] == 2_000_000_000_000
    assert tokens == sorted(set(tokens))


async def test_an_ownership_outlasts_flushes(make_writer: MakeWriter) -> None:
    """What the journal said of an owner is so when it has been emptied, for others too."""
    writer, other = make_writer(), make_writer()
    async with writer.own("s") as owner:
        for number in range(3):
            await owner.save(record("s", f"a{number}"))
            await writer.flush()
        await other.save(record("t", "a"))
        await other.flush()
        for second in (other, make_writer()):
            with pytest.raises(SessionOwnedError):
                async with second.own("s", wait=False):
                    pytest.fail("it is owned")
        assert await owner.save(record("s", "b")) == "b"
        await other.flush()
    await writer.flush()
    async with make_writer().own("s", wait=False):
        pass


async def test_a_closed_writer_owns_nothing(make_writer: MakeWriter, root: Path) -> None:
    """Closing lets go of all that the writer owns, and leaves no file of it."""
    writer, other = make_writer(), make_writer()
    async with writer.own("s") as owner:
        await writer.aclose()
        async with other.own("s", wait=False):
            pass
        with pytest.raises(WriterClosedError):
            await owner.save(record("s", "a"))
    await other.aclose()
    assert await asyncio.to_thread(_owner_files, root) == []


async def test_a_fork_owns_nothing(make_writer: MakeWriter) -> None:
    """A forked child that writes through its parent's ownership is refused by name."""
    writer = make_writer()
    async with writer.own("s") as owner:

        async def save() -> str:
            try:
                return await owner.save(record("s", "a"))
            except WriterClosedError as error:
                return error.reason

        told = await asyncio.to_thread(run_in_child, lambda: asyncio.run(save()))
        assert "forked" in told
    assert await writer.ids("s") == ()


async def test_nested_calls_are_refused(make_writer: MakeWriter) -> None:
    """The work of an update neither owns nor writes by an ownership; it would wait for itself."""
    writer = make_writer()
    async with writer.own("s") as owner:

        async def work(session: Transaction[CheckpointData]) -> None:
            for write in owner_tasks.ways_to_write(owner):
                with pytest.raises(NestedCallError):
                    await write()
            with pytest.raises(NestedCallError):
                async with writer.own("t"):
                    pytest.fail("it is owned")
            session.save(record("s", "a"))

        await owner.update(work)
    assert await writer.ids("s") == ("a",)


async def test_a_disk_that_refuses(make_writer: MakeWriter) -> None:
    """Where the disk refuses, nobody owns the session, and it can be owned when it works again."""
    files = FaultyFiles()
    writer = make_writer(files=files)
    await writer.save(record("s", "a"))
    files.arm(Fault(errno.EIO, "sync data", for_ever=True))
    with pytest.raises(StorageError):
        async with writer.own("s"):
            pytest.fail("it is owned")
    files.arm(None)

    async with writer.own("s", wait=False) as owner:
        assert await owner.save(record("s", "b")) == "b"


async def test_without_a_sync(make_writer: MakeWriter) -> None:
    """The token is synced also where saves are not, and no file is waited for where those are."""
    for durability in ("none", "file"):
        files = FaultyFiles()
        writer = make_writer(durability=durability, files=files)
        await writer.save(record("s", durability))
        await writer.flush()
        files.forget_calls()
        async with writer.own("s") as owner:
            assert files.count("sync data") >= 1
            await owner.save(record("s", f"{durability}-b"))
        await writer.aclose()


# Others


def _told(start: Start, session_id: str = "s") -> int | None:
    token: int | None = start().call(owner_tasks.own_once, session_id, wait=False)
    return token


def test_a_second_process_waits(start: Start) -> None:
    """While one process owns a session another one waits, or is told; other sessions are free."""
    first, second = start(), start()
    token = first.begin(owner_tasks.own_for_ever, "s").note()

    waiting = second.begin(owner_tasks.own_once, "s")
    assert not waiting.is_done(0.3)
    assert _told(start) is None
    assert _told(start, "t") is not None
    first.kill()

    assert waiting.result() > token


@pytest.mark.parametrize("is_flushed", [False, True])
def test_a_killed_owner_owns_nothing(start: Start, *, is_flushed: bool) -> None:
    """A process that is killed with -9 keeps nobody out, whether the journal was flushed or not."""
    first = start()
    token = first.begin(owner_tasks.own_for_ever, "s").note()
    if is_flushed:
        first.call("flush")
    assert _told(start) is None
    first.kill()

    found = _told(start)
    assert found is not None
    assert found > token


def test_a_stopped_owner_stays(start: Start) -> None:
    """A process that is stopped is the owner still, also when others have flushed."""
    first, second = start(), start(lock_timeout_seconds=0.3)
    first.begin(owner_tasks.own_for_ever, "s").note()
    first.call("flush")  # so that it has nothing more to do
    first.stop_idle()

    assert second.call(owner_tasks.own_once, "s") is None
    second.save(record("t", "a"))
    second.call("flush")
    assert _told(start) is None
    first.go_on()


def test_an_owner_with_a_fork_that_is_killed(start: Start) -> None:
    """The child of an owner does not own what its parent did."""
    first = start()
    first.begin(owner_tasks.own_for_ever, "s").note()
    children = first.call(tasks.fork, 1)
    try:
        first.kill()
        assert _told(start) is not None
    finally:
        _end(children)


def _end(children: list[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGKILL)


def test_a_lost_ownership_is_noticed(start: Start, root: Path) -> None:
    """An owner that others took for dead is refused by name, and changes nothing."""
    first, second = start(), start()
    second.save(record("s", "there"))
    late = first.begin(owner_tasks.write_late, "s")
    token = late.note()
    for path in _owner_files(root):
        path.unlink()

    taken = second.begin(owner_tasks.own_for_ever, "s")
    assert taken.note() > token
    second.save(record("signals", "go"))

    assert [late.note() for _ in range(3)] == ["lost"] * 3
    assert second.ids("s") == ("there",)


def test_a_lost_ownership_stays_lost(start: Start, root: Path) -> None:
    """Also when whoever took the session has left it again, and all is flushed."""
    first, second = start(), start()
    second.save(record("s", "there"))
    late = first.begin(owner_tasks.write_late, "s")
    late.note()
    for path in _owner_files(root):
        path.unlink()
    assert second.call(owner_tasks.own_once, "s") is not None
    second.call("flush")
    second.save(record("signals", "go"))

    assert [late.note() for _ in range(3)] == ["lost"] * 3


def test_who_was_taken_for_dead_may_own_again(start: Start, root: Path) -> None:
    """A process whose file was removed owns nothing, and owns what it asks for from then on."""
    first = start()
    token = first.call(owner_tasks.own_once, "s")
    for path in _owner_files(root):
        path.unlink()

    later = first.begin(owner_tasks.own_for_ever, "s")
    assert later.note() > token
    assert _told(start) is None


def test_processes_count_as_owners(start: Start) -> None:
    """Processes that read and save as owners lose nothing, and have tokens in their order."""
    workers = [start(), start()]

    begun = [worker.begin(owner_tasks.count_owned, "s", 15) for worker in workers]
    tokens = [pending.result() for pending in begun]

    assert [meta.iteration for meta in workers[0].list("s")] == [*range(30, 0, -1)]
    assert all(found == sorted(found) for found in tokens)
    assert len({*tokens[0], *tokens[1]}) == 30


def test_files_of_the_dead_go(start: Start, root: Path) -> None:
    """What killed owners leave in the store's directory is removed by the next one."""
    for _ in range(3):
        worker = start()
        worker.begin(owner_tasks.own_for_ever, "s").note()
        worker.kill()
    worker = start()
    worker.call(owner_tasks.own_once, "s")

    wait_until(lambda: len(_owner_files(root)) == 1, "removed")
    worker.close()
    assert _owner_files(root) == []
