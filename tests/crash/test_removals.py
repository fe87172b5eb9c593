"""What a process has removed stays so, though the journal of a running one still holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, StorageError
from aiocheckpoint._disk.files import LocalFiles


class _NeverSettling(LocalFiles):
    """A process that loses power before it has flushed anything."""

    def reached(self, failpoint: str) -> None:
        if failpoint == "before_settle":
            raise StorageError("sync disk", "", None, "power lost")


class _AfterPowerCut(LocalFiles):
    def boot_id(self) -> str:
        return "another boot"


async def _cut_off(writer: AsyncCheckpointWriter[CheckpointData]) -> None:
    """Leave the writer's journal behind as a power cut does."""
    with pytest.raises(StorageError, match="power lost"):
        await writer.aclose()


async def _ids_after_power_cut(root: Path) -> tuple[str, ...]:
    async with AsyncCheckpointWriter(root, files=_AfterPowerCut()) as writer:
        found = await writer.ids("s")
        assert await writer.check() == ()
        return found


@pytest.mark.parametrize("is_whole", [False, True], ids=["delete", "delete_session"])
async def test_deleted_by_a_writer_that_was_closed(root: Path, *, is_whole: bool) -> None:
    """A delete outlasts its own writer's close and a power cut before the saver has flushed."""
    saver = AsyncCheckpointWriter(root, files=_NeverSettling())
    await saver.save(CheckpointData(session_id="s", checkpoint_id="kept"))
    await saver.save(CheckpointData(session_id="s", checkpoint_id="gone"))
    async with AsyncCheckpointWriter(root) as deleter:
        await (deleter.delete_session("s") if is_whole else deleter.delete("s", "gone"))
    await _cut_off(saver)
    assert await _ids_after_power_cut(root) == (() if is_whole else ("kept",))


async def test_deleted_by_a_process_that_was_replayed(root: Path) -> None:
    """A delete of a process that died outlasts its replay and a power cut afterwards."""
    saver = AsyncCheckpointWriter(root, files=_NeverSettling())
    await saver.save(CheckpointData(session_id="s", checkpoint_id="kept"))
    await saver.save(CheckpointData(session_id="s", checkpoint_id="gone"))
    deleter = AsyncCheckpointWriter(root, files=_NeverSettling())
    assert await deleter.delete("s", "gone")
    await _cut_off(deleter)
    async with AsyncCheckpointWriter(root) as replaying:
        assert await replaying.ids("s") == ("kept",)
    await _cut_off(saver)
    assert await _ids_after_power_cut(root) == ("kept",)


async def test_no_journal_is_left_once_the_saver_has_settled(root: Path) -> None:
    """A delete leaves no journal behind when no other process holds its files any more."""
    async with AsyncCheckpointWriter(root) as saver:
        await saver.save(CheckpointData(session_id="s", checkpoint_id="kept"))
        await saver.save(CheckpointData(session_id="s", checkpoint_id="gone"))
        await saver.flush()
        async with AsyncCheckpointWriter(root) as deleter:
            assert await deleter.delete("s", "gone")
        assert await saver.check() == ()
