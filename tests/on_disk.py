"""The barrier before each look at files, as a save returns before its file is there; and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiocheckpoint import AsyncCheckpointWriter, CheckpointMeta, Finding


async def on_disk(writer: AsyncCheckpointWriter[Any]) -> None:
    """Wait until the file of every acknowledged save is on disk."""
    await writer.flush()


def path_of(told: CheckpointMeta | Finding) -> Path:
    """Return the file of a listing entry or a finding; in a directory each has one."""
    assert told.path is not None
    return told.path
