"""`aiocheckpoint sessions DIR`."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter, CheckpointMeta, CheckpointRecord
from aiocheckpoint.cli.terminal import (
    AsJson,
    Directory,
    cell,
    console,
    open_store,
    plain_table,
    print_json,
    print_line,
    time_text,
)


class SessionSummary(Struct, kw_only=True):
    """
    One line of the output.

    Attributes:
        session_id: the session.
        checkpoints: how many can be listed.
        newest: the one saved last; None where none can be listed.
    """

    session_id: str
    checkpoints: int
    newest: CheckpointMeta | None


def sessions(directory: Directory, *, as_json: AsJson = False) -> int:
    """Name the sessions of a directory, with how many checkpoints each has."""
    found = asyncio.run(_found(open_store(directory)))
    if as_json:
        print_json(found)
    elif found:
        _print_table(found)
    else:
        print_line(console(), f"no sessions in {directory}")
    return 0


async def _found(writer: AsyncCheckpointWriter[CheckpointRecord]) -> list[SessionSummary]:
    async with writer:
        return await summaries(writer)


async def summaries(writer: AsyncCheckpointWriter[CheckpointRecord]) -> list[SessionSummary]:
    """Return a summary of each session, in the order of their directories."""
    return [
        SessionSummary(
            session_id=session_id, checkpoints=len(metas), newest=metas[0] if metas else None
        )
        async for session_id in writer.sessions()
        for metas in [await writer.list(session_id)]
    ]


def _print_table(found: list[SessionSummary]) -> None:
    table = plain_table("Session", ">Checkpoints", "Newest (UTC)", ">Iteration")
    for summary in found:
        newest = summary.newest
        table.add_row(
            cell(summary.session_id, "cyan"),
            str(summary.checkpoints),
            time_text(newest.created_at) if newest else "-",
            str(newest.iteration) if newest else "-",
        )
    console().print(table)
