"""`aiocheckpoint flush DIR`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from aiocheckpoint import AsyncCheckpointWriter, CheckpointError, CheckpointRecord
from aiocheckpoint.cli.place import Closing, Place, open_writer
from aiocheckpoint.cli.terminal import (
    Store,
    advised,
    console,
    print_error,
    print_line,
    require_store,
    told,
    word,
)

_SILENT_SECONDS = 3.0
_WAITS = 3  # of a writer that is held up: to flush, to flush once more as it closes, and to end

TimeoutSeconds = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0, help="How long to wait for others, in all."
    ),
]


def flush(store: Store, *, timeout: TimeoutSeconds = 60) -> int:
    """
    Write the files of all that is in the journal, for Rust, a backup or an editor to see.

    It exits with 1 where changes of sessions may be lost with a part of the journal: it names each.
    """
    directory = store.directory("flush")
    writer = open_writer(directory, timeout_seconds=timeout / _WAITS)
    with advised(store):
        try:
            has_sessions = asyncio.run(_flushed(writer, store, timeout))
        except CheckpointError as error:
            for other in error.others:  # the first is told as it is raised
                print_error(told(other, store))
            raise
    if has_sessions:
        print_line(console(), f"{word(store)}: all that was saved is in files", "green")
    else:
        print_line(console(), f"{word(store)}: no checkpoints, nothing to flush")
    return 0


async def _flushed(
    writer: AsyncCheckpointWriter[CheckpointRecord], place: Place, timeout_seconds: float
) -> bool:
    """Flush, and tell whether there is any session."""
    loop = asyncio.get_running_loop()
    closing = Closing(writer)  # which tries it once more, and raises less
    telling = loop.call_later(_SILENT_SECONDS, _tell_of_waiting, place, timeout_seconds)
    try:
        async with closing:
            await require_store(writer, place)
            await writer.flush()
            has_sessions = await _has_sessions(writer)
        closing.raise_first()
        return has_sessions
    finally:
        telling.cancel()


async def _has_sessions(writer: AsyncCheckpointWriter[CheckpointRecord]) -> bool:
    async for _ in writer.sessions():
        return True
    return False


def _tell_of_waiting(place: Place, timeout_seconds: float) -> None:
    print_error(f"waiting up to {timeout_seconds:g} s for the disk, or another process on {place}")
