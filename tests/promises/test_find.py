"""Finding what is in a session that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointData,
    InvalidArgumentError,
    NestedCallError,
    SessionReader,
    StorageError,
    Transaction,
    open_store,
)
from tests.conftest import MakeWriter
from tests.promises.places import on_disk, session_files
from tests.promises.records import record


async def _wanted(session: SessionReader[CheckpointData]) -> CheckpointData | None:
    return await session.load("wanted")


async def test_sessions_are_searched_many_in_a_hop(make_writer: MakeWriter) -> None:
    """What one of 150 sessions has is found by three hops, and by none behind the one it is in."""
    writer = make_writer()
    for number in range(150):
        await writer.save(record(f"s{number:03}", "other"))
    await writer.save(record("other", "wanted"))

    for last, hops in ((149, 3), (64, 2), (0, 1)):
        await writer.save(record(f"s{last:03}", "wanted"))
        for _ in ("from memory", "from files"):
            before = writer.stats().reads
            found = await writer.find(_wanted, prefix="s")
            assert found == record(f"s{last:03}", "wanted")
            assert writer.stats().reads - before == hops
            await on_disk(writer)
    assert await make_writer().find(_wanted, prefix="s") == found


async def test_nothing_is_found(make_writer: MakeWriter, root: Path) -> None:
    """Where no session has it, none is there, or the directory is not."""
    writer = make_writer()
    await writer.save(record("s", "wanted"))
    assert await writer.find(_wanted, prefix="t") is None
    await writer.delete("s", "wanted")
    assert await writer.find(_wanted) is None
    assert await make_writer(root / "nothing").find(_wanted) is None


@pytest.mark.damages_store
@pytest.mark.blocking
async def test_damage_is_told_unless_it_is_behind(make_writer: MakeWriter, root: Path) -> None:
    """A damaged checkpoint is no lack of one, and does not hide what was found before it."""
    writer = make_writer()
    for name in ("a", "b"):
        await writer.save(record(name, "wanted"))
    await on_disk(writer)
    session_files(root, "b")[0].write_bytes(b"{}")

    assert await make_writer().find(_wanted) == record("a", "wanted")
    await writer.delete_session("a")
    with pytest.raises(CheckpointCorruptError) as raised:
        await make_writer().find(_wanted)
    assert raised.value.session_id == "b"


@pytest.mark.damages_store
@pytest.mark.blocking
async def test_a_session_that_cannot_be_looked_into_is_told(
    make_writer: MakeWriter, root: Path, tmp_path: Path
) -> None:
    """It may have what is looked for, unless that is found elsewhere, also behind it."""
    writer = make_writer()
    await writer.save(record("b", "wanted"))
    await on_disk(writer)
    (tmp_path / "elsewhere").mkdir()
    (root / "a").symlink_to(tmp_path / "elsewhere")

    assert await writer.find(_wanted) == record("b", "wanted")
    await writer.delete_session("b")
    with pytest.raises(StorageError, match="symlink"):
        await writer.find(_wanted)


async def test_what_is_no_search_is_refused(make_writer: MakeWriter) -> None:
    """Work that is none, and reads of its own session by the work of an update."""
    writer = make_writer()
    await writer.save(record("s", "wanted"))
    with pytest.raises(InvalidArgumentError):
        await writer.find(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        await writer.find(lambda _session: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidArgumentError):
        await writer.find(_wanted, prefix=None)  # type: ignore[arg-type]

    async def update(_session: Transaction[CheckpointData]) -> None:
        await writer.find(_wanted)

    with pytest.raises(NestedCallError):
        await writer.update("s", update)


async def test_a_shared_store_finds_as_the_one_behind_it(root: Path) -> None:
    """What `open_store` gives of a directory has the method, too."""
    async with open_store(root) as store:
        await store.save(record("s", "wanted"))
        find = getattr(store, "find", None)
        assert find is not None
        assert await find(_wanted, prefix="s") == record("s", "wanted")
