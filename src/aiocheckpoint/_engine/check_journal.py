"""Finding what is wrong with the journal of a store, and changing nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from aiocheckpoint._disk.files import monotonic_seconds
from aiocheckpoint._disk.locks import LOCK_NAME
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.lost_parts import Part
from aiocheckpoint._engine.bodies import Bodies
from aiocheckpoint._engine.root import OpenRoot
from aiocheckpoint._engine.sessions import session_id_of, session_ids, session_names
from aiocheckpoint._format.entries import Stuck
from aiocheckpoint._format.ids import decode_id
from aiocheckpoint._format.listing import location_of_file
from aiocheckpoint.errors import (
    CheckpointError,
    JournalCorruptError,
    JournalVersionError,
    StorageError,
)
from aiocheckpoint.models import Finding, FindingKind, SessionId

_OURS = re.compile(r"(turn|lock|applier|control|owner-.*|log\.[0-9]+)")
_MOMENTS_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_NO_OWNERS = (
    "it does not tell any more who owned sessions when the journal was flushed: others may own "
    "them now, and who did is refused (OwnershipLostError); remove it, and own them again"
)
_LACKING = (
    "it was copied without a part of it that held acknowledged saves, or that part is damaged: "
    "sessions may be older than they were; copy it again, as a whole"
)
_BUSY = (
    "another process has kept the journal locked; is it stopped? What was saved last may not have "
    "been looked at: check again"
)
_FILES_ALONE = "the journal cannot be read, so that sessions were looked at by their files alone"
_PARTIAL = "a part of the journal is damaged; what that harms is told of its session"

_Seen = Literal["all", "what is shared", "what can be read", "nothing"]


class JournalCheck(NamedTuple):
    """
    What was found in the journal.

    Attributes:
        findings: what is wrong with it, and whether it waits for somebody to write files.
        is_readable: whether what it has can be read, as far as it was found.
    """

    findings: list[Finding]
    is_readable: bool


def check_journal(root: OpenRoot, *, is_applied: bool) -> JournalCheck:
    """
    Look at the journal.

    Args:
        root: open.
        is_applied: whether this process writes files itself.
    """
    if root.log is None:
        return JournalCheck([], is_readable=True)
    path = Path(root.log.directory.path)
    refused = {error.path: str(error) for error in _odd_files(root)}
    seen = _look(root, root.log, refused)
    findings = [finding_of("unreadable", Path(place), refused[place]) for place in refused]
    if seen == "nothing":
        return JournalCheck(findings, is_readable=False)
    if seen == "what is shared":
        findings.append(finding_of("busy-journal", path / LOCK_NAME, _BUSY))
    findings += [*_check_owners(root.log), *_check_damages(root), *_check_given_up(root)]
    if seen == "all" and root.log.lacks_what_was_copied():
        findings.append(finding_of("damaged-journal", path, _LACKING))
    is_applied = is_applied or seen == "what is shared"
    findings += _check_unwritten(root, root.log, is_applied=is_applied)
    return JournalCheck(findings, is_readable=True)


def _look(root: OpenRoot, log: Log, refused: dict[str, str]) -> _Seen:
    """
    Follow the journal, and tell how much of it was seen.

    Args:
        root: open.
        log: its log.
        refused: why a file cannot be opened, by its path; what else hinders it is noted there.
    """
    seen: _Seen = "what can be read"
    try:
        if root.view.look():
            return "all"
        if log.refusal is None:
            seen = "what is shared"
        else:
            refused.setdefault(log.refusal.path, str(log.refusal))
    except (JournalVersionError, StorageError) as error:
        refused.setdefault(error.path, str(error))
    try:
        root.view.follow()
    except (JournalVersionError, StorageError) as error:
        refused[error.path] = f"{error}; {_FILES_ALONE}"
        return "nothing"
    return seen


def _check_unwritten(root: OpenRoot, log: Log, *, is_applied: bool) -> Iterator[Finding]:
    """Yield which sessions' files could not be written, and whether others wait for theirs."""
    with root.view.mutex:
        waiting = root.view.pending.backlog().changes
        stuck = [found.stuck for found in root.view.pending.sessions.values() if found.stuck]
    yield from map(_unwritten, stuck)
    if waiting and not is_applied and _is_abandoned(root, log):
        changes = "1 change is" if waiting == 1 else f"{waiting} changes are"
        detail = f"{changes} not in files yet; flush() writes them"
        yield finding_of("unflushed-journal", Path(log.directory.path), detail)


