"""`aiocheckpoint flush`: what is in the journal becomes files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from tests.cli.conftest import Tool, tree
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
    """Where nothing was ever saved by this library, nothing is made."""
    (tmp_path / "s" / "checkpoints").mkdir(parents=True)
    before = tree(tmp_path)
    found = tool("flush", tmp_path)
    assert (found.status, found.output) == (0, f"{tmp_path}: no checkpoints, nothing to flush\n")
    assert tree(tmp_path) == before
