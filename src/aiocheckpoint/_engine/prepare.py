"""What planning a change will ask for, read before the lock is taken."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable

from aiocheckpoint._disk.known_blobs import KnownBlobs
from aiocheckpoint._engine.bodies import Bodies, Session, VanishedError
from aiocheckpoint._engine.changes import Change, Delete, Save
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import blob_links
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    FileSizeLimitError,
    MissingBlobError,
)
from aiocheckpoint.models import ANY_NEWEST, CheckpointId


def needs_preparing(limits: Limits, change: Change, session: Session) -> bool:
    """Tell whether planning a change may have to read something."""
    return not (
        isinstance(change, Save)
        and not change.digests
        and change.expected is ANY_NEWEST
        and limits.max_checkpoints is None
        and not documents.may_exceed(change.body.text, limits.least_bytes)
        and not session.known.may_hold(change.checkpoint_id)
    )


def prepare(bodies: Bodies, limits: Limits, change: Change, session: Session) -> None:
    """
    Read beforehand what planning a change will ask for; it remembers.

    Raises:
        CheckpointError: what planning would raise as well.
    """
    bodies.view.lost.path_of(session.name)  # and so known, under the lock
    if isinstance(change, Save):
        _prepare_save(bodies, limits, change, session)
    elif isinstance(change, Delete):
        _identify(bodies, session, change.checkpoint_ids or ())
        if session.known.has_blobs:
            bodies.know_users(session)


def _prepare_save(bodies: Bodies, limits: Limits, save: Save, session: Session) -> None:
    if documents.may_exceed(save.body.text, limits.least_bytes):
        _require_size(save, limits)
    if save.digests:
        _find_blobs(bodies, save, session)
    newest = session.known.newest
    if save.expected is not ANY_NEWEST and newest is not None:
        bodies.identify(session, newest)
    replaces = _identify(bodies, session, (save.checkpoint_id,))
    removes = replaces or limits.max_checkpoints is not None
    if removes and (session.known.has_blobs or save.digests):
        bodies.know_users(session)


def _identify(bodies: Bodies, session: Session, wanted: Iterable[CheckpointId]) -> bool:
    """Find out which files hold some ids; tell whether any may."""
    candidates = [name for key in wanted for name in session.known.candidates(key)]
    for name in candidates:
        with contextlib.suppress(CheckpointError, VanishedError):
            bodies.identify(session, name)
    return bool(candidates)


def _require_size(save: Save, limits: Limits) -> None:
    size = len(documents.file_of(save.body.text, save.body.checksum))
    subject = f"checkpoint {save.checkpoint_id!r}"
    if size > limits.max_bytes:
        raise CheckpointTooLargeError(subject, size, limits.max_bytes)
    if size > limits.max_file_bytes:
        reason = f"its file takes {size} bytes, the system allows {limits.max_file_bytes}"
        raise FileSizeLimitError("write", subject, errno.EFBIG, reason)


def _find_blobs(bodies: Bodies, save: Save, session: Session) -> None:
    """
    Find out which blobs are there already, among those that a save leads to.

    What the record names, what names others, and what is given, is read, and so known to be intact;
    of the rest it is known that it is there. What was once found is not looked at again, unless a
    read has found it missing or damaged since. What was removed meanwhile is not there, whoever was
    the first to hear of it.
    """
    known = session.known.blobs = session.known.blobs or KnownBlobs()
    if not session.known.has_blobs:
        known.is_swept = True
        return
    removals = known.removals
    found: dict[str, tuple[str, ...]] = {}
    absent: set[str] = set()
    waiting = [digest for digest in save.digests if digest not in known.stored]
    while waiting:
        digest = waiting.pop()
        if digest in found or digest in absent or digest in known.stored:
            continue
        links = _links(bodies, save, session, digest)
        if links is None:
            absent.add(digest)
            waiting += blob_links(save.blobs.get(digest, b""))
        else:
            found[digest] = links
            waiting += links
    with session.known.mutex:
        unsure = absent | known.lost
        if not unsure.isdisjoint(itertools.chain(found, *found.values())):
            found = {d: links for d, links in found.items() if not links and d not in unsure}
        for digest, links in found.items():
            known.learn(digest, links)
        if known.removals == removals:
            known.stored.update(found)


def _links(bodies: Bodies, save: Save, session: Session, digest: str) -> tuple[str, ...] | None:
    """Return what a blob names; None where it is not there, or damaged and given anew."""
    known = session.known.blobs
    is_lost = known is not None and (digest in known.lost or known.lacks(digest))
    if is_lost and digest in save.blobs:
        return None
    try:
        if digest in save.digests or digest in save.blobs:
            return blob_links(bodies.blob(session.name, digest))
        return bodies.links(session.name, digest)
    except MissingBlobError:
        return None
    except CheckpointCorruptError:
        if digest not in save.blobs:
            raise
        return None
