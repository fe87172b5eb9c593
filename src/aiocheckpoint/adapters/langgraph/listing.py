"""Listing the checkpoints of threads, whatever is wrong with some of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import (
    BlobStore,
    CheckpointError,
    SessionId,
)
from aiocheckpoint.adapters._lists import OF_ONE
from aiocheckpoint.adapters.langgraph import arguments, records, serialized
from aiocheckpoint.adapters.langgraph.reading import (
    Entry,
    Group,
    all_blobs,
    entries_of,
    has_uncounted,
    merged,
    pages,
    with_blobs,
)
from aiocheckpoint.adapters.langgraph.records import (
    ThreadRecord,
    configurable_of,
    session_of,
    state_id,
)
from aiocheckpoint.adapters.langgraph.serialized import Decoder
from aiocheckpoint.adapters.langgraph.tuples import metadata_of, thread_id_of, tuple_of
from aiocheckpoint.kit import raise_all

Refused = list[CheckpointError]


async def sessions(
    store: BlobStore[ThreadRecord], configurable: Mapping[str, Any]
) -> AsyncIterator[SessionId]:
    """Yield the sessions of a thread's namespace, of a thread, or all."""
    thread_id = configurable.get("thread_id")
    namespace = arguments.optional_text("checkpoint_ns", configurable.get("checkpoint_ns"))
    if thread_id is not None and namespace is not None:
        yield session_of(thread_id, namespace)
        return
    prefix = "" if thread_id is None else records.thread_prefix(thread_id)
    async for session_id in store.sessions(prefix=prefix):
        if records.is_session(session_id):
            yield session_id


async def entries(store: BlobStore[ThreadRecord], session_id: SessionId) -> list[Entry]:
    """Return all checkpoints of a session, stored last first."""
    return await store.read(session_id, partial(entries_of, session_id))


async def unlisted(store: BlobStore[ThreadRecord], thread_id: str) -> str | None:
    """Return of what a thread needs what no list tells; None where there is nothing."""
    async for session_id in sessions(store, {"thread_id": thread_id}):
        if await store.ids(session_id, prefix=records.ANCESTOR_PREFIX, limit=1):
            return "what pruning has kept apart"
        if await store.read(session_id, has_uncounted):
            return "the lists of the writes that they are made of"
    return None


async def matching(
    store: BlobStore[ThreadRecord],
    config: RunnableConfig | None,
    before: RunnableConfig | None,
    refused: Refused,
) -> list[Entry]:
    """
    Return where the checkpoints are that a listing is about.

    Args:
        store: where.
        config: as of `alist`.
        before: likewise.
        refused: why some cannot be told is added to it.
    """
    configurable = {} if config is None else configurable_of(config)
    bound = arguments.checkpoint_in(configurable_of(before or {}))
    exact = arguments.checkpoint_in(configurable)
    if config is not None and thread_id_of(config) is None:
        return []
    found: list[list[Entry]] = []
    try:
        async for session_id in sessions(store, configurable):
            if exact is None:
                found.append(await _readable(store, session_id, refused))
            else:
                found.append([Entry(exact, session_id, records.key_of(exact))])
    except OF_ONE as error:  # all others were named
        refused.append(error)
    inorder = merged(found)
    places = [at for at, entry in enumerate(inorder) if entry.checkpoint == bound]
    if bound is not None and not places:
        return [entry for entry in inorder if entry.checkpoint < bound]
    return inorder[places[-1] + 1 :] if places else inorder


async def _readable(
    store: BlobStore[ThreadRecord], session_id: SessionId, refused: Refused
) -> list[Entry]:
    try:
        return await entries(store, session_id)
    except OF_ONE as error:
        refused.append(error)
        return []


async def metadata_decoder(
    store: BlobStore[ThreadRecord], record: ThreadRecord, serde: SerializerProtocol
) -> Decoder:
    """Return what decodes the metadata of a checkpoint."""
    values = (record.serialized_metadata or {}).values()
    return Decoder(
        serde, await blobs_of(store, record.session_id, [*serialized.blobs_of(record, values)])
    )


