"""`aiocheckpoint flush DIR`."""

from __future__ import annotations

import asyncio

from aiocheckpoint import AsyncCheckpointWriter, CheckpointRecord
from aiocheckpoint.cli.terminal import Directory, advised, console, open_store, print_line


def flush(directory: Directory) -> int:
    """Write the files of all that is in the journal, for Rust, a backup or an editor to see."""
    with advised(directory):
        has_sessions = asyncio.run(_flushed(open_store(directory)))
    if has_sessions:
        print_line(console(), f"{directory}: all that was saved is in files", "green")
    else:
        print_line(console(), f"{directory}: no checkpoints, nothing to flush")
    return 0


async def _flushed(writer: AsyncCheckpointWriter[CheckpointRecord]) -> bool:
    """Flush, and tell whether there is any session."""
    async with writer:
        await writer.flush()
        async for _ in writer.sessions():
            return True
        return False
