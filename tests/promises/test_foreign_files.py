"""Files that somebody else puts into a session's directory, or takes away, count as ours do."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData
from tests.conftest import MakeWriter
from tests.promises.conftest import Start
from tests.promises.places import (
    holding,
    on_disk,
    plain_ids,
    plain_newest,
    session_files,
    wait_for_tick,
)
from tests.promises.records import record
from tests.promises.tasks import Writer, list_sessions, save_many


@pytest.fixture(name="foreign")
async def _foreign(make_writer: MakeWriter, tmp_path: Path) -> list[Path]:
    """Return the files of checkpoints f0, f1 and f2 of session `s`, saved in another root."""
    writer = make_writer(tmp_path / "elsewhere")
    await save_many(writer, "s", "f", 3)
    await on_disk(writer)
    files = await asyncio.to_thread(session_files, tmp_path / "elsewhere", "s")
    assert len(files) == 3
    return files


@pytest.fixture(name="writers")
async def _writers(make_writer: MakeWriter) -> list[Writer]:
    """Return two writers that know session `s`, which has the checkpoints n0 and n1, flushed."""
    writers: list[Writer] = [make_writer(), make_writer()]
    await save_many(writers[0], "s", "n", 2)
    await on_disk(writers[0])
    for writer in writers:
        assert await _ids(writer) == ["n1", "n0"]
    return writers


async def _ids(writer: Writer, session_id: str = "s") -> list[str]:
    """Return the ids, newest first, as all ways of reading tell them."""
    ids = [meta.checkpoint_id for meta in await writer.list(session_id)]
    assert sorted(ids, reverse=True) == list(await writer.ids(session_id))
    newest: CheckpointData | None = await writer.load(session_id)
    assert (newest.checkpoint_id if newest else None) == (ids[0] if ids else None)
    for name in ids:
        assert await writer.load(session_id, name) is not None
    return ids


def _put(file: Path, root: Path, session_id: str = "s", name: str = "") -> Path:
    """Put a file into a session's directory, made if need be, at a time that can be told apart."""
    directory = root / session_id / "checkpoints"
    directory.mkdir(0o700, parents=True, exist_ok=True)
    wait_for_tick(directory, root.parent / "probe")
    target = directory / (name or file.name)
    shutil.copy2(file, target.with_name(".being_copied"))
    return target.with_name(".being_copied").rename(target)


def _remove(path: Path, root: Path) -> None:
    wait_for_tick(path.parent, root.parent / "probe")
    path.unlink()


async def test_a_new_session(make_writer: MakeWriter, root: Path, foreign: list[Path]) -> None:
    """A session that was put there as a whole is found, by a writer that is open already too."""
    writer = make_writer()
    await writer.save(record("other", "x"))
    assert await _ids(writer) == []
    for path in foreign:
        await asyncio.to_thread(_put, path, root)

    for some in (writer, make_writer()):
        assert await _ids(some) == ["f2", "f1", "f0"]
        assert await some.load("s", "f1") == record("s", "f1", 1)
        assert await list_sessions(some) == ["other", "s"]
    await writer.save(record("s", "more"))
    assert await _ids(writer) == ["more", "f2", "f1", "f0"]


@pytest.mark.damages_store  # `latest.json` is nobody's to make right until the next save
async def test_a_file_more(
    writers: list[Writer], make_writer: MakeWriter, root: Path, foreign: list[Path]
) -> None:
    """A file that was put into a session that is in use is listed where its name says."""
    (oldest, *_) = foreign
    newer = "cp_29990101_000000_000000_f0.json"
    await asyncio.to_thread(_put, oldest, root, name=newer)
    for some in (*writers, make_writer()):
        assert await _ids(some) == ["f0", "n1", "n0"]
        assert await some.load("s") == record("s", "f0")


async def test_an_older_file(
    writers: list[Writer], make_writer: MakeWriter, root: Path, foreign: list[Path]
) -> None:
    """One whose name is older than ours is listed behind them, and is not the newest."""
    await asyncio.to_thread(_put, foreign[1], root, name="cp_20200101_000000_000000_f1.json")
    for some in (*writers, make_writer()):
        assert await _ids(some) == ["n1", "n0", "f1"]
        assert await some.load("s") == record("s", "n1", 1)


