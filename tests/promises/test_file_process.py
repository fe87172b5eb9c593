"""With `file_process` another process writes the files, and nobody can tell but by the time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from aiocheckpoint import StorageError
from aiocheckpoint._disk.sessions import SessionDirectories
from aiocheckpoint._engine.apply import Files
from tests.conftest import MakeWriter
from tests.promises.conftest import Start
from tests.promises.places import (
    is_held,
    on_disk,
    plain_ids,
    plain_newest,
    session_files,
    wait_for_tick,
    wait_until,
)
from tests.promises.records import record
from tests.promises.tasks import Writer, save_many

pytestmark = [
    pytest.mark.blocking,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes by /proc"),
]


def _helpers(root: Path) -> list[int]:
    """Return the ids of the processes that write the files of a root."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(root) in words and b"aiocheckpoint._engine.delegation" in b"".join(words):
            found.append(int(entry.name))
    return found


@contextmanager
def _idle_self(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process write no file of a session by itself."""

    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("it was to be written by the other process")

    with monkeypatch.context() as patch:
        patch.setattr(Files, "apply", refuse)
        yield


async def _until_files(root: Path, session_id: str, ids: list[str]) -> None:
    await asyncio.to_thread(
        wait_until, lambda: plain_ids(root, session_id) == ids, f"files of {ids}"
    )


def _ends_with(root: Path, ids: list[str]) -> bool:
    return plain_ids(root, "s")[-len(ids) :] == ids


@pytest.fixture(name="writer")
async def _writer(make_writer: MakeWriter, root: Path) -> Writer:
    """Return a writer whose other process has written the file of a checkpoint `first`."""
    writer: Writer = make_writer(file_process=True)
    await writer.save(record("s", "first"))
    await _until_files(root, "s", ["first"])
    return writer


async def test_the_other_process_writes_the_files(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is saved, replaced and deleted gets and loses its file without this process."""
    with _idle_self(monkeypatch):
        await save_many(writer, "s", "n", 3)
        await writer.save(record("s", "n1", 7))
        await writer.delete("s", "n0")
        await _until_files(root, "s", ["first", "n2", "n1"])
    assert [meta.checkpoint_id for meta in await writer.list("s")] == ["n1", "n2", "first"]


async def test_it_ends_with_the_writer(writer: Writer, root: Path) -> None:
    """A closed writer has written everything, and leaves no process behind."""
    assert len(_helpers(root)) == 1
    await save_many(writer, "s", "n", 20)
    await writer.aclose()
    assert _helpers(root) == []
    assert plain_ids(root, "s") == ["first", *(f"n{number}" for number in range(20))]
    assert plain_newest(root, "s") == "n19"


async def test_it_is_killed(writer: Writer, root: Path) -> None:
    """When it dies, at any moment, files follow all the same, and nothing is raised."""
    for helper in _helpers(root):
        os.kill(helper, signal.SIGKILL)
    await save_many(writer, "s", "n", 3)
    await _until_files(root, "s", ["first", "n0", "n1", "n2"])
    await on_disk(writer)


@contextmanager
def _stopped(root: Path) -> Iterator[None]:
    """Stop the other process while it has nothing in its hands."""
    wait_until(lambda: not is_held(root, "applier"), "the end of a flush")
    helpers = _helpers(root)
    for helper in helpers:
        os.kill(helper, signal.SIGSTOP)
    try:
        yield
    finally:
        for helper in helpers:
            os.kill(helper, signal.SIGCONT)


async def test_it_is_stopped(writer: Writer, root: Path) -> None:
    """When it hangs without the lock, who waits for files gets them."""
    with _stopped(root):
        await save_many(writer, "s", "n", 3)
        await on_disk(writer)
        assert plain_ids(root, "s") == ["first", "n0", "n1", "n2"]


def test_its_principal_is_killed(start: Start, root: Path) -> None:
    """It does not outlive the process that it works for, whose files it may finish."""
    worker = start(file_process=True)
    worker.save(record("s", "a"))
    wait_until(lambda: plain_ids(root, "s") == ["a"], "the file of a")
    assert len(_helpers(root)) == 1
    worker.kill()
    wait_until(lambda: not _helpers(root), "its end")


async def test_it_cannot_be_started(
    make_writer: MakeWriter, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is no Python to start, this process does the work."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    writer = make_writer(file_process=True)
    await save_many(writer, "s", "n", 3)
    await _until_files(root, "s", ["n0", "n1", "n2"])


async def test_both_write_files_of_a_session(make_writer: MakeWriter, root: Path) -> None:
    """Backups are as many as asked for, and `latest.json` leads to the newest, whoever wrote."""
    writer = make_writer(file_process=True, max_backups=2)
    for step in range(4):
        await save_many(writer, "s", f"{step}n", 3)
        expected = [f"{step}n{number}" for number in range(3)]
        if step % 2:
            await on_disk(writer)
        else:
            await asyncio.to_thread(wait_until, partial(_ends_with, root, expected), "files")
    await writer.delete("s", "3n2")
    await on_disk(writer)
    assert plain_newest(root, "s") == "3n1"
    assert len([*(root / "s" / "checkpoints").glob("*.backup")]) <= 2


async def test_a_file_that_others_put_there(
    writer: Writer, make_writer: MakeWriter, root: Path, tmp_path: Path
) -> None:
    """What Rust saves between two rounds is seen, also when a round comes before the next look."""
    other = make_writer(tmp_path / "elsewhere")
    await other.save(record("s", "foreign"))
    await on_disk(other)
    directory = root / "s" / "checkpoints"
    await asyncio.to_thread(wait_for_tick, directory, tmp_path / "probe")
    source = session_files(tmp_path / "elsewhere", "s")[0]
    (directory / source.name).write_bytes(source.read_bytes())
    await writer.save(record("s", "after"))
    await asyncio.to_thread(wait_until, lambda: "after" in plain_ids(root, "s"), "the file")
    assert set(await writer.ids("s")) == {"first", "foreign", "after"}


async def test_no_directory_is_listed_again(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session costs no listing a round, as its changes are known."""
    listed: list[str] = []
    once = SessionDirectories.listed

    def noting(self: SessionDirectories, name: str, *args: Any) -> Any:
        listed.append(name)
        return once(self, name, *args)

    await writer.save(record("s", "second"))
    await _until_files(root, "s", ["first", "second"])
    monkeypatch.setattr(SessionDirectories, "listed", noting)
    for number in range(4):
        await writer.save(record("s", f"n{number}"))
        await asyncio.to_thread(wait_until, partial(_ends_with, root, [f"n{number}"]), "the file")
    assert len(listed) <= 1


async def test_files_that_cannot_be_written(writer: Writer, root: Path) -> None:
    """An error is told as without it, by who waits for files; other sessions go on."""
    with _stopped(root):
        await writer.save(record("stuck", "a"))
        (root / "stuck").touch()
    await writer.save(record("s", "b"))
    with pytest.raises(StorageError):
        await writer.flush()
    assert plain_ids(root, "s") == ["first", "b"]
    (root / "stuck").unlink()
    await on_disk(writer)
    assert plain_ids(root, "stuck") == ["a"]
