"""Finding what is wrong in a store, and changing nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from aiocheckpoint._disk.files import Directory, monotonic_seconds
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.lost_parts import Part
from aiocheckpoint._engine.bodies import Bodies, VanishedError
from aiocheckpoint._engine.check_blobs import Found, bad_waiting_blobs, check_blobs
from aiocheckpoint._engine.root import OpenRoot
from aiocheckpoint._engine.sessions import (
    directory_names,
    is_directory,
    session_id_of,
    session_ids,
    session_names,
)
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.entries import Stuck
from aiocheckpoint._format.ids import decode_id, encode_id, may_be_session
from aiocheckpoint._format.listing import location_of_file
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    FormatVersionError,
    JournalCorruptError,
    JournalVersionError,
    LostIdError,
    NotACheckpointError,
    StorageError,
)
from aiocheckpoint.models import Finding, FindingKind, SessionId

_OURS = re.compile(r"(turn|lock|applier|control|owner-.*|log\.[0-9]+)")
_MOMENTS_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_NO_POINTER = "it is a directory, so it cannot name the newest checkpoint; move it away"
_NO_COPY = "it is a file, and no copy of the newest checkpoint; the next save mends it"
_NO_OWNERS = (
    "it does not tell any more who owned sessions when the journal was flushed: others may own "
    "them now, and who did is refused (OwnershipLostError); remove it, and own them again"
)
_LACKING = (
    "it was copied without a part of it that held acknowledged saves, or that part is damaged: "
    "sessions may be older than they were; copy it again, as a whole"
)
_PARTIAL = "a part of the journal is damaged; what that harms is told of its session"


def check_journal(root: OpenRoot, *, is_applied: bool) -> list[Finding]:
    """
    Return what is wrong with the journal, and whether it waits for somebody to write files.

    Args:
        root: open.
        is_applied: whether this process writes files itself.
    """
    if root.log is None:
        return []
    path = Path(root.log.directory.path)
    findings = [_finding("unreadable", Path(error.path), str(error)) for error in _odd_files(root)]
    try:
        if not root.view.look():
            detail = "another process kept it locked; check again"
            return [*findings, _finding("unreadable", path, detail)]
    except (JournalVersionError, StorageError) as error:
        return findings or [_finding("unreadable", Path(error.path), str(error))]
    findings += [*_check_owners(root.log), *_check_damages(root), *_check_given_up(root)]
    with root.view.mutex:
        if root.log.lacks_what_was_copied():
            findings.append(_finding("damaged-journal", path, _LACKING))
        waiting = root.view.pending.backlog().changes
        stuck = [found.stuck for found in root.view.pending.sessions.values() if found.stuck]
    findings += map(_unwritten, stuck)
    if waiting and not is_applied and _is_abandoned(root, root.log):
        changes = "1 change is" if waiting == 1 else f"{waiting} changes are"
        detail = f"{changes} not in files yet; flush() writes them"
        findings.append(_finding("unflushed-journal", path, detail))
    return findings


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
            yield _finding("damaged", Path(log.owners.path), _NO_OWNERS)
    except (JournalVersionError, StorageError) as error:
        yield _finding("unreadable", Path(error.path), str(error))


def _unwritten(stuck: Stuck) -> Finding:
    """Return that a session's files could not be written; what waits for that may well load."""
    kind: FindingKind = "unreadable" if stuck.is_damage else "unwritten-session"
    detail = f"its saves wait in the journal: {stuck.operation} failed: {stuck.told}"
    if not stuck.is_damage:
        detail += "; flush() tries again"
    return _finding(kind, Path(stuck.path), detail, decode_id(stuck.session))


def _finding(
    kind: FindingKind, path: Path, detail: str, session_id: SessionId | None = None
) -> Finding:
    location = location_of_file(str(path))
    return Finding(kind=kind, location=location, path=path, detail=detail, session_id=session_id)


def _check_damages(root: OpenRoot) -> Iterator[Finding]:
    """Yield which parts of the journal are damaged, and were not given up."""
    for damage in root.view.lost.damages():
        detail = _advice(damage.path) if damage.is_total else _PARTIAL
        yield _finding("damaged-journal", Path(damage.path), detail)


def _check_given_up(root: OpenRoot) -> Iterator[Finding]:
    """Yield which parts of the journal were given up, and the sessions refused because of that."""
    for part in root.view.lost.parts():
        for session_id in _concerned(root.bodies, part):
            detail = _advice(part.path, session_id)
            yield _finding("damaged-journal", Path(part.path), detail, session_id)
        if part.since_ns is not None:
            since = f"{datetime.fromtimestamp(part.since_ns / 1e9, UTC):%Y-%m-%d %H:%M} UTC"
            detail = (
                f"a part of the journal that could not be read was given up at {since}; changes of "
                "any session may be missing; remove it when you have looked"
            )
            yield _finding("given-up-journal", Path(part.path), detail)


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
        if log.has_applier() or (log.control and log.control.flushed > flushed):
            return False
        if monotonic_seconds() >= deadline:
            return True
        root.view.files.pause(_PAUSE_SECONDS)
        root.view.follow()
    return False


def names_to_check(bodies: Bodies, findings: list[Finding]) -> list[str]:
    """Return the directories to look into; none where a finding of the journal tells why not."""
    try:
        return directory_names(bodies)
    except StorageError as error:
        if Path(error.path) in {finding.path for finding in findings}:
            return []
        raise


def check_session(bodies: Bodies, name: str) -> list[Finding]:
    """
    Return what is wrong in a session's directory, reading every byte.

    What is found is looked at again: somebody may have been writing there. In a directory that can
    be no session's only what was meant for one is told.
    """
    found = _found_in(bodies, name)
    if not may_be_session(name):
        found = [finding for finding in found if finding.kind == "misplaced"]
    if found:
        bodies.view.follow()
        again = {(finding.kind, finding.path) for finding in _found_in(bodies, name)}
        found = [finding for finding in found if (finding.kind, finding.path) in again]
    return found


