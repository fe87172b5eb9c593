"""Finding what is wrong in a store, and the explicit way back from damage."""

from __future__ import annotations

import contextlib
import errno
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

from aiocheckpoint._disk.files import Directory, random_name
from aiocheckpoint._disk.sessions import OpenSession
from aiocheckpoint._engine.replay import private_directory, read_segments
from aiocheckpoint._engine.store import Store
from aiocheckpoint._format import codec
from aiocheckpoint._format import names as layout
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    JournalVersionError,
    NotACheckpointError,
    StorageError,
    StoreBusyError,
)
from aiocheckpoint.models import Finding, FindingKind, RecoveryReport, SessionId

_JOURNALS_LOCK_SECONDS = 1.0


def session_names(store: Store[RecordT], *, prepare: bool, prefix: str = "") -> list[str]:
    """Return the names in the root that may be directories of sessions whose ids begin so, sorted."""
    root = store.sessions.prepare() if prepare else store.sessions.find_root()
    names = [] if root is None else store.files.scan(root)
    return sorted(
        name
        for name in names
        if name != layout.PRIVATE_DIRECTORY
        and (layout.decode_session_name(name) or prefix).startswith(prefix)
    )


def session_ids(store: Store[RecordT], names: list[str]) -> list[SessionId]:
    """Return the ids of those directories that hold checkpoints."""
    found = (session_id_of(store, name) for name in names)
    return [session_id for session_id in found if session_id is not None]


def session_id_of(store: Store[RecordT], name: str) -> SessionId | None:
    """
    Return the id of the session in a directory; None when it holds no checkpoints.

    A hashed name needs the body of one checkpoint; where none can be read the answer is None.

    Raises:
        StorageError: its directory could not be looked into.
    """
    if not layout.may_be_session(name):
        return None
    with contextlib.ExitStack() as stack:
        directory = _opened_session(store, stack, name)
        if directory is None:
            return None
        files = sorted(filter(None, map(layout.parse_name, store.files.scan(directory))))
        if not files:
            return None
        session_id = layout.decode_session_name(name)
        return session_id if session_id is not None else _id_in_body(store, directory, name, files)


def _opened_session(
    store: Store[RecordT], stack: contextlib.ExitStack, name: str
) -> Directory | None:
    """Open the directory of a session's checkpoints, None where a file or symlink is in the way."""
    directory = store.sessions.find_root()
    for part in (name, layout.CHECKPOINTS_DIRECTORY):
        try:
            directory = directory and store.files.open_subdirectory(directory, part)
        except StorageError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        if directory is None:
            return None
        stack.callback(store.files.close_directory, directory)
    return directory


def _id_in_body(
    store: Store[RecordT], directory: Directory, name: str, files: list[FileName]
) -> SessionId | None:
    for file in reversed(files):
        with contextlib.suppress(
            CheckpointCorruptError, NotACheckpointError, CheckpointTooLargeError, StorageError
        ):
            data = store.files.read(directory, file.text, store.max_bytes)
            if data is not None:
                path = directory.join(file.text)
                found = codec.identity(codec.verified(data, path), path).session_id
                if layout.encode_id(found, "session id") == name:
                    return found
    return None


def check_session(store: Store[RecordT], name: str) -> list[Finding]:
    """Return what is wrong in a session's directory, reading every byte and changing nothing."""
    session_id = layout.decode_session_name(name)
    found: list[Finding] = []
    with contextlib.ExitStack() as stack:
        try:
            session_id = session_id_of(store, name)
            directory = _opened_session(store, stack, name)
            if directory is not None:
                in_directory: list[tuple[FindingKind, Path, str]] = [
                    (kind, Path(directory.join(entry)), detail)
                    for kind, entry, detail in _check_directory(store, directory, name)
                ]
                found += [
                    Finding(kind=kind, path=path, detail=detail, session_id=session_id)
                    for kind, path, detail in (*in_directory, *_check_blobs(store, directory, name))
                ]
        except StorageError as error:
            path, detail = Path(error.path), str(error)
            found.append(
                Finding(kind="unreadable", path=path, detail=detail, session_id=session_id)
            )
    return found


def _check_blobs(
    store: Store[RecordT], directory: Directory, session_name: str
) -> list[tuple[FindingKind, Path, str]]:
    """Return which blobs are missing, damaged or of no use."""
    entries = sorted(store.files.scan(directory))
    with store.sessions.blobs_directory(session_name) as blobs:
        place = Path(directory.path).parent / layout.BLOBS_DIRECTORY
        if blobs is None and layout.BLOBS_GENERATION_NAME not in entries:
            return []
        users = _users_of_blobs(store, directory, entries)
        names = [] if blobs is None else sorted(store.files.scan(blobs))
        damaged = {} if blobs is None else _damaged_blobs(store, blobs, names)
    findings: list[tuple[FindingKind, Path, str]] = []
    for name in names:
        if layout.is_leftover(name):
            findings.append(("leftover", place / name, "a save that never ended left it"))
        elif name in damaged:
            findings.append(("damaged", place / name, damaged[name]))
        elif codec.is_digest(name) and name not in users:
            findings.append(("unused-blob", place / name, "no checkpoint refers to it"))
    findings.extend(
        ("missing-blob", place / digest, f"{users[digest]} refers to it")
        for digest in sorted(users.keys() - set(names))
    )
    return findings


