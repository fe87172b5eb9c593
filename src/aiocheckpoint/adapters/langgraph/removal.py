"""Removing what is not needed to go on with a thread."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from aiocheckpoint import BlobStore, CheckpointId, SessionId, SessionReader, Transaction
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.reading import (
    PAGE,
    Entry,
    entries_of,
    needed_ancestors,
    newest_key,
)
from aiocheckpoint.adapters.langgraph.records import (
    ANCESTOR_PREFIX,
    PENDING_PREFIX,
    STATE_PREFIX,
    ThreadRecord,
    is_state,
    session_of,
    state_id,
)
from aiocheckpoint.adapters.langgraph.watches import Watches

# A graph that a task invokes once more has a number behind it.
_OF_A_TASK = re.compile(r":[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\|[0-9]+)?$")
_CLOCKS_DIFFER = timedelta(days=1)


class Removal:
    """
    Removes checkpoints, with the writes after them, in one commit a session.

    Args:
        store: where.
        watches: what is known of the sessions.
    """

    def __init__(self, store: BlobStore[ThreadRecord], watches: Watches) -> None:
        self._store = store
        self._watches = watches

    # By number and age

    async def prune_surplus(self, session_id: SessionId, keep_last: int) -> None:
        """Keep the last few and up to a quarter more, counting only now and then."""
        watch = self._watches.find(session_id)
        chain = watch and watch.chain
        if chain and chain.room > 0:
            chain.room -= 1
            return
        spare = keep_last // 4
        count = len(await self._store.ids(session_id, prefix=STATE_PREFIX))
        if count > keep_last + spare:
            await self.prune(session_id, keep_last, None)
            await self._remove_ended_children(session_id)
            count = keep_last
        if chain:
            chain.room = max(keep_last + spare - count, 0)

    async def prune(
        self, session_id: SessionId, keep_last: int | None, older_than: timedelta | None
    ) -> None:
        """Keep the last few, or what is not older, and what runs from what is kept need."""
        entries = await self._entries(session_id)  # the newest first
        if not entries:
            return
        doomed = {*entries[keep_last or 1 :]} if keep_last or older_than is None else set()
        if older_than is not None:
            times = await self._times(session_id, entries[1:])
            oldest = datetime.now(UTC) - older_than
            old = {entry for entry, time in times.items() if time < oldest}
            doomed = doomed & old if keep_last else old
        keep = {entry.key for entry in entries if entry not in doomed}
        keep |= await self._resumed(session_id, entries)
        gone = frozenset(entry.key for entry in doomed) - keep
        await self._remove(session_id, gone, spares=True)

    async def _entries(self, session_id: SessionId) -> list[Entry]:
        return await self._store.read(session_id, partial(entries_of, session_id))

    async def _times(
        self, session_id: SessionId, entries: Iterable[Entry]
    ) -> dict[Entry, datetime]:
        metas = {meta.checkpoint_id: meta for meta in await self._store.list(session_id)}
        return {
            entry: metas[state_id(entry.key)].saved_at
            for entry in entries
            if state_id(entry.key) in metas
        }

    async def _needed(self, session_id: SessionId, keep: Iterable[str]) -> set[str]:
        """Return the ancestors from which delta channels of kept checkpoints are rebuilt."""
        return await self._store.read(session_id, partial(needed_ancestors, keep))

    async def _resumed(self, session_id: SessionId, entries: Sequence[Entry]) -> set[str]:
        """
        Return where runs from checkpoints of the thread would take up a graph within a node.

        LangGraph takes the last one made before the checkpoint that a run begins from, or before
        the parent of that, where it is a fork, and lets the graph begin from nothing, unasked,
        where it is gone.
        """
        root = records.root_of(session_id)
        if root == session_id:
            return set()
        by_name = sorted(entries, key=_name_of)
        kept = [state_id(entry.key) for entry in await self._entries(root)]
        starts: set[str] = set()
        for record in await self._store.load_many(root, kept):
            starts.add(record.checkpoint)
            starts.add(record.parent or record.checkpoint)
        # In durability "exit" the one that the newest runs after is on its way.
        for record in await self._store.load_many(session_id, [state_id(entries[0].key)]):
            starts.update(records.followed(record).values())
        counts = {bisect_left(by_name, start, key=_name_of) for start in starts}
        return {by_name[count - 1].key for count in counts - {0}}

    # By run

    async def remove_runs(self, session_id: SessionId, runs: Collection[str]) -> None:
        """Remove the checkpoints of some runs, whatever others are rebuilt from them."""
        ids = await self._store.read(session_id, lambda reader: reader.ids())
        links = [found for found in ids if not found.startswith(PENDING_PREFIX)]
        gone: set[str] = set()
        for start in range(0, len(links), PAGE):
            for record in await self._store.load_many(session_id, links[start : start + PAGE]):
                if (record.metadata or {}).get("run_id") in runs:
                    gone.add(records.key_in(record.checkpoint_id))
        if gone:
            await self._remove(session_id, frozenset(gone), spares=False)

    async def _remove(self, session_id: SessionId, gone: frozenset[str], *, spares: bool) -> None:
        """
        Remove checkpoints, the writes after them, and ancestors without use, in one commit.

        Args:
            session_id: of which session.
            gone: keys of the checkpoints.
            spares: whether those from which delta channels of others are rebuilt stay as ancestors:
                no checkpoint of the thread any more, for whoever lists or asks for one.
        """
        ids = await self._store.read(session_id, lambda reader: reader.saved_ids())
        states = {*map(records.key_in, filter(is_state, ids))}
        ancestors = {*map(records.key_in, filter(_is_ancestor, ids))}
        keep = states - gone
        needed = await self._needed(session_id, keep) - keep
        spared = needed & (states | ancestors if spares else ancestors - gone)
        doomed = [f for f in ids if is_state(f) and records.key_in(f) not in keep]
        doomed += [f for f in ids if _is_ancestor(f) and records.key_in(f) not in spared]
        doomed += await self._doomed_writes(session_id, ids, keep, keep | spared)
        if moved := spared & states:
            await self._store.update(session_id, partial(_move, [*map(state_id, moved)], doomed))
        elif doomed:
            await self._store.delete_many(session_id, doomed)

    async def _doomed_writes(
        self,
        session_id: SessionId,
        ids: Sequence[CheckpointId],
        keep: Collection[str],
        stay: Collection[str],
    ) -> list[CheckpointId]:
        """
        Return the writes that go with what they follow.

        Writes whose checkpoint is not there stay, as it may be on its way, but for what is left
        over.

        Args:
            session_id: of which session.
            ids: of all its records, stored last first.
            keep: keys of the checkpoints that stay.
            stay: the same, and those of the ancestors that stay.
        """
        links = {records.key_in(f) for f in ids if not f.startswith(PENDING_PREFIX)}
        gone = links.difference(stay)
        kept_tags, gone_tags = ({*map(records.tag_of, part)} for part in (stay, gone))
        left_over = _left_over(ids, [f for f in ids if is_state(f) and records.key_in(f) in keep])
        doomed: list[CheckpointId] = []
        untold: list[CheckpointId] = []
        for found in ids:
            if found.startswith(PENDING_PREFIX):
                tag = records.tag_in(found)
                if tag in kept_tags & gone_tags:
                    untold.append(found)
                elif tag not in kept_tags and (tag in gone_tags or found in left_over):
                    doomed.append(found)
        found_untold = await self._store.load_many(session_id, untold) if untold else ()
        doomed += [r.checkpoint_id for r in found_untold if records.key_of(r.checkpoint) in gone]
        return doomed

    # What tasks stored for themselves

    def note_child(self, record: ThreadRecord) -> None:
        """Note a checkpoint that a graph within a task has stored, for when the task is over."""
        for parent, key in _parents(record).items():
            self._watches.of(parent).children.setdefault(key, set()).add(record.session_id)

    async def _remove_ended_children(self, session_id: SessionId) -> None:
        watch = self._watches.find(session_id)
        if watch is None or not watch.children:
            return
        gone = await self._store.read(session_id, partial(_gone, [*watch.children]))
        for key in gone - watch.storing.keys():
            for child in watch.children.pop(key, ()):
                await self._store.delete_session(child)

    async def remove_ended(self, session_id: SessionId) -> None:
        """Remove a session that a task stored for itself, if the checkpoint it followed is gone."""
        key = await self._store.read(session_id, newest_key)
        for record in await self._store.load_many(session_id, [state_id(key)] if key else []):
            for parent, followed in _parents(record).items():
                watch = self._watches.find(parent)
                is_coming = watch is not None and followed in watch.storing
                gone = await self._store.read(parent, partial(_gone, [followed]))
                if gone and not is_coming and await self._has_gone_on(parent, session_id):
                    await self._store.delete_session(session_id)
                    return

    async def _has_gone_on(self, parent: SessionId, session_id: SessionId) -> bool:
        """
        Tell whether a session was stored to after what a task in it has stored.

        By the clock of the store: a checkpoint that a task follows, made where a clock is behind
        and stored after what the task has stored, looks by its id as if it had been there before.
        """
        metas = await self._store.list(session_id)  # to keep an ancestor is to store nothing new
        own = next((meta for meta in metas if not _is_ancestor(meta.checkpoint_id)), None)
        metas = await self._store.list(parent)
        newest = next((meta for meta in metas if is_state(meta.checkpoint_id)), None)
        return own is not None and newest is not None and own.saved_at < newest.saved_at


def _name_of(entry: Entry) -> str:
    return entry.checkpoint


def _is_ancestor(record_id: CheckpointId) -> bool:
    return record_id.startswith(ANCESTOR_PREFIX)


async def _move(
    moved: Sequence[CheckpointId],
    doomed: Sequence[CheckpointId],
    session: Transaction[ThreadRecord],
) -> None:
    """Stage that some checkpoints stay as ancestors, and that all that is doomed goes."""
    for record in await session.load_many(moved):
        record.checkpoint_id = records.ancestor_id(records.key_in(record.checkpoint_id))
        session.save(record)
    session.delete(*doomed)


def _left_over(ids: Sequence[CheckpointId], keep: Sequence[CheckpointId]) -> set[CheckpointId]:
    """
    Return writes whose checkpoint can be taken for lost, in a crash, if it is not there.

    In durability "async" the writes of a step come before its checkpoint, and that may wait for
    others, as long as the store is slow. So there has to be more than newer checkpoints: all that
    stay were stored later, and have ids that were made a day later, as clocks differ.

    Args:
        ids: of all records, stored last first.
        keep: those of the checkpoints that stay; if none does, those that go tell.
    """
    states = keep or [found for found in ids if is_state(found)][:1]
    earlier = ids[ids.index(states[-1]) :] if states else ()
    pending = {found for found in earlier if found.startswith(PENDING_PREFIX)}
    if not keep:
        return pending
    times = [time for time in map(records.made_at, keep) if time is not None]
    if not times:
        return set()
    oldest = min(times) - _CLOCKS_DIFFER
    return {found for found in pending if (records.made_at(found) or oldest) < oldest}


def _parents(record: ThreadRecord) -> dict[SessionId, str]:
    """
    Return which checkpoints, by their sessions, a graph within a task is taken up with.

    They are those that it has run after, from the inside out, up to the first of a graph that is
    no task's: within a graph with a memory what that has kept counts, not what is around it.
    """
    parents: dict[SessionId, str] = {}
    within = record.checkpoint_ns
    for namespace, checkpoint in sorted(records.followed(record).items(), key=_depth, reverse=True):
        if not _OF_A_TASK.search(within):
            break  # it is read again by the next run
        parents[session_of(record.thread_id, namespace)] = records.key_of(checkpoint)
        within = namespace
    return parents


def _depth(followed: tuple[str, str]) -> int:
    return len(followed[0])


async def _gone(keys: Collection[str], reader: SessionReader[ThreadRecord]) -> set[str]:
    """Return those of the checkpoints that are gone, and not on their way."""
    newest = await newest_key(reader)
    earlier = {key for key in keys if newest is not None and key < newest}
    if not earlier:
        return set()
    prefix = state_id(next(iter(earlier))) if len(earlier) == 1 else STATE_PREFIX
    return earlier.difference(map(records.key_in, await reader.ids(prefix=prefix)))
