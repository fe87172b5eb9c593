"""Damage somewhere in the journal: what has a file is kept, and all advice comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    JournalCorruptError,
    RawRecord,
    StorageError,
    copy_store,
)
from tests.command import run_command
from tests.promises.conftest import Start
from tests.promises.damaging import MARK, change_text, lose_page, marked_slot
from tests.promises.places import holding, session_files
from tests.promises.records import Note, assert_whole, by_digest, note, record
from tests.promises.workers import Worker, discard_all

pytestmark = [pytest.mark.damages_store, pytest.mark.blocking]
_BLOB = f"a blob, and {MARK}".encode()
_SESSIONS = ("r", "s", "t")
_NOTED = "n"
_SAVES = 6
_SIZES = (100, 3000, 20_000)
_LAST = f"c{_SAVES - 1}"
_HARMLESS = {"unused-blob", "leftover", "given-up-journal"}


def _write_files(root: Path, session: str, scratch: Path) -> None:
    """Write the files of a session as an applier that is killed before its flush leaves them."""
    shutil.copytree(root, scratch)
    run_command("flush", scratch).check_returncode()
    shutil.rmtree(root / session, ignore_errors=True)
    shutil.copytree(scratch / session, root / session, symlinks=True)
    shutil.rmtree(scratch)


@pytest.fixture(name="written")
def _written(start: Start, root: Path, tmp_path: Path) -> Path:
    """The save of `s` has its file, unflushed, and its text in the journal is damaged."""
    worker = start()
    worker.save(record("t", "first"))
    worker.call("flush")
    with holding(root, "applier"):
        lost = record("s", "one")
        lost.resume_hint = MARK
        worker.save(lost)
        worker.kill()
    _write_files(root, "s", tmp_path / "scratch")
    change_text(marked_slot(root))
    return root


async def _is_clean(writer: AsyncCheckpointWriter[Any]) -> bool:
    await writer.flush()
    return not {found.kind for found in await writer.check()} - _HARMLESS


async def test_what_has_its_file_needs_no_text_in_the_journal(written: Path) -> None:
    """An intact file that was not flushed yet stands for its save; the session goes on."""
    async with AsyncCheckpointWriter(written) as writer:
        assert await _is_clean(writer)
        await writer.save(record("s", "two"))
        assert await writer.ids("s") == ("two", "one")
    async with AsyncCheckpointWriter(written) as writer:
        kept = await writer.load("s", "one")
        assert kept is not None
        assert kept.resume_hint == MARK


async def test_a_blob_that_has_its_file_needs_none_either(
    start: Start, root: Path, tmp_path: Path
) -> None:
    """The same holds of blobs, plain ones and such as refer to others."""
    worker = start(record_type=Note)
    worker.call("save", note("t", "first"))
    worker.call("flush")
    with holding(root, "applier"):
        worker.call("save", note("s", "one", _BLOB), blobs=by_digest(_BLOB))
        worker.kill()
    _write_files(root, "s", tmp_path / "scratch")
    change_text(marked_slot(root))
    async with AsyncCheckpointWriter(root, record_type=Note) as writer:
        assert await _is_clean(writer)
        kept = await writer.load("s")
        assert kept is not None
        assert await writer.load_blobs("s", kept.blob_digests) == by_digest(_BLOB)


async def test_a_file_that_is_damaged_as_well_is_moved_aside(written: Path) -> None:
    """Where neither is intact the errors advise `recover`, and after it all goes on."""
    (file,) = session_files(written, "s")
    change_text(file)
    async with AsyncCheckpointWriter(written) as writer:
        await writer.save(record("t", "one"))
        for call in (writer.load("s"), writer.flush()):
            with pytest.raises(CheckpointCorruptError, match="recover"):
                await call
        await writer.recover("s")
        assert await _is_clean(writer)
        await writer.save(record("s", "two"))
        assert await writer.ids("s") == ("two",)
        assert_whole(await writer.load("t"))


@pytest.mark.parametrize("is_flushed", [False, True], ids=["at once", "after a flush"])
async def test_what_stands_behind_a_text_that_was_cut_off(
    start: Start, root: Path, *, is_flushed: bool
) -> None:
    """Other saves keep their texts, though the journal copies them behind one that is too short."""
    worker = start()
    worker.save(record("s", "first"))
    worker.call("flush")
    slots = root / ".aiocheckpoint"
    with holding(root, "applier"):
        saved = ["first"]
        before = _used(slots)
        while _used(slots) == before:  # the last one begins another file of the journal
            lost = record("s", f"c{len(saved)}", size=150_000)
            saved.append(worker.save(lost))
        worker.kill()
    (slot,) = (path for path in before if saved[-2].encode() in path.read_bytes())
    text = slot.read_bytes()
    await asyncio.to_thread(os.truncate, slot, text.rindex(f"s/{saved[-2]}/".encode()))
    async with AsyncCheckpointWriter(root) as writer:
        saved.append(await writer.save(record("s", "new")))
        if is_flushed:
            with pytest.raises(CheckpointCorruptError):
                await writer.flush()
        await writer.recover("s")
        saved.remove(saved[-3])
        assert await _is_clean(writer)
        assert set(await writer.ids("s")) == set(saved)
    async with AsyncCheckpointWriter(root) as writer:
        for checkpoint_id in saved:
            assert_whole(await writer.load("s", checkpoint_id))


def _used(private: Path) -> list[Path]:
    """Return the files of the journal that hold anything."""
    return [path for path in sorted(private.glob("log.*")) if path.read_bytes().rstrip(b"\0")]


@pytest.fixture(name="first_saves")
def _first_saves(start: Start, root: Path) -> Path:
    """A store whose sessions are in the journal alone, in a part that nobody can read."""
    worker = start()
    worker.save(record("a", "old"))
    worker.call("flush")
    with holding(root, "applier"):
        for session in ("s", "t"):
            worker.save(record(session, MARK))
        worker.kill()
    lose_page(marked_slot(root))
    return root


async def _note_sessions(writer: AsyncCheckpointWriter[Any], found: list[str]) -> None:
    async for session_id in writer.sessions():
        found.append(session_id)  # noqa: PERF401 - what comes before an error counts


async def test_no_list_of_sessions_is_whole_beside_what_nobody_can_read(
    first_saves: Path, tmp_path: Path
) -> None:
    """Whatever goes over sessions names those that are known, and then says that some may lack."""
    found: list[str] = []
    async with AsyncCheckpointWriter(first_saves) as writer:
        with pytest.raises(JournalCorruptError) as told:
            await _note_sessions(writer, found)
        assert "a" in found
        assert told.value.session_id is None
        with pytest.raises(JournalCorruptError):
            _ = [meta async for meta in writer.unfinished(final_triggers=[""])]

        async def look(_: object) -> None:
            return None

        with pytest.raises(JournalCorruptError):
            await writer.find(look)
        with pytest.raises(JournalCorruptError):
            await writer.flush()
        await writer.recover("a")
        async for session_id in writer.sessions():  # it is decided
            found.remove(session_id)
        assert not found


async def test_no_copy_is_whole_beside_it(first_saves: Path, tmp_path: Path) -> None:
    """Who copies a store is told that some of it may lack."""
    async with (
        AsyncCheckpointWriter(first_saves, record_type=RawRecord) as source,
        AsyncCheckpointWriter(tmp_path / "target", record_type=RawRecord) as target,
    ):
        with pytest.raises(JournalCorruptError):
            await copy_store(source, target)
        await source.recover("a")


async def test_the_command_says_it_too(first_saves: Path) -> None:
    """`sessions` shows what it knows, says what it cannot know, and exits with 1."""
    told = await asyncio.to_thread(run_command, "sessions", first_saves)
    assert told.returncode == 1
    assert re.search(r"^a\b", told.stdout, re.MULTILINE)
    assert "no sessions" not in told.stdout
    assert "it may hold changes of any session" in told.stderr


async def test_a_session_that_may_be_lost_is_not_called_absent(first_saves: Path) -> None:
    """`delete_session` that finds nothing is refused, as a delete of a checkpoint is."""
    async with AsyncCheckpointWriter(first_saves) as writer:
        with pytest.raises(JournalCorruptError) as refused:
            await writer.delete_session("of nobody")
        assert refused.value.session_id == "of nobody"
        await writer.recover("of nobody")
        assert not await writer.delete_session("of nobody")
        await writer.recover("a")


@pytest.mark.long
async def test_flush_names_each_session(first_saves: Path) -> None:
    """Also before any is recovered: whoever copies files is to know which may be older."""
    async with AsyncCheckpointWriter(first_saves) as writer:
        with pytest.raises(JournalCorruptError) as told:
            await writer.flush()
        named = [getattr(error, "session_id", "") for error in (told.value, *told.value.others)]
        assert named[0] is None
        assert "a" in named
        await writer.recover("a")


# Damage anywhere


@pytest.fixture(name="killed", scope="module")
def _killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store whose process was killed: of `s` and `t` the last saves are in the journal alone."""
    root = tmp_path_factory.mktemp("killed") / "root"
    worker, notes = Worker(root), Worker(root, record_type=Note)

    def save(*numbers: int) -> None:
        for number in numbers:
            for session in _SESSIONS:
                size = _SIZES[number % len(_SIZES)]
                worker.save(record(session, f"c{number}", number, size=size))
            made = _noted(number)
            notes.call("save", made, blobs=by_digest(_blob(number)))

    try:
        save(*range(_SAVES // 2))
        worker.call("flush")
        with holding(root, "applier"):
            save(*range(_SAVES // 2, _SAVES))
            worker.save(record("u", "the last frame"))
            worker.kill()
            notes.kill()
        _write_files(root, "r", root.parent / "scratch")
        yield root
    finally:
        discard_all([worker, notes])


def _blob(number: int) -> bytes:
    return f"blob {number} ".encode() * (_SIZES[(number + 1) % len(_SIZES)] // 7)


def _noted(number: int) -> Note:
    """Return a note that shares a blob with the one before it."""
    blobs = [_blob(n) for n in range(max(number - 1, 0), number + 1)]
    return note(_NOTED, f"c{number}", *blobs, text=f"{_NOTED}/c{number}/{number} ")


def _damage(root: Path, chance: random.Random) -> bytes:
    """Damage a part of the journal, as disks and people do; return the frames that it hit."""
    slots = sorted(root.glob(".aiocheckpoint/log.*"))
    slot = max(slots, key=lambda path: len(path.read_bytes().rstrip(b"\0")))
    content = slot.read_bytes()
    frames = [at for at in range(4096, len(content), 4096) if content.startswith(b"acFR", at)]
    end = frames[-1]  # in a copy of a store a last frame that is damaged is one that is torn
    start = chance.randrange(4096, end)
    start = start // 512 * 512 if chance.random() < 0.7 else start
    stop = min(start + chance.choice([1, 16, 512, 4096, 4096, 8192, 20_000]), end)
    old, size = content[start:stop], stop - start
    flipped = bytes(byte ^ 1 for byte in old)
    new = chance.choice([bytes(size), bytes(size), chance.randbytes(size), flipped])
    slot.write_bytes(content[:start] + new + content[stop:])
    parts = itertools.pairwise(frames)
    return b"".join(content[a:b] for a, b in parts if a < stop and start < b)


async def _follow_advice(root: Path) -> set[tuple[str, str]]:
    """Do what the errors and findings say, after which all goes on; return what is left."""
    async with AsyncCheckpointWriter(root) as writer:
        for session in _SESSIONS:
            try:
                newest = assert_whole(await writer.load(session))
                assert newest.checkpoint_id == _LAST, "something older is handed out in silence"
            except CheckpointCorruptError as error:
                told = str(error)
                assert "recover(session_id)" in told
                await writer.recover(session)
        await _recover_found(writer, but=_NOTED)
        await _follow_advice_of_blobs(root)
        await _recover_found(writer)
        await writer.flush()
        assert not {found.kind for found in await writer.check()} - _HARMLESS
        left: set[tuple[str, str]] = set()
        for session in _SESSIONS:
            for checkpoint_id in await writer.ids(session):
                assert_whole(await writer.load(session, checkpoint_id))
                left.add((session, checkpoint_id))
            kept = await writer.load(session)
            expected = None if kept is None else kept.checkpoint_id
            await writer.save(record(session, "more"), expected=expected)
        await writer.flush()
    return left


async def _recover_found(writer: AsyncCheckpointWriter[Any], but: str = "") -> None:
    for session_id in {found.session_id for found in await writer.check()} - {None, but}:
        if session_id is not None:
            await writer.recover(session_id)


async def _follow_advice_of_blobs(root: Path) -> None:
    """What was lost is told of, or stored anew where a save gives it, and that is acknowledged."""
    writer = AsyncCheckpointWriter(root, record_type=Note)
    again = _noted(_SAVES).next(checkpoint_id="again")
    blobs = by_digest(_blob(_SAVES - 1), _blob(_SAVES))
    try:
        newest = await writer.load(_NOTED)
        assert newest == _noted(_SAVES - 1), "something older is handed out in silence"
        await writer.load_blobs(_NOTED, newest.blob_digests)
        await writer.save(again, blobs=blobs)
    except (CheckpointCorruptError, StorageError) as error:  # of an older one, when files lack
        told = str(error)
        assert "recover(session_id)" in told
        await writer.recover(_NOTED)
        await writer.save(again, blobs=blobs)
    assert await writer.load_blobs(_NOTED, again.blob_digests) == blobs
    with contextlib.suppress(CheckpointCorruptError):  # of an older one
        await writer.aclose()


async def _left_notes(root: Path) -> set[tuple[str, str]]:
    async with AsyncCheckpointWriter(root, record_type=Note) as writer:
        left: set[tuple[str, str]] = set()
        for checkpoint_id in await writer.ids(_NOTED):
            found = await writer.load(_NOTED, checkpoint_id)
            assert found is not None
            await writer.load_blobs(_NOTED, found.blob_digests)
            left.add((_NOTED, checkpoint_id))
        assert (_NOTED, "again") in left
    return left


async def _try(killed: Path, root: Path, seed: int) -> None:
    shutil.copytree(killed, root, symlinks=True)
    hit = _damage(root, random.Random(seed))
    left = await _follow_advice(root) | await _left_notes(root)
    for number in range(_SAVES):
        marks = [f"{_NOTED}/c{number}/{number} ", f"blob {number} ", f"blob {number - 1} "]
        is_hit = any(mark.encode() in hit for mark in marks)
        assert is_hit or (_NOTED, f"c{number}") in left, f"seed {seed}: an intact note is gone"
    for session in _SESSIONS:
        for number in range(_SAVES):
            is_hit = f"{session}/c{number}/{number} ".encode() in hit
            assert is_hit or (session, f"c{number}") in left, f"seed {seed}: an intact one is gone"
    shutil.rmtree(root)


@pytest.mark.parametrize("first_seed", range(0, 12, 6))
@pytest.mark.few(1)
async def test_all_advice_comes_to_an_end(killed: Path, tmp_path: Path, first_seed: int) -> None:
    """Wherever the journal is damaged, who does what is advised can go on, and loses no more."""
    for seed in range(first_seed, first_seed + 6):
        await _try(killed, tmp_path / f"{seed}", seed)


@pytest.mark.campaign
@pytest.mark.timeout(900)
async def test_all_advice_comes_to_an_end_often(killed: Path, tmp_path: Path) -> None:
    """The same, of many more places."""
    for seed in range(1000, 1600):
        await _try(killed, tmp_path / f"{seed}", seed)