async def blobs_of(
    store: BlobStore[ThreadRecord], session_id: SessionId, digests: Sequence[str]
) -> dict[str, bytes]:
    """Return blobs, and all that they refer to."""
    return await store.read(session_id, partial(all_blobs, digests)) if digests else {}


class Listing:
    """
    The checkpoints of a listing, as LangGraph has them, a few at a time.

    One that cannot be read counts as well: who wants the first alone, as LangGraph does for where
    a graph with a memory begins, is given no older one instead.

    Args:
        store: where.
        serde: what turns bytes into values.
        entries: of which checkpoints, in their order.
        wanted: what their metadata have to have; None for anything.
        limit: at most so many; None for all.
        thread_id: as the caller gave it.
        refused: which of them cannot be read is added to it.
        show: notes to whom each of them is shown.
    """

    def __init__(
        self,
        store: BlobStore[ThreadRecord],
        serde: SerializerProtocol,
        entries: Sequence[Entry],
        wanted: dict[str, Any] | None,
        limit: int | None,
        thread_id: object,
        refused: Refused,
        show: Callable[[Group], Group] | None,
    ) -> None:
        self._store = store
        self._serde = serde
        self._parts = pages(entries)
        self._wanted = wanted
        self._left = limit
        self._thread_id = thread_id
        self._refused = refused
        self._show = show or (lambda group: group)

    async def read(self) -> list[CheckpointTuple] | None:
        """Return the next few; None when there are no more."""
        part = next(self._parts, None) if self._left != 0 else None
        if part is None:
            return None
        found = (await self._matching(part))[: self._left]
        if self._left is not None:
            self._left -= len(found)
        self._refused += [each for each in found if isinstance(each, CheckpointError)]
        return [each for each in found if not isinstance(each, CheckpointError)]

    def raise_refused(self) -> None:
        """Raise the first of what could not be read, with the rest as its `others`."""
        is_of_any = self._thread_id is None
        told = nullcontext() if is_of_any else arguments.told_of_thread(self._thread_id)
        with told:
            raise_all(self._refused)

    async def _matching(self, part: Sequence[Entry]) -> list[CheckpointTuple | CheckpointError]:
        """Return those of the checkpoints that match, in their order, or why they are refused."""
        by_session: defaultdict[SessionId, list[str]] = defaultdict(list)
        for entry in part:
            by_session[entry.session_id].append(entry.key)
        found: dict[tuple[SessionId, str], CheckpointTuple | CheckpointError] = {}
        for session_id, keys in by_session.items():
            for key, value in (await self._tuples(session_id, keys)).items():
                found[session_id, key] = value
        places = [(entry.session_id, entry.key) for entry in part]
        return [found[place] for place in places if place in found]

    async def _tuples(
        self, session_id: SessionId, keys: Sequence[str]
    ) -> dict[str, CheckpointTuple | CheckpointError]:
        """Return what matches of a session, or cannot be read."""
        try:
            kept = await self._with_metadata(session_id, keys) if self._wanted else keys
            groups, blobs = await self._store.read(session_id, partial(with_blobs, kept))
            found = {
                key: tuple_of(self._show(group), blobs, self._thread_id, self._serde)
                for key, group in groups.items()
            }
            return {key: value for key, value in found.items() if value is not None}
        except OF_ONE as error:
            if len(keys) == 1:
                return {keys[0]: error}
        halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
        one, other = [await self._tuples(session_id, half) for half in halves]
        return one | other

    async def _with_metadata(self, session_id: SessionId, keys: Sequence[str]) -> Sequence[str]:
        wanted = self._wanted or {}
        kept = []
        for record in await self._store.load_many(session_id, map(state_id, keys)):
            decoder = await metadata_decoder(self._store, record, self._serde)
            metadata = metadata_of(record, decoder)
            if all(key in metadata and metadata[key] == wanted[key] for key in wanted):
                kept.append(records.key_in(record.checkpoint_id))
        return kept
