"""Answers that name checkpoints without handing out their content: ids and listing entries."""

from __future__ import annotations

import errno
import sys
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from msgspec import structs

from aiocheckpoint._disk.files import Directory, FileStatus, is_settled
from aiocheckpoint._engine.bodies import Bodies, Session, VanishedError
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._format import listing, names
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint._format.entries import Saved, body_bytes
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    FormatVersionError,
    NotACheckpointError,
    StorageError,
)
from aiocheckpoint.models import CheckpointId, CheckpointMeta, SessionId

_PEEK_BYTES = 4096
_OF_ONE_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EIO})


def saved_ids(
    reader: Reader[RecordT], session_id: SessionId, prefix: str, limit: int | None
) -> tuple[CheckpointId, ...]:
    """Return the ids of a session that have a prefix, saved last first, mostly told from names."""

    def read(session: Session) -> tuple[CheckpointId, ...]:
        found: dict[CheckpointId, None] = {}  # of one that was replaced there may be two files
        for name in session.known.newest_first():
            if limit is not None and len(found) >= limit:
                return tuple(found)
            checkpoint_id = session.known.identities.get(name.text) or names.id_of_name(name)
            checkpoint_id = checkpoint_id or reader.bodies.identify(session, name)
            if checkpoint_id.startswith(prefix):
                found[checkpoint_id] = None
        session.known.require_complete()
        return tuple(found)

    return reader.steadily(session_id, read)


def ids(
    reader: Reader[RecordT],
    session_id: SessionId,
    prefix: str,
    before: CheckpointId | None,
    limit: int | None,
) -> tuple[CheckpointId, ...]:
    """Return the ids of a session that have a prefix and are below another, greatest first."""

    def read(session: Session) -> tuple[CheckpointId, ...]:
        reader.require_quick(session.known, limit)
        session.known.require_complete()
        found = session.known.greatest_ids(prefix, before, limit)
        metas = [_entry(reader.bodies, session, name) for name in session.known.unread_names()]
        unread = {
            meta.checkpoint_id
            for meta in metas
            if meta.checkpoint_id.startswith(prefix)
            and (before is None or meta.checkpoint_id < before)
        }
        return tuple(sorted(unread.union(found), reverse=True)[:limit] if unread else found)

    return reader.steadily(session_id, read)


def listed(
    reader: Reader[RecordT],
    session_id: SessionId,
    before: CheckpointId | None,
    limit: int | None,
) -> tuple[CheckpointMeta, ...]:
    """Return the listing entries of a session that were saved before one, newest first."""
    most = None if limit is None else min(limit, sys.maxsize)  # `islice` takes no more

    def read(session: Session) -> tuple[CheckpointMeta, ...]:
        session = session._replace(known=reader.view.confirmed(session.name, session.known))
        session.known.require_complete()
        files = session.known.newest_first()
        if any(file.is_rust for file in files):  # whose times depend on all that follow
            found = _never_back([*_entries(reader.bodies, session, files, None)])
            ids = [meta.checkpoint_id for meta in found]
            first = 0 if before is None else ids.index(before) + 1 if before in ids else len(ids)
            return tuple(found[first:][:most])
        return tuple(islice(_entries(reader.bodies, session, files, before), most))

    return reader.steadily(session_id, read)


def _entries(
    bodies: Bodies, session: Session, files: Iterable[FileName], before: CheckpointId | None
) -> Iterator[CheckpointMeta]:
    """Yield the entries of files that follow that of an id, one for each id."""
    seen: set[CheckpointId] = set()  # of one that was replaced there may be two files
    for file in files:
        if before is not None and before not in seen:
            checkpoint_id = session.known.identities.get(file.text) or names.id_of_name(file)
            seen.add(checkpoint_id or entry_or_problem(bodies, session, file).checkpoint_id)
            continue
        meta = entry_or_problem(bodies, session, file)
        if meta.checkpoint_id not in seen:
            seen.add(meta.checkpoint_id)
            yield meta


def _never_back(metas: Collection[CheckpointMeta]) -> list[CheckpointMeta]:
    """Return entries, newest first, none of which says to be saved before one that it follows."""
    found: list[CheckpointMeta] = []
    for meta in reversed([*metas]):
        earlier = found and found[-1].saved_at > meta.saved_at
        found.append(structs.replace(meta, saved_at=found[-1].saved_at) if earlier else meta)
    return found[::-1]


