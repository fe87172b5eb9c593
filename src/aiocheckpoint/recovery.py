"""Finding what is wrong in a store, and the explicit way back from damage."""

from __future__ import annotations

import contextlib
import errno
import types
from collections.abc import Iterator, Mapping
from pathlib import Path

from aiocheckpoint import codec, layout
from aiocheckpoint.codec import RecordT
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    JournalVersionError,
    NotACheckpointError,
    SessionBusyError,
    StorageError,
)
from aiocheckpoint.files import Folder, random_name
from aiocheckpoint.layout import FileName
from aiocheckpoint.models import Finding, FindingKind, RecoveryReport, SessionId
from aiocheckpoint.replay import private_folder, read_segments
from aiocheckpoint.sessions import OpenSession
from aiocheckpoint.store import Store

_JOURNALS_LOCK_SECONDS = 1.0


def session_names(store: Store[RecordT], *, prepare: bool, prefix: str = "") -> list[str]:
    """Return the names in the root that may be folders of sessions whose ids begin so, sorted."""
    root = store.sessions.prepare() if prepare else store.sessions.find_root()
    names = [] if root is None else store.files.scan(root)
    return sorted(
        name
        for name in names
        if name != layout.PRIVATE_FOLDER
        and (layout.decode_session_name(name) or prefix).startswith(prefix)
    )


def session_ids(store: Store[RecordT], names: list[str]) -> list[SessionId]:
    """Return the ids of those folders that hold checkpoints."""
    found = (session_id_of(store, name) for name in names)
    return [session_id for session_id in found if session_id is not None]


def session_id_of(store: Store[RecordT], name: str) -> SessionId | None:
    """
    Return the id of the session in a folder; None when it holds no checkpoints.

    A hashed name needs the body of one checkpoint; where none can be read the answer is None.

    Raises:
        StorageError: its folder could not be looked into.
    """
    if not layout.may_be_session(name):
        return None
    with contextlib.ExitStack() as stack:
        folder = _opened_session(store, stack, name)
        if folder is None:
            return None
        files = sorted(filter(None, map(layout.parse_name, store.files.scan(folder))))
        if not files:
            return None
        session_id = layout.decode_session_name(name)
        return session_id if session_id is not None else _id_in_body(store, folder, name, files)


def _opened_session(store: Store[RecordT], stack: contextlib.ExitStack, name: str) -> Folder | None:
    """Open the folder of a session's checkpoints, None where a file or symlink is in the way."""
    folder = store.sessions.find_root()
    for part in (name, layout.CHECKPOINTS_FOLDER):
        try:
            folder = folder and store.files.open_subfolder(folder, part)
        except StorageError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        if folder is None:
            return None
        stack.callback(store.files.close_folder, folder)
    return folder


def _id_in_body(
    store: Store[RecordT], folder: Folder, name: str, files: list[FileName]
) -> SessionId | None:
    for file in reversed(files):
        with contextlib.suppress(
            CheckpointCorruptError, NotACheckpointError, CheckpointTooLargeError, StorageError
        ):
            data = store.files.read(folder, file.text, store.max_bytes)
            if data is not None:
                path = folder.join(file.text)
                found = codec.identity(codec.verified(data, path), path).session_id
                if layout.encode_id(found, "session id") == name:
                    return found
    return None


def check_session(store: Store[RecordT], name: str) -> list[Finding]:
    """Return what is wrong in a session's folder, reading every byte and changing nothing."""
    session_id = layout.decode_session_name(name)
    found: list[Finding] = []
    with contextlib.ExitStack() as stack:
        try:
            session_id = session_id_of(store, name)
            folder = _opened_session(store, stack, name)
            if folder is not None:
                in_folder: list[tuple[FindingKind, Path, str]] = [
                    (kind, Path(folder.join(entry)), detail)
                    for kind, entry, detail in _check_folder(store, folder, name)
                ]
                found += [
                    Finding(kind=kind, path=path, detail=detail, session_id=session_id)
                    for kind, path, detail in (*in_folder, *_check_blocks(store, folder, name))
                ]
        except StorageError as error:
            path, detail = Path(error.path), str(error)
            found.append(
                Finding(kind="unreadable", path=path, detail=detail, session_id=session_id)
            )
    return found


