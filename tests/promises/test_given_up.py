"""A part of the journal that nobody can read: no session loads less than was saved unasked."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointError,
    JournalCorruptError,
    Transaction,
)
from tests.command import run_command
from tests.conftest import MakeWriter
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.damaging import MARK, change_text, lose_page, marked_slot
from tests.promises.places import files_with, holding
from tests.promises.records import Note, by_digest, note, record
from tests.promises.workers import Worker

pytestmark = pytest.mark.damages_store
Writer = AsyncCheckpointWriter[CheckpointData]


@pytest.fixture(name="damaged")
def _damaged(start: Start, root: Path) -> Path:
    """Sessions `a`, `b` and `c`, whose newest are in the journal alone; that of `b` is lost."""
    slot = _killed_in_the_journal(start(), root, "abc")
    lose_page(slot)
    return root


def _killed_in_the_journal(worker: Worker, root: Path, sessions: Sequence[str]) -> Path:
    """Save the newest of some sessions to the journal alone; return its file with that of `b`."""
    for session in sessions:
        worker.save(record(session, "old"))
    worker.call("flush")
    with holding(root, "applier"):
        for session in sessions:
            newest = record(session, "new")
            newest.resume_hint = MARK if session == "b" else newest.resume_hint
            worker.save(newest)
        worker.kill()
    return marked_slot(root)


async def _kept(root: Path) -> Path:
    quarantine = root / ".aiocheckpoint" / "quarantine"
    found = await asyncio.to_thread(lambda: [p for p in quarantine.iterdir() if p.is_file()])
    assert len(found) == 1
    return found[0]


def _remove_slots(root: Path) -> None:
    for slot in root.glob(".aiocheckpoint/log.*"):
        slot.unlink()


async def _newest(writer: Writer, session_id: str) -> str | None:
    newest = await writer.load(session_id)
    return None if newest is None else newest.checkpoint_id


async def _refused(writer: Writer, session_id: str) -> JournalCorruptError:
    with pytest.raises(CheckpointCorruptError) as refused:
        await writer.load(session_id)
    assert isinstance(refused.value, JournalCorruptError)
    assert refused.value.session_id == session_id
    return refused.value


async def _flush(writer: AsyncCheckpointWriter[Any], *session_ids: str) -> None:
    """Flush, which tells of each session that may lack changes, when all files are written."""
    with pytest.raises(JournalCorruptError) as told:
        await writer.flush()
    assert [error.session_id for error in _all(told.value)] == [*session_ids]


def _all(error: CheckpointError) -> list[JournalCorruptError]:
    errors = [error, *error.others]
    return [error for error in errors if isinstance(error, JournalCorruptError)]


async def test_recover_tells_what_was_given_up(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The report and the log name the copy of the part, though no file was damaged."""
    async with AsyncCheckpointWriter(damaged) as writer:
        with caplog.at_level(logging.WARNING, "aiocheckpoint"):
            report = await writer.recover("b")
        kept = await _kept(damaged)
        assert report.given_up == (str(kept),)
        assert report.quarantined == ()
        assert report.newest_valid_id == "old"
        told = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        assert f"moved to the quarantine: {kept}" in told
        assert any(f"goes on without {kept}" in text for text in told)
        assert (await writer.recover("b")).given_up == ()


async def test_the_others_are_refused_until_they_are_recovered(damaged: Path) -> None:
    """Who recovers one session decides for that one: no other loads something older in silence."""
    async with AsyncCheckpointWriter(damaged) as writer:
        await writer.recover("a")
        assert await _newest(writer, "a") == "new"
        await _refused(writer, "b")
        await _flush(writer, "b", "c")
    kept = await _kept(damaged)
    told = await asyncio.to_thread(run_command, "flush", damaged)
    assert told.returncode == 1
    assert all(f"changes of '{session}'" in told.stderr for session in "bc")

    for _ in range(2):  # also in later processes, when the journal has nothing of it any more
        async with AsyncCheckpointWriter(damaged) as writer:
            assert (await _refused(writer, "b")).path == str(kept)
            with pytest.raises(JournalCorruptError):
                await writer.list("b")
            with pytest.raises(JournalCorruptError):
                await writer.ids("c")
            assert await _newest(writer, "a") == "new"
            await writer.save(CheckpointData(session_id="b", checkpoint_id="more"))
            await _flush(writer, "b", "c")
            found = [one for one in await writer.check() if one.kind == "damaged-journal"]
            assert [(one.session_id, str(one.path)) for one in found] == [
                ("b", str(kept)),
                ("c", str(kept)),
            ]

    async with AsyncCheckpointWriter(damaged) as writer:
        report = await writer.recover("b")
        assert (report.given_up, report.newest_valid_id) == ((str(kept),), "more")
        assert await _newest(writer, "b") == "more"
        await _refused(writer, "c")
        await writer.recover("c")
        await writer.flush()
        assert await _newest(writer, "c") == "new"
        assert [one.kind for one in await writer.check()] == ["given-up-journal"]


