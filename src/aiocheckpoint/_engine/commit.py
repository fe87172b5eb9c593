"""Group commit: whatever waits while a commit runs shares the next one.

A batch is one hop: lock its sessions, journal all its changes with one `fdatasync`, put the
files in place, unlock, wake everybody. Flushing goes on beside it. Sessions take turns, so
that one that floods the queue does not keep the others waiting.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Generic

from aiocheckpoint._disk.files import Directory
from aiocheckpoint._disk.sessions import OpenSession
from aiocheckpoint._engine.changes import Change, Delete, DeleteGroup, Group, Save, SaveGroup
from aiocheckpoint._engine.jobs import Job, Outcome, Threads
from aiocheckpoint._engine.journal import (
    Entry,
    Journal,
    JournaledDelete,
    JournaledUndo,
    removals_of,
    sync_sessions,
)
from aiocheckpoint._engine.lanes import Lanes
from aiocheckpoint._engine.replay import journaled_files
from aiocheckpoint._engine.store import Store
from aiocheckpoint._format import names as layout
from aiocheckpoint._format.codec import RecordT
from aiocheckpoint.errors import (
    CheckpointError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    WriterClosedError,
)
from aiocheckpoint.models import SessionId

_MAX_SESSIONS = 128  # each holds two descriptors, and many systems allow only 256
_MAX_BYTES = 8 * 1024 * 1024
_MAX_CHANGES_OF_SESSION = 32
_MAX_PUMPS = 2  # one writes its journal while the other writes its files
_BUSY_PAUSE_SECONDS = 0.002


_Batch = Mapping[SessionId, Sequence[tuple[Outcome[Any], Change]]]


def _nothing() -> None:
    pass


class Commits(Generic[RecordT]):
    """
    Makes batches of changes durable and visible.

    Args:
        store: the store.
        is_durable: False to journal nothing.
    """

    def __init__(self, store: Store[RecordT], *, is_durable: bool) -> None:
        self._store = store
        self._is_durable = is_durable
        self._journal: Journal | None = None
        self._directory: Directory | None = None
        self._mutex = threading.Lock()
        self._undone: dict[str, list[JournaledUndo]] = {}

    @property
    def unflushed_bytes(self) -> int:
        """How much the journal holds that is not flushed."""
        journal = self._journal  # it may be closed meanwhile
        return 0 if journal is None else journal.unflushed_bytes

    def run(
        self,
        batch: _Batch,
        timeout_seconds: float | None = None,
        when_durable: Callable[[], None] = _nothing,
    ) -> set[SessionId]:
        """
        Commit a batch; every change of it then has its outcome.

        Several threads may commit, batches that share no session.

        Args:
            batch: for each session either saves of different ids or one delete.
            timeout_seconds: how long to wait for another process's lock of a session.
            when_durable: called when the batch is journaled, before its files are written.

        Returns:
            the sessions that were locked; nothing was done for them.
        """
        busy: set[SessionId] = set()
        batch = self._prepared(batch)
        with contextlib.ExitStack() as stack:
            groups: dict[SessionId, Group[RecordT]] = {}
            for session_id, changes in batch.items():
                try:
                    group = self._planned(stack, session_id, changes, timeout_seconds)
                    groups[session_id] = group
                except StoreBusyError as error:
                    busy.add(session_id)
                    _fail([outcome for outcome, _ in changes], error)
                except BaseException as error:  # noqa: BLE001 - kept as the outcomes
                    _fail([outcome for outcome, _ in changes], error)
            try:
                entries = [entry for group in groups.values() for entry in group.entries]
                with self._durable([*self._undoing(groups), *entries]):
                    when_durable()
                    for group in groups.values():
                        for undone in group.apply():
                            self._undone.setdefault(undone.session, []).append(undone)
            except StorageFullError as error:
                for group in groups.values():
                    self._make_room(group, error)
            except BaseException as error:  # noqa: BLE001 - kept as the outcomes
                _fail([outcome for group in groups.values() for outcome in group.outcomes], error)
        return busy

    def _prepared(self, batch: _Batch) -> _Batch:
        """
        Have a journal before any session is locked, and return the changes that can go on.

        Making one takes the private directory's lock, and who replays locks sessions under that.
        """
        if not self._is_durable:
            return batch
        saves = {s: changes for s, changes in batch.items() if isinstance(changes[0][1], Save)}
        try:
            if saves or self._journal is not None or any(map(self._is_there, batch)):
                self._opened_journal().prepare()
        except BaseException as error:  # noqa: BLE001 - kept as the outcomes
            _fail([outcome for changes in saves.values() for outcome, _ in changes], error)
            return {s: changes for s, changes in batch.items() if s not in saves}
        return batch

    def _is_there(self, session_id: SessionId) -> bool:
        files, root = self._store.files, self._store.sessions.prepare()
        name = layout.encode_id(session_id, "session id")
        directory = root and files.open_subdirectory(root, name)
        if directory is not None:
            files.close_directory(directory)
        return directory is not None

    def _make_room(self, group: Group[RecordT], full: StorageFullError) -> None:
        """Do without a journal, for which there is no room, what none could undo: deletes."""
        try:
            if self._is_safe_unjournaled(group.entries):
                group.is_journaled = False
                group.apply()
                touched = {entry.session: () for entry in group.entries}
                sync_sessions(self._store.files, self._store.sessions.make_root(), touched)
            else:
                _fail(group.outcomes, full)
        except BaseException as error:  # noqa: BLE001 - kept as the outcomes
            _fail(group.outcomes, error)

    def _is_safe_unjournaled(self, entries: list[Entry]) -> bool:
        if any(not isinstance(entry, JournaledDelete) for entry in entries):
            return False
        if self._journal is not None:  # it may hold the saves of what is to go
            self._journal.flush()  # makes no segment, as sessions are locked
        return all(
            journaled_files(self._store, entry.session).isdisjoint(removals_of(entry))
            for entry in entries
        )

    def _planned(
        self,
        stack: contextlib.ExitStack,
        session_id: SessionId,
        changes: Sequence[tuple[Outcome[Any], Change]],
        timeout_seconds: float | None,
    ) -> Group[RecordT]:
        outcome, change = changes[0]
        if isinstance(change, Delete):
            locked = self._store.sessions.locked(session_id, timeout_seconds)
            session = stack.enter_context(locked)
            if session is not None:
                self._remove_undone(session)
            return DeleteGroup(self._store, session, outcome, change.checkpoint_ids)
        saves = [(outcome, change) for outcome, change in changes if isinstance(change, Save)]
        made = self._store.sessions.made(session_id, timeout_seconds=timeout_seconds)
        session = stack.enter_context(made)
        self._remove_undone(session)
        return SaveGroup(self._store, session, saves)

    def _remove_undone(self, session: OpenSession) -> None:
        """Remove what failed saves could not take back: replay would not bring it back either."""
        undone = {name for entry in self._undone.get(session.name, ()) for name in entry.undone}
        if undone:
            session.known.never_give_again(undone)
            left = [name for name in session.known.names if name.text in undone]
            if left:
                self._store.delete_files(session, left)
        if not self._is_durable:  # no journal brings them back
            self._undone.pop(session.name, None)

    @contextlib.contextmanager
    def _durable(self, entries: list[Entry]) -> Generator[None]:
        if not entries or not self._is_durable:
            yield
            return
        with self._opened_journal().committed(entries):
            for entry in entries:
                self._undone.pop(entry.session, None)
            yield

    def _undoing(self, session_ids: Iterable[SessionId]) -> list[Entry]:
        """Return what undoes the failed saves of sessions, also where nothing else is to do."""
        if not self._undone:
            return []
        names = (layout.encode_id(session_id, "session id") for session_id in session_ids)
        return [undone for name in names for undone in self._undone.get(name, ())]

    def _opened_journal(self) -> Journal:
        with self._mutex:
            if self._journal is None:
                files, root = self._store.files, self._store.sessions.make_root()
                files.make_subdirectory(root, layout.PRIVATE_DIRECTORY)
                files.sync_directory(root)
                self._directory = files.open_subdirectory(root, layout.PRIVATE_DIRECTORY)
                if self._directory is None:
                    path = root.join(layout.PRIVATE_DIRECTORY)
                    raise StorageError("open directory", path, None, "it was removed; try again")
                self._journal = Journal(files, root, self._directory)
            return self._journal

    def flush(self) -> None:
        """Make everything durable that so far is so only through the journal."""
        journal = self._journal  # it may be closed meanwhile
        if journal is not None:
            journal.flush(prepares=True)

    def close(self) -> None:
        """Flush and leave no journal behind."""
        try:
            if self._journal is not None:
                self._journal.close()
        finally:
            if self._directory is not None:
                self._store.files.close_directory(self._directory)
            self._journal = self._directory = None


def _fail(outcomes: list[Outcome[Any]], error: BaseException) -> None:
    for outcome in outcomes:
        outcome.error = error


class DirectCommit(Generic[RecordT]):
    """
    Saves that sync their own files, each in its session's lane; deletes are journaled.

    A delete must be: another process may still have the save of that file in its journal.

    Args:
        store: the store.
        commits: for the deletes.
        executor: runs one hop for each busy session.
        max_journal_bytes: journal size at which it is flushed.
    """

    def __init__(
        self,
        store: Store[RecordT],
        commits: Commits[RecordT],
        executor: Executor,
        max_journal_bytes: int,
    ) -> None:
        self._store = store
        self._commits = commits
        self._lanes = Lanes(executor)
        self._max_journal_bytes = max_journal_bytes

    def __len__(self) -> int:
        return len(self._lanes)

    def submit(
        self, session_id: SessionId, job: Job[Any], change: Change | Callable[[], Any]
    ) -> None:
        """
        Queue a change, or other work that needs its turn in the session.

        Raises:
            WriterClosedError: after `close`.
        """
        if isinstance(change, Save):
            self._lanes.submit(
                session_id, job, partial(self._store.save, change.draft, change.terms)
            )
        elif isinstance(change, Delete):
            self._lanes.submit(session_id, job, partial(self._delete, session_id, change))
        else:
            self._lanes.submit(session_id, job, change)

    def _delete(self, session_id: SessionId, delete: Delete) -> int:
        outcome: Outcome[int] = Outcome()
        self._commits.run({session_id: [(outcome, delete)]})
        if self._commits.unflushed_bytes >= self._max_journal_bytes:
            self._commits.flush()
        return outcome.get()

    def close(self) -> Future[None]:
        """Take no more changes; the future is done when all that were submitted have run."""
        return self._lanes.close()


class _Waiting:
    def __init__(self, job: Job[Any], change: Change | Callable[[], Any]) -> None:
        self.job = job
        self.change = change
        self.since = time.monotonic()


class GroupCommit(Generic[RecordT]):
    """
    The queue of changes of one writer.

    Args:
        commits: makes batches durable.
        executor: runs up to two hops for batches at a time, and the flushing beside them.
        lock_timeout_seconds: how long a job may wait for another process.
        max_journal_bytes: journal size at which flushing begins; at four times that, saves wait.
        settle_seconds: how long a save may stay unflushed.
    """

    def __init__(
        self,
        commits: Commits[RecordT],
        executor: Threads,
        lock_timeout_seconds: float,
        max_journal_bytes: int,
        settle_seconds: float,
    ) -> None:
        self._commits = commits
        self._executor = executor
        self._lock_timeout_seconds = lock_timeout_seconds
        self._max_journal_bytes = max_journal_bytes
        self._settle_seconds = settle_seconds
        self._queues: OrderedDict[SessionId, deque[_Waiting]] = OrderedDict()
        self._taken: set[SessionId] = set()
        self._mutex = threading.Lock()
        self._pumps = 0
        self._is_starting = False
        self._committing: object = None
        self._is_settling = False
        self._settle_now = threading.Event()
        self._closed = False
        self._drained: Future[None] = Future()

    def __len__(self) -> int:
        return len(self._queues)

    def submit(
        self, session_id: SessionId, job: Job[Any], change: Change | Callable[[], Any]
    ) -> None:
        """
        Queue a change, or other work that needs its turn in the session and runs beside batches.

        Raises:
            WriterClosedError: after `close`.
        """
        with self._mutex:
            if self._closed:
                raise WriterClosedError("the writer is closed")
            self._start_pump()  # takes what is queued only after this lock is free
            self._queues.setdefault(session_id, deque()).append(_Waiting(job, change))

    def _start_pump(self) -> None:
        if self._committing is None and not self._is_starting and self._pumps < _MAX_PUMPS:
            self._executor.submit(self._pump)
            self._is_starting = True

    def _pump(self) -> None:
        """
        Run batches until nothing waits that could run.

        Only one batch is on its way to the journal at a time, so that all that waits meanwhile
        shares the next; that one's way begins when this one's files are being written.
        """
        with self._mutex:
            self._is_starting = False
            if self._pumps == _MAX_PUMPS:
                return
            self._pumps += 1
        while True:
            with self._mutex:
                batch = self._take_batch() if self._committing is None else {}
                if not batch:
                    self._pumps -= 1
                    self._note_drained()
                    return
                self._committing = batch
            self._run(batch)
            self._see_to_settling()

    def _hand_on(self, batch: object) -> None:
        """Let the next batch begin, once this one is durable."""
        with self._mutex:
            if self._committing is batch:
                self._committing = None
                if self._queues:
                    with contextlib.suppress(RuntimeError):  # no thread: it begins after this one
                        self._start_pump()

    def _take_batch(self) -> dict[SessionId, list[_Waiting]]:
        batch: dict[SessionId, list[_Waiting]] = {}
        held_back: dict[SessionId, deque[_Waiting]] = {}
        size_bytes = 0
        while self._queues and len(batch) < _MAX_SESSIONS and size_bytes <= _MAX_BYTES:
            session_id, queue = self._queues.popitem(last=False)
            if session_id in self._taken:
                held_back[session_id] = queue
                continue
            taken = _take(queue, _MAX_BYTES - size_bytes)
            if queue:
                held_back[session_id] = queue
            self._taken.add(session_id)
            if callable(taken[0].change):
                self._executor.submit(self._run_exclusive, session_id, taken[0])
            else:
                batch[session_id] = taken
                size_bytes += sum(w.change.size_bytes for w in taken if isinstance(w.change, Save))
        self._queues.update(held_back)  # at the end: the others come first next time
        return batch

    def _run(self, batch: dict[SessionId, list[_Waiting]]) -> None:
        begun = {s: [w for w in waiting if w.job.begin()] for s, waiting in batch.items()}
        begun = {s: waiting for s, waiting in begun.items() if waiting}
        changes = {
            s: [(w.job, w.change) for w in waiting if not callable(w.change)]
            for s, waiting in begun.items()
        }
        try:
            hand_on = partial(self._hand_on, batch)
            busy = self._commits.run(changes, timeout_seconds=0, when_durable=hand_on)
        except BaseException as error:  # noqa: BLE001 - kept as the outcomes
            busy = set()
            _fail([w.job for waiting in begun.values() for w in waiting], error)
        too_early = time.monotonic() - self._lock_timeout_seconds
        patient = {s: [w for w in begun[s] if w.since > too_early] for s in busy}
        self._give_up([w for s in busy for w in begun[s] if w.since <= too_early])
        postponed = {s: [w for w in waiting if w.job.postpone()] for s, waiting in patient.items()}
        Job.deliver([w.job for s, ws in begun.items() for w in ws if w not in postponed.get(s, ())])
        with self._mutex:
            for session_id, waiting in postponed.items():
                if waiting:
                    self._queues.setdefault(session_id, deque()).extendleft(reversed(waiting))
            self._taken.difference_update(batch)
        self._hand_on(batch)
        if len(patient) == len(begun) and any(patient.values()):
            time.sleep(_BUSY_PAUSE_SECONDS)

    def _give_up(self, waiting: list[_Waiting]) -> None:
        """Say how long was waited in all; the last attempt, which failed, did not wait."""
        for job in (w.job for w in waiting):
            if isinstance(job.error, StoreBusyError):
                job.error = StoreBusyError(job.error.path, self._lock_timeout_seconds)

    def _run_exclusive(self, session_id: SessionId, waiting: _Waiting) -> None:
        if waiting.job.begin() and callable(waiting.change):
            waiting.job.run(waiting.change)
            Job.deliver([waiting.job])
        with self._mutex:
            self._taken.discard(session_id)
            self._start_pump()

    def _see_to_settling(self) -> None:
        unflushed_bytes = self._commits.unflushed_bytes
        if unflushed_bytes >= 4 * self._max_journal_bytes:
            self._settle()
        elif unflushed_bytes:
            with self._mutex:
                if not self._is_settling and not self._closed:
                    self._is_settling = True
                    self._executor.submit(self._settle_later)
        if unflushed_bytes >= self._max_journal_bytes or self._executor.is_short:
            self._settle_now.set()

    def _settle_later(self) -> None:
        """Flush once there is enough to flush, or some time after there was anything."""
        while True:
            self._settle_now.wait(self._settle_seconds)
            self._settle_now.clear()
            is_settled = not self._closed and self._settle()  # closing flushes by itself
            with self._mutex:
                if self._closed or not is_settled or not self._commits.unflushed_bytes:
                    self._is_settling = False
                    return

    def _settle(self) -> bool:
        # Not lost: the journal keeps its frames, and the next commit flushes first or fails.
        try:
            self._commits.flush()
        except CheckpointError:
            return False
        return True

    def _note_drained(self) -> None:
        idle = not (self._queues or self._taken or self._pumps or self._is_starting)
        if self._closed and idle and not self._drained.done():
            self._drained.set_result(None)

    def close(self) -> Future[None]:
        """Take no more changes; the future is done when all that were submitted have run."""
        with self._mutex:
            self._closed = True
            self._note_drained()
        self._settle_now.set()
        return self._drained


def _take(queue: deque[_Waiting], max_bytes: int) -> list[_Waiting]:
    """Take from the front of a session's queue what can share a commit, at least one change."""
    taken = [queue.popleft()]
    first = taken[0].change
    if not isinstance(first, Save):
        return taken
    ids = {first.draft.checkpoint_id}
    size_bytes = first.size_bytes
    while queue and len(taken) < _MAX_CHANGES_OF_SESSION:
        change = queue[0].change
        if not isinstance(change, Save) or change.draft.checkpoint_id in ids:
            break
        size_bytes += change.size_bytes
        if size_bytes > max_bytes:
            break
        ids.add(change.draft.checkpoint_id)
        taken.append(queue.popleft())
    return taken
