"""One try to commit a batch: what it rests on, read beforehand, its plan, and its frame."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable, Sequence
from functools import partial

from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._disk.known_blobs import KnownBlobs
from aiocheckpoint._disk.pending import SESSION_INODES
from aiocheckpoint._engine.bodies import Bodies, Session, VanishedError
from aiocheckpoint._engine.changes import Change, Delete, Flush, Own, Save, Wake
from aiocheckpoint._engine.fairness import file_bytes
from aiocheckpoint._engine.plan import Planner
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._format import documents, log
from aiocheckpoint._format.blobs import blob_links
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    FileSizeLimitError,
    MissingBlobError,
)
from aiocheckpoint.models import ANY_NEWEST, CheckpointId


class Attempt:
    """
    A try to commit a batch.

    Args:
        root: the open root.
        limits: the bounds to keep.
        wake: when callers wake.
        is_last: whether it is the last; then sessions are looked up under the lock, if need be,
            and removals alone may take the room that is kept for files.
    """

    def __init__(self, root: WritableRoot, limits: Limits, wake: Wake, *, is_last: bool) -> None:
        self._root = root
        self._limits = limits
        self._wake: Wake = wake
        self._is_last = is_last
        self._sessions: dict[str, Session] = {}
        self._refused: dict[Change, BaseException] = {}

    # Before the lock is taken

    def prepare(self, batch: Sequence[Change]) -> None:
        """Do beforehand what takes long: listing, and reading bodies."""
        for change in batch:
            try:
                for name, session_id in change.sessions.items():
                    if name not in self._sessions:
                        self._sessions[name] = Session(session_id, name, self._index(name))
                for part in change.parts:
                    self._prepare(part)
                if isinstance(change, Own):
                    self._look_for_owner(change)
            except VanishedError:
                pass
            except CheckpointError as error:
                self._refused[change] = error

    def _index(self, name: str) -> SessionIndex:
        view = self._root.view
        index = view.indexes.peek(name)  # who writes its files counts it as used
        # One that has entries in the log is being written to; it is looked at later.
        return view.lookup(name) if index is None or name not in view.pending.sessions else index

    def _prepare(self, part: Change) -> None:
        session = self._sessions.get(part.session)
        if session is None:  # a flush
            return
        if isinstance(part, Delete) and self._may_miss_files(part, session):
            session = session._replace(known=self._root.view.listed(part.session))
            self._sessions[part.session] = session
        if _needs_preparing(self._limits, part, session):
            _read_beforehand(self._root.bodies, self._limits, part, session)

    def _may_miss_files(self, change: Delete, session: Session) -> bool:
        """Tell whether a removal may be of files that Rust made while ours were written."""
        known, wanted = session.known, change.checkpoint_ids
        if not known.is_assumed and change.session not in self._root.view.pending.sessions:
            return False
        return wanted is None or not all(known.candidates(key) for key in wanted)

    def _look_for_owner(self, change: Own) -> None:
        """Find out whether a session's owner lives, and tell that this process does."""
        presence = self._root.log.presence
        change.process = presence.announce()
        owned = self._root.view.owner(change.session)
        if owned is not None and presence.is_alive(owned.process):
            change.told[owned.process] = presence.told_of(owned.process)
        elif owned is not None:
            change.dead.add(owned.process)

    # Under the lock, the log caught up

    def knows_sessions(self) -> bool:
        """Tell whether all sessions are known; False when one has to be looked up anew."""
        view = self._root.view
        for name, session in self._sessions.items():
            known = view.indexes.peek(name)
            if known is None and not self._is_last:
                return False
            if known is not session.known:
                self._sessions[name] = session._replace(known=known or view.listed(name))
        return True

    def inodes(self, change: Change) -> int:
        """Return how many files and directories a change makes on the disk at most."""
        if not change.files:
            return 0
        has_blobs = any(isinstance(part, Save) and part.blobs for part in change.parts)
        known = [self._sessions[name].known for name in change.sessions if name in self._sessions]
        # Of an old session the directory of its blobs may have gone with the last of them.
        return change.files + sum(
            has_blobs if index.signature.inode else SESSION_INODES for index in known
        )

    def append(self, begun: Sequence[Change]) -> tuple[int, list[Change]]:
        """Plan changes and append one frame; return where it ends, and who waits for files."""
        appender = self._root.appender
        planner = self._planned(begun)
        late = self._late(begun)
        is_flush = bool(late) and any(isinstance(change, Flush) for change in late)
        sync = bool(late) or any(map(self._syncs, begun))
        if not planner.entries and (not is_flush or appender.is_flushed):
            if sync:
                appender.sync()  # for what was found out rests on it
            if any(isinstance(change, Flush) and change.closes for change in late):
                appender.leave_empty()
            return 0, []
        # Deletes take room from files only when no file that was written has made any.
        least_bytes = 0 if self._is_last and all(c.is_removal for c in begun) else 1
        read = appender.append(
            planner.entries, planner.bodies, log.FLUSH_WANTED if late else 0,
            partial(
                self._root.view.note,
                entries=planner.entries, bodies=planner.bodies, names=planner.names,
            ),
            sync=sync, erases=planner.erases, in_new_segment=is_flush and appender.must_erase,
            leaves=max([change.leaves for change in begun], default=0),
            spared_bytes=lambda: max(least_bytes, file_bytes(begun)),
        )  # fmt: skip
        self._root.committed = read.place
        return read.place, late

    def _planned(self, begun: Sequence[Change]) -> Planner:
        """Plan changes, each of which then has its result, or its error."""
        planner = Planner(self._root.bodies, self._limits)
        sessions, refused = self._sessions, self._refused
        for change in begun:
            job = change.job
            job.error = refused.get(change) if refused and change.session else None
            if job.error is None and change.session:
                try:
                    job.result = planner.plan(change, sessions)
                except BaseException as error:  # noqa: BLE001 - kept as the outcome
                    job.error = error
        return planner

    def _late(self, begun: Sequence[Change]) -> list[Change]:
        """Return the changes whose callers wait for files, but for those that are refused."""
        is_usual = self._wake == "flushed"
        return [
            change
            for change in begun
            if (change.waits_for_files or (is_usual and change.syncs is None))
            and change.job.error is None
        ]

    def _syncs(self, change: Change) -> bool:
        return self._wake != "written" if change.syncs is None else change.syncs


def _needs_preparing(limits: Limits, change: Change, session: Session) -> bool:
    """Tell whether planning a change may have to read something."""
    return not (
        isinstance(change, Save)
        and not change.digests
        and change.expected is ANY_NEWEST
        and limits.max_checkpoints is None
        and not documents.may_exceed(change.body.text, limits.least_bytes)
        and not session.known.may_hold(change.checkpoint_id)
    )


def _read_beforehand(bodies: Bodies, limits: Limits, change: Change, session: Session) -> None:
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

    What the record names, what names others, what is given, what others have saved and has no file
    yet, and what a read has found missing or damaged, is read, and so known to be intact; of the
    rest it is known that it is there. What was once found is not looked at again, unless a read has
    found it missing or damaged since. What was removed meanwhile is not there, whoever was the
    first to hear of it.
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
        is_given = digest in save.digests or digest in save.blobs
        if is_lost or is_given or bodies.is_others(session.name, digest):
            return blob_links(bodies.blob(session.name, digest))
        return bodies.links(session.name, digest)
    except MissingBlobError:
        return None
    except CheckpointCorruptError:
        if digest not in save.blobs:
            raise
        return None