@pytest.mark.blocking
@pytest.mark.parametrize("session", ["d", "b", "never-saved"])
async def test_recover_is_about_its_session_alone(start: Start, root: Path, session: str) -> None:
    """A session goes on without a lost part also where the journal has damage of another one."""
    async with AsyncCheckpointWriter(root) as writer:
        await writer.save(record("d", "old"))
    lose_page(_killed_in_the_journal(start(), root, "abc"))
    _change_newest(root, "c")
    assert not [*root.glob("a/checkpoints/*_new.json")]

    writer = AsyncCheckpointWriter(root)
    report = await writer.recover(session)
    assert report.given_up == (str(await _kept(root)),)
    assert await _newest(writer, session) == report.newest_valid_id
    # The journal has gone on by then: what can be read is in files.
    assert [*root.glob("a/checkpoints/*_new.json")]
    assert not (root / "never-saved").exists()

    for call in (writer.flush, writer.aclose):
        with pytest.raises(CheckpointCorruptError) as told:
            await call()
        assert told.value.session_id == "c"
    async with AsyncCheckpointWriter(root) as later:
        assert await _newest(later, session) == report.newest_valid_id
        assert (await later.recover("c")).newest_valid_id == "old"
        assert "damaged" not in {found.kind for found in await later.check()}


def _change_newest(root: Path, session: str) -> None:
    """Change the newest checkpoint of a session, which is in the journal alone."""
    text: bytes = record(session, "new").messages[0]["content"].encode()
    (slot,) = (path for path in _slots(root) if text in path.read_bytes())
    slot.write_bytes(slot.read_bytes().replace(text, bytes(reversed(text))))


async def test_others_at_work_notice(damaged: Path) -> None:
    """A process that looked before learns of it, and so it does when a session is recovered."""
    async with AsyncCheckpointWriter(damaged) as one, AsyncCheckpointWriter(damaged) as other:
        await one.save(CheckpointData(session_id="d", checkpoint_id="x"))
        for session in ("a", "b"):
            await _refused(one, session)
        await other.recover("a")
        await _flush(other, "b", "c", "d")
        assert await _newest(one, "a") == "new"
        await _refused(one, "b")
        await _refused(other, "b")
        await one.recover("b")
        assert await _newest(other, "b") == "old"


async def test_new_sessions_are_not_refused(damaged: Path) -> None:
    """A session that begins after it, or anew after a delete, lacks nothing."""
    async with AsyncCheckpointWriter(damaged) as writer:
        await writer.recover("a")
        assert await writer.load("d") is None
        await writer.save(CheckpointData(session_id="d", checkpoint_id="first"))
        assert await _newest(writer, "d") == "first"
        await _refused(writer, "b")
        assert await writer.delete_session("b")
        assert await writer.load("b") is None


_REMOVALS: dict[str, Callable[[Path], object]] = {
    "of-the-list": lambda kept: shutil.rmtree(kept.with_name(kept.name + ".sessions")),
    "of-all": lambda kept: shutil.rmtree(kept.parent),
}


@pytest.mark.parametrize("remove", _REMOVALS.values(), ids=_REMOVALS)
async def test_all_sessions_at_once(damaged: Path, remove: Callable[[Path], object]) -> None:
    """Removing the list of the sessions, or all of the quarantine, lets all of them go on."""
    async with AsyncCheckpointWriter(damaged) as writer:
        await writer.recover("a")
    await asyncio.to_thread(remove, await _kept(damaged))
    async with AsyncCheckpointWriter(damaged) as writer:
        assert [await _newest(writer, session) for session in "abc"] == ["new", "old", "new"]
        assert await writer.check() == ()


