"""`aiocheckpoint recover DIR SESSION`."""

from __future__ import annotations

import asyncio

from aiocheckpoint import BlobStore, CheckpointRecord, RecoveryReport
from aiocheckpoint.cli.place import Place, open_store
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    Session,
    Store,
    advised,
    command_line,
    console,
    no_such_session,
    print_json,
    print_line,
    require_store,
    word,
)


def recover(
    directory: Store,
    session: Session,
    *,
    max_bytes: MaxBytes = None,
    as_json: AsJson = False,
) -> int:
    """Move a session's damaged files aside and go on from its newest intact checkpoint."""
    with advised(directory, session):
        report = asyncio.run(_recovered(open_store(directory, max_bytes), directory, session))
    if report.newest_valid_id is None and not report.quarantined and not report.given_up:
        raise no_such_session(directory, session)
    if as_json:
        print_json(report)
    else:
        _print(report, directory)
    return 0 if report.newest_valid_id is not None else 1


async def _recovered(
    store: BlobStore[CheckpointRecord], place: Place, session: str
) -> RecoveryReport:
    async with store:
        report = await store.recover(session)
        if report.newest_valid_id is None and not report.quarantined:
            await require_store(store, place)
        return report


def _print(report: RecoveryReport, directory: Place) -> None:
    screen = console()
    for path in report.quarantined:
        print_line(screen, f"moved aside to {word(path)}")
    for checkpoint_id in report.uncertain_ids:
        text = "may have been deleted or replaced before, which nobody can tell any more"
        print_line(screen, f"{word(checkpoint_id)} {text}", "yellow")
    for path in report.given_up:
        print_line(screen, f"went on without a part of the journal; a copy is {word(path)}", "red")
    if report.given_up:
        verify = f"`{command_line('verify', directory)}`"
        print_line(screen, "nobody can tell which changes it held: look in a backup", "red")
        print_line(screen, f"other sessions may lack some, too; {verify} names them", "red")
    if report.newest_valid_id is None:
        print_line(screen, "no intact checkpoint is left; nothing was deleted", "red")
        return
    if not report.quarantined and not report.given_up:
        print_line(screen, "nothing was damaged")
    print_line(screen, f"the session goes on from {word(report.newest_valid_id)}", "green")
