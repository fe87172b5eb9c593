"""The items of a session: what each call of a session does to them."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointId,
    JsonValue,
    SessionReader,
    Transaction,
    exact,
)
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters.openai_agents.records import (
    ADDED_PREFIX,
    CONVERSATION_ID,
    RUN_ID,
    AddedItems,
    Conversation,
    SessionRecord,
    added_items,
    number_of,
)
from aiocheckpoint.history import History, load_history

# An add is one small record, which costs what a save costs. So many of them are moved to the
# history together, so that a long conversation is read in few pieces.
MAX_RECENT_ADDS = 16
_MANY_ITEMS = 64


class Latest(NamedTuple):
    """
    Where a conversation ends, as long as the record that was saved last is that of an add.

    Attributes:
        number: of the newest add.
        recent_adds: about how many are not in the history.
    """

    number: int
    recent_adds: int

    def has_room_for(self, items: list[JsonValue]) -> bool:
        """Tell whether the next add may be one small record."""
        return self.recent_adds < MAX_RECENT_ADDS and len(items) <= _MANY_ITEMS

    @property
    def following(self) -> Latest:
        """Where it ends after that."""
        return Latest(self.number + 1, self.recent_adds + 1)


class ConversationReader:
    """
    A conversation within one call of the work of `read` or `update`.

    Args:
        session: its reads.
        recent: blobs of the history that need not be loaded.
    """

    def __init__(self, session: SessionReader[SessionRecord], recent: RecentBlobs) -> None:
        self._reader = session
        self._recent = recent

    async def newest(self, limit: int | None) -> list[Any]:
        """
        Return the newest items as they were, oldest first; all for None.

        Raises:
            CheckpointCorruptError: a record was removed, perhaps just now by who changes them.
        """
        if limit == 0:
            return []
        ids = await self._recent_ids()
        head, recent = await self._head_and_adds(ids)
        self._require_gapless(head, ids)
        items = [exact.from_json(item) for added in recent for item in added.items]
        if limit is not None and len(items) >= limit:
            return items[-limit:]
        history = await self._history(head)
        count = len(history) if limit is None else limit - len(items)
        return [*await history.last(count, exact=True), *items]

    async def _recent_ids(self) -> tuple[CheckpointId, ...]:
        return (await self._reader.ids(prefix=ADDED_PREFIX))[::-1]

    async def _head(self) -> Conversation | None:
        return (await self._head_and_adds(()))[0]

    async def _head_and_adds(
        self, ids: tuple[CheckpointId, ...]
    ) -> tuple[Conversation | None, list[AddedItems]]:
        """Return the head and recent adds as they are at one moment."""
        records = await self._reader.load_many((CONVERSATION_ID, *ids))
        heads = [record for record in records if isinstance(record, Conversation)]
        adds = {it.checkpoint_id: it for it in records if isinstance(it, AddedItems)}
        for checkpoint_id in ids:
            if checkpoint_id not in adds:
                raise self._gap_before(checkpoint_id)
        return (heads[0] if heads else None), [adds[checkpoint_id] for checkpoint_id in ids]

    async def _history(self, head: Conversation | None) -> History:
        load_blobs = self._recent.or_else(self._reader.load_blobs)
        return History(load_blobs) if head is None else await load_history(load_blobs, head)

    def _require_gapless(self, head: Conversation | None, ids: tuple[CheckpointId, ...]) -> None:
        """Refuse a conversation of which something else has removed a record."""
        first = 1 if head is None else head.last_number + 1
        for number, checkpoint_id in enumerate(ids, first):
            if number_of(checkpoint_id) != number:
                raise self._gap_before(checkpoint_id)

    def _gap_before(self, checkpoint_id: CheckpointId) -> CheckpointCorruptError:
        place = f"{self._reader.session_id}/{checkpoint_id}"
        reason = "what was before it was removed by something else, as by max_checkpoints"
        return CheckpointCorruptError(place, reason)


class OpenConversation(ConversationReader):
    """
    The same, within one call of the work of `update`.

    Args:
        session: the transaction.
        recent: blobs of the history that need not be loaded.
    """

    def __init__(self, session: Transaction[SessionRecord], recent: RecentBlobs) -> None:
        super().__init__(session, recent)
        self._session = session

    async def add(self, items: list[JsonValue]) -> Latest | None:
        """Stage new items, and now and then the move of the recent ones to the history: None."""
        ids = await self._recent_ids()
        last_number = number_of(ids[-1]) if ids else await self._last_number()
        latest = Latest(last_number, len(ids))
        if latest.has_room_for(items):
            self._save_added(last_number + 1, items)
            return latest.following
        head, recent = await self._head_and_adds(ids)
        self._require_gapless(head, ids)
        before = [item for added in recent for item in added.items]
        history = (await self._history(head)).extend([*before, *items])
        self._save_history(history, last_number + 1)
        self._session.delete(*ids)
        return None

    async def pop(self) -> JsonValue:
        """Stage the removal of the newest item and return it; None when there is none."""
        ids = await self._recent_ids()
        head, newest_added = await self._head_and_adds(ids[-1:])
        self._require_gapless(head, ids)
        for newest in newest_added:
            if len(newest.items) > 1:
                self._save_added(number_of(ids[-1]), newest.items[:-1])
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
        """Stage the removal of all items, whatever is damaged of them."""
        run = await self._reader.load(RUN_ID)
        self._session.delete_session()
        if run is not None:
            self._session.save(run)

    async def _last_number(self) -> int:
        head = await self._head()
        return 0 if head is None else head.last_number

    def _save_added(self, number: int, items: list[JsonValue]) -> None:
        self._session.save(added_items(self._session.session_id, number, items))

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