@pytest.fixture(name="removed")
def _removed(start: Start, root: Path) -> Path:
    """Sessions whose newest were in the file of the journal that is not there any more."""
    _killed_in_the_journal(start(), root, "ab").unlink()
    return root


async def test_a_file_of_the_journal_that_was_removed_is_missed(removed: Path) -> None:
    """Where the newest file of the journal is gone, nobody is handed what was saved before."""
    for number in range(2):  # what is saved meanwhile does not hide it
        async with AsyncCheckpointWriter(removed) as writer:
            for session in ("a", "b"):
                await _refused(writer, session)
            await writer.save(CheckpointData(session_id="d", checkpoint_id=f"more{number}"))
            assert "damaged-journal" in {found.kind for found in await writer.check()}
            with pytest.raises(JournalCorruptError):
                await writer.flush()
            with pytest.raises(CheckpointCorruptError):
                await writer.aclose()
    async with AsyncCheckpointWriter(removed) as writer:
        report = await writer.recover("b")
        assert (report.given_up, report.newest_valid_id) == ((str(await _kept(removed)),), "old")
        assert await _newest(writer, "b") == "old"
        await writer.recover("d")
        assert await writer.ids("d") == ("more1", "more0")
        await writer.save(CheckpointData(session_id="b", checkpoint_id="newer"))
    async with AsyncCheckpointWriter(removed) as writer:
        await _refused(writer, "a")
        assert await writer.ids("b") == ("old", "newer")


async def test_an_empty_file_of_the_journal_is_not_missed(
    make_writer: MakeWriter, root: Path
) -> None:
    """Where all is in files a removed file of the journal takes nothing with it."""
    async with make_writer() as writer:
        await writer.save(CheckpointData(session_id="s", checkpoint_id="x"))
    await asyncio.to_thread(_remove_slots, root)
    for number in range(2):
        async with make_writer() as writer:
            assert await writer.load("s", "x")
            assert await writer.check() == ()
            await writer.save(CheckpointData(session_id="s", checkpoint_id=f"more{number}"))
    assert len(await make_writer().ids("s")) == 3


@pytest.fixture(name="damaged_body")
def _damaged_body(start: Start, root: Path) -> Path:
    """The sessions `s` and `t` in the journal alone; that of `s` has one letter changed."""
    worker = start()
    worker.save(record("t", "old"))
    with holding(root, "applier"):
        lost = record("s", "new")
        lost.resume_hint = MARK
        worker.save(lost)
        worker.save(record("t", "new"))
        worker.kill()
    change_text(marked_slot(root))
    return root


async def test_a_damaged_body_harms_its_own_session_alone(damaged_body: Path) -> None:
    """Where the frame tells whose checkpoint is damaged, no other session is refused."""
    async with AsyncCheckpointWriter(damaged_body) as writer:
        assert await _newest(writer, "t") == "new"
        assert (await writer.recover("t")).given_up == ()
        with pytest.raises(CheckpointCorruptError) as refused:
            await writer.load("s")
        assert not isinstance(refused.value, JournalCorruptError)
        assert (await writer.recover("s")).given_up == ()


Call = Callable[[Writer], Awaitable[object]]


def _more(session_id: str) -> CheckpointData:
    return CheckpointData(session_id=session_id, checkpoint_id="more")


async def _read_what_was_saved(writer: Writer) -> None:
    async def work(session: Transaction[CheckpointData]) -> None:
        await session.ids()

    await writer.save(_more("b"))
    await writer.update("b", work)


async def _own(writer: Writer) -> None:
    async with writer.own("b"):
        pass


_RESTING_ON_ALL: dict[str, Call] = {
    "save-if-empty": lambda writer: writer.save(_more("b"), expected=None),
    "save-if-newest": lambda writer: writer.save(_more("b"), expected="old"),
    "delete-what-is-not-there": lambda writer: writer.delete("b", "absent"),
    "delete-some": lambda writer: writer.delete_many("b", ["old", "absent"]),
    "update": _read_what_was_saved,
    "own": _own,
}