async def test_saves_come_after_it(
    writers: list[Writer], make_writer: MakeWriter, root: Path, foreign: list[Path]
) -> None:
    """What is saved afterwards is newer, though the file's name be of the future."""
    await asyncio.to_thread(_put, foreign[0], root, name="cp_29990101_000000_000000_f0.json")
    for number, writer in enumerate((*writers, make_writer())):
        await writer.save(record("s", f"m{number}"))
        assert (await _ids(writer))[:2] == [f"m{number}", f"m{number - 1}" if number else "f0"]
    await on_disk(writers[0])
    assert await asyncio.to_thread(plain_newest, root, "s") == "m2"
    found = await asyncio.to_thread(plain_ids, root, "s")
    assert found == ["n0", "n1", "f0", "m0", "m1", "m2"]


async def test_it_is_deleted_and_replaced_as_ours(
    writers: list[Writer], make_writer: MakeWriter, root: Path, foreign: list[Path]
) -> None:
    """Somebody else's files are replaced, deleted and pruned like our own."""
    for path in foreign:
        await asyncio.to_thread(_put, path, root)
    one, two = writers
    await one.save(record("s", "f1", 100))
    assert await two.delete("s", "f0")
    await on_disk(two)
    for some in (one, two, make_writer()):
        assert sorted(await _ids(some)) == ["f1", "f2", "n0", "n1"]
        assert await some.load("s") == record("s", "f1", 100)
    assert sorted(await asyncio.to_thread(plain_ids, root, "s")) == ["f1", "f2", "n0", "n1"]
    limited = make_writer(max_checkpoints=1)
    await limited.save(record("s", "last"))
    await on_disk(limited)
    assert await asyncio.to_thread(plain_ids, root, "s") == ["last"]


async def test_a_file_less(writers: list[Writer], make_writer: MakeWriter, root: Path) -> None:
    """A file that somebody removed after a flush is gone for all, and stays so."""
    await writers[0].save(record("s", "n2", 2))
    await on_disk(writers[0])
    files = await asyncio.to_thread(session_files, root, "s")
    await asyncio.to_thread(_remove, files[1], root)
    for some in (*writers, make_writer()):
        assert await _ids(some) == ["n2", "n0"]
        assert await some.load("s", "n1") is None
    await asyncio.to_thread(_remove, files[2], root)
    for some in (*writers, make_writer()):
        assert await _ids(some) == ["n0"]
    await writers[1].save(record("s", "more"))
    await on_disk(writers[1])
    assert await asyncio.to_thread(plain_ids, root, "s") == ["n0", "more"]


@pytest.mark.damages_store  # `latest.json` may dangle
def test_a_session_less(start: Start, root: Path) -> None:
    """A session that somebody removed after a flush is gone; its id may be used anew."""
    one, two = start(), start()
    for name in ("a", "b"):
        one.save(record("s", name))
    assert two.listed_ids("s") == ("b", "a")
    one.call("flush")
    wait_for_tick(root / "s" / "checkpoints", root.parent / "probe")
    shutil.rmtree(root / "s")

    for some in (one, two, start()):
        assert some.list("s") == ()
        assert some.load("s") is None
        assert some.call(list_sessions) == []
    two.save(record("s", "anew"))
    one.call("flush")
    for some in (one, two, start()):
        assert some.listed_ids("s") == ("anew",)
    assert plain_ids(root, "s") == ["anew"]


@pytest.mark.parametrize("flushes", [True, False])
def test_a_session_removed_by_hand_after_a_kill(start: Start, root: Path, *, flushes: bool) -> None:
    """What somebody removes by hand stays removed after a flush; before one the journal has it."""
    owner = start()
    owner.save(record("first", "x"))
    with holding(root, "applier"):  # so that nothing more is written before its end
        for name in ("user", "other"):
            owner.save(record(name, "x"))
        owner.kill()
    if flushes:
        flusher = start()
        flusher.call("flush")
        flusher.close()
        assert plain_ids(root, "user") == ["x"]
    shutil.rmtree(root / "user", ignore_errors=True)

    for some in (start(), start()):
        assert some.listed_ids("user") == (() if flushes else ("x",))
        assert some.listed_ids("other") == ("x",)
        some.call("flush")
    assert plain_ids(root, "user") == ([] if flushes else ["x"])
