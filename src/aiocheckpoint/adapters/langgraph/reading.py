"""Finding the checkpoints of a thread: what one `read` reads of a session."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

from aiocheckpoint import CheckpointId, MissingBlobError, SessionId, SessionReader, StorageError
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.pruning import DeltaNeeds
from aiocheckpoint.adapters.langgraph.records import (
    PENDING_PREFIX,
    STATE_PREFIX,
    TAG_LENGTH,
    ThreadRecord,
    state_id,
)
from aiocheckpoint.kit import LookAhead, LooksAhead

LINKS = (state_id, records.ancestor_id)
"""What gives the ids of the records of whatever delta channels may be rebuilt from."""
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
    states = [found for found in last if found.startswith(STATE_PREFIX)]
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


async def groups_of(
    keys: Sequence[str],
    reader: SessionReader[ThreadRecord],
    id_of: Sequence[Callable[[str], CheckpointId]] = (state_id,),
) -> dict[str, Group]:
    """
    Return the records of checkpoints and of the writes after them, by key.

    Args:
        keys: of which checkpoints.
        reader: of their session.
        id_of: what gives the ids of their records; `LINKS` also of those that are only ancestors.
    """
    prefix = records.pending_prefix(keys[0]) if len(keys) == 1 else PENDING_PREFIX
    pending = await reader.ids(prefix=prefix)
    if len(keys) > 1:
        tags = {*map(records.tag_of, keys)}
        pending = tuple(found for found in pending if records.tag_in(found) in tags)
    groups = {key: Group(None, []) for key in keys}
    wanted = [of(key) for of in id_of for key in keys]
    for record in await reader.load_many([*wanted, *pending]):
        group = groups.get(records.key_of(record.checkpoint))
        if group is None:  # it is another's whose id begins alike
            continue
        if record.checkpoint_id.startswith(PENDING_PREFIX):
            group.pending.append(record)
        else:
            groups[records.key_of(record.checkpoint)] = Group(
                _nearer(group.state, record), group.pending
            )
    return groups


def _nearer(one: ThreadRecord | None, other: ThreadRecord) -> ThreadRecord:
    """Return the checkpoint, where one of two records of it is what was kept as an ancestor."""
    return other if one is None or other.checkpoint_id.startswith(STATE_PREFIX) else one


async def needed_ancestors(keep: Iterable[str], reader: SessionReader[ThreadRecord]) -> set[str]:
    """Return the keys of the ancestors from which delta channels of checkpoints are rebuilt."""
    followed: defaultdict[str, set[str]] = defaultdict(set)
    wanted = sorted(keep, reverse=True)  # the newest first: its ancestors are the others' too
    for start in range(0, len(wanted), PAGE):
        page = await reader.load_many(map(state_id, wanted[start : start + PAGE]))
        for kept in reversed(page):
            await _follow(DeltaNeeds(kept), followed, reader)
    return set(followed)


async def _follow(
    needs: DeltaNeeds, followed: defaultdict[str, set[str]], reader: SessionReader[ThreadRecord]
) -> None:
    """Add ancestors, and which channels were looked for from there on."""
    while (ancestor := needs.next_ancestor) is not None:
        key = records.key_of(ancestor)
        if needs.missing <= followed[key]:
            return
        followed[key] |= needs.missing
        found = await link_of(key, reader)
        if found is None:
            return
        needs.visit(found)


async def link_of(key: str, reader: SessionReader[ThreadRecord]) -> ThreadRecord | None:
    """Return the record of a checkpoint, or of what was kept of it as an ancestor."""
    found = await reader.load_many([of(key) for of in LINKS])
    return reduce(_nearer, found, None)


async def all_blobs(
    digests: Iterable[str], reader: SessionReader[ThreadRecord]
) -> dict[str, bytes]:
    """Return blobs, and all that they refer to."""
    return await records.load_all(reader.load_blobs, digests)


async def with_blobs(
    keys: Sequence[str], reader: SessionReader[ThreadRecord]
) -> tuple[dict[str, Group], dict[str, bytes]]:
    """Return the same, and all blobs that they refer to."""
    for retries_left in reversed(range(_VANISHED_RETRIES)):
        groups = await groups_of(keys, reader)
        used = [r for group in groups.values() for r in (group.state, *group.pending) if r]
        digests = {digest: None for record in used for digest in record.blob_digests}
        try:
            return groups, await records.load_all(reader.load_blobs, digests)
        except MissingBlobError:
            # Perhaps somebody deletes these very checkpoints: then they are gone now.
            if not retries_left:
                raise
    raise AssertionError("not reached")