def _check_blocks(
    store: Store[RecordT], folder: Folder, session_name: str
) -> list[tuple[FindingKind, Path, str]]:
    """Return which blocks are missing, damaged or of no use."""
    entries = sorted(store.files.scan(folder))
    with store.sessions.blocks_folder(session_name) as blocks:
        place = Path(folder.path).parent / layout.BLOCKS_FOLDER
        if blocks is None and layout.BLOCKS_GENERATION_NAME not in entries:
            return []
        users = _users_of_blocks(store, folder, entries)
        names = [] if blocks is None else sorted(store.files.scan(blocks))
        damaged = {} if blocks is None else _damaged_blocks(store, blocks, names)
    findings: list[tuple[FindingKind, Path, str]] = []
    for name in names:
        if layout.is_leftover(name):
            findings.append(("leftover", place / name, "a save that never ended left it"))
        elif name in damaged:
            findings.append(("damaged", place / name, damaged[name]))
        elif codec.is_digest(name) and name not in users:
            findings.append(("unused-block", place / name, "no checkpoint refers to it"))
    findings.extend(
        ("missing-block", place / digest, f"{users[digest]} refers to it")
        for digest in sorted(users.keys() - set(names))
    )
    return findings


def _users_of_blocks(store: Store[RecordT], folder: Folder, entries: list[str]) -> dict[str, str]:
    """Return the blocks that intact checkpoints refer to, each with one of their files."""
    users: dict[str, str] = {}
    for entry in entries:
        if layout.parse_name(entry) is not None:
            for digest in _digests_in(store, folder, entry):
                users.setdefault(digest, entry)
    return users


def _digests_in(store: Store[RecordT], folder: Folder, entry: str) -> tuple[str, ...]:
    with contextlib.suppress(CheckpointError):
        data = store.files.read(folder, entry, store.max_bytes)
        if data is not None:
            return codec.block_digests(codec.verified(data, folder.join(entry)))
    return ()


def _damaged_blocks(store: Store[RecordT], folder: Folder, names: list[str]) -> dict[str, str]:
    damaged: dict[str, str] = {}
    for name in filter(codec.is_digest, names):
        try:
            data = store.files.read(folder, name, store.max_bytes)
            if data is not None:
                codec.verified_block(data, name, folder.join(name))
        except CheckpointCorruptError as error:
            damaged[name] = error.reason
        except CheckpointError as error:
            damaged[name] = str(error)
    return damaged


_Found = tuple[FindingKind, str, str]


def _check_folder(store: Store[RecordT], folder: Folder, session_name: str) -> Iterator[_Found]:
    entries = sorted(store.files.scan(folder))
    yield from filter(None, (_check_entry(store, folder, e, session_name) for e in entries))
    yield from _check_pointer(store, folder, entries)


def _check_entry(
    store: Store[RecordT], folder: Folder, entry: str, session_name: str
) -> _Found | None:
    if layout.is_leftover(entry):
        return "leftover", entry, "a save that never ended left it; the next save removes it"
    name = layout.parse_name(entry.removesuffix(layout.BACKUP_SUFFIX))
    if name is None:
        return None
    path = folder.join(entry)
    try:
        data = store.files.read(folder, entry, store.max_bytes)
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


def _check_pointer(store: Store[RecordT], folder: Folder, entries: list[str]) -> Iterator[_Found]:
    """Yield what is wrong with the pointer, looked at again while nobody can move it."""
    if not any(_pointer_findings(store, folder, entries)):
        return
    try:
        store.files.lock(folder, timeout_seconds=0)  # until the folder is closed
    except SessionBusyError:
        return  # a change is under way, whose last step makes it right
    yield from _pointer_findings(store, folder, store.files.scan(folder))


def _pointer_findings(
    store: Store[RecordT], folder: Folder, entries: list[str]
) -> Iterator[_Found]:
    pointed = store.files.pointed_at(folder, layout.LATEST_NAME)
    if pointed is None:
        return
    parsed = list(filter(None, map(layout.parse_name, entries)))
    names = store.sessions.in_order(parsed, folder)
    if pointed not in entries:
        yield "dangling-pointer", layout.LATEST_NAME, f"it names {pointed}, which is not there"
    elif names and names[-1].text != pointed:
        yield "stale-pointer", layout.LATEST_NAME, f"it names {pointed}, not {names[-1].text}"


