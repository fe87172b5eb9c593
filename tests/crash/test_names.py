"""A file's name stands for one content for ever, whatever clocks and other writers do."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, StorageError
from aiocheckpoint._disk.files import LocalFiles
from aiocheckpoint.testing import Fault, FaultyFiles
from aiocheckpoint.writer import Durability

pytestmark = [pytest.mark.blocking, pytest.mark.usefixtures("no_flushing")]


class _AfterPowerCut(LocalFiles):
    def boot_id(self) -> str:
        return "another boot"


class _WeakFiles(FaultyFiles):
    """
    A disk on which no pointer can be made, nor a checkpoint be taken back.

    Attributes:
        is_weak: whether it is so just now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_weak = False
        self.at("symlink", self._refuse)
        self.at("remove", self._refuse)

    def _refuse(self) -> None:
        if self.is_weak:
            raise StorageError("symlink", "latest.json", errno.EIO, "injected")


def _record(checkpoint_id: str) -> CheckpointData:
    return CheckpointData(session_id="s", checkpoint_id=checkpoint_id)


async def _saved_ahead_of_the_clock(
    root: Path, writer: AsyncCheckpointWriter[CheckpointData]
) -> None:
    """Save `first`, and name it for a time to come, as a clock that was set back does."""
    await writer.save(_record("first"))
    await writer.flush()
    directory = root / "s" / "checkpoints"
    (directory / "latest.json").unlink()
    (name,) = directory.glob("cp_*_first.json")
    name.rename(directory / "cp_20990101_000000_000000_first.json")


async def _ids_after_power_cut(root: Path) -> tuple[str, ...]:
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    async with AsyncCheckpointWriter(copy, files=_AfterPowerCut()) as writer:
        return await writer.ids("s")


@pytest.mark.parametrize("durability", ["journal", "file", "none"])
async def test_a_save_repeated_after_it_failed(root: Path, durability: Durability) -> None:
    """A save that failed and is made again stays, though the clock is behind for both."""
    files = FaultyFiles()
    async with AsyncCheckpointWriter(root, files=files, durability=durability) as writer:
        await _saved_ahead_of_the_clock(root, writer)
        files.arm(Fault(errno.EIO, "rename"))
        with pytest.raises(StorageError):
            await writer.save(_record("again"))
        files.arm(None)
        await writer.save(_record("again"))
        if durability != "none":
            assert await _ids_after_power_cut(root) == ("first", "again")
        await writer.save(_record("later"))
        assert await writer.ids("s") == ("later", "first", "again")
        assert not writer._commits._undone


async def test_a_save_by_another_writer_after_a_delete(root: Path) -> None:
    """A checkpoint deleted by one writer and saved by another stays, with the clock behind."""
    async with AsyncCheckpointWriter(root) as one, AsyncCheckpointWriter(root) as other:
        await _saved_ahead_of_the_clock(root, one)
        await one.save(_record("again"))
        assert await one.delete("s", "again")
        await other.save(_record("again"))
        assert await _ids_after_power_cut(root) == ("first", "again")


@pytest.mark.parametrize("stays_weak", [False, True])
async def test_what_a_failed_save_left(root: Path, *, stays_weak: bool) -> None:
    """What could not be taken back is gone with the session's next save, and stays gone."""
    files = _WeakFiles()
    async with AsyncCheckpointWriter(root, files=files) as writer:
        await writer.save(_record("kept"))
        files.is_weak = True
        with pytest.raises(StorageError):
            await writer.save(_record("failed"))
        assert await writer.ids("s") == ("kept", "failed")
        if stays_weak:  # nothing is acknowledged in this session until that is put in order
            with pytest.raises(StorageError):
                await writer.save(_record("refused"))
        files.is_weak = False
        await writer.save(_record("later"))
        assert await writer.ids("s") == ("later", "kept")
        assert await _ids_after_power_cut(root) == ("later", "kept")
