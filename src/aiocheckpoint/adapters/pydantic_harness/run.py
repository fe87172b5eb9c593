"""A run of the harness within one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    JsonValue,
    SessionReader,
    Transaction,
)
from aiocheckpoint.adapters._lists import OF_ONE
from aiocheckpoint.adapters._recent import RecentBlobs
from aiocheckpoint.adapters.pydantic_harness.records import (
    SNAPSHOT,
    USED_KEY,
    HarnessRecord,
    SnapshotRecord,
    StepRecord,
    Totals,
    id_of,
)
from aiocheckpoint.adapters.pydantic_harness.values import Draft, marks_of
from aiocheckpoint.history import History, load_history

ResultT = TypeVar("ResultT")


class RecentRun:
    """What is remembered of a run, so that a snapshot need not read the one before it."""

    def __init__(self) -> None:
        self.blobs = RecentBlobs()
        self.marks: tuple[str, list[bytes]] = ("", [])


class RunReader:
    """
    A run, as it is.

    Args:
        session: its reads.
        recent: what need not be loaded.
    """

    def __init__(self, session: SessionReader[HarnessRecord], recent: RecentRun) -> None:
        self._reader = session
        self._load_blobs = recent.blobs.or_else(session.load_blobs)

    async def totals(self) -> Totals:
        """Return what the run has; the record that was saved last says it."""
        newest: object = await self._reader.load()  # an open store may have other records
        if newest is None:
            return Totals()
        if not isinstance(newest, StepRecord | SnapshotRecord):
            reason = "another record than of a run was saved in its session"
            raise CheckpointDecodeError(self._reader.session_id, "StepRecord", reason)
        return newest.totals

    async def get(self, checkpoint_id: str) -> StepRecord | None:
        """Return a record; None when there is none."""
        record = await self._reader.load(checkpoint_id)
        return record if isinstance(record, StepRecord) else None

    async def all(self, prefix: str, count: int) -> list[HarnessRecord]:
        """
        Return the records whose ids begin so, saved first first.

        Args:
            prefix: of their ids.
            count: how many there have to be.

        Raises:
            CheckpointCorruptError: there are others.
        """
        records = await self._reader.load_many(await self._reader.ids(prefix=prefix))
        if len(records) != count:
            reason = (
                f"of {count} records {prefix!r} {len(records)} are left; something removed them"
            )
            raise CheckpointCorruptError(self._reader.session_id, reason)
        return [*records]

    async def each(
        self, prefix: str, made: Callable[[RunReader, HarnessRecord], Awaitable[ResultT | None]]
    ) -> tuple[list[ResultT], list[CheckpointError]]:
        """Return what is made of those of the records that can be read, and why others cannot."""
        found: list[ResultT] = []
        refused: list[CheckpointError] = []
        for checkpoint_id in (await self._reader.saved_ids(prefix=prefix))[::-1]:
            try:
                record = await self._reader.load(checkpoint_id)
                one = None if record is None else await made(self, record)
            except OF_ONE as error:
                refused.append(error)
            else:
                found += [] if one is None else [one]
        return found, refused

    async def snapshot(self, checkpoint_id: str) -> SnapshotRecord:
        """
        Return a snapshot that has to be there.

        Raises:
            CheckpointCorruptError: it is not.
        """
        record = await self._reader.load(checkpoint_id)
        if not isinstance(record, SnapshotRecord):
            place = f"{self._reader.session_id}/{checkpoint_id}"
            raise CheckpointCorruptError(place, "the run's newest snapshot was removed")
        return record

    async def messages(self, record: SnapshotRecord) -> list[Any]:
        """Return the messages of a snapshot, as `exact` gives them back."""
        return await (await load_history(self._load_blobs, record)).items(exact=True)


class OpenRun(RunReader):
    """
    The same, within one call of the work of `update`.

    Args:
        session: the transaction.
        recent: what need not be loaded.
    """

    def __init__(self, session: Transaction[HarnessRecord], recent: RecentRun) -> None:
        super().__init__(session, recent)
        self._session = session
        self._recent = recent

    def put(self, checkpoint_id: str, value: dict[str, JsonValue] | None, totals: Totals) -> None:
        """Stage a record."""
        self._session.save(
            StepRecord(
                session_id=self._session.session_id,
                checkpoint_id=checkpoint_id,
                value=value,
                totals=totals,
            )
        )

    async def save(self, draft: Draft, keep: int | None) -> None:
        """Stage a snapshot, and the removal of those beyond `keep`; nothing if its key is known."""
        key = draft.value.get("idempotency_key")
        checkpoint_id = id_of(SNAPSHOT, key)
        if key is not None and await self._session.load_many([checkpoint_id, USED_KEY + key]):
            return
        before = await self.totals()
        pruned = await self._pruned(draft, before, keep)
        totals = replace(
            before,
            snapshots=before.snapshots + 1 - len(pruned),
            settled=checkpoint_id if draft.is_settled else before.settled,
            interrupted=None if draft.is_settled else checkpoint_id,
        )
        history = await self._extended(before.newest, draft)
        record = history.into(
            SnapshotRecord(
                session_id=self._session.session_id,
                checkpoint_id=checkpoint_id,
                value=draft.value,
                totals=totals,
            )
        )
        self._session.save(record, blobs=history.new_blobs)
        # Behind the save: what it shares with them is there when it is stored.
        for old in pruned:
            self._session.delete(old.checkpoint_id)
            if "idempotency_key" in old.value:
                self.put(USED_KEY + old.value["idempotency_key"], None, totals)
        self._recent.blobs.keep(record.blob_digests, history.new_blobs)
        self._recent.marks = ("".join(record.blob_digests), draft.marks)

    async def _pruned(self, draft: Draft, before: Totals, keep: int | None) -> list[SnapshotRecord]:
        """Return the snapshots that are neither among the newest nor the newest settled one."""
        if keep is None or before.snapshots < keep:
            return []
        records = await self.all(SNAPSHOT, before.snapshots)
        settled = None if draft.is_settled else before.settled
        return [
            record
            for record in records[: len(records) + 1 - keep]
            if isinstance(record, SnapshotRecord) and record.checkpoint_id != settled
        ]

    async def _extended(self, newest: str | None, draft: Draft) -> History:
        """Return the messages of a snapshot, those shared that the newest one has as well."""
        if newest is None:
            return History(self._load_blobs).extend(draft.items(0))
        record = await self.snapshot(newest)
        history = await load_history(self._load_blobs, record)
        root, marks = self._recent.marks
        if root != "".join(record.blob_digests):
            marks = marks_of(await history.items())
        shared = _count_equal(marks, draft.marks)
        return (await history.truncate(shared)).extend(draft.items(shared))


def _count_equal(one: list[bytes], other: list[bytes]) -> int:
    """Return with how many equal marks two lists begin."""
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return number
    return min(len(one), len(other))