@pytest.mark.parametrize("is_given_up", [False, True], ids=["lost", "given-up"])
@pytest.mark.parametrize("call", _RESTING_ON_ALL.values(), ids=_RESTING_ON_ALL)
@pytest.mark.few(6)
async def test_what_rests_on_all_of_a_session_is_refused(
    damaged: Path, call: Call, is_given_up: bool
) -> None:
    """What only who knows all of a session can decide is refused, as its reads are."""
    if is_given_up:
        async with AsyncCheckpointWriter(damaged) as other:
            await other.recover("a")
    writer = AsyncCheckpointWriter(damaged)  # which has looked at nothing before
    with pytest.raises(JournalCorruptError) as refused:
        await call(writer)
    assert refused.value.session_id == "b"
    await writer.recover("b")
    assert "old" in await writer.ids("b")
    await writer.aclose()


async def test_retention_drops_nothing_that_may_not_be_the_oldest(damaged: Path) -> None:
    """Where changes may be lost a save is refused for which retention would drop something."""
    writer = AsyncCheckpointWriter(damaged, max_checkpoints=2)
    for _ in range(2):  # the second time in place of itself
        await writer.save(_more("b"))
    third = CheckpointData(session_id="b", checkpoint_id="third")
    with pytest.raises(JournalCorruptError):
        await writer.save(third)
    await writer.recover("b")
    assert await writer.ids("b") == ("old", "more")
    await writer.save(third)
    assert await writer.ids("b") == ("third", "more")
    await writer.aclose()


@pytest.mark.blocking
async def test_blobs_stay_that_what_is_lost_may_lead_to(start: Start, root: Path) -> None:
    """While a part of the journal may yet be put back, no blob goes that a save in it may name."""
    blob = b"shared by what is known and by what is not"
    async with AsyncCheckpointWriter(root, record_type=Note) as writer:
        await writer.save(note("b", "older", blob), blobs=by_digest(blob))
    slot = _killed_in_the_journal(start(), root, "ab")
    lose_page(slot)
    async with AsyncCheckpointWriter(root, record_type=Note) as writer:
        assert await writer.delete("b", "older")
        await writer.recover("a")
        await _flush(writer, "b")
        assert files_with(root / "b", blob.decode())
        await writer.recover("b")
    assert [path.parent.name for path in files_with(root, blob.decode())] == ["b"]  # kept aside


@pytest.mark.blocking
async def test_blobs_go_with_a_session_that_is_deleted(start: Start, root: Path) -> None:
    """Of a session that goes as a whole nothing stays, whatever is lost of it."""
    blob = b"of a session that nobody wants any more"
    async with AsyncCheckpointWriter(root, record_type=Note) as writer:
        await writer.save(note("b", "older", blob), blobs=by_digest(blob))
    lose_page(_killed_in_the_journal(start(), root, "ab"))
    async with AsyncCheckpointWriter(root, record_type=Note) as writer:
        await writer.recover("a")
        assert await writer.delete_session("b")
        await writer.flush()
        assert not (root / "b").exists()


async def test_a_session_that_has_no_file_yet_is_told(damaged: Path) -> None:
    """One whose first file was never written may have been saved: flush and check name it."""
    await asyncio.to_thread((damaged / "e" / "checkpoints").mkdir, parents=True)
    await asyncio.to_thread((damaged / "of somebody else").mkdir)
    async with AsyncCheckpointWriter(damaged) as writer:
        await writer.recover("a")
        await _refused(writer, "e")
        await _flush(writer, "b", "c", "e")
        assert "e" in {found.session_id for found in await writer.check()}


@pytest.mark.blocking
def test_no_part_is_given_up_unasked_for_a_session_of_a_framework(start: Start, root: Path) -> None:
    """The command moves nothing for a session that is of use as a whole alone, but `--anyway`."""
    lose_page(_killed_in_the_journal(start(), root, ["crewai.x", "b"]))
    for more, moved in (((), False), (("--anyway",), True)):
        done = run_command("recover", root, "crewai.x", *more)
        assert done.returncode == 1
        assert (root / ".aiocheckpoint" / "quarantine").exists() is moved


async def test_a_session_that_is_deleted_lacks_nothing(damaged: Path) -> None:
    """A session that was deleted goes on from nothing, also where its writer never read of it."""
    async with AsyncCheckpointWriter(damaged) as writer:
        await writer.recover("a")
    async with AsyncCheckpointWriter(damaged) as writer:
        assert await writer.delete_session("b")
        await writer.save(_more("b"), expected=None)
        assert await _newest(writer, "b") == "more"