def entry_or_problem(bodies: Bodies, session: Session, name: FileName) -> CheckpointMeta:
    """Return the entry of a file, also of one that cannot be read: it must not go unseen."""
    try:
        return _entry(bodies, session, name)
    except CheckpointError as error:
        if isinstance(error, StorageError) and error.errno not in _OF_ONE_FILE:
            raise
        path = Path(bodies.path(session.name, name.text))
        return listing.meta_of_name(name, session.id, path, str(error))


def is_named(bodies: Bodies, session: Session, name: FileName, checkpoint_id: CheckpointId) -> bool:
    """
    Tell whether a file is the checkpoint of an id; one that cannot be read is what `list` says.

    Raises:
        VanishedError: it is gone.
        CheckpointMismatchError: it is intact, and no checkpoint of this place.
        CheckpointCorruptError: it is no regular file.
        CheckpointError: it cannot be read, and its name may be that of another id as well.
    """
    try:
        return bodies.identify(session, name) == checkpoint_id
    except CheckpointMismatchError:
        raise
    except NotACheckpointError as error:
        raise CheckpointCorruptError(
            error.path, error.reason, session_id=session.id, checkpoint_id=checkpoint_id
        ) from error
    except (CheckpointCorruptError, CheckpointTooLargeError, FormatVersionError):
        listed_id = entry_or_problem(bodies, session, name).checkpoint_id
        # Of a long id it is the name, which no other has.
        if listed_id in (checkpoint_id, encode_id(checkpoint_id, "checkpoint id")):
            return True
        raise


def _entry(bodies: Bodies, session: Session, name: FileName) -> CheckpointMeta:
    """
    Return the entry of a file.

    Raises:
        VanishedError: it is gone.
        CheckpointError: it cannot be read, or is of another session.
    """
    committed = bodies.view.saved(session.name, name.text)
    known = session.known.metas.get(name.text)
    if committed is not None and isinstance(committed.entry, Saved):
        if known is not None and known[0] is None:
            return known[1]
        body = bodies.view.body(committed)
        if body is not None:
            checksum = committed.entry.checksum or committed.entry.digest
            path = Path(bodies.path(session.name, name.text))
            meta = listing.meta_of_body(body, checksum, path, name.saved_at)
            meta = _fitting(meta, session, name, path)
            meta = _within(bodies, meta, body_bytes(committed.entry))
            session.known.metas[name.text] = (None, meta)
            return meta
    with bodies.view.sessions.opened(session.name) as directory:
        status = directory and bodies.view.files.status(directory, name.text)
        if directory is None or status is None:
            raise bodies.absent(session.name, name.text, committed)
        if known is None or known[0] != status:
            meta = _read(bodies, directory, name, status)
            meta = _fitting(meta, session, name, Path(directory.join(name.text)))
            meta = _within(bodies, meta, status.size_bytes)
            known = (status, meta)
            # A name of ours stands for one content for ever; Rust may write one again.
            if not name.is_rust or is_settled(status.modified_ns):
                session.known.metas[name.text] = known
        return known[1]


def _read(
    bodies: Bodies, directory: Directory, name: FileName, status: FileStatus
) -> CheckpointMeta | None:
    files, path = bodies.view.files, Path(directory.join(name.text))
    ends = files.read_ends(directory, name.text, _PEEK_BYTES)
    if ends is None:
        raise VanishedError
    head, tail = ends
    if len(head) == status.size_bytes:
        return listing.meta_of_file(head, path, name.saved_at)
    meta = listing.peek_meta(head, tail, path, name.saved_at)
    if meta is not None:
        return meta
    data = files.read(directory, name.text, bodies.max_bytes)
    if data is None:
        raise VanishedError
    return listing.meta_of_file(data, path, name.saved_at)


def _fitting(
    meta: CheckpointMeta | None, session: Session, name: FileName, path: Path
) -> CheckpointMeta:
    if meta is None:
        raise CheckpointCorruptError(str(path), "it is no checkpoint, or only a part of one")
    if meta.session_id != session.id or not names.name_fits(name, meta.checkpoint_id):
        found = (meta.session_id, meta.checkpoint_id)
        raise CheckpointMismatchError(str(path), found, (session.id, None))
    return meta


def _within(bodies: Bodies, meta: CheckpointMeta, size_bytes: int) -> CheckpointMeta:
    """Return an entry with the problem that its file is too large for this reader, if it is."""
    if size_bytes <= bodies.max_bytes:
        return meta
    error = CheckpointTooLargeError(str(meta.path), size_bytes, bodies.max_bytes)
    return structs.replace(meta, problem=str(error))
