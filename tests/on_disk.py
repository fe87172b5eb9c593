"""The barrier before each look at files: a save returns before its file is there."""

from __future__ import annotations

from typing import Any

from aiocheckpoint import AsyncCheckpointWriter


async def on_disk(writer: AsyncCheckpointWriter[Any]) -> None:
    """Wait until the file of every acknowledged save is on disk."""
    await writer.flush()