def _users_of_blobs(
    store: Store[RecordT], directory: Directory, entries: list[str]
) -> dict[str, str]:
    """Return the blobs that intact checkpoints refer to, each with one of their files."""
    users: dict[str, str] = {}
    for entry in entries:
        if layout.parse_name(entry) is not None:
            for digest in _digests_in(store, directory, entry):
                users.setdefault(digest, entry)
    return users


def _digests_in(store: Store[RecordT], directory: Directory, entry: str) -> tuple[str, ...]:
    with contextlib.suppress(CheckpointError):
        data = store.files.read(directory, entry, store.max_bytes)
        if data is not None:
            return codec.blob_digests(codec.verified(data, directory.join(entry)))
    return ()


def _damaged_blobs(store: Store[RecordT], directory: Directory, names: list[str]) -> dict[str, str]:
    damaged: dict[str, str] = {}
    for name in filter(codec.is_digest, names):
        try:
            data = store.files.read(directory, name, store.max_bytes)
            if data is not None:
                codec.verified_blob(data, name, directory.join(name))
        except CheckpointCorruptError as error:
            damaged[name] = error.reason
        except CheckpointError as error:
            damaged[name] = str(error)
    return damaged


_Found = tuple[FindingKind, str, str]


def _check_directory(
    store: Store[RecordT], directory: Directory, session_name: str
) -> Iterator[_Found]:
    entries = sorted(store.files.scan(directory))
    yield from filter(None, (_check_entry(store, directory, e, session_name) for e in entries))
    yield from _check_pointer(store, directory, entries)


def _check_entry(
    store: Store[RecordT], directory: Directory, entry: str, session_name: str
) -> _Found | None:
    if layout.is_leftover(entry):
        return "leftover", entry, "a save that never ended left it; the next save removes it"
    name = layout.parse_name(entry.removesuffix(layout.BACKUP_SUFFIX))
    if name is None:
        return None
    path = directory.join(entry)
    try:
        data = store.files.read(directory, entry, store.max_bytes)
        if data is None:
            return None
        ids = codec.identity(codec.verified(data, path), path)
    except CheckpointCorruptError as error:
        return "damaged", entry, error.reason
    except (NotACheckpointError, CheckpointTooLargeError, StorageError) as error:
        return "unreadable", entry, str(error)
    session_fits = layout.encode_id(ids.session_id, "session id") == session_name
    if session_fits and layout.name_fits(name, ids.checkpoint_id):
        return None
    return "misplaced", entry, f"its body says session {ids.session_id!r}, id {ids.checkpoint_id!r}"


def _check_pointer(
    store: Store[RecordT], directory: Directory, entries: list[str]
) -> Iterator[_Found]:
    """Yield what is wrong with the pointer, looked at again while nobody can move it."""
    if not any(_pointer_findings(store, directory, entries)):
        return
    try:
        store.files.lock(directory, timeout_seconds=0)  # until the directory is closed
    except StoreBusyError:
        return  # a change is under way, whose last step makes it right
    yield from _pointer_findings(store, directory, store.files.scan(directory))


def _pointer_findings(
    store: Store[RecordT], directory: Directory, entries: list[str]
) -> Iterator[_Found]:
    pointed = store.files.pointed_at(directory, layout.LATEST_NAME)
    if pointed is None:
        return
    parsed = list(filter(None, map(layout.parse_name, entries)))
    names = store.sessions.in_order(parsed, directory)
    if pointed not in entries:
        yield "dangling-pointer", layout.LATEST_NAME, f"it names {pointed}, which is not there"
    elif names and names[-1].text != pointed:
        yield "stale-pointer", layout.LATEST_NAME, f"it names {pointed}, not {names[-1].text}"


def check_journals(store: Store[RecordT]) -> list[Finding]:
    """Return the journals that dead processes left, without replaying them."""
    with contextlib.ExitStack() as stack:
        directory = private_directory(store, stack)
        if directory is None:
            return []
        try:
            # Or a starting process would take the dead ones, locked by us, for those of the living.
            store.files.lock(directory, _JOURNALS_LOCK_SECONDS)
            segments = read_segments(store, directory, stack)
        except StoreBusyError:  # they are being replayed
            return []
        except JournalVersionError as error:
            return [Finding(kind="unreadable", path=Path(error.path), detail=str(error))]
        return [
            Finding(
                kind="unflushed-journal",
                path=Path(directory.join(name)),
                detail=f"nobody owns it; the next use replays {len(frames.entries)} entries",
            )
            for name, frames in segments.dead.items()
            if frames.entries
        ]


