"""`aiocheckpoint flush`: what is in the journal becomes files."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from tests.cli.conftest import Tool, saved, tree
from tests.trees import checkpoint_files


def test_says_what_it_did(root: Path, tool: Tool) -> None:
    """It exits with 0, names the directory, and all files are there, also of a living writer."""

    async def save_and_flush() -> None:
        async with AsyncCheckpointWriter(root) as writer:
            await writer.save(CheckpointData(session_id="s"))
            found = await asyncio.to_thread(tool, "flush", root)
            assert (found.status, found.errors) == (0, "")
            assert str(root) in found.output
            assert len(await asyncio.to_thread(checkpoint_files, root, "s")) == 1

    asyncio.run(save_and_flush())


def test_a_directory_that_is_not_there(tmp_path: Path, tool: Tool) -> None:
    """It exits with 2 and makes nothing."""
    found = tool("flush", tmp_path / "nothing")
    assert found.status == 2
    assert "nothing" in found.errors
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_a_journal(tmp_path: Path, tool: Tool) -> None:
    """Where nothing was ever saved, that is an error, and nothing is made."""
    (tmp_path / "s" / "checkpoints").mkdir(parents=True)
    before = tree(tmp_path)
    found = tool("flush", tmp_path)
    assert (found.status, found.output) == (2, "")
    assert f"no store at {tmp_path}" in found.errors
    assert tree(tmp_path) == before


def test_an_emptied_store(root: Path, tool: Tool) -> None:
    """A store whose sessions were all deleted has nothing to flush, which is no error."""
    saved(root, CheckpointData(session_id="s"))
    shutil.rmtree(root / "s")
    found = tool("flush", root)
    assert (found.status, found.output) == (0, f"{root}: no checkpoints, nothing to flush\n")


def test_another_process_is_waited_for_no_longer_than_asked(
    store: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it waits, and ends with the reason after the time that was given."""
    monkeypatch.setattr("aiocheckpoint.cli.flush._SILENT_SECONDS", 0)
    descriptor = os.open(store / ".aiocheckpoint" / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    took_seconds: list[float] = []
    for _ in range(20):  # the machine may be busy
        begun = time.monotonic()
        found = tool("flush", store, "--timeout", "0.3")
        took_seconds.append(time.monotonic() - begun)
        assert (found.status, found.output) == (2, "")
        [waits, reason] = found.errors.splitlines()
        assert "waiting up to 0.3 s" in waits
        assert "is it stopped? Try again if it is only slow" in reason
        if took_seconds[-1] < 0.9:  # which three full waits would take
            break
    os.close(descriptor)
    assert 0.1 < min(took_seconds) < 0.9
    assert tool("flush", store).status == 0
