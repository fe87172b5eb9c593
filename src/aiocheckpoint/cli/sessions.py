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
    JournalCorruptError,
    LostIdError,
    StorageError,
)
from aiocheckpoint.cli.errors import EXIT_DAMAGED
from aiocheckpoint.cli.place import Place, open_store
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    Store,
    advised,
    cell,
    console,
    plain_table,
    print_error,
    print_json,
    print_line,
    print_problems,
    require_store,
    saved_cells,
    shown_words,
    told,
)


class SessionSummary(Struct, kw_only=True):
    """
    One line of the output.

    Attributes:
        session_id: the session; None where nobody can tell its id.
        location: where the session is, or a file of it, then; None where the id is known.
        checkpoints: how many there are; None where the session cannot be listed.
        newest: the one saved last; None where none can be listed.
        problem: why the newest cannot be loaded, or the session not be listed; None where no
            reason shows.
    """

    session_id: str | None
    checkpoints: int | None = None
    newest: CheckpointMeta | None = None
    problem: str | None = None
    location: str | None = None

    @property
    def name(self) -> str:
        """The session's id; where nobody can tell it, its location."""
        return self.location or "" if self.session_id is None else self.session_id


def sessions(directory: Store, *, max_bytes: MaxBytes = None, as_json: AsJson = False) -> int:
    """Name the sessions, with how many checkpoints each has; `verify` alone reads all of them."""
    with advised(directory):
        return _listed(directory, max_bytes, as_json=as_json)


def _listed(directory: Place, max_bytes: int | None, *, as_json: bool) -> int:
    found, refused = asyncio.run(_found(open_store(directory, max_bytes), directory))
    if as_json:
        print_json(found)
        status = EXIT_DAMAGED if any(summary.problem for summary in found) else 0
    elif found:
        _print_table(found)
        problems = ((one.session_id, one.name, one.problem) for one in found)
        status = print_problems(directory, problems)
    else:
        status = 0
        if not refused:  # else nobody knows
            print_line(console(), f"no sessions in {directory}")
    # Of one session that cannot be looked into the others were told; else the listing broke off.
    is_rest_told = bool(found) and all(
        isinstance(error, StorageError | JournalCorruptError) for error in refused
    )
    for error in refused if is_rest_told else refused[1:]:
        print_error(told(error, directory))
    if refused and not is_rest_told:
        raise refused[0]
    return EXIT_DAMAGED if refused else status


async def _found(
    store: BlobStore[CheckpointRecord], place: Place
) -> tuple[list[SessionSummary], list[CheckpointError]]:
    async with store:
        found, refused = await summaries(store)
        if not found and not refused:
            await require_store(store, place)
        return found, refused


async def summaries(
    store: BlobStore[CheckpointRecord],
) -> tuple[list[SessionSummary], list[CheckpointError]]:
    """
    Return a summary of each session, those whose ids nobody can tell last.

    And why of some places nobody can tell whether a session is there.
    """
    found: list[SessionSummary] = []
    lost: list[SessionSummary] = []
    refused: list[CheckpointError] = []
    try:
        async for session_id in store.sessions():
            found += [await _summary(store, session_id)]
    except CheckpointError as error:
        for each in (error, *error.others):
            without_id = _without_id(each)
            if without_id is None:
                refused.append(each)
            else:
                lost.append(without_id)
    return [*found, *lost], refused


def _without_id(error: CheckpointError) -> SessionSummary | None:
    """Return the summary of a session whose id cannot be read; None of what may be no session."""
    match error:
        case JournalCorruptError():
            return None
        case LostIdError():
            location = error.location
        case CheckpointCorruptError():
            location = error.path
        case CheckpointTooLargeError():
            location = error.subject
        case _:
            return None
    return SessionSummary(session_id=None, location=location, problem=str(error))


async def _summary(store: BlobStore[CheckpointRecord], session_id: str) -> SessionSummary:
    try:
        metas = await store.list(session_id)
    except CheckpointError as error:
        return SessionSummary(session_id=session_id, problem=str(error))
    newest = metas[0] if metas else None
    return SessionSummary(
        session_id=session_id,
        checkpoints=len(metas),
        newest=newest,
        problem=newest.problem if newest else None,
    )


def _print_table(found: list[SessionSummary]) -> None:
    table = plain_table("Session", ">Checkpoints", "=Saved (UTC)", "Trigger", ">Iteration")
    screen = console()
    shown = shown_words(
        screen,
        [*(one.name for one in found), *(one.newest.trigger for one in found if one.newest)],
    )
    for summary in found:
        newest = summary.newest
        table.add_row(
            cell(shown[summary.name], "cyan" if summary.session_id is not None else "red"),
            "-" if summary.checkpoints is None else str(summary.checkpoints),
            *(saved_cells(newest, shown) if newest else ("-", "-", "-")),
        )
    screen.print(table)
