"""The committer: whatever waits while a commit runs shares the next one.

A batch is one pass: look up its sessions, take the log's lock, catch up, plan, append one frame,
give the lock back, wake everybody. Sessions take turns, so that one that floods the queue does
not keep the others waiting.
"""

from __future__ import annotations

import contextlib
import queue
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from aiocheckpoint._disk.locks import MovedError
from aiocheckpoint._disk.pending import FILE_BYTES
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine import prepare
from aiocheckpoint._engine.bodies import Bodies, Session, VanishedError
from aiocheckpoint._engine.changes import Batch, Change, Delete, Flush, Own, Wake
from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._engine.plan import Planner
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint._format import log
from aiocheckpoint.errors import CheckpointError, StorageError, StorageFullError

_MAX_CHANGES = 512
_MAX_BYTES = 8 << 20
_ROOM_SECONDS = 0.005
_FLUSH_SECONDS = 1.0
_TRIES = 3


class Root(Protocol):
    """Where the changes go."""

    def to_write(self) -> WritableRoot:
        """Return the root, made if need be."""
        ...

    def is_there(self, *, with_log: bool) -> bool:
        """Tell whether there is anything that could be removed, or flushed."""
        ...

    def reopen(self) -> None:
        """Let the next use open everything anew, where the path leads to by then."""
        ...


class Outlet(Protocol):
    """
    Who hears of commits: the applier.

    Attributes:
        error: why files could not be written last, None if they could.
    """

    error: Exception | None

    def committed(self, place: int, late: Sequence[Change]) -> None:
        """Take notice of a commit, and of who waits until its files are durable."""
        ...

    def wait_for_room(self, seconds: float) -> None:
        """Ask for a flush, and wait a moment for it."""
        ...


