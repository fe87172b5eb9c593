"""Finding what is wrong in a store, and changing nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

from aiocheckpoint._disk.files import Directory
from aiocheckpoint._disk.sessions import SessionDirectories
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.bodies import Bodies, VanishedError
from aiocheckpoint._engine.check_blobs import Found, bad_waiting_blobs, check_blobs
from aiocheckpoint._engine.check_journal import finding_of
from aiocheckpoint._engine.root import OpenRoot
from aiocheckpoint._engine.sessions import (
    directory_names,
    is_directory,
    session_id_of,
)
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.ids import decode_id, encode_id, may_be_session
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    FormatVersionError,
    LostIdError,
    NotACheckpointError,
    StorageError,
)
from aiocheckpoint.models import Finding, FindingKind

_NO_POINTER = "it is a directory, so it cannot name the newest checkpoint; move it away"
_NO_COPY = "it is a file, and no copy of the newest checkpoint; the next save mends it"


@contextlib.contextmanager
def _contents(root: OpenRoot, *, has_journal: bool) -> Generator[Bodies]:
    """Give what is stored; where the journal cannot be read, what files have."""
    if has_journal:
        yield root.bodies
        return
    files = root.view.files
    with contextlib.closing(SessionDirectories(root.view.sessions.root, files)) as directories:
        yield Bodies(View(directories, None, files), root.bodies.max_bytes)


def names_to_check(root: OpenRoot, *, has_journal: bool) -> list[str]:
    """Return the directories to look into."""
    with _contents(root, has_journal=has_journal) as bodies:
        return directory_names(bodies)


def check_session(root: OpenRoot, name: str, *, has_journal: bool) -> list[Finding]:
    """
    Return what is wrong in a session's directory, reading every byte.

    What is found is looked at again: somebody may have been writing there. In a directory that can
    be no session's only what was meant for one is told.

    Args:
        root: open.
        name: of the directory.
        has_journal: whether the journal can be read.
    """
    with _contents(root, has_journal=has_journal) as bodies:
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
    found = [*dict.fromkeys(found)]
    return [finding_of(kind, path, detail, session_id) for kind, path, detail in found]


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
