"""`aiocheckpoint list DIR SESSION`."""

from __future__ import annotations

import asyncio

from aiocheckpoint import AsyncCheckpointWriter, CheckpointMeta, CheckpointRecord
from aiocheckpoint.cli.terminal import (
    AsJson,
    Directory,
    Session,
    advised,
    cell,
    console,
    no_such_session,
    open_store,
    plain_table,
    print_json,
    print_line,
    time_text,
)


def list_checkpoints(directory: Directory, session: Session, *, as_json: AsJson = False) -> int:
    """List the checkpoints of a session, saved last first."""
    with advised(directory, session):
        metas = asyncio.run(_metas(open_store(directory), session))
    if not metas:
        raise no_such_session(directory, session)
    if as_json:
        print_json(metas)
    else:
        _print_table(metas)
    return 0


async def _metas(
    writer: AsyncCheckpointWriter[CheckpointRecord], session: str
) -> tuple[CheckpointMeta, ...]:
    async with writer:
        metas = await writer.list(session)
        if not metas:
            # Damaged files may not be listed; where there is nothing else, this raises.
            await writer.load(session)
        return metas


def _print_table(metas: tuple[CheckpointMeta, ...]) -> None:
    table = plain_table("Checkpoint", "Created (UTC)", "Trigger", ">Iteration")
    for meta in metas:
        table.add_row(
            cell(meta.checkpoint_id, "cyan"),
            time_text(meta.created_at),
            cell(meta.trigger),
            str(meta.iteration),
        )
    screen = console()
    screen.print(table)
    print_line(screen, f"files: {metas[0].path.parent}", "dim")
