"""The explicit way back from damage: what to move to the quarantine, and what takes its place."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from aiocheckpoint._disk.files import printable, random_name
from aiocheckpoint._engine.bodies import BlobGraph, Session, VanishedError
from aiocheckpoint._engine.check_blobs import bad_blobs, bad_waiting_blobs, users_of_blobs
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format import documents, names
from aiocheckpoint._format.blobs import blob_digests, is_digest
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.entries import Entry, Quarantined, Removed, Saved
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    FormatVersionError,
    NotACheckpointError,
)
from aiocheckpoint.models import CheckpointId, RecoveryReport, SessionId

_logger = logging.getLogger("aiocheckpoint")


class Recovery(NamedTuple):
    """
    What `recover` is going to do.

    Attributes:
        entries: files to quarantine, and what takes their places.
        bodies: of those that have one.
        seen: names of the checkpoint files that there are.
        quarantine: the directory that the files will be in.
        newest_valid_id: what `load` will return then; None if nothing intact is left.
        given_up: copies of parts of the log without which the session will go on.
    """

    entries: tuple[Entry, ...]
    bodies: tuple[bytes, ...]
    seen: frozenset[str]
    quarantine: Path
    newest_valid_id: CheckpointId | None
    given_up: tuple[str, ...]

    def report(self, session_id: SessionId, done: Collection[object]) -> RecoveryReport:
        """Tell where the files are, of what was done; also whoever looks after the directory."""
        moved = tuple(
            str(self.quarantine / entry.aside)
            for entry in self.entries
            if isinstance(entry, Quarantined) and entry in done
        )
        for path in moved:
            _logger.warning("moved to the quarantine: %s", printable(path))
        for path in self.given_up:
            _logger.warning(
                "a session goes on without %s, a part of the journal that could not be read: what "
                "was saved last may be missing",
                printable(path),
            )
        return RecoveryReport(
            session_id=session_id, newest_valid_id=self.newest_valid_id, quarantined=moved,
            given_up=self.given_up,
        )  # fmt: skip


def find_damage(reader: Reader[RecordT], session_id: SessionId) -> Recovery:
    """
    Find out what is damaged or misplaced in a session.

    Backups too, which mostly are second names of the same bytes. A damaged file whose backup is
    intact is restored from it. What lies in a damaged part of the journal is kept aside first.

    Raises:
        StorageError: the session cannot be listed.
        FormatVersionError: the newest that would be left is of another format version.
    """
    view = reader.view
    reader.look()
    name = encode_id(session_id, "session id")
    given_up = _given_up(reader, name)
    session = Session(session_id, name, view.listed(name))
    session.known.require_complete()
    seen = frozenset(session.known.by_text)
    removed = view.removed(name)
    backups = [
        file
        for file in map(_as_file, session.known.backups)
        if file is not None and file.text.removesuffix(names.BACKUP_SUFFIX) not in removed
    ]
    blobs = BlobGraph(reader.bodies, name, reads=True)
    bad = [
        file
        for file in [*session.known.newest_first(), *backups]
        if not _is_intact(reader, session, file, blobs)
    ]
    entries: list[Entry] = []
    texts: list[bytes] = []
    for file in bad:
        entries.append(Quarantined(name, file.text, random_name(f"{file.text[:60]}.")))
        restored = _from_backup(reader, session, file, blobs)
        if restored is not None:
            entries.append(restored[0])
            texts.append(restored[1])
    gone = {file.text for file in bad} - {e.name for e in entries if isinstance(e, Saved)}
    kept = blobs.reach(itertools.chain(*map(blob_digests, texts)))
    for digest in _bad_blobs(reader, session, gone, kept):
        aside = random_name(f"{digest[:60]}.")
        entries.append(Quarantined(name, digest, aside, is_blob=True))
    if not entries and _has_more_to_do(reader, session):
        # Of nothing: to wait for it is to wait for the rest, and for no other session.
        entries.append(Removed(name, ()))
    left = [file for file in session.known.newest_first() if file.text not in gone]
    newest_id = _newest_id(reader, session, left, bad, blobs)
    place = _quarantine_path(reader, name)
    return Recovery(tuple(entries), tuple(texts), seen, place, newest_id, given_up)


def _given_up(reader: Reader[RecordT], name: str) -> tuple[str, ...]:
    """Keep the damaged parts of the log, and return those that may have held changes of ours."""
    view = reader.view
    copies, given_up = view.lost.keep()
    for path in copies:
        _logger.warning("moved to the quarantine: %s", printable(path))
    return tuple(dict.fromkeys((*given_up, *view.lost.concerning(name))))


def settle(reader: Reader[RecordT], name: str) -> None:
    """Let a session, by its directory's name, go on without what was given up of the log."""
    reader.view.lost.settle(name)


