"""Reads of a session: where it stands by now, then the documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

from msgspec.structs import replace

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointTooLargeError,
    MissingBlobError,
)
from aiocheckpoint.kit import EncodedRecord, RecordKit, sorted_ids
from aiocheckpoint.models import CheckpointId, CheckpointMeta, CheckpointRecord, SessionId
from aiocheckpoint.stores.s3.commits import Blob, Entry
from aiocheckpoint.stores.s3.knowledge import Knowledge
from aiocheckpoint.stores.s3.state import Entries

RecordT = TypeVar("RecordT", bound=CheckpointRecord)
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Metas = tuple[CheckpointMeta, ...]


class Reads(Generic[RecordT]):
    """
    Reads of one session.

    Args:
        knowledge: of the session.
        kit: of the store.
        follows: whether each read begins by learning what others have changed. An update does
            without: its commit shows whether anybody has.
    """

    def __init__(
        self, knowledge: Knowledge, kit: RecordKit[RecordT], *, follows: bool = True
    ) -> None:
        self._knowledge = knowledge
        self._kit = kit
        self._follows = follows

    async def _steady(
        self,
        find: Callable[[], Awaitable[list[ItemT]]],
        read: Callable[[ItemT], Awaitable[ResultT]],
    ) -> list[ResultT]:
        """
        Read what is found, anew where somebody has removed it meanwhile.

        Raises:
            CheckpointError: of one that is there still, and cannot be read.
        """
        known: list[ItemT] | None = None
        while True:
            if self._follows or known is not None:
                await self._knowledge.refresh()
            found = await find()
            try:
                return await self._knowledge.bucket.gather(map(read, found))  # type: ignore[arg-type]
            except CheckpointError:
                if found == known:
                    raise
                known = found

    # Documents

    async def load(self, checkpoint_id: CheckpointId | None) -> RecordT | None:
        """Return a checkpoint, for None the newest; None when there is none."""
        read = self.record if checkpoint_id is None else self._certain_record
        try:
            records = await self._steady(partial(self._find, checkpoint_id), read)
        except CheckpointCorruptError as error:
            if checkpoint_id is None:
                error.newest_valid_id = await self._newest_intact_id()
            raise
        return records[0] if records else None

    async def _find(self, checkpoint_id: CheckpointId | None) -> list[Entry]:
        if checkpoint_id is None:
            entry = self._knowledge.session.newest
        else:
            entry = (await self._settled()).get(checkpoint_id)
            if entry is not None and entry.is_erased:
                return []
        return [] if entry is None else [entry]

    async def _newest_intact_id(self) -> CheckpointId | None:
        for entry in [*reversed(await self._knowledge.entries())]:
            try:
                await self.record(entry)
            except CheckpointError:
                continue
            return entry.id
        return None

    async def load_many(self, checkpoint_ids: Iterable[CheckpointId]) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, the one saved first first."""
        return tuple(await self._steady(self._finder(checkpoint_ids), self._certain_record))

    def _finder(
        self, checkpoint_ids: Iterable[CheckpointId]
    ) -> Callable[[], Awaitable[list[Entry]]]:
        wanted = {*checkpoint_ids}

        async def find() -> list[Entry]:
            return [
                entry
                for entry in await self._settled()
                if entry.id in wanted and not entry.is_erased
            ]

        return find

    async def copied(
        self, checkpoint_ids: Iterable[CheckpointId], target_id: SessionId
    ) -> list[EncodedRecord]:
        """Return those that are there, the one saved first first, as those of another session."""
        source_id = self._knowledge.session_id

        async def copy(entry: Entry) -> EncodedRecord:
            self._require_certain(entry)
            body = await self.body(entry)
            return self._kit.copied(body, self.location(entry), source_id, entry.id, target_id)

        return await self._steady(self._finder(checkpoint_ids), copy)

    async def _certain_record(self, entry: Entry) -> RecordT:
        self._require_certain(entry)
        return await self.record(entry)

    def _require_certain(self, entry: Entry) -> None:
        """
        Refuse a checkpoint that may have been deleted or replaced.

        Raises:
            CheckpointCorruptError: a commit behind it cannot be read, which may have done that.
        """
        doubt = self.doubt(entry)
        if doubt is not None:
            raise self._damaged(entry, doubt)

    def doubt(self, entry: Entry) -> str | None:
        """Return why a checkpoint may have been deleted or replaced; None where it was not."""
        entries = self._knowledge.session.entries
        unread = None if entries is None else entries.unread_after(entry)
        if unread is None:
            return None
        return (
            f"{self._knowledge.location(unread)}, a later commit, cannot be read, and may have "
            "deleted or replaced it"
        )

    async def record(self, entry: Entry) -> RecordT:
        """
        Return the record of a checkpoint.

        Raises:
            CheckpointError: what `RecordKit.decode` refuses; it is not there.
        """
        body = await self.body(entry)
        session_id = self._knowledge.session_id
        return self._kit.decode(body, self.location(entry), session_id, entry.id)

    async def body(self, entry: Entry) -> bytes:
        """
        Return the document of a checkpoint, not verified.

        Raises:
            CheckpointCorruptError: there is none.
            CheckpointTooLargeError: it is over `max_bytes`, and not asked for.
        """
        if entry.problem is not None:
            raise self._damaged(entry, entry.problem)
        if entry.is_erased:  # by a commit that was not read yet, or cannot be read
            raise self._damaged(entry, "it was deleted or replaced, and erased")
        self._kit.require_size(self.location(entry), entry.length)
        body = await self._knowledge.body(entry)
        if body is None:
            raise self._damaged(entry, "the object is not there")
        return body

    def _damaged(self, entry: Entry, reason: str) -> CheckpointCorruptError:
        session_id = self._knowledge.session_id
        return CheckpointCorruptError(
            self.location(entry), reason, session_id=session_id, checkpoint_id=entry.id
        )

    def location(self, entry: Entry) -> str:
        """Return the URL of a checkpoint."""
        layout, session_id = self._knowledge.layout, self._knowledge.session_id
        return layout.location(layout.commit(session_id, entry.number), entry.id)

    async def load_blobs(self, digests: Iterable[str]) -> dict[str, bytes]:
        """Return blobs by their digests, verified."""
        wanted = [*dict.fromkeys(digests)]

        async def find() -> list[tuple[str, str | None]]:
            blobs = (await self._knowledge.entries()).blobs
            return [(digest, _write_id(blobs.get(digest))) for digest in wanted]

        return dict(zip(wanted, await self._steady(find, self.blob), strict=True))

    async def blob(self, named: tuple[str, str | None]) -> bytes:
        """
        Return a blob.

        Args:
            named: its digest, and the write by which it was put; None where no checkpoint names it.

        Raises:
            MissingBlobError: it is not there.
            CheckpointCorruptError: it is something else.
        """
        digest, suffix = named
        layout, session_id = self._knowledge.layout, self._knowledge.session_id
        key = layout.blob(session_id, digest, suffix or "")
        try:
            found = None if suffix is None else await self._knowledge.bucket.get(key)
            if found is None:
                raise MissingBlobError(layout.location(key), digest)
            return self._kit.blob(found.data, digest, layout.location(key))
        except CheckpointCorruptError as error:
            error.session_id = session_id
            if suffix is not None:  # a save that gives it is to put it anew
                self._knowledge.lost_blobs.add((digest, suffix))
            raise

    async def reached(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Return digests, and all that those blobs lead to."""
        return tuple((await self._knowledge.entries()).reached(digests))

    # What there is

    async def _entries(self) -> list[Entry]:
        if self._follows:
            await self._knowledge.refresh()
        return [entry for entry in await self._settled() if not entry.is_erased]

    async def _settled(self) -> Entries:
        """Return the checkpoints, once it is known what has become of those that were erased."""
        entries = await self._knowledge.entries()
        number = 0
        while entries.has_erased and number != self._knowledge.session.number:
            number = self._knowledge.session.number
            await self._knowledge.refresh()  # a later commit tells it, unless that is damaged
            entries = await self._knowledge.entries()
        return entries

    async def list(self, before: CheckpointId | None, limit: int | None) -> Metas:
        """Return what there is, saved last first."""
        entries = (await self._entries())[::-1]
        if before is not None:
            places = [place for place, entry in enumerate(entries) if entry.id == before]
            entries = entries[places[0] + 1 :] if places else []
        return tuple(map(self.meta, entries[:limit]))

    def meta(self, entry: Entry) -> CheckpointMeta:
        """Return what a listing says of a checkpoint."""
        return CheckpointMeta(
            checkpoint_id=entry.id,
            session_id=self._knowledge.session_id,
            created_at=entry.created_at,
            saved_at=entry.saved_at,
            trigger=entry.trigger,
            iteration=entry.iteration,
            checksum=entry.checksum,
            location=self.location(entry),
            problem=entry.problem or self.doubt(entry) or self._excess(entry),
        )

    def _excess(self, entry: Entry) -> str | None:
        try:
            self._kit.require_size(self.location(entry), entry.length)
        except CheckpointTooLargeError as error:
            return str(error)
        return None

    async def ids(
        self, prefix: str, before: CheckpointId | None, limit: int | None
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        found = [
            entry.id
            for entry in await self._entries()
            if entry.id.startswith(prefix) and (before is None or entry.id < before)
        ]
        return tuple(sorted_ids(found)[:limit])

    async def saved_ids(self, prefix: str, limit: int | None) -> tuple[CheckpointId, ...]:
        """Return ids, the one saved last first."""
        entries = (await self._entries())[::-1]
        return tuple([entry.id for entry in entries if entry.id.startswith(prefix)][:limit])

    async def newest(self) -> CheckpointMeta | None:
        """Return what a listing says of the newest checkpoint, and why `load` refuses it."""
        try:
            record = await self.load(None)
        except CheckpointError as error:
            entry = self._knowledge.session.newest
            if entry is None:
                raise
            problem = str(error)
            return replace(self.meta(entry), problem=problem)
        entry = self._knowledge.session.newest
        return None if record is None or entry is None else self.meta(entry)

    async def is_intact(self, checkpoint_id: CheckpointId) -> bool:
        """Tell whether a checkpoint is there and intact."""

        async def read(entry: Entry) -> bool:
            self._require_certain(entry)
            return self._kit.is_intact(await self.body(entry), self.location(entry))

        try:
            return any(await self._steady(partial(self._find, checkpoint_id), read))
        except CheckpointCorruptError:
            return False


def _write_id(blob: Blob | None) -> str | None:
    return None if blob is None else blob.write_id
