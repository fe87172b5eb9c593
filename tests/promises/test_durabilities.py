"""What each durability promises, and what tools that are not this library see of a save."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeWriter
from tests.on_disk import path_of
from tests.promises import tasks
from tests.promises.conftest import Start
from tests.promises.places import (
    GUARD_SECONDS,
    on_disk,
    plain_ids,
    plain_newest,
    read_plainly,
    session_files,
)
from tests.promises.records import Note, by_digest, note, record

_ALL = ["journal", "file", "none"]


@pytest.mark.parametrize("durability", _ALL)
def test_the_process_is_killed(start: Start, durability: str) -> None:
    """With every durability what was acknowledged survives the kill of its process."""
    first = start(durability=durability)
    first.call(tasks.save_many, "s", "n", 20)
    first.save(record("s", "n3", 100))
    first.delete("s", "n4")
    first.kill()

    second = start()
    expected = ("n3", *(f"n{number}" for number in reversed(range(20)) if number not in (3, 4)))
    assert second.listed_ids("s") == expected
    assert second.load("s") == record("s", "n3", 100)
    assert second.load("s", "n19") == record("s", "n19", 19)


@pytest.mark.parametrize("durability", _ALL)
@pytest.mark.few(1)
async def test_it_loads_at_once(make_writer: MakeWriter, durability: str) -> None:
    """A save that was acknowledged is loaded and listed at once, by its own writer and others."""
    writer, other = make_writer(durability=durability), make_writer()
    for number in range(40):
        data = record("s", f"n{number % 3}", number)
        await writer.save(data)
        for some in (writer, other):
            assert await some.load("s") == data
            assert await some.load("s", data.checkpoint_id) == data
            (newest, *rest) = await some.list("s")
            assert newest.iteration == number
            assert len(rest) == min(number, 2)


async def test_file_has_the_file_at_once(make_writer: MakeWriter, root: Path) -> None:
    """With `"file"` the files are there, and right, when a call returns."""
    writer = make_writer(durability="file")
    for number in range(10):
        await writer.save(record("s", f"n{number % 4}", number))
        found = await asyncio.to_thread(plain_ids, root, "s")
        assert found == [f"n{n % 4}" for n in range(max(number - 3, 0), number + 1)]
        assert await asyncio.to_thread(plain_newest, root, "s") == f"n{number % 4}"
        (newest, *_) = await writer.list("s")
        assert await writer.verify(path_of(newest))
    await writer.delete("s", "n0")
    assert await asyncio.to_thread(plain_ids, root, "s") == ["n2", "n3", "n1"]


@pytest.mark.parametrize("durability", _ALL)
async def test_files_after_a_flush(make_writer: MakeWriter, root: Path, durability: str) -> None:
    """After `flush()` there is exactly one file for each checkpoint, and `latest.json` is right."""
    writer = make_writer(durability=durability, max_backups=2)
    for number in range(30):
        await writer.save(record("s", f"n{number % 12}", number, size=number * 300))
    await writer.delete("s", "n7")
    await writer.save(record("t", "only"))
    await on_disk(writer)

    metas = await writer.list("s")
    files = await asyncio.to_thread(session_files, root, "s")
    assert [meta.path for meta in metas] == files[::-1]
    found = await asyncio.to_thread(plain_ids, root, "s")
    assert found == [meta.checkpoint_id for meta in reversed(metas)]
    assert len(found) == 11
    assert await asyncio.to_thread(plain_newest, root, "s") == "n5"
    assert await asyncio.to_thread(plain_newest, root, "t") == "only"
    assert all([await writer.verify(path) for path in files])
    names = await asyncio.to_thread(os.listdir, root / "s" / "checkpoints")
    assert len([name for name in names if name.endswith(".json.backup")]) <= 2
    assert not [name for name in names if name.startswith(".tmp")]


async def test_files_after_a_close(make_writer: MakeWriter, root: Path) -> None:
    """After `aclose()` all files are there, those of blobs too."""
    writer = make_writer(record_type=Note)
    blob = b"large" * 10_000
    for number in range(5):
        await writer.save(note("s", f"n{number}", blob), blobs=by_digest(blob))
    await writer.aclose()

    assert await asyncio.to_thread(plain_ids, root, "s") == [f"n{n}" for n in range(5)]
    (digest,) = by_digest(blob)
    assert await asyncio.to_thread((root / "s" / "blobs" / digest).read_bytes) == blob


async def test_files_without_a_flush(make_writer: MakeWriter, root: Path) -> None:
    """Nobody need ask: the files of a save appear by themselves, soon."""
    writer = make_writer()
    await writer.save(record("s", "a"))
    end = time.monotonic() + GUARD_SECONDS
    while not await asyncio.to_thread(session_files, root, "s"):
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
    assert await asyncio.to_thread(plain_ids, root, "s") == ["a"]


def _stamp_of(path: Path) -> datetime:
    _, day, time_of_day, fraction, _ = path.name.split("_", 4)
    return datetime.strptime(f"{day}{time_of_day}{fraction}+0000", "%Y%m%d%H%M%S%f%z")


async def test_times_of_files(make_writer: MakeWriter, root: Path) -> None:
    """A file's time is that of its save, as its name tells, whenever it was written."""
    writer = make_writer()
    began = datetime.now(UTC)
    for number in range(20):
        await writer.save(record("s", f"n{number}", number))
    ended = datetime.now(UTC)
    await on_disk(writer)

    files = await asyncio.to_thread(session_files, root, "s")
    stamps = [_stamp_of(path) for path in files]
    assert began <= stamps[0]
    assert stamps[-1] <= ended
    assert len(set(stamps)) == 20
    for path, stamp in zip(files, stamps, strict=True):
        modified_ns = (await asyncio.to_thread(path.stat)).st_mtime_ns
        assert abs(modified_ns / 1e9 - stamp.timestamp()) < 0.001


def _scan(root: Path, until: Any) -> int:
    """Read every checkpoint file again and again; each must be whole. Return how many were."""
    read = 0
    while not until():
        for path in root.glob("*/checkpoints/cp_*.json"):
            try:
                document = read_plainly(path)
            except FileNotFoundError:
                continue  # removed since it was listed
            name = document["checkpoint_id"]
            assert path.name.endswith(f"_{name}.json")
            size = document["tokens_used"]
            made = record(document["session_id"], name, document["iteration"], size=size)
            assert document["messages"] == made.messages
            read += 1
    return read


@pytest.mark.parametrize("durability", _ALL)
@pytest.mark.few(1)
def test_no_partial_file_is_ever_seen(start: Start, root: Path, durability: str) -> None:
    """Whoever reads a checkpoint file at any moment of a living machine finds it whole."""
    writer = start(durability=durability, max_checkpoints=5)
    names = [f"s{number}" for number in range(4)]
    for name in names:
        writer.save(record(name, "begun"))
    writer.call("flush")
    saving = writer.begin(tasks.save_at_once, names, 40, 60_000)

    assert _scan(root, lambda: saving.is_done(0)) > 0
    assert saving.result() == 160
    writer.close()
    assert plain_ids(root, "s0") == [f"n{number}" for number in range(35, 40)]
