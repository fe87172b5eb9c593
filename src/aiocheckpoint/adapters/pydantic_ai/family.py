"""The conversations that share entries, within one transaction."""

from __future__ import annotations

from collections.abc import Iterable

from aiocheckpoint import CheckpointError, SessionReader, Transaction
from aiocheckpoint.adapters._lists import OF_ONE, each_of
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters.pydantic_ai.records import ConversationHead, ConversationStoreRecord
from aiocheckpoint.adapters.pydantic_ai.values import Draft
from aiocheckpoint.history import History, HistoryRecord, load_history
from aiocheckpoint.kit import raise_all


class UnknownEntryError(LookupError):
    """
    No conversation here has an entry.

    Attributes:
        entry_id: the entry.
    """

    def __init__(self, entry_id: str) -> None:
        super().__init__(entry_id)
        self.entry_id = entry_id


class FamilyReader:
    """
    A conversation and its forks: one session of the store, in which each entry is stored once.

    Args:
        session: its reads.
        recent: blobs that need not be loaded.
    """

    def __init__(
        self, session: SessionReader[ConversationStoreRecord], recent: RecentBlobs
    ) -> None:
        self._reader = session
        self._load_blobs = recent.or_else(session.load_blobs)

    async def head(self, checkpoint_id: str) -> ConversationHead | None:
        """Return a conversation; None when there is none."""
        record = await self._reader.load(checkpoint_id)
        return record if isinstance(record, ConversationHead) else None

    async def history(self, entry_id: str, head: ConversationHead | None = None) -> History:
        """
        Return the history that ends at an entry.

        Args:
            entry_id: the entry.
            head: the conversation that is likely to have it.

        Raises:
            UnknownEntryError: no conversation of the family has it.
            CheckpointError: none that can be read has it, and some cannot.
        """
        refused: list[CheckpointError] = []
        history = None if head is None else await self._history_in(entry_id, [head], refused)
        if history is None:
            heads = await self._heads(refused)
            history = await self._history_in(entry_id, heads, refused)
        if history is None:
            raise_all(refused)
            raise UnknownEntryError(entry_id)
        return history

    async def _heads(self, refused: list[CheckpointError]) -> list[ConversationHead]:
        """Return all conversations; why some cannot be read is added to `refused`."""
        ids = await self._reader.ids()
        try:
            records = [*await self._reader.load_many(ids)]
        except OF_ONE:
            records, errors = await each_of(self._reader, ids)
            refused += errors.values()
        return [record for record in records if isinstance(record, ConversationHead)]

    async def _history_in(
        self, entry_id: str, heads: Iterable[ConversationHead], refused: list[CheckpointError]
    ) -> History | None:
        """
        Return the history that ends at an entry: at a tip, or else cut off behind it.

        Why some histories, which may have it, cannot be read is added to `refused`.
        """
        tips = {tip: digest for head in heads for tip, digest in head.tips().items()}
        if entry_id in tips:
            return await self._open(tips[entry_id])
        for digest in tips.values():
            try:
                history = await self._open(digest)
                ids = [item["id"] for item in await history.items()]
            except OF_ONE as error:
                refused.append(error)
                continue
            if entry_id in ids:
                return await history.truncate(ids.index(entry_id) + 1)
        return None

    async def _open(self, digest: str) -> History:
        return await load_history(self._load_blobs, self._bare(digest))

    def _bare(self, *digests: str) -> HistoryRecord:
        return HistoryRecord(
            session_id=self._reader.session_id,
            history_length=len(digests),
            blob_digests=digests,
        )


class Family(FamilyReader):
    """
    The same, within one transaction.

    Args:
        session: the transaction.
        recent: blobs that need not be loaded.
    """

    def __init__(self, session: Transaction[ConversationStoreRecord], recent: RecentBlobs) -> None:
        super().__init__(session, recent)
        self._session = session
        self._recent = recent

    async def save(
        self, checkpoint_id: str, draft: Draft, stored: ConversationHead | None = None
    ) -> None:
        """
        Stage a conversation with its new entries.

        Args:
            checkpoint_id: of its head.
            draft: what is to be stored.
            stored: what it replaces.

        Raises:
            UnknownEntryError: its history begins at an entry that neither it nor the family has.
        """
        known = {} if stored is None else stored.tips()
        new_blobs: dict[str, bytes] = {}
        branches: list[str] = []
        main = History(self._load_blobs)
        for tip in draft.tips:
            if tip == draft.record["head_id"]:
                main = await self._extended(tip, draft, stored)
                new_blobs |= main.new_blobs
            elif tip in known:
                branches.append(known[tip])
            else:
                branch = await self._extended(tip, draft, stored)
                new_blobs |= branch.new_blobs
                branches += branch.into(self._bare()).blob_digests
        head = main.into(
            ConversationHead(
                session_id=self._session.session_id,
                checkpoint_id=checkpoint_id,
                record=draft.record,
                blob_digests=tuple(branches),
            )
        )
        self._session.save(head, blobs=new_blobs)
        self._recent.keep(head.blob_digests, new_blobs)

    async def _extended(self, tip: str, draft: Draft, stored: ConversationHead | None) -> History:
        before, items = draft.line(tip)
        if before is None:
            return History(self._load_blobs).extend(items)
        return (await self.history(before, stored)).extend(items)
