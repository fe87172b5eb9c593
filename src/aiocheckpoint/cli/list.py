"""`aiocheckpoint list DIR SESSION`."""

from __future__ import annotations

import asyncio

from aiocheckpoint import BlobStore, CheckpointMeta, CheckpointRecord
from aiocheckpoint.cli.place import Place, open_store
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    Session,
    Store,
    advised,
    cell,
    console,
    no_such_session,
    not_written,
    plain_table,
    print_json,
    print_line,
    print_problems,
    require_store,
    saved_cells,
    shown_words,
    word,
)


def list_checkpoints(
    directory: Store,
    session: Session,
    *,
    max_bytes: MaxBytes = None,
    as_json: AsJson = False,
) -> int:
    """List the checkpoints of a session, saved last first; `verify` alone reads all of them."""
    with advised(directory, session):
        metas = asyncio.run(_metas(open_store(directory, max_bytes), directory, session))
    if not metas:
        raise no_such_session(directory, session)
    if as_json:
        print_json(metas)
        return 1 if any(meta.problem for meta in metas) else 0
    _print_table(metas, directory)
    return print_problems(
        directory, ((session, meta.checkpoint_id, meta.problem) for meta in metas)
    )


async def _metas(
    store: BlobStore[CheckpointRecord], place: Place, session: str
) -> tuple[CheckpointMeta, ...]:
    async with store:
        metas = await store.list(session)
        if not metas:
            await require_store(store, place)
        return metas


def _print_table(metas: tuple[CheckpointMeta, ...], place: Place) -> None:
    table = plain_table("Checkpoint", "=Saved (UTC)", "Trigger", ">Iteration")
    screen = console()
    shown = shown_words(screen, [text for m in metas for text in (m.checkpoint_id, m.trigger)])
    for meta in metas:
        table.add_row(cell(shown[meta.checkpoint_id], "cyan"), *saved_cells(meta, shown))
    screen.print(table)
    if metas[0].path is not None:
        print_line(screen, f"files: {word(metas[0].path.parent)}", "dim")
        fine = [meta.path for meta in metas if meta.path is not None and not meta.problem]
        lacking = sum(not path.exists() for path in fine)
        if lacking:
            print_line(screen, f"{lacking} {not_written(place, lacking)}", "dim")