def _newest_id(
    reader: Reader[RecordT],
    session: Session,
    left: list[FileName],
    bad: list[FileName],
    blobs: BlobGraph,
) -> CheckpointId | None:
    """Return the id of the newest of those left, which are intact or will be restored."""
    for file in left:
        restored = _from_backup(reader, session, file, blobs) if file in bad else None
        if restored is not None:
            return restored[0].checkpoint_id
        with contextlib.suppress(VanishedError):
            reader.bodies.own_text(session, file)
            return session.known.identities[file.text]
    return None


def _has_more_to_do(reader: Reader[RecordT], session: Session) -> bool:
    """Tell whether files lack, or the log has to go on, durably, without what was kept of it."""
    is_done = _is_done(reader, session.name) and _is_pointed_right(reader, session)
    return reader.view.lost.has_damage or not is_done


def _is_done(reader: Reader[RecordT], name: str) -> bool:
    """Tell whether all moves of earlier recoveries are made."""
    waiting = reader.view.pending.entries_of(name)
    return not any(isinstance(committed.entry, Quarantined) for committed in waiting)


def _is_pointed_right(reader: Reader[RecordT], session: Session) -> bool:
    newest = session.known.newest
    with reader.view.sessions.opened(session.name) as directory:
        pointed = directory and reader.view.files.pointed_at(directory, names.LATEST_NAME)
    return pointed == (newest and newest.text)


def _quarantine_path(reader: Reader[RecordT], session: str) -> Path:
    root = Path(reader.view.sessions.root.path)
    return root / names.PRIVATE_DIRECTORY / names.QUARANTINE_DIRECTORY / session


def _as_file(backup: str) -> FileName | None:
    """Return a backup as a checkpoint file."""
    name = names.parse_name(backup.removesuffix(names.BACKUP_SUFFIX))
    return name and name._replace(text=backup)


def _is_intact(reader: Reader[RecordT], session: Session, file: FileName, blobs: BlobGraph) -> bool:
    try:
        text = reader.bodies.text(session.name, file.text)
        path = reader.bodies.path(session.name, file.text)
        ids = documents.identity(text, path)
        blobs.require(blob_digests(text))
    except (VanishedError, FormatVersionError):
        return True  # somebody has removed it, or nobody here can tell: nothing is to be done
    except (CheckpointCorruptError, NotACheckpointError):
        return False
    fits = encode_id(ids.session_id, "session id") == session.name
    return fits and names.name_fits(file, ids.checkpoint_id)


def _from_backup(
    reader: Reader[RecordT], session: Session, file: FileName, blobs: BlobGraph
) -> tuple[Saved, bytes] | None:
    """Return the save that puts an intact backup in the place of a file; None if there is none."""
    backup = file._replace(text=file.text + names.BACKUP_SUFFIX)
    if backup.text not in session.known.backups:
        return None
    if not _is_intact(reader, session, backup, blobs):
        return None
    try:
        text = reader.bodies.text(session.name, backup.text)
    except (VanishedError, FormatVersionError):
        return None
    ids = documents.identity(text, backup.text)
    body = documents.body_of_verified(text)
    saved = Saved(
        session.name, file.text, ids.checkpoint_id, body.digest, len(body.text),
        b"" if body.checksum == body.digest else body.checksum,
        tuple(map(bytes.fromhex, blob_digests(text))), len(session.known.backups),
    )  # fmt: skip
    return saved, body.text


def _bad_blobs(
    reader: Reader[RecordT], session: Session, gone: set[str], kept: set[str]
) -> list[str]:
    """
    Return the blobs that are damaged, or that no intact checkpoint leads to.

    Args:
        reader: of the store.
        session: to look at.
        gone: names of checkpoint files that will be gone.
        kept: blobs that checkpoints lead to which will be restored.

    Raises:
        StorageError: one cannot be read, and may be intact.
        CheckpointTooLargeError: likewise.
    """
    bodies = reader.bodies
    if not session.known.has_blobs:
        return []
    users, is_complete = users_of_blobs(bodies, session.name, gone)
    in_use = users.keys() | kept
    unwritten = bad_waiting_blobs(bodies, session.name)
    with reader.view.sessions.blobs(session.name) as directory:
        found = [] if directory is None else sorted(reader.view.files.scan(directory))
        bad = {} if directory is None else bad_blobs(bodies, directory, session.name, found)
    for error in bad.values():
        if not isinstance(error, CheckpointCorruptError):
            raise error
    waiting = reader.view.pending.sessions.get(session.name)
    are_unused = is_complete and waiting is None
    digests = {name: name.removesuffix(names.NODE_SUFFIX) for name in found}
    written = [
        digest
        for name, digest in digests.items()
        if is_digest(digest) and (name in bad or (digest not in in_use and are_unused))
    ]
    return [*dict.fromkeys((*written, *unwritten))]
