"""Bringing back what a process that died had acknowledged but not flushed."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from aiocheckpoint._disk.files import Directory
from aiocheckpoint._disk.sessions import OpenSession
from aiocheckpoint._engine.journal import (
    Entry,
    Frames,
    JournaledBlob,
    JournaledDelete,
    JournaledSave,
    JournaledUndo,
    blob_path,
    parse_segment,
    removals_of,
    saved_in,
    sync_sessions,
)
from aiocheckpoint._engine.store import Store
from aiocheckpoint._format import codec
from aiocheckpoint._format import names as layout
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointTooLargeError,
    NotACheckpointError,
    StorageError,
)

_LOCK_SECONDS = 600.0


class Segments(NamedTuple):
    """
    The journal segments under a root.

    Attributes:
        dead: those of processes that died, by name; locked until the stack they came with ends.
        live: those of running processes.
    """

    dead: dict[str, Frames]
    live: dict[str, Frames]


class _Wanted(NamedTuple):
    """What should be in a session: names to contents, names that must be gone, and blobs."""

    saved: dict[str, bytes]
    removed: set[str]
    blobs: dict[str, bytes]


def replay(store: Store[RecordT]) -> None:
    """
    Bring every acknowledged save and delete of dead processes back, durably.

    Runs before the first use of a root. A crash in the middle leaves the journals in place,
    and the next start begins anew: files that are right already are left alone.

    Raises:
        JournalVersionError: a newer version's journal; nothing was touched.
        StorageError: the disk refused; the journals are kept.
    """
    with contextlib.ExitStack() as stack:
        directory = private_directory(store, stack)
        if directory is None:
            return
        store.files.lock(directory, _LOCK_SECONDS)
        segments = read_segments(store, directory, stack)
        if not segments.dead:
            return
        entries = [entry for frames in segments.dead.values() for entry in _open(store, frames)]
        for session_name, wanted in _by_session(entries).items():
            _replay_session(store, session_name, wanted, directory)
        sync_sessions(store.files, store.sessions.make_root(), _touched(segments.dead.values()))
        store.files.reached("before_drop_journal")
        for name in segments.dead.keys() - _needed(store, directory, segments):
            store.files.unlink(directory, name)
        store.files.sync_directory(directory)


def _needed(store: Store[RecordT], directory: Directory, segments: Segments) -> set[str]:
    """
    Return the dead segments with removals of files that running processes have journaled.

    Without them, a power cut before those processes flush would bring the files back.
    """
    removed = {
        name: {(entry.session, file) for entry in frames.entries for file in removals_of(entry)}
        for name, frames in segments.dead.items()
    }
    if not any(removed.values()):
        return set()
    saved = [saved_in(store.files, directory, name) for name in segments.live]
    return {name for name, gone in removed.items() if not gone.isdisjoint(chain(*saved))}


def private_directory(store: Store[RecordT], stack: contextlib.ExitStack) -> Directory | None:
    """Open the root's own directory until the stack ends; None when there is none."""
    root = store.sessions.find_root()
    directory = root and store.files.open_subdirectory(root, layout.PRIVATE_DIRECTORY)
    if directory is not None:
        stack.callback(store.files.close_directory, directory)
    return directory


def read_segments(
    store: Store[RecordT], directory: Directory, stack: contextlib.ExitStack
) -> Segments:
    """Read all segments, taking the locks of the dead ones until the stack ends."""
    segments = Segments({}, {})
    for name, descriptor in _opened_segments(store, directory, stack):
        is_dead = store.files.try_lock_file(descriptor, directory.join(name))
        frames = _frames(store, directory, name, descriptor)
        (segments.dead if is_dead else segments.live)[name] = frames
    return segments


def _opened_segments(
    store: Store[RecordT], directory: Directory, stack: contextlib.ExitStack
) -> Iterator[tuple[str, int]]:
    for name in sorted(store.files.scan(directory)):
        if name.startswith(layout.JOURNAL_PREFIX):
            descriptor = store.files.open_journal(directory, name)
            if descriptor is not None:
                stack.callback(store.files.close, descriptor, directory.join(name))
                yield name, descriptor


def _frames(store: Store[RecordT], directory: Directory, name: str, descriptor: int) -> Frames:
    path = directory.join(name)
    return parse_segment(store.files.read_journal(descriptor, path), path)


def journaled_files(store: Store[RecordT], session_name: str) -> set[str]:
    """
    Return the files of a session that a journal, of whichever process, may bring back.

    Right while the session's lock is held: whoever journals a save holds it too.
    """
    with contextlib.ExitStack() as stack:
        directory = private_directory(store, stack)
        if directory is None:
            return set()
        segments = [
            _frames(store, directory, name, descriptor)
            for name, descriptor in _opened_segments(store, directory, stack)
        ]
    return {
        entry.name
        for frames in segments
        for entry in frames.entries
        if isinstance(entry, JournaledSave) and entry.session == session_name
    }