def recover(store: Store[RecordT], session_id: SessionId) -> RecoveryReport:
    """
    Move the damaged and misplaced files of a session to the quarantine, durably.

    Their backups too, which mostly are second names of the same bytes. A damaged file whose
    backup is intact is restored from it. Nothing is deleted.
    """
    with store.sessions.locked(session_id) as found:
        if found is None:
            return RecoveryReport(session_id=session_id, newest_valid_id=None, quarantined=())
        session = store.sessions.rescanned(found)
        backups = filter(None, map(_as_file, session.known.backups))
        names = [*session.known.newest_first(), *backups]
        bad = [name for name in names if not _is_intact(store, session, name)]
        quarantined = _quarantine(store, session, bad) if bad else ()
        quarantined += _quarantine_blobs(store, store.sessions.rescanned(session))
        remaining = store.sessions.rescanned(session)
        store.repoint(remaining, remaining.known.newest)
        store.files.sync_directory(session.directory)
        store.sessions.indexes.drop(session.name)
        newest_id = store.newest_valid_id(remaining)
    return RecoveryReport(session_id=session_id, newest_valid_id=newest_id, quarantined=quarantined)


def _as_file(backup: str) -> FileName | None:
    """Return a backup as a checkpoint file."""
    name = layout.parse_name(backup.removesuffix(layout.BACKUP_SUFFIX))
    return name and name._replace(text=backup)


def _is_intact(store: Store[RecordT], session: OpenSession, name: FileName) -> bool:
    path = session.directory.join(name.text)
    try:
        text = store.verified_text(session, name)
        if text is None:
            return False
        ids = codec.identity(text, path)
        store.decode(text, path)
        store.blobs.load(session, codec.blob_digests(text))
    except (CheckpointCorruptError, CheckpointMismatchError, NotACheckpointError):
        return False
    return layout.name_fits(name, ids.checkpoint_id)


def _quarantine(
    store: Store[RecordT], session: OpenSession, bad: list[FileName]
) -> tuple[Path, ...]:
    """Move checkpoint files aside, and put intact backups in their places."""
    with _quarantine_directory(store, session) as directory:
        names = [name.text for name in bad]
        return _moved(
            store, session.directory, names, directory, _intact_backups(store, session, bad)
        )


def _quarantine_blobs(store: Store[RecordT], session: OpenSession) -> tuple[Path, ...]:
    """Move aside the blobs that are damaged, or that no intact checkpoint refers to."""
    files = store.files
    with store.sessions.blobs_directory(session.name) as blobs:
        if blobs is None:
            return ()
        users = _users_of_blobs(store, session.directory, files.scan(session.directory))
        names = sorted(filter(codec.is_digest, files.scan(blobs)))
        damaged = _damaged_blobs(store, blobs, names)
        bad = [name for name in names if name in damaged or name not in users]
        if not bad:
            return ()
        store.blobs.begin_generation(session)
        with _quarantine_directory(store, session) as directory:
            moved = _moved(store, blobs, bad, directory)
        files.sync_directory(blobs)
    return moved


@contextlib.contextmanager
def _quarantine_directory(store: Store[RecordT], session: OpenSession) -> Iterator[Directory]:
    """Open the quarantine of a session, under the store's own directory."""
    files = store.files
    with contextlib.ExitStack() as stack:
        directory = store.sessions.make_root()
        for part in (layout.PRIVATE_DIRECTORY, layout.QUARANTINE_DIRECTORY, session.name):
            files.make_subdirectory(directory, part)
            files.sync_directory(directory)
            inner = files.open_subdirectory(directory, part)
            if inner is None:
                raise StorageError("open directory", directory.join(part), None, "it was removed")
            stack.callback(files.close_directory, inner)
            directory = inner
        yield directory


def _moved(
    store: Store[RecordT],
    source: Directory,
    names: list[str],
    target: Directory,
    successors: Mapping[str, str] = types.MappingProxyType({}),
) -> tuple[Path, ...]:
    """
    Move files: after a crash each has its old name, or its new one, or both.

    Args:
        store: the store.
        source: where they are.
        names: of the files.
        target: where they go, under names of their own.
        successors: files in `source` that take their names.
    """
    files = store.files
    asides = {name: random_name(f"{name[:60]}.") for name in names}
    linked = {name for name in names if files.link(source, name, target, asides[name])}
    files.sync_directory(target)  # or the old name may be gone and the new one not there
    for name, aside in asides.items():
        if name not in linked:
            files.move(source, name, target, aside)
            files.sync_directory(target)
        if name in successors:
            files.rename(source, successors[name], name)
        elif name in linked:
            files.unlink(source, name)
    return tuple(Path(target.join(aside)) for aside in asides.values())


def _intact_backups(
    store: Store[RecordT], session: OpenSession, bad: list[FileName]
) -> dict[str, str]:
    backups = {name: name.text + layout.BACKUP_SUFFIX for name in bad}
    return {
        name.text: backup
        for name, backup in backups.items()
        if backup in session.known.backups
        and _is_intact(store, session, name._replace(text=backup))
    }
