"""The committer: whatever waits while a commit runs shares the next one.

A batch is one pass: look up its sessions, take the log's lock, catch up, plan, append one frame,
give the lock back, wake everybody. Sessions take turns, so that one that floods the queue does
not keep the others waiting.
"""

from __future__ import annotations

import contextlib
import queue
import sys
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from aiocheckpoint._copied_errors import own_copy
from aiocheckpoint._disk.files import FreeRoom
from aiocheckpoint._disk.locks import MovedError
from aiocheckpoint._disk.pending import SESSION_INODES
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.attempt import Attempt
from aiocheckpoint._engine.changes import Change, Flush, Wake
from aiocheckpoint._engine.fairness import SLOT_BYTES, Room, disk_bytes, take_fairly
from aiocheckpoint._engine.jobs import Job
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.session_plan import Limits
from aiocheckpoint.errors import StorageError, StorageFullError

_ROOM_SECONDS = 0.005
_FLUSH_SECONDS = 1.0
_TRIES = 3
_SPARED_INODES = 32  # for parts of the journal, without which nothing can be deleted


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


class Committer:
    """
    The one thread of a writer that commits.

    Args:
        root: the open root.
        applier: who hears of commits.
        limits: the bounds to keep.
        wake: when callers wake.
        timeout_seconds: how long callers wait for others, and so for room.

    Attributes:
        lacks_room: whether changes wait because the log is full.
        commits: how many there were.
        changes: how many changes were in them.
    """

    def __init__(
        self, root: Root, applier: Applier, limits: Limits, wake: Wake, timeout_seconds: float
    ) -> None:
        self._root = root
        self._applier = applier
        self._demand = applier.demand
        self._limits = limits
        self._wake: Wake = wake
        self._patience_seconds = min(_FLUSH_SECONDS, timeout_seconds)
        self._arriving: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._was_ended = False
        self._waiting: deque[Change] = deque()
        self._is_ending = False
        self.lacks_room = self._must_wait = False
        self.commits = self.changes = 0

    @property
    def waiting(self) -> int:
        """How many changes are not committed yet."""
        ends = self._was_ended  # the end arrives like a change, and stays if no thread was started
        return max(self._arriving.qsize() - ends, 0) + len(self._waiting)

    def submit(self, change: Change) -> None:
        """Queue a change; from any thread."""
        self._arriving.put(change)

    def end(self) -> None:
        """Let the thread end when all that was submitted is done."""
        self._was_ended = True
        self._arriving.put(None)

    def run(self) -> None:
        """Commit until the end."""
        while self._gather():  # which may take long, with nothing of the last batch in memory
            self._commit_some()

    def _commit_some(self) -> None:
        batch = take_fairly(self._waiting, removals_only=self._must_wait)
        if batch:
            self._commit(batch)
        elif self._must_wait:
            self._wait_for_flush(_ROOM_SECONDS)
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
            if batch[0].is_removal and all(change.is_removal for change in batch):
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
            self._wait_for_flush(self._patience_seconds)
        self.lacks_room = False
        batch[:] = left
        return not left

    def _wait_for_flush(self, seconds: float) -> None:
        self._demand.wait_for_flush(seconds)
        with contextlib.suppress(Exception):  # the commit that comes next tells what hinders it
            self._root.to_write().view.follow()  # another process may have flushed

    def _forget(self, batch: Iterable[Change]) -> None:
        """Forget what is known of sessions: it may have been planned upon."""
        with contextlib.suppress(Exception):  # the thread must outlive whatever it fails with
            for name in {name for change in batch for name in change.sessions}:
                self._root.to_write().view.indexes.drop(name)

    def _fail(self, changes: Iterable[Change], error: BaseException) -> None:
        failed = [change.job for change in changes if change.job.begin()]
        for job in failed:
            job.error = job.error or own_copy(error)
        Job.deliver(failed)

    def _try(self, root: WritableRoot, batch: list[Change], *, is_last: bool) -> bool:
        """Try to commit; False when a session has to be looked up anew."""
        if not root.log.is_scanned:  # of a session it may be the log alone that tells
            root.scan()
            if root.view.pending.sessions:
                self._demand.found_waiting()
        attempt = Attempt(root, self._limits_in(root), self._wake, is_last=is_last)
        attempt.prepare(batch)
        with root.log.locked():
            root.view.catch_up()
            root.appender.make_ready(root.max_bytes)
            if not attempt.knows_sessions():
                return False
            left = deque(batch)
            fitting = self._with_room(root, attempt, left)
            begun = [change for change in fitting if change.job.begin()]
            place, late = attempt.append(begun)
            if not late and self._applier.error is not None:  # which may be over
                late = [change for change in begun if isinstance(change, Flush)]
            is_full = isinstance(self._applier.error, StorageFullError)
            if left and (is_full or not (begun or root.view.pressing_bytes())):
                left = self._refused(root, attempt, left)
        for change in late:
            change.job.wait_for_files()
        self.commits += 1
        self.changes += len([change for change in begun if change.session])
        Job.deliver([change.job for change in begun if change not in late])
        self._demand.committed(root, place, late)
        if root.view.pending.stuck:  # who could not write those files may be dead
            self._demand.found_waiting()
        self.lacks_room = self._must_wait = bool(left)
        self._waiting.extendleft(reversed(left))
        return True

    def _limits_in(self, root: WritableRoot) -> Limits:
        """Return the bounds to keep there."""
        max_file_bytes = root.log.slots.max_bytes
        if self._limits.max_file_bytes != max_file_bytes:
            self._limits = self._limits._replace(max_file_bytes=max_file_bytes)
        return self._limits

    def _with_room(
        self, root: WritableRoot, attempt: Attempt, waiting: deque[Change]
    ) -> list[Change]:
        """
        Take out what there is room for, in the log, and for its files on the disk.

        Or the log would take in what can be neither written nor, where that needs a slot, removed.
        When all is flushed, one change passes that has room for its files alone: it may remove
        what makes more.
        """
        limit = root.log.control.max_bytes if root.log.control else root.max_bytes
        room = limit - root.view.pressing_bytes()
        together = min(room, root.log.slots.max_bytes // 2)  # or no slot could hold them
        wanted = disk_bytes(waiting)
        most_inodes = _SPARED_INODES + (1 + SESSION_INODES) * sum([c.files for c in waiting])
        inodes = root.appender.free.room_inodes(most_inodes)
        disk = FreeRoom(_disk_room(root, wanted), max(inodes - _SPARED_INODES, 0))
        is_ample = wanted <= disk.size_bytes and most_inodes <= inodes
        if room < limit:
            alone = FreeRoom(0, 0)
        elif is_ample:  # as nearly always: then nobody asks the disk again
            alone = FreeRoom()
        else:
            alone = FreeRoom(root.log.slots.free_room().size_bytes, inodes)
        fair = Room(together, None if is_ample else disk, alone, attempt.inodes)
        return take_fairly(waiting, fair)

    def _refused(self, root: WritableRoot, attempt: Attempt, left: deque[Change]) -> deque[Change]:
        """
        Refuse saves that the disk has no room for, as files find none, or all are there already;
        return what is left. Where bytes lack that is all, where inodes do who needs more of them.

        It needs the log's lock, without which others change what is to be written.
        """
        free, wanted = root.appender.free, disk_bytes([left[0]])
        if _disk_room(root) < wanted and not root.view.pressing_bytes():  # no flush does it
            free.trim(0, spares=0)
        refused = [change for change in left if not change.is_removal]
        if _disk_room(root) >= wanted:
            inodes = free.room_inodes(sys.maxsize)
            refused = [change for change in refused if attempt.inodes(change) > inodes]
        self._fail(refused, free.no_room())
        over = set(refused)
        return deque(change for change in left if change not in over)


def _disk_room(root: WritableRoot, wanted: int = 0) -> int:
    """Return how much room changes may take; see `room_bytes`."""
    return max(root.appender.free.room_bytes(wanted) - SLOT_BYTES, 0)


def _moved() -> StorageError:
    return StorageError("commit", "the directory", None, "it keeps moving; try again")