class Committer:
    """
    The one thread of a writer that commits.

    Args:
        root: the open root.
        outlet: who hears of commits.
        limits: the bounds to keep.
        wake: when callers wake.
        timeout_seconds: how long callers wait for others, and so for room.

    Attributes:
        lacks_room: whether changes wait because the log is full.
        commits: how many there were.
        changes: how many changes were in them.
    """

    def __init__(
        self, root: Root, outlet: Outlet, limits: Limits, wake: Wake, timeout_seconds: float
    ) -> None:
        self._root = root
        self._outlet = outlet
        self._limits = limits
        self._wake = wake
        self._patience_seconds = min(_FLUSH_SECONDS, timeout_seconds)
        self._arriving: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._waiting: deque[Change] = deque()
        self._is_ending = False
        self.lacks_room = self._must_wait = False
        self.commits = self.changes = 0

    @property
    def waiting(self) -> int:
        """How many changes are not committed yet."""
        return self._arriving.qsize() + len(self._waiting)

    def submit(self, change: Change) -> None:
        """Queue a change; from any thread."""
        self._arriving.put(change)

    def end(self) -> None:
        """Let the thread end when all that was submitted is done."""
        self._arriving.put(None)

    def run(self) -> None:
        """Commit until the end."""
        while self._gather():
            batch = take_fairly(self._waiting, removals_only=self._must_wait)
            if batch:
                self._commit(batch)
            elif self._must_wait:
                self._outlet.wait_for_room(_ROOM_SECONDS)
                self._must_wait = False  # look again

    def _gather(self) -> bool:
        """Take over what has arrived, waiting for something to do; False at the end."""
        while True:
            if self._arriving.empty() and (self._waiting or self._is_ending):
                return bool(self._waiting)
            change = self._arriving.get()
            if change is None:
                self._is_ending = True
            else:
                self._waiting.append(change)

    def _commit(self, batch: list[Change]) -> None:
        """Commit a batch; every change of it then has its outcome, or waits again."""
        try:
            if all(change.is_removal for change in batch):
                only_flushes = all(isinstance(change, Flush) for change in batch)
                if not self._root.is_there(with_log=only_flushes):
                    self._find_nothing(batch)
                    return
            for attempt in range(_TRIES):
                if self._try_in_place(batch, is_last=attempt == _TRIES - 1):
                    return
            self._fail(batch, _moved())
        except StorageFullError as error:
            self._forget(batch)
            removals = [change for change in batch if change.is_removal]
            saves = [change for change in batch if not change.is_removal]
            self._fail(saves or removals, error)
            if saves and removals:
                self._commit(removals)
        except BaseException as error:  # noqa: BLE001 - kept as the outcomes
            self._forget(batch)
            self._fail(batch, error)

    def _find_nothing(self, batch: Iterable[Change]) -> None:
        begun = [change.job for change in batch if change.job.begin()]
        for job in begun:
            job.result = 0
        Job.deliver(begun)

    def _try_in_place(self, batch: list[Change], *, is_last: bool) -> bool:
        try:
            return self._try(self._root.to_write(), batch, is_last=is_last)
        except MovedError:
            self._root.reopen()
            return False
        except StorageFullError:
            if is_last:
                raise
        return self._wait_for_room(batch)

    def _wait_for_room(self, batch: list[Change]) -> bool:
        """
        Wait for files that are written, which make some room; True when nobody waits any more.

        Meanwhile callers may leave, or be told that it was too long.
        """
        self._forget(batch)
        self.lacks_room = True
        left = [change for change in batch if change.job.put_back()]
        Job.deliver([change.job for change in batch if change not in left])
        if left:
            self._outlet.wait_for_room(self._patience_seconds)
        self.lacks_room = False
        batch[:] = left
        return not left

    def _forget(self, batch: Iterable[Change]) -> None:
        """Forget what is known of sessions: it may have been planned upon."""
        with contextlib.suppress(Exception):  # the thread must outlive whatever it fails with
            for name in {name for change in batch for name in change.sessions}:
                self._root.to_write().view.indexes.drop(name)

    def _fail(self, changes: Iterable[Change], error: BaseException) -> None:
        failed = [change.job for change in changes if change.job.begin()]
        for job in failed:
            job.error = job.error or error
        Job.deliver(failed)

    def _try(self, root: WritableRoot, batch: list[Change], *, is_last: bool) -> bool:
        """Try to commit; False when a session has to be looked up anew."""
        view = root.view
        if not root.log.is_scanned:  # of a session it may be the log alone that tells
            root.scan()
        sessions, refused = self._prepared(root, batch)
        with root.log.locked():
            view.catch_up()
            root.appender.make_ready(root.max_bytes)
            for name, session in sessions.items():
                known = view.indexes.peek(name)
                if known is None and not is_last:
                    return False
                if known is not session.known:
                    sessions[name] = session._replace(known=known or view.listed(name))
            left = deque(batch)
            fitting = self._with_room(root, left)
            begun = [change for change in fitting if change.job.begin()]
            place, late = self._append(root, begun, sessions, refused, is_last=is_last)
            if left and isinstance(self._outlet.error, StorageFullError):
                left = self._refused(root, left)
        for change in late:
            change.job.wait_for_files()
        self.commits += 1
        self.changes += len([change for change in begun if change.session])
        Job.deliver([change.job for change in begun if change not in late])
        self._outlet.committed(place, late)
        self.lacks_room = self._must_wait = bool(left)
        self._waiting.extendleft(reversed(left))
        return True

    def _prepared(
        self, root: WritableRoot, batch: Sequence[Change]
    ) -> tuple[dict[str, Session], dict[Change, BaseException]]:
        """Do beforehand, without the lock, what takes long: listing, and reading bodies."""
        bodies, view = root.bodies, root.view
        limits = self._limits
        if limits.max_file_bytes != root.log.slots.max_bytes:
            limits = self._limits = limits._replace(max_file_bytes=root.log.slots.max_bytes)
        sessions: dict[str, Session] = {}
        refused: dict[Change, BaseException] = {}
        for change in batch:
            try:
                for name, session_id in change.sessions.items():
                    if name in sessions:
                        continue
                    # One that has entries in the log is being written to; it is looked at later.
                    index = view.indexes.get(name)
                    if index is None or name not in view.pending.sessions:
                        index = view.lookup(name)
                    sessions[name] = Session(session_id, name, index)
                for part in change.parts:
                    self._prepare(bodies, limits, part, sessions)
                if isinstance(change, Own):
                    _look_for_owner(root, change)
            except VanishedError:
                pass
            except CheckpointError as error:
                refused[change] = error
        return sessions, refused

    def _prepare(
        self, bodies: Bodies, limits: Limits, part: Change, sessions: dict[str, Session]
    ) -> None:
        session = sessions.get(part.session)
        if session is None:  # a flush
            return
        if _may_miss_files(bodies.view, part, session):
            session = session._replace(known=bodies.view.listed(part.session))
            sessions[part.session] = session
        if prepare.needs_preparing(limits, part, session):
            prepare.prepare(bodies, limits, part, session)

    def _waits_for_files(self, change: Change) -> bool:
        return change.waits_for_files or (self._wake == "flushed" and change.syncs is None)

    def _syncs(self, change: Change) -> bool:
        return self._wake != "written" if change.syncs is None else change.syncs

    def _with_room(self, root: WritableRoot, waiting: deque[Change]) -> list[Change]:
        """
        Take out what there is room for, in the log, and for its files on the disk.

        Or the log would take in what can be neither written nor, where that needs a slot, removed.
        When all is flushed, one change of any size passes: it may remove what makes its room.
        """
        limit = root.log.control.max_bytes if root.log.control else root.max_bytes
        room = limit - root.view.pressing_bytes()
        together = min(room, root.log.slots.max_bytes // 2)  # or no slot could hold them
        wanted = _room_bytes(waiting)
        disk = root.appender.free.room_bytes(wanted)
        max_disk_bytes = None if wanted <= disk else disk
        return take_fairly(waiting, together, max_disk_bytes, fits_alone=room >= limit)

    def _refused(self, root: WritableRoot, left: deque[Change]) -> deque[Change]:
        """
        Refuse saves that the disk has no room for, as files find none; return what is left.

        It needs the log's lock, without which others change what is to be written.
        """
        if root.appender.free.room_bytes(0) >= _room_bytes([left[0]]):
            return left
        saves = [change for change in left if not change.is_removal]
        self._fail(saves, root.appender.free.no_room())
        return deque(change for change in left if change.is_removal)

    def _append(
        self,
        root: WritableRoot,
        begun: Sequence[Change],
        sessions: dict[str, Session],
        refused: dict[Change, BaseException],
        *,
        is_last: bool,
    ) -> tuple[int, list[Change]]:
        """Plan the changes and append one frame; return where it ends, and who waits longer."""
        appender = root.appender
        planner = Planner(root.bodies, self._limits)
        for change in begun:
            change.job.error = None  # of a try before
            try:
                if change.session:
                    if refused:
                        _raise(refused.get(change))
                    change.job.result = planner.plan(change, sessions)
            except BaseException as error:  # noqa: BLE001 - kept as the outcome
                change.job.error = error
        late = [c for c in begun if self._waits_for_files(c) and c.job.error is None]
        is_flush = any(isinstance(change, Flush) for change in late)
        sync = bool(late) or any(map(self._syncs, begun))
        if not planner.entries and (not is_flush or appender.is_flushed):
            if sync:
                appender.sync()  # for what was found out rests on it
            if any(isinstance(change, Flush) and change.closes for change in late):
                appender.leave_empty()
            return 0, []
        note = partial(
            root.view.note, entries=planner.entries, bodies=planner.bodies, names=planner.names
        )
        # Deletes take room from files only when no file that was written has made any.
        least_bytes = 0 if is_last and all(c.is_removal for c in begun) else 1
        read = appender.append(
            planner.entries, planner.bodies, log.FLUSH_WANTED if late else 0, note, sync=sync,
            erases=planner.erases, in_new_segment=is_flush and appender.must_erase,
            leaves=max((change.leaves for change in begun), default=0),
            spared_bytes=lambda: max(least_bytes, _room_bytes(begun, copies=1)),
        )  # fmt: skip
        return read.place, late


def _look_for_owner(root: WritableRoot, change: Own) -> None:
    """Find out whether a session's owner lives, and tell that this process does."""
    presence = root.log.presence
    change.process = presence.announce()
    owned = root.view.owner(change.session)
    if owned is not None and not presence.is_alive(owned.process):
        change.dead.add(owned.process)


def _may_miss_files(view: View, change: Change, session: Session) -> bool:
    """Tell whether a removal may be of files that Rust made while ours were written."""
    if not isinstance(change, Delete):
        return False
    known, wanted = session.known, change.checkpoint_ids
    if not known.is_assumed and change.session not in view.pending.sessions:
        return False
    return wanted is None or not all(known.candidates(key) for key in wanted)


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def _moved() -> StorageError:
    return StorageError("commit", "the directory", None, "it keeps moving; try again")


def _room_bytes(changes: Iterable[Change], copies: int = 2) -> int:
    """Return about how much of a disk changes take, in their files, and in a slot that is made."""
    return sum([copies * change.size_bytes + FILE_BYTES * change.files for change in changes])


def take_fairly(
    waiting: deque[Change],
    max_bytes: int = _MAX_BYTES,
    max_disk_bytes: int | None = None,
    *,
    removals_only: bool = False,
    fits_alone: bool = True,
) -> list[Change]:
    """
    Take what goes into the next commit: all, or, where that is too much, each session in turn.

    Args:
        waiting: in the order of the calls; what is taken is taken out, and of the others those
            whose turn it is come first then.
        max_bytes: of all but removals, which always fit.
        max_disk_bytes: how much of the disk they may take; None where all have room.
        removals_only: whether to take only what makes room, and waits for nothing before it.
        fits_alone: whether the first change may be larger.
    """
    if not removals_only and len(waiting) <= _MAX_CHANGES:
        size = sum([change.size_bytes for change in waiting])
        fits = size <= max_bytes and max_disk_bytes is None
        if fits or (len(waiting) == 1 and fits_alone):
            batch = list(waiting)
            waiting.clear()
            return batch
    turn_of = _turns(waiting)
    queues: OrderedDict[str, deque[Change]] = OrderedDict()
    for change in waiting:
        if not change.job.is_over:
            queues.setdefault(turn_of(change.session), deque()).append(change)
    batch = []
    held_up: list[deque[Change]] = []
    size = disk_bytes = 0
    is_full, has_saves = removals_only, False
    while queues and len(batch) < _MAX_CHANGES:
        session, changes = queues.popitem(last=False)
        change = changes[0]
        if not change.is_removal:
            size += change.size_bytes
            disk_bytes += _room_bytes([change])
            lacks_disk = max_disk_bytes is not None and disk_bytes > max_disk_bytes
            is_over = size > max_bytes or lacks_disk
            is_full = is_full or (is_over and (has_saves or not fits_alone))
            if is_full:
                held_up.append(changes)
                continue
            has_saves = True
        batch.append(changes.popleft())
        if changes:
            queues[session] = changes
    waiting.clear()
    for changes in (*held_up, *queues.values()):
        waiting.extend(changes)
    return batch


def _turns(waiting: Iterable[Change]) -> Callable[[str], str]:
    """Return what tells whose turn it is a session's: sessions that a change is about share one."""
    first_of: dict[str, str] = {}

    def turn_of(session: str) -> str:
        while session in first_of:
            session = first_of[session]
        return session

    for change in waiting:
        if isinstance(change, Batch):
            first, *others = change.sessions
            for other in others:
                if turn_of(other) != turn_of(first):
                    first_of[turn_of(other)] = turn_of(first)
    return turn_of