@pytest.mark.blocking
async def test_an_update_that_is_overtaken_by_what_cannot_be_read(start: Start, root: Path) -> None:
    """Damage to what others commit between the reads of an update and its commit refuses it."""
    other = start()
    other.save(record("b", "old"))
    saved = record("b", "new")
    saved.resume_hint = MARK

    async def work(session: Transaction[CheckpointData]) -> None:
        assert await session.ids() == ("old",)
        other.save(saved)
        (slot,) = files_with(root, MARK)
        lose_page(slot)
        session.save(_more("b"))

    async with AsyncCheckpointWriter(root) as writer:
        await writer.save(CheckpointData(session_id="a", checkpoint_id="x"))
        with holding(root, "applier"), pytest.raises(JournalCorruptError):
            await writer.update("b", work)
        other.kill()
        await writer.recover("b")
        assert await writer.ids("b") == ("old",)


@pytest.fixture(name="long_journal")
def _long_journal(start: Start, root: Path) -> list[Path]:
    """Files of the journal, oldest first: nothing but the first save in the first is flushed."""
    worker = start()
    worker.save(record("a", "old"))
    worker.call("flush")
    with holding(root, "applier"):
        found: list[Path] = []
        while len(found) < 3:
            worker.call(tasks.save_many, "b", f"n{len(found)}-", 3, 250_000)
            found += [path for path in _slots(root) if path not in found]
        worker.save(record("a", "new"))
        worker.kill()
    return found


def _slots(root: Path) -> list[Path]:
    """Return the files of the journal that hold anything."""
    return [path for path in sorted(root.glob(".aiocheckpoint/log.*")) if _is_used(path)]


def _is_used(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(file.read(8192).strip(b"\\0"))


def _make_unreadable(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


_LOSSES: dict[str, tuple[int, Callable[[Path], object]]] = {
    "first-removed": (0, Path.unlink),
    "middle-removed": (1, Path.unlink),
    "middle-overwritten": (1, _make_unreadable),
    "middle-without-frames": (1, lambda path: os.truncate(path, 4096)),
    "middle-zeroed": (1, lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "middle-made-anew-by-a-killed-writer": (1, lambda path: path.write_bytes(bytes(4096))),
}


@pytest.mark.parametrize(("which", "lose"), _LOSSES.values(), ids=_LOSSES)
@pytest.mark.some(2)
async def test_any_file_of_the_journal_that_is_lost_is_missed(
    root: Path, long_journal: list[Path], which: int, lose: Callable[[Path], object]
) -> None:
    """Whichever file of the journal is lost, nobody is handed what is left in silence."""
    await asyncio.to_thread(lose, long_journal[which])
    writer = AsyncCheckpointWriter(root)
    for session in ("a", "b"):
        await _refused(writer, session)
    await writer.save(CheckpointData(session_id="d", checkpoint_id="more"))
    with pytest.raises(JournalCorruptError):
        await writer.aclose()
    async with AsyncCheckpointWriter(root) as writer:
        assert "damaged-journal" in {found.kind for found in await writer.check()}
        assert len((await writer.recover("b")).given_up) == 1
        left = await writer.ids("b")
        assert left
        await writer.recover("a")
        assert await _newest(writer, "a") == "new"
        await _flush(writer, "d")
    async with AsyncCheckpointWriter(root) as writer:
        assert await writer.ids("b") == left
        assert await _newest(writer, "a") == "new"
        await _refused(writer, "d")


async def test_a_file_of_the_journal_that_is_put_back(root: Path, long_journal: list[Path]) -> None:
    """Where a lost file of the journal comes back before anything was given up nothing is lost."""
    aside = root.with_name("aside")
    await asyncio.to_thread(long_journal[1].rename, aside)
    writer = AsyncCheckpointWriter(root)
    await _refused(writer, "b")
    await writer.save(CheckpointData(session_id="d", checkpoint_id="more"))
    with pytest.raises(JournalCorruptError):
        await writer.aclose()
    await asyncio.to_thread(aside.rename, long_journal[1])
    async with AsyncCheckpointWriter(root) as writer:
        assert await _newest(writer, "a") == "new"
        assert await _newest(writer, "d") == "more"
        assert len(await writer.ids("b")) % 3 == 0
        await writer.flush()
        assert await writer.check() == ()
