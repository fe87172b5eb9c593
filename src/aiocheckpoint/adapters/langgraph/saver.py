"""`CheckpointSaver`: LangGraph's checkpointer on an `AsyncCheckpointWriter`."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from os import PathLike
from types import TracebackType
from typing import Any, Self, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointTooLargeError,
    FormatVersionError,
    NotACheckpointError,
    SessionId,
    StorageError,
    WriterStats,
)
from aiocheckpoint.adapters.langgraph import arguments, records
from aiocheckpoint.adapters.langgraph.arguments import place_of
from aiocheckpoint.adapters.langgraph.pruning import with_plain_counters
from aiocheckpoint.adapters.langgraph.reading import (
    PAGE,
    Entry,
    Group,
    all_blobs,
    entries_of,
    find,
    groups_of,
    merged,
    newest_key,
    pages,
    with_blobs,
)
from aiocheckpoint.adapters.langgraph.records import (
    Decoder,
    Encoder,
    ThreadRecord,
    configurable_of,
    session_of,
    state_id,
)
from aiocheckpoint.adapters.langgraph.removal import Removal
from aiocheckpoint.adapters.langgraph.turns import Draft, Turns
from aiocheckpoint.portal import Portal

# Within the class below `list` is a method.
_Entries = list[Entry]
_Pages = list[_Entries]
_Keys = list[str]
_Refused = list[CheckpointError]
# What is wrong with one checkpoint, or session, and not with all.
_OF_ONE = (
    CheckpointCorruptError, CheckpointDecodeError, CheckpointTooLargeError, FormatVersionError,
    NotACheckpointError, StorageError,
)  # fmt: skip


class CheckpointSaver(BaseCheckpointSaver[str]):
    """
    Checkpoints of LangGraph threads in a directory: durable, checked, and nothing written twice.

    Every method comes in two forms. The asynchronous one does all file work in threads. The
    synchronous one may be called from any thread, also one with a running loop, which it then
    blocks. One saver serves any number of threads, tasks, event loops and processes.

    **Durability** of `put` and `put_writes`: on return they survive a power cut. LangGraph waits
    for `put` in its durability `"sync"`, and for neither before the next step in `"async"`.

    **Cancellation**: as of `AsyncCheckpointWriter`: stored as a whole or not at all.

    **Damage**: every read raises `CheckpointCorruptError`, never gives None or something older.

    **Two writers on one thread**: `put` raises `SessionChangedError` when another saver has
    stored a newer checkpoint of the thread than this one was ever shown, and what is put does
    not follow it. Whoever asked for a checkpoint by its id may fork from it.

    Args:
        storage_path: the directory.
        serde: what turns values into bytes; by default LangGraph's `JsonPlusSerializer`.
        keep_last: how many checkpoints of each namespace to keep, the newest, and what delta
            channels need besides; up to a quarter more until they are removed together, and with
            them what graphs within their tasks have stored. None keeps all.
        refuse_forks: whether `put` raises `SessionChangedError`.
        writer_options: of the `AsyncCheckpointWriter`, as `durability`.

    Raises:
        TypeError: `max_checkpoints` is given.
        InvalidArgumentError: for another argument of the wrong type or out of range; also by
            every method, before anything is touched.
    """

    def __init__(
        self,
        storage_path: str | PathLike[str],
        *,
        serde: SerializerProtocol | None = None,
        keep_last: int | None = None,
        refuse_forks: bool = True,
        **writer_options: Any,
    ) -> None:
        super().__init__(serde=serde)
        if "max_checkpoints" in writer_options:
            raise TypeError("max_checkpoints would count writes as well; give keep_last")
        arguments.require_count("keep_last", keep_last, 1)
        arguments.require_bool("refuse_forks", refuse_forks)
        # Shared with clones that differ in their serializer, so nothing here is ever replaced.
        options: dict[str, Any] = {"max_backups": 0, **writer_options}
        self._writer: AsyncCheckpointWriter[ThreadRecord] = AsyncCheckpointWriter(
            storage_path, record_type=ThreadRecord, **options
        )
        self._portal = Portal()
        self._turns = Turns(self._writer, refuse_forks=refuse_forks)
        self._removal = Removal(self._writer, self._turns.watches)
        self._keep_last = keep_last

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """Finish what was submitted and release threads and files; also of all clones."""
        try:
            await self._writer.aclose()
        finally:
            self._portal.close()

    async def aflush(self) -> None:
        """
        Make the files of all that was stored durable themselves.

        It happens by itself. Call it before something else takes over the directory: a backup.

        Raises:
            CheckpointError: what `AsyncCheckpointWriter.flush` raises.
        """
        await self._writer.flush()

    def stats(self) -> WriterStats:
        """Return how the writer of this saver, and of all clones, is doing."""
        return self._writer.stats()

    def flush(self) -> None:
        """Do what `aflush` does, from code that is not asynchronous."""
        self._portal.run(self._writer.flush())

    def close(self) -> None:
        """Do what `aclose` does, from code that is not asynchronous."""
        try:
            self._portal.run(self._writer.aclose())
        finally:
            self._portal.close()

    # Storing

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - content decides
    ) -> RunnableConfig:
        """
        Store a checkpoint durably.

        It is serialized before the first suspension. All channels are stored, whatever
        `new_versions` says; of those that are as they were nothing is written.

        Args:
            config: `thread_id`, `checkpoint_ns`, and as `checkpoint_id` that of the parent.
            checkpoint: replaces one of its id.
            metadata: stored whole, with what the config adds.
            new_versions: not needed.

        Returns:
            the config of the stored checkpoint.

        Raises:
            SessionChangedError: another saver has gone on with the thread meanwhile; nothing was
                stored.
            CheckpointError: what else `AsyncCheckpointWriter.save` raises.

        Cost: one serialization on the loop, one hop, one fsync shared with all that wait.
        """
        draft = self._state_draft(config, checkpoint, metadata)
        await self._store_state(draft)
        return _config(_thread_id(config), draft.record)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002 - content decides
    ) -> RunnableConfig:
        """Do what `aput` does, from code that is not asynchronous."""
        draft = self._state_draft(config, checkpoint, metadata)
        self._portal.run(self._store_state(draft))
        return _config(_thread_id(config), draft.record)

    def _state_draft(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> Draft:
        place = place_of(config)
        checkpoint_id = arguments.text("the id of the checkpoint", checkpoint["id"])
        encoder = Encoder(self.serde)
        whole = with_plain_counters(get_checkpoint_metadata(config, metadata))
        plain_metadata, other_metadata = encoder.split(whole)
        rest = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        document, others = encoder.split(rest)
        channels = {
            channel: encoder.encode(value)
            for channel, value in checkpoint["channel_values"].items()
        }
        step, source = plain_metadata.get("step"), plain_metadata.get("source")
        record = ThreadRecord(
            session_id=place.session_id,
            checkpoint_id=state_id(records.key_of(checkpoint_id)),
            blob_digests=encoder.digests,
            thread_id=str(place.thread_id),
            checkpoint_ns=place.namespace,
            checkpoint=checkpoint_id,
            parent=place.checkpoint,
            trigger=source if isinstance(source, str) else "",
            iteration=step if type(step) is int else -2,
            metadata=plain_metadata,
            serialized_metadata=other_metadata,
            document=document,
            serialized=others,
            channels=channels,
        )
        return Draft(place.session_id, record, encoder.blobs)

    async def _store_state(self, draft: Draft) -> None:
        await self._turns.store_state(draft)
        if self._keep_last is not None:
            self._removal.note_child(draft.record)
            await self._removal.prune_surplus(draft.session_id, self._keep_last)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """
        Store what a task wrote after a checkpoint, durably; the checkpoint may come later.

        The values are serialized before the first suspension. Of two writes of a task at the
        same index the first counts; of errors, interrupts and such the last.

        Args:
            config: `thread_id`, `checkpoint_ns` and `checkpoint_id`.
            writes: channels and values.
            task_id: the task.
            task_path: where it stands in the graph.

        Raises:
            CheckpointError: what `AsyncCheckpointWriter.save` raises.

        Cost: one serialization on the loop, one hop, one fsync shared with all that wait.
        """
        await self._turns.store_writes(self._pending_draft(config, writes, task_id, task_path))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do what `aput_writes` does, from code that is not asynchronous."""
        draft = self._pending_draft(config, writes, task_id, task_path)
        self._portal.run(self._turns.store_writes(draft))

    def _pending_draft(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Draft:
        place = place_of(config)
        checkpoint = arguments.text("checkpoint_id", place.checkpoint)
        encoder = Encoder(self.serde)
        encoded = records.encode_writes(arguments.listed("writes", writes), encoder.encode)
        record = ThreadRecord(
            session_id=place.session_id,
            checkpoint_id=records.new_pending_id(records.key_of(checkpoint)),
            blob_digests=encoder.digests,
            thread_id=str(place.thread_id),
            checkpoint_ns=place.namespace,
            checkpoint=checkpoint,
            trigger="pending",
            task_id=arguments.text("task_id", task_id),
            task_path=arguments.text("task_path", task_path),
            writes=encoded,
        )
        return Draft(place.session_id, record, encoder.blobs)

    # Reading one

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """
        Return a checkpoint, verified, with its pending writes in the order in which they apply.

        Args:
            config: `thread_id`, `checkpoint_ns`; without a `checkpoint_id` the newest is meant,
                the one that was stored last, whatever its id.

        Returns:
            None when there is no such checkpoint.

        Raises:
            CheckpointCorruptError: it, or a value in it, is damaged or missing.
            CheckpointError: what else `AsyncCheckpointWriter.load` raises.

        Cost: one hop; reads the checkpoint's files and the blobs it refers to, however many
            others there are.
        """
        place = place_of(config)
        session_id = place.session_id
        key = None if place.checkpoint is None else records.key_of(place.checkpoint)
        watch = self._turns.watches.of(session_id)
        if key is not None:
            watch.choose(key)
        found = await self._writer.read(session_id, partial(find, session_id, key))
        if key is None:
            watch.look(found.key, found.last_id)
        return self._tuple(found.group, found.blobs, place.thread_id)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do what `aget_tuple` does, from code that is not asynchronous."""
        return self._portal.run(self.aget_tuple(config))

    def _tuple(
        self, group: Group, blobs: Mapping[str, bytes], thread_id: object
    ) -> CheckpointTuple | None:
        state = group.state
        if state is None:
            return None
        decoder = Decoder(self.serde, blobs)
        thread = state.thread_id if thread_id is None else thread_id
        checkpoint = {
            **(state.document or {}),
            **decoder.decode_all(state, state.serialized),
            "channel_values": decoder.decode_all(state, state.channels),
        }
        parent_config = None
        if state.parent is not None:
            parent_config = _config(thread, state, state.parent)
        writes = records.merged_writes(group.pending)
        return CheckpointTuple(
            config=_config(thread, state),
            checkpoint=cast("Checkpoint", checkpoint),
            metadata=cast("CheckpointMetadata", _metadata(state, decoder)),
            parent_config=parent_config,
            pending_writes=[records.pending_write(write, decoder) for write in writes],
        )

    # Listing

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base class names it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """
        Yield checkpoints, those stored last first; of several namespaces in turn.

        No lock or file is held between two of them; what is deleted meanwhile is left out.

        Args:
            config: None for all threads; or its `thread_id`, without which nothing is yielded;
                without `checkpoint_ns` all namespaces; with `checkpoint_id` only that one.
            filter: only those whose metadata have these keys with equal values.
            before: only those stored before the one of its `checkpoint_id`; where that is not
                among them, those with a smaller id.
            limit: at most so many.

        Raises:
            CheckpointCorruptError: one is damaged; all others have been yielded by then.
            CheckpointError: what else `AsyncCheckpointWriter.load` and `sessions` raise.

        Cost: a hop for each 32 checkpoints of a namespace; with a filter also the files of
            those that do not match. For all threads, or all namespaces, one listing of the
            directory.
        """
        arguments.require_count("limit", limit, 0)
        arguments.require_filter(filter)
        left = limit
        refused: _Refused = []
        for part in pages(await self._matching(config, before, refused) if limit != 0 else ()):
            found = await self._page(part, filter, _thread_id(config), refused)
            for item in found[:left]:
                yield item
            left = None if left is None else left - len(found)
            if left is not None and left <= 0:
                break
        _raise_first(refused)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base class names it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Do what `alist` does, from code that is not asynchronous."""
        # No asynchronous generator: one that is left would have to be closed on its loop.
        arguments.require_count("limit", limit, 0)
        arguments.require_filter(filter)
        refused: _Refused = []
        entries = self._portal.run(self._matching(config, before, refused))
        found = (
            item
            for part in pages(entries)
            for item in self._portal.run(self._page(part, filter, _thread_id(config), refused))
        )
        yield from islice(found, limit)
        _raise_first(refused)

    async def _matching(
        self, config: RunnableConfig | None, before: RunnableConfig | None, refused: _Refused
    ) -> _Entries:
        """Return where the checkpoints are that a listing is about, and why some cannot be told."""
        configurable = {} if config is None else configurable_of(config)
        name = "checkpoint_id"
        bound = arguments.optional_text(name, configurable_of(before or {}).get(name))
        exact = arguments.optional_text(name, configurable.get(name))
        if config is not None and _thread_id(config) is None:
            return []
        sessions: _Pages = []
        try:
            async for session_id in self._sessions(configurable):
                if exact is None:
                    sessions.append(await self._readable_entries(session_id, refused))
                else:
                    sessions.append([Entry(exact, session_id, records.key_of(exact))])
        except _OF_ONE as error:  # all others were named
            refused.append(error)
        entries = merged(sessions)
        places = [at for at, entry in enumerate(entries) if entry.checkpoint == bound]
        if bound is not None and not places:
            return [entry for entry in entries if entry.checkpoint < bound]
        return entries[places[-1] + 1 :] if places else entries

    async def _entries(self, session_id: SessionId) -> _Entries:
        return await self._writer.read(session_id, partial(entries_of, session_id))

    async def _readable_entries(self, session_id: SessionId, refused: _Refused) -> _Entries:
        try:
            return await self._entries(session_id)
        except _OF_ONE as error:
            refused.append(error)
            return []

    async def _sessions(self, configurable: Mapping[str, Any]) -> AsyncIterator[SessionId]:
        """Yield the sessions of a thread's namespace, of a thread, or all."""
        thread_id = configurable.get("thread_id")
        namespace = arguments.optional_text("checkpoint_ns", configurable.get("checkpoint_ns"))
        if thread_id is not None and namespace is not None:
            yield session_of(thread_id, namespace)
            return
        prefix = "" if thread_id is None else records.thread_prefix(thread_id)
        async for session_id in self._writer.sessions(prefix=prefix):
            if records.is_session(session_id):
                yield session_id

    async def _page(
        self,
        entries: Sequence[Entry],
        wanted: dict[str, Any] | None,
        thread_id: object,
        refused: _Refused,
    ) -> Sequence[CheckpointTuple]:
        by_session: defaultdict[SessionId, _Keys] = defaultdict(_Keys)
        for entry in entries:
            by_session[entry.session_id].append(entry.key)
        found: dict[tuple[SessionId, str], CheckpointTuple] = {}
        for session_id, keys in by_session.items():
            for key, value in (
                await self._tuples(session_id, keys, wanted, thread_id, refused)
            ).items():
                found[session_id, key] = value
        places = [(entry.session_id, entry.key) for entry in entries]
        return [found[place] for place in places if place in found]

    async def _tuples(
        self,
        session_id: SessionId,
        keys: Sequence[str],
        wanted: dict[str, Any] | None,
        thread_id: object,
        refused: _Refused,
    ) -> dict[str, CheckpointTuple]:
        """Return what matches of a session, and note which of it cannot be read."""
        try:
            matching = await self._with_metadata(session_id, keys, wanted) if wanted else keys
            groups, blobs = await self._writer.read(session_id, partial(with_blobs, matching))
            found = {key: self._tuple(group, blobs, thread_id) for key, group in groups.items()}
            return {key: value for key, value in found.items() if value is not None}
        except _OF_ONE as error:
            if len(keys) == 1:
                refused.append(error)
                return {}
        halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
        one, other = [
            await self._tuples(session_id, half, wanted, thread_id, refused) for half in halves
        ]
        return one | other

    async def _with_metadata(
        self, session_id: SessionId, keys: Sequence[str], wanted: dict[str, Any]
    ) -> Sequence[str]:
        matching = []
        for record in await self._writer.load_many(session_id, map(state_id, keys)):
            metadata = _metadata(record, await self._metadata_decoder(record))
            if all(key in metadata and metadata[key] == wanted[key] for key in wanted):
                matching.append(records.key_in(record.checkpoint_id))
        return matching

    async def _blobs(self, session_id: SessionId, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = tuple(digests)
        return await self._writer.read(session_id, partial(all_blobs, wanted)) if wanted else {}

    async def _metadata_decoder(self, record: ThreadRecord) -> Decoder:
        values = (record.serialized_metadata or {}).values()
        digests = [*records.blobs_of(record, values)]
        blobs = await self._blobs(record.session_id, digests)
        return Decoder(self.serde, blobs)

    # Delta channels

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """
        Return what rebuilds delta channels: the nearest stored value, and the writes since.

        Args:
            config: the checkpoint, the newest without a `checkpoint_id`.
            channels: names of channels.

        Returns:
            for each channel the writes of its ancestors, oldest first, and as `seed` the value
            at the nearest ancestor that has one.

        Raises:
            CheckpointCorruptError: a checkpoint on the way is damaged.

        Cost: one or two hops an ancestor; only the asked channels' values are read.
        """
        place = place_of(config)
        session_id, channels = place.session_id, arguments.texts("channels", channels)
        if place.checkpoint is None:
            key = await self._writer.read(session_id, newest_key)
        else:
            key = records.key_of(place.checkpoint)
        history: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
        remaining = set(channels)
        state = None if key is None or not channels else await self._state(session_id, key)
        while state is not None and state.parent is not None and remaining:
            key = records.key_of(state.parent)
            group = (await self._writer.read(session_id, partial(groups_of, [key])))[key]
            state = group.state
            if state is not None:
                await self._add_ancestor(state, group.pending, remaining, history)
        for found in history.values():
            found["writes"].reverse()
        return history

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do what `aget_delta_channel_history` does, from code that is not asynchronous."""
        return self._portal.run(self.aget_delta_channel_history(config=config, channels=channels))

    async def _state(self, session_id: SessionId, key: str) -> ThreadRecord | None:
        found = await self._writer.load_many(session_id, [state_id(key)])
        return found[0] if found else None

    async def _add_ancestor(
        self,
        state: ThreadRecord,
        pending: Iterable[ThreadRecord],
        remaining: set[str],
        history: dict[str, DeltaChannelHistory],
    ) -> None:
        """Add an ancestor's writes, the last first, and its values, which end the search."""
        writes = [w for w in records.merged_writes(pending) if w.channel in remaining]
        values = {k: v for k, v in (state.channels or {}).items() if k in remaining}
        digests = dict.fromkeys(records.blobs_of(state, values.values()))
        for write in writes:
            digests |= dict.fromkeys(records.blobs_of(write.record, [write.value]))
        blobs = await self._blobs(state.session_id, digests)
        decoder = Decoder(self.serde, blobs)
        for write in reversed(writes):
            history[write.channel]["writes"].append(records.pending_write(write, decoder))
        for channel, value in values.items():
            history[channel]["seed"] = decoder.decode(state, value)
        remaining.difference_update(values)

    # Removing

    async def adelete_thread(self, thread_id: str) -> None:
        """
        Remove all checkpoints and writes of a thread, in all namespaces, durably.

        Raises:
            CheckpointError: what `AsyncCheckpointWriter.delete_session` raises.

        Cost: one listing of the directory, and one hop for each namespace.
        """
        arguments.named("thread_id", thread_id)
        async for session_id in self._sessions({"thread_id": str(thread_id)}):
            await self._writer.delete_session(session_id)

    def delete_thread(self, thread_id: str) -> None:
        """Do what `adelete_thread` does, from code that is not asynchronous."""
        self._portal.run(self.adelete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """
        Remove the checkpoints of some runs and the writes after them, durably.

        A run is known by `run_id` in the metadata. A delta channel that needs what is removed
        cannot be rebuilt afterwards.

        Args:
            run_ids: the runs; of all threads and namespaces.

        Raises:
            CheckpointError: what `load_many` and `delete_many` of the writer raise.

        Cost: reads every checkpoint in the directory.
        """
        runs = frozenset(arguments.texts("run_ids", run_ids))
        if not runs:
            return
        async for session_id in self._sessions({}):
            doomed: _Keys = []
            keys = [entry.key for entry in await self._entries(session_id)]
            for start in range(0, len(keys), PAGE):
                part = map(state_id, keys[start : start + PAGE])
                for record in await self._writer.load_many(session_id, part):
                    if (record.metadata or {}).get("run_id") in runs:
                        doomed.append(records.key_in(record.checkpoint_id))
            if doomed:
                await self._removal.remove(session_id, frozenset(doomed))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what `adelete_for_runs` does, from code that is not asynchronous."""
        self._portal.run(self.adelete_for_runs(run_ids))

    async def aprune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
    ) -> None:
        """
        Remove what is not needed to go on with threads, durably.

        In each namespace the newest checkpoint always stays, with its writes, and so do the
        ancestors from which delta channels of what stays are rebuilt. A namespace of a graph
        within a task goes as a whole when the checkpoint that the task followed is gone.

        Args:
            thread_ids: the threads.
            strategy: `"keep_latest"`, or `"delete"` to remove everything.
            keep_last: keep so many instead of one.
            older_than: keep those stored since then instead; with `keep_last` both.

        Raises:
            InvalidArgumentError: `thread_ids` is a str, a number is not a whole one of at least
                1, a time is below 0, or one of them is given with `"delete"`.
            CheckpointError: what `load_many` and `delete_many` of the writer raise.

        Durability: one commit for each namespace, so all of it or nothing.

        Cost: one listing of the directory; for each namespace one hop, and one more for each
            checkpoint that stays.
        """
        arguments.require_retention(strategy, keep_last, older_than)
        threads = [
            arguments.named("thread_ids", t) for t in arguments.listed("thread_ids", thread_ids)
        ]
        for thread_id in map(str, threads):
            if strategy == "delete":
                await self.adelete_thread(thread_id)
                continue
            session_ids = [found async for found in self._sessions({"thread_id": thread_id})]
            for session_id in session_ids:
                await self._removal.prune(session_id, keep_last, older_than)
            for session_id in session_ids:
                await self._removal.remove_ended(session_id)

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
    ) -> None:
        """Do what `aprune` does, from code that is not asynchronous."""
        self._portal.run(
            self.aprune(thread_ids, strategy=strategy, keep_last=keep_last, older_than=older_than)
        )

    # Copying

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """
        Copy all checkpoints and writes of a thread, in all namespaces, durably, keeping ids.

        Args:
            source_thread_id: left as it is; of an unknown one nothing is copied.
            target_thread_id: what it has already stays, but for checkpoints of the same ids.

        Raises:
            CheckpointCorruptError: one of the source is damaged; what was copied stays.
            CheckpointError: what else `load_many` and `save` of the writer raise.

        Durability: on return all is durable. After a crash the target may hold the first part;
            copy again.

        Cost: reads and writes everything, 32 checkpoints at a time.
        """
        source = str(arguments.named("source_thread_id", source_thread_id))
        target = str(arguments.named("target_thread_id", target_thread_id))
        if source == target:
            return
        async for session_id in self._sessions({"thread_id": source}):
            await self._copy_session(session_id, target)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what `acopy_thread` does, from code that is not asynchronous."""
        self._portal.run(self.acopy_thread(source_thread_id, target_thread_id))

    async def _copy_session(self, session_id: SessionId, target: str) -> None:
        ids = await self._writer.read(session_id, lambda reader: reader.saved_ids()[::-1])
        for start in range(0, len(ids), PAGE):
            for record in await self._writer.load_many(session_id, ids[start : start + PAGE]):
                await self._copy_record(record, target)

    async def _copy_record(self, record: ThreadRecord, target: str) -> None:
        blobs = await self._blobs(record.session_id, record.blob_digests)
        record.thread_id = target
        record.session_id = session_of(target, record.checkpoint_ns)
        await self._writer.save(record, blobs=blobs)

    # Versions

    def get_next_version(self, current: str | int | None, channel: None) -> str:  # noqa: ARG002
        """Return a version after another, different also from those of forks."""
        number = 0
        if current is not None:
            number = int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - not a secret


def _raise_first(refused: _Refused) -> None:
    for error in refused:
        raise error


def _thread_id(config: RunnableConfig | None) -> object:
    return None if config is None else configurable_of(config).get("thread_id")


def _config(
    thread_id: object, record: ThreadRecord, checkpoint: str | None = None
) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": record.checkpoint_ns,
            "checkpoint_id": record.checkpoint if checkpoint is None else checkpoint,
        }
    }


def _metadata(record: ThreadRecord, decoder: Decoder) -> dict[str, Any]:
    others = decoder.decode_all(record, record.serialized_metadata)
    return {**(record.metadata or {}), **others}
