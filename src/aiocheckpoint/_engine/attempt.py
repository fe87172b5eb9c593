"""One try to commit a batch: what it rests on, its plan, and its frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aiocheckpoint._disk.index import SessionIndex
from aiocheckpoint._engine import prepare
from aiocheckpoint._engine.bodies import Session, VanishedError
from aiocheckpoint._engine.changes import Change, Delete, Flush, Own, Wake
from aiocheckpoint._engine.fairness import disk_bytes
from aiocheckpoint._engine.plan import Planner
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._format import log
from aiocheckpoint.errors import CheckpointError


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
        if prepare.needs_preparing(self._limits, part, session):
            prepare.prepare(self._root.bodies, self._limits, part, session)

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
            spared_bytes=lambda: max(least_bytes, disk_bytes(begun, copies=1)),
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
