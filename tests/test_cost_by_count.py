"""What a call does must not depend on how many checkpoints its session has."""

from __future__ import annotations

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, Transaction
from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._format.names import FileName


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
