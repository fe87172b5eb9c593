"""What a call does must not depend on how many checkpoints its session has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, Transaction, blob_digest
from aiocheckpoint._disk.files import Directory, LocalFiles
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._format.names import FileName
from aiocheckpoint.testing import LargeValue
from tests.conftest import MakeWriter


@pytest.fixture(name="walks")
def _walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record every time that all files of a session are gone through."""
    walks: list[int] = []
    newest_first = SessionIndex.newest_first

    def recorded(self: SessionIndex) -> list[FileName]:
        found = newest_first(self)
        walks.append(len(found))
        return found

    monkeypatch.setattr(SessionIndex, "newest_first", recorded)
    return walks


async def _three_saved(writer: AsyncCheckpointWriter[CheckpointData]) -> None:
    for number in range(3):
        await writer.save(CheckpointData(session_id="s", checkpoint_id=f"id-{number}"))


async def test_save_and_load_do_not_walk_the_session(
    writer: AsyncCheckpointWriter[CheckpointData], walks: list[int]
) -> None:
    """A save, a replacement and a load look at the files they need and at no other."""
    await _three_saved(writer)
    await writer.save(CheckpointData(session_id="s", checkpoint_id="id-1"))
    await writer.load("s")
    await writer.load("s", "id-0")
    assert walks == []


@pytest.mark.parametrize("checkpoint_id", ["id-0", "id-2"])
async def test_delete_does_not_walk_the_session(
    writer: AsyncCheckpointWriter[CheckpointData], walks: list[int], checkpoint_id: str
) -> None:
    """A delete, of the newest too, looks at the files it needs and at no other."""
    await _three_saved(writer)
    assert await writer.delete("s", checkpoint_id)
    assert walks == []


async def test_retention_does_not_walk_the_session(
    make_writer: MakeWriter, walks: list[int]
) -> None:
    """A save that lets the oldest go looks at that one alone, and at the blobs that go with it."""
    writer = make_writer(record_type=LargeValue, max_checkpoints=3)
    for number in range(6):
        blob = f"blob {number}".encode()
        digest = blob_digest(blob)
        data = LargeValue(session_id="s", checkpoint_id=f"id-{number}", blob_digests=(digest,))
        await writer.save(data, blobs={digest: blob})
    assert walks == []
    await writer.flush()
    assert await writer.ids("s") == ("id-5", "id-4", "id-3")


async def test_an_update_does_not_walk_the_session(
    writer: AsyncCheckpointWriter[CheckpointData], walks: list[int]
) -> None:
    """Nor does an update that loads, asks for ids, saves and deletes, or an owner that saves."""
    await _three_saved(writer)

    async def work(session: Transaction[CheckpointData]) -> None:
        (newest,) = await session.ids(limit=1)
        assert await session.load() == await session.load(newest)
        session.save(CheckpointData(session_id="s", checkpoint_id="id-1"))
        session.delete("id-0")

    await writer.update("s", work)
    async with writer.own("s") as owner:
        await owner.save(CheckpointData(session_id="s", checkpoint_id="id-4"))
    await writer.load_newest(["s"])
    assert walks == []


async def test_a_list_does_walk_it(
    writer: AsyncCheckpointWriter[CheckpointData], walks: list[int]
) -> None:
    """The recording of the tests above works."""
    await _three_saved(writer)
    await writer.list("s")
    assert walks == [3]


async def _slot_bytes(root: Path) -> list[int]:
    def sizes() -> list[int]:
        return sorted(it.stat().st_size for it in (root / ".aiocheckpoint").glob("log.*"))

    return await asyncio.to_thread(sizes)


async def test_who_comes_after_a_close_looks_through_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first look of a process reads of a journal does not depend on how large it is."""
    async with AsyncCheckpointWriter[CheckpointData](tmp_path) as writer:
        await writer.save(CheckpointData(session_id="s", tool_results={"a": "x" * 3_000_000}))
    read: list[int] = []
    read_at = LocalFiles.read_at

    def recorded(files: LocalFiles, descriptor: int, size: int, offset: int, path: str) -> bytes:
        data = read_at(files, descriptor, size, offset, path)
        if "/log." in path:
            read.append(len(data))
        return data

    monkeypatch.setattr(LocalFiles, "read_at", recorded)
    async with AsyncCheckpointWriter[CheckpointData](tmp_path) as writer:
        assert await writer.load("s") is not None
    assert sum(await _slot_bytes(tmp_path)) > 1_000_000
    assert 0 < sum(read) < 64_000


async def test_what_is_opened_and_closed_again_and_again_takes_no_more_room(tmp_path: Path) -> None:
    """The journal of a store that is opened for one save at a time does not grow."""
    for number in range(6):
        async with AsyncCheckpointWriter[CheckpointData](tmp_path) as writer:
            await writer.save(CheckpointData(session_id="s", checkpoint_id=f"id-{number}"))
        sizes = await _slot_bytes(tmp_path)
        assert len(sizes) <= 3
        assert sum(sizes) < 4_000_000


class _CountingFiles(LocalFiles):
    """Notes which directories are listed, and what is done to which files."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []
        self.called: list[tuple[str, str]] = []

    def call(self, operation: str, path: str, *args: Any, **kwargs: Any) -> Any:
        self.called.append((operation, Path(path).name))
        return super().call(operation, path, *args, **kwargs)

    def scan(self, directory: Directory) -> list[str]:
        self.listed.append(Path(directory.path).name)
        return super().scan(directory)


async def test_saves_list_no_blobs(tmp_path: Path) -> None:
    """What a killed process may have left of blobs is looked for once, not with each save."""
    files = _CountingFiles()
    async with AsyncCheckpointWriter(tmp_path, record_type=LargeValue, files=files) as writer:
        for number in range(5):
            blob = b"%d" % number
            record = LargeValue(session_id="s", blob_digests=(blob_digest(blob),))
            await writer.save(record, blobs={blob_digest(blob): blob})
            await writer.flush()
        assert files.listed.count("blobs") == 1


async def test_a_load_looks_once_at_what_others_have_committed(tmp_path: Path) -> None:
    """What is known of a session is as of the one look that each load begins with."""
    async with AsyncCheckpointWriter[CheckpointData](tmp_path) as writer:
        await _three_saved(writer)
    os.utime(tmp_path / "s" / "checkpoints", (1e9, 1e9))  # of the last moments it is listed anew
    files = _CountingFiles()
    async with AsyncCheckpointWriter[CheckpointData](tmp_path, files=files) as reader:
        await reader.load("s")
        files.called.clear()
        assert await reader.load("s") is not None
        assert files.called.count(("read", "control")) == 1


async def test_a_store_is_opened_to_read_without_asking_first(tmp_path: Path) -> None:
    """The shared positions are opened, or found missing, at once."""
    async with AsyncCheckpointWriter[CheckpointData](tmp_path) as writer:
        await _three_saved(writer)
    files = _CountingFiles()
    async with AsyncCheckpointWriter[CheckpointData](tmp_path, files=files) as reader:
        await reader.load("s")
    calls = [operation for operation, name in files.called if name == "control"]
    assert calls.index("open") == 0
