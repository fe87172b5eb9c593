"""`aiocheckpoint recover DIR SESSION`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from aiocheckpoint import BlobStore, CheckpointRecord, Finding, RecoveryReport
from aiocheckpoint.cli.errors import EXIT_DAMAGED, CommandError
from aiocheckpoint.cli.place import Closing, Place, open_store
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    Session,
    Store,
    advised,
    command_line,
    console,
    counted,
    no_such_session,
    print_error,
    print_json,
    print_line,
    recover_anyway,
    require_store,
    session_of,
    told,
    word,
)
from aiocheckpoint.kit import Framework, encode_id, framework_of

Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Also where a framework's session cannot go on without it."),
]
RECOVERABLE = frozenset({"damaged", "damaged-journal", "misplaced", "missing-blob"})
_BACKUP = re.compile(r"\.json\.backup(\.[0-9a-f]+)?$")  # in the quarantine with a number behind


def is_spare(location: str) -> bool:
    """Tell whether a file is a second name of a checkpoint, without which nothing is lost."""
    return _BACKUP.search(location) is not None


def recover(
    directory: Store,
    session: Session,
    *,
    anyway: Anyway = False,
    max_bytes: MaxBytes = None,
    as_json: AsJson = False,
) -> int:
    """Move a session's damaged files aside and go on from its newest intact checkpoint."""
    framework = framework_of(session)
    with advised(directory, session):
        if framework is not None and not anyway:
            damage = asyncio.run(_count_damage(open_store(directory, max_bytes), session))
            if damage:
                raise _refusal(framework, damage, directory, session)
        store = open_store(directory, max_bytes, may_change=True)
        closing = Closing(store)
        report = asyncio.run(_recovered(store, closing, directory, session))
    status = _reported(report, directory, framework, as_json=as_json)
    for error in closing.errors:  # of what else is there: the session goes on all the same
        print_error(told(error, directory, session_of(error)))
    return status


def _reported(
    report: RecoveryReport, directory: Place, framework: Framework | None, *, as_json: bool
) -> int:
    """Print what was done; return the exit status, which is about this session alone."""
    if report.newest_valid_id is None and not report.quarantined and not report.given_up:
        raise no_such_session(directory, report.session_id)
    if as_json:
        print_json(report)
    else:
        _print(report, directory, framework)
    is_whole = framework is None or not _lacks_some(report)
    return 0 if report.newest_valid_id is not None and is_whole else EXIT_DAMAGED


def _lacks_some(report: RecoveryReport) -> bool:
    """Tell whether a session may lack something now that it had."""
    return bool(report.given_up) or not all(map(is_spare, report.quarantined))


async def _recovered(
    store: BlobStore[CheckpointRecord], closing: Closing, place: Place, session: str
) -> RecoveryReport:
    async with closing:
        report = await store.recover(session)
        if report.newest_valid_id is None and not report.quarantined:
            await require_store(store, place)
        return report


async def _count_damage(store: BlobStore[CheckpointRecord], session: str) -> int:
    """Return in how many places a session is damaged, changing nothing."""
    async with store:
        return count_needed(await store.check(), session)


def count_needed(findings: Sequence[Finding], session: str) -> int:
    """Return in how many places a session is damaged that a framework cannot go on without."""
    name = encode_id(session, "session id")  # by which one is found whose id is lost
    return sum(
        (
            finding.session_id == session
            and finding.kind in RECOVERABLE
            and not is_spare(finding.location)
        )
        or (finding.session_id is None and finding.kind == "damaged-journal")
        or (finding.kind == "lost-id" and name in finding.location)
        for finding in findings
    )


def _refusal(framework: Framework, damage: int, place: Place, session: str) -> CommandError:
    """Return why nothing is moved that a framework's session cannot go on without."""
    command = recover_anyway(place, session)
    advice = framework.advice.replace("recover(session_id)", f"`{command}`")
    return CommandError(
        f"nothing was moved: {word(session)} is damaged in {counted(damage, 'place')}, and {advice}"
        f"; `{command}` moves that aside all the same, after which {framework.name} may begin anew,"
        " or go on from what is older, without a word",
        EXIT_DAMAGED,
    )


def _print(report: RecoveryReport, directory: Place, framework: Framework | None) -> None:
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
        if framework is not None:
            text = f"whether a record was removed is told when {framework.name} reads the session"
            print_line(screen, text)
            return
    if framework is not None and _lacks_some(report):
        lost = f"what was lost is lost to {framework.name}, which may refuse the session, begin it"
        print_line(screen, f"{lost} anew, or go on from what is older, without a word", "red")
        return
    print_line(screen, f"the session goes on from {word(report.newest_valid_id)}", "green")