def _odd_files(root: OpenRoot) -> Iterator[StorageError]:
    """Yield why a file of the journal, or one that is locked, cannot be opened."""
    if root.log is None:
        return
    files, directory = root.view.files, root.log.directory
    for name in sorted(filter(_OURS.fullmatch, files.scan(directory))):
        try:
            descriptor = files.open_file(directory, name)
        except StorageError as error:
            yield error
        else:
            if descriptor is not None:
                files.close(descriptor, directory.join(name))


def _check_owners(log: Log) -> Iterator[Finding]:
    """Yield what is wrong with the file that says who owns sessions."""
    try:
        if log.owners.is_damaged():
            yield finding_of("damaged", Path(log.owners.path), _NO_OWNERS)
    except (JournalVersionError, StorageError) as error:
        yield finding_of("unreadable", Path(error.path), str(error))


def _unwritten(stuck: Stuck) -> Finding:
    """Return that a session's files could not be written; what waits for that may well load."""
    kind: FindingKind = "unreadable" if stuck.is_damage else "unwritten-session"
    detail = f"its saves wait in the journal: {stuck.operation} failed: {stuck.told}"
    if not stuck.is_damage:
        detail += "; flush() tries again"
    return finding_of(kind, Path(stuck.path), detail, decode_id(stuck.session))


def finding_of(
    kind: FindingKind, path: Path, detail: str, session_id: SessionId | None = None
) -> Finding:
    """Return a finding about a file or directory."""
    location = location_of_file(str(path))
    return Finding(kind=kind, location=location, path=path, detail=detail, session_id=session_id)


def _check_damages(root: OpenRoot) -> Iterator[Finding]:
    """Yield which parts of the journal are damaged, and were not given up."""
    for damage in root.view.lost.damages():
        detail = _advice(damage.path) if damage.is_total else _PARTIAL
        yield finding_of("damaged-journal", Path(damage.path), detail)


def _check_given_up(root: OpenRoot) -> Iterator[Finding]:
    """Yield which parts of the journal were given up, and the sessions refused because of that."""
    for part in root.view.lost.parts():
        for session_id in _concerned(root.bodies, part):
            detail = _advice(part.path, session_id)
            yield finding_of("damaged-journal", Path(part.path), detail, session_id)
        if part.since_ns is not None:
            since = f"{datetime.fromtimestamp(part.since_ns / 1e9, UTC):%Y-%m-%d %H:%M} UTC"
            detail = (
                f"a part of the journal that could not be read was given up at {since}; changes of "
                "any session may be missing; remove it when you have looked"
            )
            yield finding_of("given-up-journal", Path(part.path), detail)


def _concerned(bodies: Bodies, part: Part) -> Iterator[SessionId]:
    """Yield the sessions that are refused, as changes of them may be lost with a part."""
    for name in sorted(part.sessions):
        session_id = decode_id(name)
        with contextlib.suppress(CheckpointError):  # of what hinders it there is a finding
            found = session_id_of(bodies, name)
            is_other = found is None and not bodies.view.sessions.is_ours(name)
            session_id = None if is_other else found or session_id
        if session_id is not None:
            yield session_id


def refusals(bodies: Bodies) -> list[CheckpointError]:
    """Return why sessions are refused of which acknowledged changes may be lost."""
    lost = bodies.view.lost
    unreadable = lost.unreadable()
    known = session_ids(bodies, session_names(bodies), bodies.view.lookup)[0] if unreadable else []
    return [
        *(JournalCorruptError(damage.path, key) for damage in unreadable for key in known),
        *(
            JournalCorruptError(part.path, session_id)
            for part in lost.parts()
            for session_id in _concerned(bodies, part)
        ),
    ]


def _advice(path: str, session_id: SessionId | None = None) -> str:
    error = JournalCorruptError(path, session_id)
    return f"{error.reason}; {error.advice}"


def _is_abandoned(root: OpenRoot, log: Log) -> bool:
    """Tell whether changes wait and nobody writes files: who is alive begins within moments."""
    flushed = log.control.flushed if log.control else 0
    deadline = monotonic_seconds() + _MOMENTS_SECONDS
    while root.view.pending_sessions():
        if _has_applier(log) or (log.control and log.control.flushed > flushed):
            return False
        if monotonic_seconds() >= deadline:
            return True
        root.view.files.pause(_PAUSE_SECONDS)
        root.view.follow()
    return False


def _has_applier(log: Log) -> bool:
    """Tell whether some process writes files; of a lock that cannot be opened nobody can tell."""
    with contextlib.suppress(StorageError):  # of which there is a finding
        return log.has_applier()
    return False
