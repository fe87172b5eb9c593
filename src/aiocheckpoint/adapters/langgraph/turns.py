"""Storing a thread's records so that a run that was overtaken by another one is told."""

from __future__ import annotations

from aiocheckpoint import (
    BlobStore,
    SessionChangedError,
    StorageError,
)
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.drafts import Draft
from aiocheckpoint.adapters.langgraph.reading import newest_key, newest_records
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, is_state, state_id
from aiocheckpoint.adapters.langgraph.watches import Chain, Watch, Watches

_MAX_LOOKS = 100


class ThreadChangedError(SessionChangedError):
    """
    A checkpoint that would hide others of its thread; nothing was stored.

    Attributes:
        thread_id: the thread.
        checkpoint_ns: the namespace.
        parent: LangGraph's id of the checkpoint that the refused one follows.
        reason: why it would.
    """

    def __init__(
        self,
        session_id: str,
        newest_id: str | None,
        thread_id: str,
        checkpoint_ns: str,
        parent: str | None,
        reason: str,
    ) -> None:
        super().__init__(session_id, newest_id)
        self.args = (session_id, newest_id, thread_id, checkpoint_ns, parent, reason)
        self.thread_id = thread_id
        self.checkpoint_ns = checkpoint_ns
        self.parent = parent
        self.reason = reason

    def __str__(self) -> str:
        within = f", namespace {self.checkpoint_ns!r}" if self.checkpoint_ns else ""
        return (
            f"thread {self.thread_id!r}{within}: {self.reason}; read its newest state and run "
            f"again (session {self.session_id!r}, newest {self.newest_id!r})"
        )


class LateError(ThreadChangedError):
    """A checkpoint of a graph within a node whose run is over; for nobody."""


class Turns:
    """
    Stores records one behind the other, as long as nobody else's come between.

    Args:
        store: where.
        refuse_forks: whether a checkpoint is refused that does not follow what others stored.
        are_runs: whether also runs that share the saver are told of one another; a copy is none.

    Attributes:
        watches: what is known of the sessions.
    """

    def __init__(
        self, store: BlobStore[ThreadRecord], *, refuse_forks: bool, are_runs: bool = True
    ) -> None:
        self._store = store
        self._refuse_forks = refuse_forks
        self._are_runs = are_runs
        self.watches = Watches(keep_shown=not are_runs)  # a copy compares what it is shown

    def of_a_copy(self) -> Turns:
        """Return others for whoever puts a tree of checkpoints, as they stand elsewhere."""
        return Turns(self._store, refuse_forks=self._refuse_forks, are_runs=False)

    async def store_state(self, draft: Draft) -> None:
        """
        Store a checkpoint.

        Raises:
            ThreadChangedError: another run has gone on with the thread, or the parent is gone.
        """
        await self._require_parent(draft)
        if not self._refuse_forks:
            await self._store.save(draft.record, blobs=draft.blobs)
        else:
            await self._store_in_turn(draft)

    async def store_writes(self, draft: Draft) -> None:
        """Store what a task wrote; it is in nobody's way, and nobody is in its."""
        watch = self.watches.find(draft.session_id) if self._refuse_forks else None
        if watch is None:
            await self._store.save(draft.record, blobs=draft.blobs)
        else:
            await self._store_anyway(draft, watch)

    async def _require_parent(self, draft: Draft) -> None:
        """
        Refuse what follows a checkpoint that was asked for and was not there.

        LangGraph goes on from an empty state then, which would be the newest of the thread. Where
        there is no other one nothing is hidden.

        Raises:
            ThreadChangedError: there are others.
        """
        watch = self.watches.find(draft.session_id)
        key = None if watch is None else _parent(draft.record) or watch.origin_of(draft.run)
        if watch is None or key is None or key not in watch.absent:
            return
        state = state_id(key)
        is_there = await self._store.ids(draft.session_id, prefix=state)
        newest = await self._store.read(draft.session_id, newest_key)
        if newest is not None and not is_there:
            asked = records.checkpoint_of(key) or key
            reason = f"checkpoint {asked!r} is not there any more, so the run began from nothing"
            raise _refused(draft, newest, reason)

    async def _store_in_turn(self, draft: Draft) -> None:
        record = draft.record
        parent, key = _parent(record), records.key_in(record.checkpoint_id)
        watch = self.watches.find(draft.session_id)
        may_fork = _may_fork(draft, watch, parent)
        watch = watch or self.watches.of(draft.session_id)
        await self._take(draft, watch, parent, may_fork=may_fork)
        try:
            if may_fork:
                await self._store_anyway(draft, watch)
            else:
                await self._store_behind_own(draft, watch, parent)
        finally:
            watch.leave(key)

    async def _take(
        self, draft: Draft, watch: Watch, parent: str | None, *, may_fork: bool
    ) -> None:
        """
        Begin to store a checkpoint.

        Raises:
            ThreadChangedError: another run of this saver has come between.
        """
        key, made = records.key_in(draft.record.checkpoint_id), _made(draft.record)
        self._require_in_time(draft, watch)
        is_free = may_fork or not (self._are_runs and draft.is_of_a_thread)
        if not watch.take(key, parent, draft.run, is_free=is_free, made=made):
            turns = watch.turns
            found = await self._store.read(draft.session_id, newest_records)
            watch.look(found.key, found.last_id, turns)  # the newest may have been removed
            if not watch.take(key, parent, draft.run, is_free=False):
                raise _overtaken(draft, found.key)

    def _require_in_time(self, draft: Draft, watch: Watch) -> None:
        """
        Refuse a checkpoint of a graph within a node, of a run that is over.

        It would be the newest, stored last. Its run is over when another one of the thread has
        begun, or when it was made before what this saver has put since, and neither follows that
        nor stands beside it. Where somebody asked for a checkpoint by its id, it may run after an
        older one.

        Raises:
            LateError: it is.
        """
        made = _made(draft.record)
        if made is None:
            return
        root = self.watches.find(records.root_of(draft.session_id))
        is_over = root is not None and root.has_begun_another(draft.run)
        if made < watch.latest and _parent(draft.record) not in watch.last:
            is_over = is_over or root is None or made not in root.chosen
        if is_over:
            raise _overtaken(draft, watch.last[0] if watch.last else None, LateError)

    async def _store_anyway(self, draft: Draft, watch: Watch) -> None:
        """Store a record, whoever has stored others meanwhile."""
        chain = watch.chain
        if chain is None or not await self._stored(draft, watch, chain):
            self._require_in_time(draft, watch)
            await self._store.save(draft.record, blobs=draft.blobs)

    async def _store_behind_own(self, draft: Draft, watch: Watch, parent: str | None) -> None:
        """
        Store a checkpoint if nobody else has stored one after those that this saver knows.

        Raises:
            ThreadChangedError: somebody has.
        """
        for _ in range(_MAX_LOOKS):
            self._require_in_time(draft, watch)
            chain = watch.chain
            if chain is None or not chain.admits(parent):
                chain = await self._looked(draft, watch, parent)
            if await self._stored(draft, watch, chain):
                return
        await self._looked(draft, watch, parent)
        raise StorageError("save", draft.session_id, None, "its thread keeps changing; try again")

    async def _stored(self, draft: Draft, watch: Watch, chain: Chain) -> bool:
        """Store a record as the next of a chain; False when another one came between."""
        expected, chain.last_id = chain.last_id, draft.record.checkpoint_id
        if is_state(draft.record.checkpoint_id):
            chain.newest, chain.is_own = records.key_in(draft.record.checkpoint_id), True
        try:
            await self._store.save(draft.record, blobs=draft.blobs, expected=expected)
        except SessionChangedError:
            watch.drop(chain)
            return False
        except BaseException:
            watch.drop(chain)
            raise
        return True

    async def _looked(self, draft: Draft, watch: Watch, parent: str | None) -> Chain:
        """
        Look whether the newest checkpoint is this saver's, or the one that is followed.

        Others may have stored writes.

        Returns:
            what to go on behind.

        Raises:
            ThreadChangedError: it does not.
        """
        record = draft.record
        found = await self._store.read(draft.session_id, newest_records)
        if found.key is not None and found.key != parent and not watch.has_stored(found.key):
            reason = f"another saver has gone on with it: what was put follows {record.parent!r}"
            raise _refused(draft, found.key, reason)
        return watch.begin(found.last_id, found.key, parent)


