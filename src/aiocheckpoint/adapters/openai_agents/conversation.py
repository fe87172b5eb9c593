"""The items of a session within one transaction: what each call of a session does to them."""

from __future__ import annotations

from typing import Any

from aiocheckpoint import CheckpointCorruptError, CheckpointId, JsonValue, Transaction, exact
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters.openai_agents.records import (
    ADDED_PREFIX,
    CONVERSATION_ID,
    AddedItems,
    Conversation,
    SessionRecord,
    id_of,
    number_of,
)
from aiocheckpoint.history import History, load_history

# An add is one small record, which costs what a save costs. So many of them are moved to the
# history together, so that a long conversation is read in few pieces.
MAX_RECENT_ADDS = 16
_MANY_ITEMS = 64


class OpenConversation:
    """
    A conversation within one call of the work of `update`.

    Args:
        session: the transaction.
        recent: blobs of the history that need not be loaded.
    """

    def __init__(self, session: Transaction[SessionRecord], recent: RecentBlobs) -> None:
        self._session = session
        self._recent = recent

    async def add(self, items: list[JsonValue]) -> None:
        """Stage new items, and now and then the move of the recent ones to the history."""
        ids = await self._recent_ids()
        number = (number_of(ids[-1]) if ids else await self._last_number()) + 1
        if len(ids) < MAX_RECENT_ADDS and len(items) <= _MANY_ITEMS:
            self._save_added(id_of(number), items)
            return
        recent = await self._recent_adds(ids)
        head = await self._head()
        self._require_gapless(head, ids)
        before = [item for added in recent for item in added.items]
        history = (await self._history(head)).extend([*before, *items])
        self._save_history(history, number)
        self._session.delete(*ids)

    async def pop(self) -> JsonValue:
        """Stage the removal of the newest item and return it; None when there is none."""
        ids = await self._recent_ids()
        head = await self._head()
        self._require_gapless(head, ids)
        if ids:
            (newest,) = await self._recent_adds(ids[-1:])
            if len(newest.items) > 1:
                self._save_added(ids[-1], newest.items[:-1])
            else:
                self._session.delete(ids[-1])
            return newest.items[-1]
        if head is None:
            return None
        history = await self._history(head)
        (item,) = await history.last(1)
        self._save_history(await history.truncate(len(history) - 1), head.last_number)
        return item

    async def clear(self) -> None:
        """Stage the removal of all items."""
        self._session.delete(CONVERSATION_ID, *await self._recent_ids())

    async def newest(self, limit: int | None) -> list[Any]:
        """Return the newest items as they were, oldest first; all for None."""
        if limit == 0:
            return []
        ids = await self._recent_ids()
        head = await self._head()
        self._require_gapless(head, ids)
        recent = await self._recent_adds(ids)
        items = [exact.from_json(item) for added in recent for item in added.items]
        if limit is not None and len(items) >= limit:
            return items[-limit:]
        history = await self._history(head)
        count = len(history) if limit is None else limit - len(items)
        return [*await history.last(count, exact=True), *items]

    async def _recent_ids(self) -> tuple[CheckpointId, ...]:
        return (await self._session.ids(prefix=ADDED_PREFIX))[::-1]

    async def _recent_adds(self, ids: tuple[CheckpointId, ...]) -> list[AddedItems]:
        records = await self._session.load_many(ids)
        found = [record for record in records if isinstance(record, AddedItems)]
        return sorted(found, key=lambda record: record.checkpoint_id)

    async def _head(self) -> Conversation | None:
        record = await self._session.load(CONVERSATION_ID)
        return record if isinstance(record, Conversation) else None

    async def _last_number(self) -> int:
        head = await self._head()
        return 0 if head is None else head.last_number

    async def _history(self, head: Conversation | None) -> History:
        load_blobs = self._recent.or_else(self._session.load_blobs)
        return History(load_blobs) if head is None else await load_history(load_blobs, head)

    def _save_added(self, checkpoint_id: CheckpointId, items: list[JsonValue]) -> None:
        session_id = self._session.session_id
        self._session.save(
            AddedItems(session_id=session_id, checkpoint_id=checkpoint_id, items=items)
        )

    def _save_history(self, history: History, last_number: int) -> None:
        if not len(history):
            self._session.delete(CONVERSATION_ID)
            return
        record = history.into(
            Conversation(
                session_id=self._session.session_id,
                checkpoint_id=CONVERSATION_ID,
                last_number=last_number,
            )
        )
        self._session.save(record, blobs=history.new_blobs)
        self._recent.keep(record.blob_digests, history.new_blobs)

    def _require_gapless(self, head: Conversation | None, ids: tuple[CheckpointId, ...]) -> None:
        """Refuse a conversation of which something else has removed a record."""
        first = 1 if head is None else head.last_number + 1
        for number, checkpoint_id in enumerate(ids, first):
            if number_of(checkpoint_id) != number:
                place = f"{self._session.session_id}/{checkpoint_id}"
                reason = "what was before it was removed by something else, as by max_checkpoints"
                raise CheckpointCorruptError(place, reason)
