"""Finding the checkpoints of a thread: what one `read` reads of a session."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aiocheckpoint import CheckpointId, MissingBlobError, SessionId, SessionReader, StorageError
from aiocheckpoint.adapters.langgraph import records, serialized
from aiocheckpoint.adapters.langgraph.pruning import DeltaNeeds
from aiocheckpoint.adapters.langgraph.records import (
    PENDING_PREFIX,
    STATE_PREFIX,
    TAG_LENGTH,
    ThreadRecord,
    state_id,
)
from aiocheckpoint.kit import LookAhead, LooksAhead

PAGE = 32
_VANISHED_RETRIES = 3
_LAST = 8  # records among which there nearly always is a checkpoint


class Group(NamedTuple):
    """
    A checkpoint's record, and those of the writes after it.

    Attributes:
        state: None when there are only writes.
        pending: saved first first.
    """

    state: ThreadRecord | None
    pending: list[ThreadRecord]


class Found(NamedTuple):
    """
    What was asked for, or what was stored last, with the blobs that it refers to.

    Attributes:
        key: None when there is none.
        last_id: of the record that was stored last in the session, if the newest was asked for.
    """

    key: str | None
    group: Group
    blobs: dict[str, bytes]
    last_id: str | None


class Newest(NamedTuple):
    """
    The newest records of a session, None where there is none.

    Attributes:
        key: of the checkpoint that was stored last.
        last_id: of the record, of any kind, that was stored last.
    """

    key: str | None
    last_id: str | None


class Entry(NamedTuple):
    """Where a checkpoint is."""

    checkpoint: str
    session_id: SessionId
    key: str


async def find(
    session_id: SessionId, key: str | None, reader: SessionReader[ThreadRecord]
) -> Found:
    """Return a checkpoint, without a key the one that was stored last."""
    for _ in range(_VANISHED_RETRIES):
        if isinstance(reader, LooksAhead):
            await reader.look_ahead(_questions(key))
        wanted, last_id = Newest(key, None) if key else await newest_records(reader)
        if wanted is None:
            return Found(None, Group(None, []), {}, last_id)
        groups, blobs = await with_blobs([wanted], reader)
        if key or groups[wanted].state:
            return Found(wanted, groups[wanted], blobs, last_id)
        # It was removed meanwhile, as another is the newest now.
    raise StorageError("read", session_id, None, "its newest keeps vanishing; try again")


def _questions(key: str | None) -> LookAhead:
    """Return what is asked of a session for a checkpoint, without a key the newest."""
    if key is None:
        return LookAhead(STATE_PREFIX, PENDING_PREFIX, TAG_LENGTH, _LAST)
    return LookAhead(state_id(key), records.pending_prefix(key), 0, 0)


async def newest_records(reader: SessionReader[ThreadRecord]) -> Newest:
    """Return which records of a session are the newest; mostly one read tells both."""
    last = await reader.saved_ids(limit=_LAST)
    states = [found for found in last if records.is_state(found)]
    if states:
        key: str | None = records.key_in(states[0])
    else:
        key = await newest_key(reader) if len(last) == _LAST else None
    return Newest(key, last[0] if last else None)


async def newest_key(reader: SessionReader[ThreadRecord]) -> str | None:
    """Return the key of the checkpoint that was stored last; None when there is none."""
    newest = await reader.saved_ids(prefix=STATE_PREFIX, limit=1)
    return records.key_in(newest[0]) if newest else None


async def entries_of(session_id: SessionId, reader: SessionReader[ThreadRecord]) -> list[Entry]:
    """Return all checkpoints of a session, stored last first."""
    ids = await reader.saved_ids(prefix=STATE_PREFIX)
    names = {key: records.checkpoint_of(key) for key in map(records.key_in, ids)}
    untold = [state_id(key) for key, name in names.items() if name is None]
    for record in await reader.load_many(untold) if untold else ():
        names[records.key_in(record.checkpoint_id)] = record.checkpoint
    return [Entry(name, session_id, key) for key, name in names.items() if name is not None]


def merged(sessions: Iterable[Sequence[Entry]]) -> list[Entry]:
    """Return the checkpoints of sessions, each stored last first, and so those of each session."""
    return [*heapq.merge(*sessions, key=lambda entry: entry.checkpoint, reverse=True)]


def pages(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield entries one, two, four, then more at a time: often only the first is wanted."""
    start, length = 0, 1
    while start < len(entries):
        yield entries[start : start + length]
        start, length = start + length, min(2 * length, PAGE)


async def groups_of(keys: Sequence[str], reader: SessionReader[ThreadRecord]) -> dict[str, Group]:
    """Return the records of checkpoints and of the writes after them, by key."""
    prefix = records.pending_prefix(keys[0]) if len(keys) == 1 else PENDING_PREFIX
    pending = await reader.ids(prefix=prefix)
    if len(keys) > 1:
        tags = {*map(records.tag_of, keys)}
        pending = tuple(found for found in pending if records.tag_in(found) in tags)
    return await _loaded(keys, [*map(state_id, keys), *pending], reader)