def _parent(record: ThreadRecord) -> str | None:
    return None if record.parent is None else records.key_of(record.parent)


def _may_fork(draft: Draft, watch: Watch | None, parent: str | None) -> bool:
    """Tell whether a checkpoint may hide what others have stored."""
    run = None if draft.record.checkpoint_ns else draft.run
    if watch is None:
        return run is None  # of a run it has been forgotten what that was shown
    is_copy = run is None and draft.record.trigger == "fork"  # by `aupdate_state`
    # One that was shown as the newest is gone on with, whoever else asked for it by its id.
    return is_copy or (watch.may_fork(parent, run) and not draft.follows_newest)


def _made(record: ThreadRecord) -> str | None:
    """
    Return the key of the thread's own checkpoint after which a graph within a node has run.

    Returns:
        None of the thread's own, and where it is not known when that was made.
    """
    if not record.checkpoint_ns or not is_state(record.checkpoint_id):
        return None
    key = records.key_of(records.followed(record).get("", ""))
    return key if records.made_at(state_id(key)) else None


def _overtaken(
    draft: Draft, newest: str | None, kind: type[ThreadChangedError] = ThreadChangedError
) -> ThreadChangedError:
    followed = draft.record.parent
    reason = f"another run has begun or gone on with it: what was put follows {followed!r}"
    return _refused(draft, newest, reason, kind)


def _refused(
    draft: Draft,
    newest: str | None,
    reason: str,
    kind: type[ThreadChangedError] = ThreadChangedError,
) -> ThreadChangedError:
    record = draft.record
    thread = record.thread_id, record.checkpoint_ns
    newest_id = None if newest is None else state_id(newest)
    return kind(draft.session_id, newest_id, *thread, record.parent, reason)