def _open(store: Store[RecordT], frames: Frames) -> Iterable[Entry]:
    """Return the entries to look after: after a mere process crash, those not applied yet."""
    same_boot = frames.boot != "" and frames.boot == store.files.boot_id()
    return frames.unapplied if same_boot else frames.entries


def _by_session(entries: Iterable[Entry]) -> defaultdict[str, _Wanted]:
    entries = list(entries)
    undone = {
        (entry.session, name)
        for entry in entries
        if isinstance(entry, JournaledUndo)
        for name in entry.undone
    }
    sessions: defaultdict[str, _Wanted] = defaultdict(lambda: _Wanted({}, set(), {}))
    for entry in entries:
        wanted = sessions[entry.session]
        if isinstance(entry, JournaledUndo):
            wanted.removed.update(entry.undone)  # their removal was never synced
        elif isinstance(entry, JournaledDelete):
            wanted.removed.update(entry.removed)
        elif isinstance(entry, JournaledBlob):
            wanted.blobs[entry.digest] = entry.data
        elif (entry.session, entry.name) not in undone:
            wanted.removed.update(entry.removed)
            wanted.saved[entry.name] = entry.body
    return sessions


def _replay_session(
    store: Store[RecordT], session_name: str, wanted: _Wanted, private: Directory
) -> None:
    with store.sessions.made("", session_name) as session:
        restored = store.blobs.to_store(session, wanted.blobs, wanted.blobs)
        store.blobs.store(session, restored, synced=True)
        missing = {
            name: body
            for name, body in wanted.saved.items()
            if name not in wanted.removed and not _is_in_place(store, session, name, body)
        }
        gone = _removed_by_the_living(store, session_name, private) if missing else set[str]()
        for name, body in missing.items():
            if name not in gone:
                _restore(store, session, name, body)
        for name in wanted.removed:
            store.files.unlink(session.directory, name)
            store.files.unlink(session.directory, name + layout.BACKUP_SUFFIX)
        _repoint(store, session)
        if not restored.keys() <= _digests_in(wanted.saved.values()):
            store.collect(store.sessions.rescanned(session), in_replay=True)
        if store.sessions.rescanned(session).known.newest is None:
            store.delete_everything(session)


def _digests_in(bodies: Iterable[bytes]) -> set[str]:
    return {digest for body in bodies for digest in codec.blob_digests(body)}


def _is_in_place(store: Store[RecordT], session: OpenSession, name: str, body: bytes) -> bool:
    files, directory = store.files, session.directory
    try:
        # A backup may be another name of the torn file that an earlier replay has replaced.
        backup = files.read(directory, name + layout.BACKUP_SUFFIX, len(body))
        return backup in (None, body) and files.read(directory, name, len(body)) == body
    except (CheckpointTooLargeError, NotACheckpointError):
        return False


def _removed_by_the_living(
    store: Store[RecordT], session_name: str, private: Directory
) -> set[str]:
    """Return what running processes have removed; right while the session's lock is held."""
    # The dead segments, which the replay has locked, pass for living ones here: what their
    # processes had removed counts too, also where that was applied.
    with contextlib.ExitStack() as stack:
        live = read_segments(store, private, stack).live
    entries = [entry for frames in live.values() for entry in frames.entries]
    return _by_session(entries)[session_name].removed


def _restore(store: Store[RecordT], session: OpenSession, name: str, body: bytes) -> None:
    parsed = layout.parse_name(name)
    if parsed is None:
        raise StorageError("replay", session.directory.join(name), None, "not a checkpoint's name")
    # A backup is another name of the torn file.
    store.files.unlink(session.directory, name + layout.BACKUP_SUFFIX)
    store.publish(session, parsed, body, synced=True)


def _repoint(store: Store[RecordT], session: OpenSession) -> None:
    newest: FileName | None = store.sessions.rescanned(session).known.newest
    if newest is not None:
        store.repoint(session, newest)


def _touched(segments: Iterable[Frames]) -> dict[str, set[str]]:
    touched: defaultdict[str, set[str]] = defaultdict(set)
    for entry in (entry for frames in segments for entry in frames.entries):
        touched[entry.session].update(_files_of(entry))
    return touched


def _files_of(entry: Entry) -> set[str]:
    match entry:
        case JournaledSave():
            return {entry.name}
        case JournaledBlob():
            return {blob_path(entry.digest)}
        case _:
            return set()
