"""A thread that cannot be read hides, and stops, none of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointRecord,
    MissingBlobError,
    StorageError,
)
from aiocheckpoint.adapters.langgraph import CheckpointSaver, session_of
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.promises import put
from tests.promises.places import session_files

pytestmark = [pytest.mark.blocking, pytest.mark.damages_store]


async def told(
    saver: CheckpointSaver, config: Any = None, **options: Any
) -> tuple[list[str], CheckpointError | None]:
    """Return the ids that are yielded, and what is raised after the last, both ways."""
    found: list[str] = []
    error: CheckpointError | None = None
    try:
        async for item in saver.alist(config, **options):
            found += [item.checkpoint["id"]]
    except CheckpointError as raised:
        error = raised

    def in_thread() -> tuple[list[str], type[CheckpointError] | None]:
        plain: list[str] = []
        try:
            for item in saver.list(config, **options):
                plain += [item.checkpoint["id"]]
        except CheckpointError as raised:
            return plain, type(raised)
        return plain, None

    assert await asyncio.to_thread(in_thread) == (found, type(error) if error else None)
    return found, error


async def _filled(make: MakeSaver) -> tuple[CheckpointSaver, dict[str, list[str]]]:
    """Return a saver with three checkpoints in each of three threads, and their ids."""
    saver = make()
    ids: dict[str, list[str]] = {}
    for name in ("a", "b", "c"):
        config: Any = thread(name)
        ids[name] = []
        for step in range(3):
            config = await put(saver, config, {"n": step})
            ids[name].insert(0, config["configurable"]["checkpoint_id"])
    await saver.aflush()
    return saver, ids


async def test_a_damaged_checkpoint(make: MakeSaver, root: Path) -> None:
    """All but the damaged checkpoint are listed, of its thread too, and then it is raised."""
    saver, ids = await _filled(make)
    damaged = session_files(root, session_of("b", ""))[1]
    damaged.write_bytes(b"{}")
    expected = [*ids["c"], ids["b"][0], ids["b"][2], *ids["a"]]
    found, error = await told(saver)
    assert sorted(found) == sorted(expected)
    assert isinstance(error, CheckpointCorruptError)
    assert error.path == str(damaged)
    found, error = await told(saver, thread("b"))
    assert (found, type(error)) == ([ids["b"][0], ids["b"][2]], CheckpointCorruptError)
    assert await told(saver, thread("a")) == (ids["a"], None)


async def test_a_limit_counts_what_is_damaged(make: MakeSaver, root: Path) -> None:
    """Who wants the first few gets nothing older in place of one that cannot be read."""
    saver, ids = await _filled(make)
    damaged = session_files(root, session_of("b", ""))[1]  # the second, stored last first
    damaged.write_bytes(b"{}")
    b = ids["b"]
    newest: Any = thread("b", checkpoint_id=b[0], checkpoint_ns="")
    of_b: Any = thread("b", checkpoint_ns="")
    cases: list[tuple[Any, list[str], bool]] = [
        ({"limit": 1}, [b[0]], False),
        ({"limit": 2}, [b[0]], True),
        ({"limit": 3}, [b[0], b[2]], True),
        ({"limit": 1, "before": newest}, [], True),
        ({"limit": 1, "before": newest, "filter": {"source": "loop"}}, [], True),
    ]
    for options, expected, is_told in cases:
        found, error = await told(saver, of_b, **options)
        assert (found, error is not None) == (expected, is_told)


async def test_damage_names_the_thread(make: MakeSaver, root: Path) -> None:
    """Sessions are named by digests, so each call says of which of LangGraph's threads it is."""
    saver, _ = await _filled(make)
    for damaged in session_files(root, session_of("b", "")):
        damaged.write_bytes(b"{}")
    b = thread("b")

    async def listing() -> None:
        async for _ in saver.alist(b):
            pass

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: saver.aget_tuple(b),
        lambda: asyncio.to_thread(saver.get_tuple, b),
        listing,
        lambda: asyncio.to_thread(lambda: [*saver.list(b)]),
        lambda: saver.aget_delta_channel_history(config=b, channels=["messages"]),
        lambda: saver.aprune(["b"]),
        lambda: saver.acopy_thread("b", "new"),
    ]
    for call in calls:
        with pytest.raises(CheckpointCorruptError, match=r"is damaged .*thread 'b'"):
            await call()


async def test_all_that_is_damaged_is_told(make: MakeSaver, root: Path) -> None:
    """Of several damaged checkpoints the first is raised, and the others are in its error."""
    saver, ids = await _filled(make)
    damaged = [session_files(root, session_of(name, ""))[1] for name in "ab"]
    for path in damaged:
        path.write_bytes(b"{}")
    found, error = await told(saver)
    assert len(found) == 7
    assert {*ids["c"]} < {*found}
    assert isinstance(error, CheckpointCorruptError)
    paths = [each.path for each in (error, *error.others) if isinstance(each, type(error))]
    assert sorted(paths) == sorted(map(str, damaged))


async def test_a_missing_value_names_the_thread(make: MakeSaver, root: Path) -> None:
    """So it is where not a checkpoint is gone, but a long value that it leads to."""
    saver = make()
    await put(saver, thread("b"), {"n": "x" * 100_000})
    await saver.aflush()
    for path in (root / session_of("b", "") / "blobs").iterdir():
        path.unlink()
    with pytest.raises(MissingBlobError, match=r"is not there .*thread 'b'"):
        await saver.aget_tuple(thread("b"))


async def test_a_damaged_newest_names_what_is_left(make: MakeSaver, root: Path) -> None:
    """Whoever asks for the newest, or for the damaged one, is told which record is intact."""
    saver, ids = await _filled(make)
    session_id = session_of("b", "")
    session_files(root, session_id)[-1].write_bytes(b"{}")
    told_ids = set()
    for key in ({}, {"checkpoint_id": ids["b"][0]}):
        with pytest.raises(CheckpointCorruptError) as raised:
            await saver.aget_tuple({"configurable": {"thread_id": "b", "checkpoint_ns": "", **key}})
        told_ids.add(raised.value.newest_valid_id)
    async with AsyncCheckpointWriter(root, record_type=CheckpointRecord) as writer:
        report = await writer.recover(session_id)
    assert report.newest_valid_id is not None
    assert told_ids == {report.newest_valid_id}


async def test_a_directory_that_cannot_be_told(make: MakeSaver, root: Path, tmp_path: Path) -> None:
    """A thread whose directory is a symlink is raised after all others, with a limit too."""
    saver, ids = await _filled(make)
    place = root / session_of("b", "")
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    for options, count in (({}, 6), ({"limit": 2}, 2)):
        found, error = await told(saver, **options)
        assert len(found) == count
        assert set(found) <= {*ids["a"], *ids["c"]}
        assert isinstance(error, StorageError)
    with pytest.raises(StorageError):
        await saver.adelete_thread("b")
