"""Storing a thread's records so that a saver that was overtaken by another one is told."""

from __future__ import annotations

from aiocheckpoint import (
    BlobStore,
    SessionChangedError,
    StorageError,
)
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.drafts import Draft
from aiocheckpoint.adapters.langgraph.reading import newest_records
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from aiocheckpoint.adapters.langgraph.watches import Chain, Watch, Watches

_MAX_LOOKS = 100


class Turns:
    """
    Stores records one behind the other, as long as nobody else's come between.

    Args:
        store: where.
        refuse_forks: whether a checkpoint is refused that does not follow what others stored.

    Attributes:
        watches: what is known of the sessions.
    """

    def __init__(self, store: BlobStore[ThreadRecord], *, refuse_forks: bool) -> None:
        self._store = store
        self._refuse_forks = refuse_forks
        self.watches = Watches()

    async def store_state(self, draft: Draft) -> None:
        """
        Store a checkpoint.

        Raises:
            SessionChangedError: another saver has gone on with the thread.
        """
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

    async def _store_in_turn(self, draft: Draft) -> None:
        record = draft.record
        parent = "" if record.parent is None else records.key_of(record.parent)
        watch = self.watches.find(draft.session_id)
        may_fork = watch is None or parent in watch.chosen
        watch = watch or self.watches.of(draft.session_id)
        key = records.key_in(record.checkpoint_id)
        watch.storing.add(key)
        try:
            if may_fork:
                await self._store_anyway(draft, watch)
            else:
                await self._store_behind_own(draft, watch, parent)
        finally:  # it is there, or may be; where it is not it cannot be the newest
            watch.storing.discard(key)
            watch.see(key)

    async def _store_anyway(self, draft: Draft, watch: Watch) -> None:
        """Store a record, whoever has stored others meanwhile."""
        chain = watch.chain
        if chain is None or not await self._stored(draft, watch, chain):
            await self._store.save(draft.record, blobs=draft.blobs)

    async def _store_behind_own(self, draft: Draft, watch: Watch, parent: str) -> None:
        """
        Store a checkpoint if nobody else has stored one after those that this saver knows.

        Raises:
            SessionChangedError: somebody has.
        """
        for _ in range(_MAX_LOOKS):
            chain = watch.chain or await self._looked(draft, watch, parent)
            if await self._stored(draft, watch, chain):
                return
        await self._looked(draft, watch, parent)
        raise StorageError("save", draft.session_id, None, "its thread keeps changing; try again")

    async def _stored(self, draft: Draft, watch: Watch, chain: Chain) -> bool:
        """Store a record as the next of a chain; False when another one came between."""
        expected, chain.last_id = chain.last_id, draft.record.checkpoint_id
        try:
            await self._store.save(draft.record, blobs=draft.blobs, expected=expected)
        except SessionChangedError:
            watch.leave(chain)
            return False
        except BaseException:
            watch.leave(chain)
            raise
        return True

    async def _looked(self, draft: Draft, watch: Watch, parent: str) -> Chain:
        """
        Look whether this saver knows the newest checkpoint; others may have stored writes.

        Returns:
            what to go on behind.

        Raises:
            SessionChangedError: it does not.
        """
        record = draft.record
        found = await self._store.read(draft.session_id, newest_records)
        if found.key is not None and found.key != parent and not watch.knows(found.key):
            error = SessionChangedError(draft.session_id, records.state_id(found.key))
            error.add_note(
                f"another saver has gone on with thread {record.thread_id!r}, namespace "
                f"{record.checkpoint_ns!r}: what was put follows {record.parent!r}"
            )
            raise error
        return watch.begin(found.last_id)
