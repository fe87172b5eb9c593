"""Moving everything from one store to another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, cast

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointTooLargeError,
    CopyError,
    FormatVersionError,
    InvalidArgumentError,
    MissingBlobError,
)
from aiocheckpoint.kit import blob_links, raise_all
from aiocheckpoint.models import CheckpointId, RawRecord, SessionId
from aiocheckpoint.store import BlobStore, Marks, Transaction

_AT_ONCE = 8  # sessions
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_RECORDS = 64
# What is wrong with one session; of anything else, as a server that is gone, all would suffer.
_OF_ONE_SESSION = (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointTooLargeError,
    CopyError,
    FormatVersionError,
)
_COMPARE = (
    "compare the two, as `list` shows them, before you change either; "
    "an empty target takes the source's as it is"
)

_Listed = list[tuple[CheckpointId, str]]
_Given = list[tuple[RawRecord, dict[str, bytes]]]


class CopyTotals(NamedTuple):
    """
    How much was copied.

    Attributes:
        sessions: so many are complete.
        checkpoints: so many were copied, read back from the target and compared, with all blobs
            that they lead to.
        skipped: so many checkpoints were there already, by their ids and checksums as the target
            lists them; they were not read, nor were their blobs: `check` of the target reads all.
        blobs: so many were copied with them.
        bytes: of the documents and blobs that were copied.
        only_in_target: so many sessions are in the target and not in the source, as what was
            deleted in the source after an earlier copy; they are left as they are.
    """

    sessions: int = 0
    checkpoints: int = 0
    skipped: int = 0
    blobs: int = 0
    bytes: int = 0
    only_in_target: int = 0

    def plus(self, other: CopyTotals) -> CopyTotals:
        """Return the sum."""
        return CopyTotals(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


async def copy_store(
    source: BlobStore[RawRecord],
    target: BlobStore[RawRecord],
    *,
    on_progress: Callable[[CopyTotals], object] | None = None,
) -> CopyTotals:
    """
    Copy all sessions of a store to another: their checkpoints, in order, and their blobs.

    ```python
    from aiocheckpoint import CheckpointData, RawRecord, copy_store, open_store

    async with open_store("old") as store:
        await store.save(CheckpointData(session_id="support-42"))

    async with open_store("old", record_type=RawRecord) as source:
        async with open_store("new", record_type=RawRecord) as target:
            totals = await copy_store(source, target)
    ```

    Documents stay as they are, of whatever record type, and so do their checksums; `saved_at` is
    the time of the copy. Run it again after an interruption, or for what was saved meanwhile: what
    is there already is not copied again, and not read. Each checkpoint that is copied is read back
    from the target and compared, with all blobs that it leads to; one that the target has lost, or
    that is damaged there, is given again by the next checkpoint that leads to it. `check` of the
    target reads all that is there.
    What the source has deleted, pruned or replaced since an earlier copy is not deleted in the
    target: such a session is refused, and one that is gone as a whole is counted.

    Args:
        source: opened with `record_type=RawRecord`; nothing is changed.
        target: opened so, too, without `max_checkpoints`, which would drop what was just copied. A
            session that it has must begin as that of the source does.
        on_progress: called on the loop after each part with the totals so far.

    Returns:
        the totals.

    Raises:
        InvalidArgumentError: the target has `max_checkpoints`, or is a client of the same place as
            the source, by whatever name that was opened; nothing was copied. Of a store of somebody
            else's without `kit.Marks` nobody can tell, but for the same object.
        CopyError: a session of the target holds something else, or more than that of the source, or
            is damaged there, or did not read back the same.
        CheckpointCorruptError: a checkpoint of the source is damaged, and likewise what else `load`
            raises. All other sessions were copied by then; of several that were refused, for this
            or that, the rest are in the error's `__notes__`, one each.
        CheckpointError: a store refuses; what was copied by then stays.

    Durability: each part is durable before the next one is read. On an error or a cancellation the
        sessions of the target hold the first checkpoints of those of the source.

    Cost: one read and one `update` for some megabytes, one read of the target for each, with its
        blobs, and one list of each session in both; some sessions at a time, and the ids of all in
        memory. Where a session goes on, the blobs of its newest checkpoint are read in both, too.
    """
    if getattr(target, "max_checkpoints", None) is not None:
        raise InvalidArgumentError("target", target, "a store that keeps all, without a bound")
    copying = _Copying(source, target, on_progress)
    refused: list[CheckpointError] = []
    ids: list[SessionId] = []
    try:  # at once: a listing in pages would go on with the sessions that are made meanwhile
        async for session_id in source.sessions():
            if not ids:
                await _require_apart(source, target)
            ids.append(session_id)
    except _OF_ONE_SESSION as error:  # some directory that may be a session's, told last
        refused.append(error)
    for start in range(0, len(ids), _AT_ONCE):
        refused += await copying.copy_sessions(ids[start : start + _AT_ONCE])
    if not refused:
        await copying.count_others(set(ids))
    raise_all(refused)
    return copying.totals


async def _require_apart(source: BlobStore[RawRecord], target: BlobStore[RawRecord]) -> None:
    """
    Refuse one place for both: all of it is "there before", and who drops the source then, has none.

    Raises:
        InvalidArgumentError: it is, or one is a part of the other.
    """
    is_same = source is target
    # Not by `isinstance`, which does not look into a store that hands on what another one does.
    if hasattr(source, "has_mark") and hasattr(target, "mark"):
        async with cast("Marks", target).mark() as mark:
            is_same = await cast("Marks", source).has_mark(mark)
    if is_same:
        wanted = "a store of another place, neither within nor around it; nothing was copied"
        raise InvalidArgumentError("target", "the place of the source", wanted)


class _Copying:
    """One copy that goes on."""

    def __init__(
        self,
        source: BlobStore[RawRecord],
        target: BlobStore[RawRecord],
        on_progress: Callable[[CopyTotals], object] | None,
    ) -> None:
        self._source = source
        self._target = target
        self._on_progress = on_progress
        self.totals = CopyTotals()

    def _add(self, **counts: int) -> None:
        self.totals = self.totals.plus(CopyTotals(**counts))
        if self._on_progress is not None:
            self._on_progress(self.totals)

    async def copy_sessions(self, session_ids: Iterable[SessionId]) -> list[CheckpointError]:
        """Copy sessions side by side, and return what was wrong with some of them."""
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._tried(key)) for key in session_ids]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [error for error in (task.result() for task in tasks) if error is not None]

    async def count_others(self, seen: AbstractSet[SessionId]) -> None:
        """Count the sessions that only the target has."""
        others = 0
        try:
            async for session_id in self._target.sessions():
                others += session_id not in seen
        except _OF_ONE_SESSION as error:  # whose id is lost; those of the source were read above
            others += 1 + len(error.others)
        if others:
            self._add(only_in_target=others)

    async def _tried(self, session_id: SessionId) -> CheckpointError | None:
        try:
            await self._copy_session(session_id)
        except _OF_ONE_SESSION as error:
            return error
        self._add(sessions=1)
        return None

    async def _copy_session(self, session_id: SessionId) -> None:
        wanted = [(m.checkpoint_id, m.checksum) for m in await self._source.list(session_id)][::-1]
        with _of_target(session_id, wanted[0][0] if wanted else ""):
            metas = (await self._target.list(session_id))[::-1]
        for meta in metas:
            if meta.problem is not None:
                with _of_target(session_id, meta.checkpoint_id):
                    raise CheckpointCorruptError(meta.location, meta.problem)
        there = [(meta.checkpoint_id, meta.checksum) for meta in metas]
        _require_beginning(session_id, wanted, there)
        ids = [checkpoint_id for checkpoint_id, _ in wanted]
        position, count = len(there), 1
        newest_id = ids[position - 1] if position else None
        sent: set[str] = set()
        if newest_id is not None and position < len(ids):
            newest = await self._source.load_many(session_id, [newest_id])
            for _, blobs in await self._with_blobs(newest, sent):
                if not await self._has(session_id, blobs):
                    sent.clear()
                    position -= 1  # with all its blobs, of which it has lost some
        self._add(skipped=position)
        while position < len(ids):
            part = ids[position : position + count]
            records = await self._source.load_many(session_id, part)
            newest_id = await self._save(
                session_id, newest_id, await self._with_blobs(records, sent)
            )
            position += len(part)
            largest = max((len(record.document) for record in records), default=1)
            count = max(1, min(2 * count, _BATCH_RECORDS, _BATCH_BYTES // max(largest, 1)))

    async def _with_blobs(self, records: Iterable[RawRecord], sent: set[str]) -> _Given:
        """Return records with their blobs that were not sent; not those deleted meanwhile."""
        found: _Given = []
        for record in records:
            try:
                blobs = await self._unsent_blobs(record, sent)
            except MissingBlobError:
                wanted = [record.checkpoint_id]
                if record in await self._source.load_many(record.session_id, wanted):
                    raise
                continue
            sent |= blobs.keys()
            found.append((record, blobs))
        return found

    async def _unsent_blobs(self, record: RawRecord, sent: AbstractSet[str]) -> dict[str, bytes]:
        """Return the blobs that a record leads to and that were not sent."""
        found: dict[str, bytes] = {}
        wanted = [digest for digest in record.blob_digests if digest not in sent]
        while wanted:
            loaded = await self._source.load_blobs(record.session_id, wanted)
            found |= loaded
            links = dict.fromkeys(link for data in loaded.values() for link in blob_links(data))
            wanted = [link for link in links if link not in sent and link not in found]
        return found

    async def _has(self, session_id: SessionId, digests: Iterable[str]) -> bool:
        """
        Tell whether blobs are in the target, and intact.

        Each is asked for, if they are not: what the target has told of is stored anew once given.
        """
        wanted = [*digests]
        if not wanted:
            return True
        with contextlib.suppress(CheckpointCorruptError):
            await self._target.load_blobs(session_id, wanted)
            return True
        for digest in wanted:
            with contextlib.suppress(CheckpointCorruptError):
                await self._target.load_blobs(session_id, [digest])
        return False

    async def _save(
        self,
        session_id: SessionId,
        expected: CheckpointId | None,
        given: _Given,
    ) -> CheckpointId | None:
        """Save a part in one commit behind the one expected, read it back, return its last id."""
        records = [record for record, _ in given]
        blobs = [contents for _, contents in given]

        async def work(session: Transaction[RawRecord]) -> None:
            newest = [meta.checkpoint_id for meta in await session.list(limit=1)]
            if newest != ([] if expected is None else [expected]):
                what = "was saved" if newest else "was deleted"
                reason = f"{what} in the target meanwhile; copy when nobody else writes there"
                raise CopyError(session_id, newest[0] if newest else str(expected), reason)
            for record, contents in given:
                session.save(record, blobs=contents)

        if not records:  # they were deleted meanwhile
            return expected
        ids = [record.checkpoint_id for record in records]
        with _of_target(session_id, ids[0]):
            await self._target.update(session_id, work)
            if not all([await self._has(session_id, contents) for contents in blobs]):
                expected = ids[-1]  # once more, as the target knows only now what it has lost
                await self._target.update(session_id, work)
                for contents in blobs:
                    await self._target.load_blobs(session_id, contents)
            read = await self._target.load_many(session_id, ids)
        found = {one.checkpoint_id: one for one in read}
        for record in records:
            copied = found.get(record.checkpoint_id)
            if copied is None or copied.document != record.document:
                reason = "does not read back the same from the target; `check` that store"
                raise CopyError(session_id, record.checkpoint_id, reason)
        sizes = [len(data) for contents in blobs for data in contents.values()]
        total = sum(sizes) + sum(len(record.document) for record in records)
        self._add(checkpoints=len(records), blobs=len(sizes), bytes=total)
        return ids[-1]


@contextlib.contextmanager
def _of_target(session_id: SessionId, checkpoint_id: CheckpointId) -> Generator[None]:
    """Say of damage in the target where it is: the source has none of it."""
    try:
        yield
    except CheckpointCorruptError as error:
        what = f"cannot be read in the target: {error.path}: {error.reason}"
        reason = f"{what}; `check` of the target tells what is to be done"
        raise CopyError(session_id, checkpoint_id, reason) from error


def _require_beginning(session_id: SessionId, wanted: _Listed, there: _Listed) -> None:
    """
    Refuse a session of the target that is not the beginning of that of the source.

    Raises:
        CopyError: it is not.
    """
    same = 0
    while same < min(len(wanted), len(there)) and wanted[same] == there[same]:
        same += 1
    if same == len(there):
        return
    checkpoint_id = there[same][0]
    if wanted and same == len(wanted):
        reason = (
            "is in the target, which has all of the source and goes on from there: it is ahead, "
            "and nothing is to be copied; see which of the two is in use"
        )
    elif checkpoint_id not in dict(wanted):
        reason = (
            "is in the target and not in the source, perhaps as newer work, "
            f"or as it was deleted in the source; {_COMPARE}"
        )
    elif there[same] in wanted:
        reason = f"has another place in the order of the two; {_COMPARE}"
    else:
        reason = f"differs in the two; {_COMPARE}"
    raise CopyError(session_id, checkpoint_id, reason)