async def _loaded(
    keys: Sequence[str], record_ids: Sequence[CheckpointId], reader: SessionReader[ThreadRecord]
) -> dict[str, Group]:
    """Return those of some records that are of checkpoints, by the keys of these."""
    groups = {key: Group(None, []) for key in keys}
    for record in await reader.load_many(record_ids):
        key = records.key_of(record.checkpoint)
        if key not in groups:  # it is another's whose id begins alike
            continue
        if record.checkpoint_id.startswith(PENDING_PREFIX):
            groups[key].pending.append(record)
        else:
            groups[key] = groups[key]._replace(state=record)
    return groups


async def has_uncounted(reader: SessionReader[ThreadRecord]) -> bool:
    """Tell whether a checkpoint is made of only some of the writes after its parent."""
    pending: defaultdict[str, list[CheckpointId]] = defaultdict(list)
    for found in await reader.ids(prefix=PENDING_PREFIX):
        pending[records.tag_in(found)].append(found)
    ids = await reader.ids(prefix=STATE_PREFIX)
    for start in range(0, len(ids), PAGE):
        for state in await reader.load_many(ids[start : start + PAGE]):
            after = pending[records.tag_of(records.key_of(state.parent or ""))]
            if records.counted(state, after) != {*after}:
                return True
    return False


class Ancestry:
    """
    Finds what delta channels are rebuilt from: checkpoints, and what was kept of them alone.

    To ask a directory for what is not there is to list it, so it is looked up once which were kept.
    """

    def __init__(self) -> None:
        self._kept: frozenset[str] | None = None

    async def find(
        self, key: str, reader: SessionReader[ThreadRecord], *, with_writes: bool
    ) -> Group:
        """Return a checkpoint, or what was kept of it, with the writes after it or without."""
        group = Group(None, [])
        prefix = records.pending_prefix(key)
        for _ in range(_VANISHED_RETRIES):
            pending = await reader.ids(prefix=prefix) if with_writes else ()
            group = (await _loaded([key], [await self._id_of(key, reader), *pending], reader))[key]
            if group.state is not None:
                break
            self._kept = None  # it is gone, or kept since
        return group

    async def _id_of(self, key: str, reader: SessionReader[ThreadRecord]) -> CheckpointId:
        if self._kept is None:
            kept = await reader.ids(prefix=records.ANCESTOR_PREFIX)
            self._kept = frozenset(map(records.key_in, kept))
        return records.ancestor_id(key) if key in self._kept else state_id(key)


async def needed_ancestors(keep: Iterable[str], reader: SessionReader[ThreadRecord]) -> set[str]:
    """Return the keys of the ancestors from which delta channels of checkpoints are rebuilt."""
    followed: defaultdict[str, set[str]] = defaultdict(set)
    ancestry = Ancestry()
    wanted = sorted(keep, reverse=True)  # the newest first: its ancestors are the others' too
    for start in range(0, len(wanted), PAGE):
        page = await reader.load_many(map(state_id, wanted[start : start + PAGE]))
        for kept in reversed(page):
            await _follow(DeltaNeeds(kept), followed, ancestry, reader)
    return set(followed)


async def _follow(
    needs: DeltaNeeds,
    followed: defaultdict[str, set[str]],
    ancestry: Ancestry,
    reader: SessionReader[ThreadRecord],
) -> None:
    """Add ancestors, and which channels were looked for from there on."""
    while (ancestor := needs.next_ancestor) is not None:
        key = records.key_of(ancestor)
        if needs.missing <= followed[key]:
            return
        followed[key] |= needs.missing
        found = (await ancestry.find(key, reader, with_writes=False)).state
        if found is None:
            return
        needs.visit(found)


async def all_blobs(
    digests: Iterable[str], reader: SessionReader[ThreadRecord]
) -> dict[str, bytes]:
    """Return blobs, and all that they refer to."""
    return await serialized.load_all(reader.load_blobs, digests)


async def with_blobs(
    keys: Sequence[str], reader: SessionReader[ThreadRecord]
) -> tuple[dict[str, Group], dict[str, bytes]]:
    """Return the same, and all blobs that they refer to."""
    for retries_left in reversed(range(_VANISHED_RETRIES)):
        groups = await groups_of(keys, reader)
        used = [r for group in groups.values() for r in (group.state, *group.pending) if r]
        digests = {digest: None for record in used for digest in record.blob_digests}
        try:
            return groups, await serialized.load_all(reader.load_blobs, digests)
        except MissingBlobError:
            # Perhaps somebody deletes these very checkpoints: then they are gone now.
            if not retries_left:
                raise
    raise AssertionError("not reached")