def check_journals(store: Store[RecordT]) -> list[Finding]:
    """Return the journals that dead processes left, without replaying them."""
    with contextlib.ExitStack() as stack:
        folder = private_folder(store, stack)
        if folder is None:
            return []
        try:
            # Or a starting process would take the dead ones, locked by us, for those of the living.
            store.files.lock(folder, _JOURNALS_LOCK_SECONDS)
            segments = read_segments(store, folder, stack)
        except SessionBusyError:  # they are being replayed
            return []
        except JournalVersionError as error:
            return [Finding(kind="unreadable", path=Path(error.path), detail=str(error))]
        return [
            Finding(
                kind="unsettled-journal",
                path=Path(folder.join(name)),
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
        quarantined += _quarantine_blocks(store, store.sessions.rescanned(session))
        remaining = store.sessions.rescanned(session)
        store.repoint(remaining, remaining.known.newest)
        store.files.sync_folder(session.folder)
        store.sessions.indexes.drop(session.name)
        newest_id = store.newest_valid_id(remaining)
    return RecoveryReport(session_id=session_id, newest_valid_id=newest_id, quarantined=quarantined)


def _as_file(backup: str) -> FileName | None:
    """Return a backup as a checkpoint file."""
    name = layout.parse_name(backup.removesuffix(layout.BACKUP_SUFFIX))
    return name and name._replace(text=backup)


def _is_intact(store: Store[RecordT], session: OpenSession, name: FileName) -> bool:
    path = session.folder.join(name.text)
    try:
        text = store.verified_text(session, name)
        if text is None:
            return False
        ids = codec.identity(text, path)
        store.decode(text, path)
        store.blocks.load(session, codec.block_digests(text))
    except (CheckpointCorruptError, CheckpointMismatchError, NotACheckpointError):
        return False
    return layout.name_fits(name, ids.checkpoint_id)


def _quarantine(
    store: Store[RecordT], session: OpenSession, bad: list[FileName]
) -> tuple[Path, ...]:
    """Move checkpoint files aside, and put intact backups in their places."""
    with _quarantine_folder(store, session) as folder:
        names = [name.text for name in bad]
        return _moved(store, session.folder, names, folder, _intact_backups(store, session, bad))


def _quarantine_blocks(store: Store[RecordT], session: OpenSession) -> tuple[Path, ...]:
    """Move aside the blocks that are damaged, or that no intact checkpoint refers to."""
    files = store.files
    with store.sessions.blocks_folder(session.name) as blocks:
        if blocks is None:
            return ()
        users = _users_of_blocks(store, session.folder, files.scan(session.folder))
        names = sorted(filter(codec.is_digest, files.scan(blocks)))
        damaged = _damaged_blocks(store, blocks, names)
        bad = [name for name in names if name in damaged or name not in users]
        if not bad:
            return ()
        store.blocks.begin_generation(session)
        with _quarantine_folder(store, session) as folder:
            moved = _moved(store, blocks, bad, folder)
        files.sync_folder(blocks)
    return moved


@contextlib.contextmanager
def _quarantine_folder(store: Store[RecordT], session: OpenSession) -> Iterator[Folder]:
    """Open the quarantine of a session, under the store's own folder."""
    files = store.files
    with contextlib.ExitStack() as stack:
        folder = store.sessions.make_root()
        for part in (layout.PRIVATE_FOLDER, layout.QUARANTINE_FOLDER, session.name):
            files.make_subfolder(folder, part)
            files.sync_folder(folder)
            inner = files.open_subfolder(folder, part)
            if inner is None:
                raise StorageError("open folder", folder.join(part), None, "it was removed")
            stack.callback(files.close_folder, inner)
            folder = inner
        yield folder


def _moved(
    store: Store[RecordT],
    source: Folder,
    names: list[str],
    target: Folder,
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
    files.sync_folder(target)  # or the old name may be gone and the new one not there
    for name, aside in asides.items():
        if name not in linked:
            files.move(source, name, target, aside)
            files.sync_folder(target)
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
