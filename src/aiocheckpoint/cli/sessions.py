"""`aiocheckpoint sessions DIR`."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from aiocheckpoint import (
    BlobStore,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMeta,
    CheckpointRecord,
    CheckpointTooLargeError,
)
from aiocheckpoint.cli.errors import EXIT_DAMAGED, CommandError
from aiocheckpoint.cli.place import Place, open_store
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    Store,
    cell,
    console,
    in_shell_words,
    plain_table,
    print_json,
    print_line,
    print_problems,
    require_store,
    saved_cells,
    word,
)


class SessionSummary(Struct, kw_only=True):
    """
    One line of the output.

    Attributes:
        session_id: the session.
        checkpoints: how many there are; None where the session cannot be listed.
        newest: the one saved last; None where none can be listed.
        problem: why the newest cannot be loaded, or the session not be listed; None where no
            reason shows.
    """

    session_id: str
    checkpoints: int | None
    newest: CheckpointMeta | None
    problem: str | None = None


def sessions(directory: Store, *, max_bytes: MaxBytes = None, as_json: AsJson = False) -> int:
    """Name the sessions of a directory, with how many checkpoints each has."""
    found, refused = asyncio.run(_found(open_store(directory, max_bytes), directory))
    if as_json:
        print_json(found)
        status = 1 if any(summary.problem for summary in found) else 0
    elif found:
        _print_table(found)
        problems = ((one.session_id, one.session_id, one.problem) for one in found)
        status = print_problems(directory, problems)
    else:
        status = 0
        if refused is None:  # else nobody knows
            print_line(console(), f"no sessions in {directory}")
    if isinstance(refused, CheckpointTooLargeError | CheckpointCorruptError):
        # Of a session whose id nobody can read; the others are told first, and nothing is undone.
        raise CommandError(in_shell_words(str(refused), directory, None), EXIT_DAMAGED)
    if refused is not None:
        raise refused
    return status


async def _found(
    store: BlobStore[CheckpointRecord], place: Place
) -> tuple[list[SessionSummary], CheckpointError | None]:
    async with store:
        found, refused = await summaries(store)
        if not found and refused is None:
            await require_store(store, place)
        return found, refused


async def summaries(
    writer: BlobStore[CheckpointRecord],
) -> tuple[list[SessionSummary], CheckpointError | None]:
    """
    Return a summary of each session, in the order of their directories.

    And why of some directory nobody can tell whether it is a session.
    """
    found: list[SessionSummary] = []
    try:
        async for session_id in writer.sessions():
            found += [await _summary(writer, session_id)]
    except CheckpointError as error:
        return found, error
    return found, None


async def _summary(writer: BlobStore[CheckpointRecord], session_id: str) -> SessionSummary:
    try:
        metas = await writer.list(session_id)
    except CheckpointError as error:
        return SessionSummary(
            session_id=session_id, checkpoints=None, newest=None, problem=str(error)
        )
    newest = metas[0] if metas else None
    return SessionSummary(
        session_id=session_id,
        checkpoints=len(metas),
        newest=newest,
        problem=newest.problem if newest else None,
    )


def _print_table(found: list[SessionSummary]) -> None:
    table = plain_table("Session", ">Checkpoints", "Saved (UTC)", "Trigger", ">Iteration")
    for summary in found:
        newest = summary.newest
        table.add_row(
            cell(word(summary.session_id), "cyan"),
            "-" if summary.checkpoints is None else str(summary.checkpoints),
            *(saved_cells(newest) if newest else ("-", "-", "-")),
        )
    console().print(table)