def _found_in(bodies: Bodies, name: str) -> list[Finding]:
    session_id = decode_id(name)
    found: list[Found] = []
    try:
        parts = (
            (_check_waiting, _check_directory, check_blobs) if is_directory(bodies, name) else ()
        )
    except StorageError as error:
        parts = ()
        found.append(_unreadable(error))
    else:
        with contextlib.suppress(CheckpointError):  # of what hinders it there is a finding
            try:
                session_id = session_id_of(bodies, name)
            except LostIdError as error:
                found.append(("lost-id", Path(error.location), str(error)))
    for part in parts:
        try:
            found.extend(part(bodies, name))
        except StorageError as error:
            found.append(_unreadable(error))
    return [_finding(kind, path, detail, session_id) for kind, path, detail in dict.fromkeys(found)]


def _unreadable(error: StorageError) -> Found:
    return "unreadable", Path(error.path), str(error)


def _check_waiting(bodies: Bodies, name: str) -> Iterator[Found]:
    """Yield which checkpoints the journal has that it does not hold as they were saved."""
    waiting = bodies.view.pending.sessions.get(name)
    for text in sorted(waiting.saved if waiting else ()):
        try:
            bodies.text(name, text)
        except CheckpointCorruptError as error:
            yield "damaged", Path(error.path), error.reason
        except (CheckpointTooLargeError, NotACheckpointError) as error:
            yield "unreadable", Path(bodies.path(name, text)), str(error)
        except VanishedError:
            continue
    for digest, bad in bad_waiting_blobs(bodies, name).items():
        yield "damaged", Path(bodies.blob_path(name, digest)), bad.reason


def _check_directory(bodies: Bodies, name: str) -> Iterator[Found]:
    view = bodies.view
    with view.sessions.opened(name) as directory:
        if directory is None:
            return
        entries = sorted(view.files.scan(directory))
        removed = view.removed(name)
        for entry in entries:
            if entry.removesuffix(names.BACKUP_SUFFIX) in removed:
                continue
            found = _check_entry(bodies, directory, name, entry)
            if found is not None:
                yield found
        if name not in view.pending.sessions:  # or it is about to be moved
            yield from _check_pointer(bodies, directory, name)


def _check_entry(bodies: Bodies, directory: Directory, session: str, entry: str) -> Found | None:
    path = directory.join(entry)
    if names.is_leftover(entry):
        if session in bodies.view.pending.sessions:  # of a file that is being written
            return None
        detail = "a write that never ended left it; the next save removes it"
        return "leftover", Path(path), detail
    name = names.parse_name(entry.removesuffix(names.BACKUP_SUFFIX))
    if name is None or bodies.view.saved(session, name.text) is not None:
        return None  # of what the journal has, the file is written anew
    try:
        data = bodies.view.files.read(directory, entry, bodies.max_bytes)
    except (NotACheckpointError, CheckpointTooLargeError, StorageError) as error:
        return "unreadable", Path(path), str(error)
    if data is None:
        return None
    try:
        ids = documents.identity(documents.verified(data, path), path)
    except CheckpointCorruptError as error:
        return "damaged", Path(path), error.reason
    except FormatVersionError as error:
        return _kind_of_another_version(data, path), Path(path), str(error)
    session_fits = encode_id(ids.session_id, "session id") == session
    if session_fits and names.name_fits(name, ids.checkpoint_id):
        return None
    detail = f"its body says session {ids.session_id!r}, id {ids.checkpoint_id!r}"
    return "misplaced", Path(path), detail


def _kind_of_another_version(data: bytes, path: str) -> FindingKind:
    """Tell whether a file of another version is intact, or nobody here can tell."""
    try:
        documents.verified(data, path, of_any_version=True)
    except CheckpointError:
        return "unreadable"
    return "other-version"


def _check_pointer(bodies: Bodies, directory: Directory, session: str) -> Iterator[Found]:
    """Yield what is wrong with the pointer, if nobody has moved it when it is looked at again."""
    found = _pointer_finding(bodies, directory)
    if found is None:
        return
    bodies.view.follow()
    if session not in bodies.view.pending.sessions and found == _pointer_finding(bodies, directory):
        yield found


def _is_copy(bodies: Bodies, directory: Directory, newest: str) -> bool:
    """Tell whether a file in the place of the pointer is a copy of a checkpoint's."""
    try:
        one, other = (
            bodies.view.files.read(directory, name, bodies.max_bytes)
            for name in (names.LATEST_NAME, newest)
        )
    except CheckpointError:
        return False
    return one == other


def _pointer_finding(bodies: Bodies, directory: Directory) -> Found | None:
    files, sessions = bodies.view.files, bodies.view.sessions
    path = Path(directory.join(names.LATEST_NAME))
    there = files.status(directory, names.LATEST_NAME)
    if there is None:
        return None
    if there.is_directory:
        return "unreadable", path, _NO_POINTER
    pointed = files.pointed_at(directory, names.LATEST_NAME)
    entries = files.scan(directory)
    found = sessions.in_order(list(filter(None, map(names.parse_name, entries))), directory)
    if pointed is None:
        is_newest = found and _is_copy(bodies, directory, found[-1].text)
        return None if is_newest else ("stale-pointer", path, _NO_COPY)
    if pointed not in entries:
        return (
            "dangling-pointer",
            path,
            f"it names {pointed}, which was deleted, or not copied",
        )
    if found and found[-1].text != pointed:
        return "stale-pointer", path, f"it names {pointed}, not {found[-1].text}"
    return None
