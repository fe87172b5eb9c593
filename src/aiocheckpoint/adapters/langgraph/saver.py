"""`CheckpointSaver`: LangGraph's checkpointer on any store."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import UnsupportedOperationError, WriterClosedError, WriterStats
from aiocheckpoint.adapters._erasing import Erasing
from aiocheckpoint.adapters._given import listed
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.langgraph import arguments, copying, records
from aiocheckpoint.adapters.langgraph.arguments import place_of, run_of, told_of_thread
from aiocheckpoint.adapters.langgraph.drafts import Draft, state_draft, writes_draft
from aiocheckpoint.adapters.langgraph.failures import Failures
from aiocheckpoint.adapters.langgraph.history import delta_history
from aiocheckpoint.adapters.langgraph.listing import (
    Listing,
    Refused,
    matching,
    sessions,
)
from aiocheckpoint.adapters.langgraph.looks import Looks
from aiocheckpoint.adapters.langgraph.reading import Entry, find
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from aiocheckpoint.adapters.langgraph.removal import Removal
from aiocheckpoint.adapters.langgraph.storage import opened
from aiocheckpoint.adapters.langgraph.sync import SynchronousMethods
from aiocheckpoint.adapters.langgraph.tuples import config_of, thread_id_of, tuple_of
from aiocheckpoint.adapters.langgraph.turns import Turns
from aiocheckpoint.adapters.langgraph.underway import Underway
from aiocheckpoint.kit import AsyncClosing
from aiocheckpoint.portal import Portal


class CheckpointSaver(AsyncClosing, SynchronousMethods):
    """
    Checkpoints of LangGraph threads in any store: durable, checked, and nothing written twice.

    The storage is a directory, a database or a bucket by its URL, or a store that is open; graphs
    run unchanged on each of them.

    Every method comes in two forms. The asynchronous ones, told of here, do not block the loop.
    The others, without the `a` before their names (`put`, `get_tuple`, `list`, `flush`, `close`),
    do the same. They may be called from any thread, also one with a running loop, which they then
    block; `with` closes the saver where there is no loop. One saver serves any number of threads,
    tasks, event loops and processes; a forked child opens the storage anew, unless that is a store
    that was given open.

    **Durability** of `put` and `put_writes`: on return they survive what the store promises to
    survive; in a directory, a power cut. LangGraph waits for `put` in its durability `"sync"`, and
    for neither before the next step in `"async"`.

    **Cancellation**: stored as a whole or not at all.

    **Damage**: every read raises `CheckpointCorruptError`, never gives None or something older.

    **Two runs of one thread**: `put` raises `ThreadChangedError` when another run, by this saver
    or another, has stored the newest checkpoint of the thread, and what is put does not follow it,
    whoever was shown that meanwhile; and when a later run has begun by this saver. Whoever asked
    for a checkpoint by its id may fork from it, unless it is not there any more: LangGraph begins
    from nothing then, and `put` raises.

    Args:
        storage: a directory; a URL, as `open_store` takes it; or an open `BlobStore` of
            `ThreadRecord`, or of more than that, which whoever has opened it closes.
        serde: what turns values into bytes; by default LangGraph's `JsonPlusSerializer`.
        keep_last: how many checkpoints of each namespace to keep, the newest, and apart from them
            what their delta channels are rebuilt from; up to a quarter more until they are removed
            together, and with them what graphs within their tasks have stored. None keeps all.
        refuse_forks: whether `put` raises `ThreadChangedError` where another run has gone on.
        options: for a directory, also by its `file://` URL, those of `AsyncCheckpointWriter`, as
            `durability`; for another URL `max_bytes`, `lock_timeout_seconds` and `must_exist`; for
            an open store none.

    Raises:
        TypeError: an option that there is not.
        InvalidArgumentError: an argument of the wrong type or out of range, an option that the
            storage does not have, or `max_checkpoints`, given or of an open store; also by every
            method, before anything is touched.
        UnsupportedOperationError: the extra for this kind of store is not installed.
    """

    def __init__(
        self,
        storage: Storage[ThreadRecord],
        *,
        serde: SerializerProtocol | None = None,
        keep_last: int | None = None,
        refuse_forks: bool = True,
        **options: Any,
    ) -> None:
        arguments.require_serializer(serde)
        super().__init__(serde=serde)
        arguments.require_count("keep_last", keep_last, 1)
        arguments.require_bool("refuse_forks", refuse_forks)
        # Shared with clones that differ in their serializer, so nothing here is ever replaced.
        self._store, self._is_own = opened(storage, options)
        self._ended = threading.Event()
        self._portal = Portal()
        self._turns = Turns(self._store, refuse_forks=refuse_forks)
        self._underway = Underway()
        self._failures = Failures()
        self._looks = Looks()
        self._removal = Removal(self._store, self._turns.watches)
        self._erasing = Erasing()
        self._keep_last = keep_last

    async def aclose(self) -> None:
        """
        Finish what was submitted and release threads, files and connections; also of all clones.

        A store that was given open stays open.
        """
        try:
            await self._aclose()
        finally:
            self._portal.close()

    async def _aclose(self) -> None:
        if self._is_own:
            self._ended.set()
            await self._store.aclose()

    def _require_open(self) -> None:
        if self._ended.is_set():
            raise WriterClosedError("the saver is closed")

    async def aflush(self) -> None:
        """
        Make the files of all that was stored durable themselves; where there are none, do nothing.

        It happens by itself. Call it before something else takes over the directory: a backup.

        Raises:
            CheckpointError: what `AsyncCheckpointWriter.flush` raises.
        """
        flush = getattr(self._store, "flush", None)  # of a directory
        if flush is not None:
            await flush()

    def stats(self) -> WriterStats:
        """
        Return how the writer of this saver, and of all clones, is doing.

        Raises:
            UnsupportedOperationError: the storage is neither a directory nor a writer.
        """
        stats = getattr(self._store, "stats", None)
        if stats is None:
            reason = "only the writer of a directory counts; give a directory, or an open writer"
            raise UnsupportedOperationError("stats", type(self._store).__name__, reason)
        found: WriterStats = stats()
        return found

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
            ThreadChangedError: another run has begun or gone on with the thread; or the parent
                was asked for and was not there, though others are, as after it was pruned: then
                the run has begun from nothing. Nothing was stored.
            CheckpointError: what else `save` of the store raises.

        Cost: one serialization on the loop, and one save: in a directory one hop, and one fsync
            shared with all that wait.
        """
        with self._failures.storing(config):
            draft = state_draft(self.serde, self._looks, config, checkpoint, metadata)
            await self._store_state(draft)
        return config_of(thread_id_of(config), draft.record)

    async def _store_state(self, draft: Draft) -> None:
        with told_of_thread(draft.record.thread_id):
            with self._underway.storing(draft.session_id):
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
            CheckpointError: what `save` of the store raises.

        Cost: one serialization on the loop, and one save, as of `aput`.
        """
        with self._failures.storing(config):
            draft = writes_draft(self.serde, self._looks, config, writes, task_id, task_path)
            await self._store_writes(draft)

    async def _store_writes(self, draft: Draft) -> None:
        with told_of_thread(draft.record.thread_id):
            self._failures.require_stored(draft.record)
            with self._underway.storing(draft.session_id):
                await self._turns.store_writes(draft)
            self._failures.tell(draft.record)

    # Reading

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """
        Return a checkpoint, verified, with its pending writes in the order in which they apply.

        What this event loop is storing in the namespace is waited for: a run begins with it.

        Args:
            config: `thread_id`, `checkpoint_ns`; without a `checkpoint_id` the newest is meant,
                the one that was stored last, whatever its id.

        Returns:
            None when there is no such checkpoint.

        Raises:
            CheckpointCorruptError: it, or a value in it, is damaged or missing.
            CheckpointError: what else `load` of the store raises.

        Cost: one `read` of the store, in a directory one hop; the checkpoint's records and the
            blobs they refer to, however many others there are.
        """
        return await self._look(config)

    async def _look(self, config: RunnableConfig) -> CheckpointTuple | None:
        place = place_of(config)
        session_id = place.session_id
        key = None if place.checkpoint is None else records.key_of(place.checkpoint)
        run = run_of(config)
        is_run = run is not None and not place.namespace
        watch = self._turns.watches.of(session_id, is_run=is_run)
        if key is None:
            self._failures.begin(config)
        else:
            watch.choose(key)
        await self._underway.settled(session_id, is_run=is_run)
        turns = watch.enter(run, key)
        with told_of_thread(place.thread_id):
            found = await self._store.read(session_id, partial(find, session_id, key))
        if key is None:
            watch.look(found.key, found.last_id, turns)
        elif found.group.state is None:
            watch.miss(key)
        group = self._looks.shown(found.group, run, is_newest=key is None)
        return tuple_of(group, found.blobs, place.thread_id, self.serde)

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
            limit: at most so many, those that are damaged among them.

        Raises:
            CheckpointCorruptError: one is damaged; all others have been yielded by then, and of
                several such the rest are in its `others`.
            CheckpointError: what else `load` and `sessions` of the store raise.

        Cost: a `read` of the store for each 32 checkpoints of a namespace; with a filter also the
            records of those that do not match. For all threads, or all namespaces, one listing of
            the store's sessions.
        """
        arguments.require_count("limit", limit, 0)
        arguments.require_filter(filter)
        listing = await self._listing(config, filter, before, limit)
        while (part := await listing.read()) is not None:
            for item in part:
                yield item
        listing.raise_refused()

    async def _listing(
        self,
        config: RunnableConfig | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing:
        refused: Refused = []
        found = await self._matching(config, before, refused) if limit != 0 else ()
        thread_id = thread_id_of(config)
        run = None if config is None else run_of(config)
        show = None if run is None else self._looks.to(run)
        return Listing(self._store, self.serde, found, wanted, limit, thread_id, refused, show)

    async def _matching(
        self, config: RunnableConfig | None, before: RunnableConfig | None, refused: Refused
    ) -> list[Entry]:
        found = await matching(self._store, config, before, refused)
        if config is not None and before is not None and thread_id_of(config) is not None:
            place = place_of(config)
            if place.namespace:  # a run from an older checkpoint takes up a graph within a node
                self._failures.begin(config)
                watch = self._turns.watches.of(place.session_id)
                watch.choose(found[0].key if found else None)
        return found

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """
        Return what rebuilds delta channels: the nearest stored value, and the writes since.

        Args:
            config: the checkpoint, the newest without a `checkpoint_id`.
            channels: names of channels.

        Returns:
            for each channel the writes after its ancestors, oldest first, those that the next
            checkpoint is made of, and as `seed` the value at the nearest ancestor that has one.

        Raises:
            MissingAncestorError: an ancestor is not there from which one of them is rebuilt.
            CheckpointCorruptError: a checkpoint on the way is damaged.
            StorageError: the checkpoint was removed meanwhile.

        Cost: one or two reads an ancestor; only the asked channels' values are read.
        """
        place, names = place_of(config), arguments.texts("channels", channels)
        with told_of_thread(place.thread_id):
            return await delta_history(self._store, self.serde, place, names)

    # Removing

    async def adelete_thread(self, thread_id: str) -> None:
        """
        Remove all checkpoints and writes of a thread, in all namespaces, durably.

        Raises:
            ErasureIncompleteError: in a bucket, all is deleted, and some not erased: call again.
            CheckpointError: what else `delete_session` of the store raises.

        Cost: one listing of the thread's sessions, and one commit for each namespace.
        """
        arguments.named("thread_id", thread_id)
        found = sessions(self._store, {"thread_id": str(thread_id)})
        await self._erasing.delete(self._store, str(thread_id), found)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """
        Remove the checkpoints of some runs and the writes after them, durably.

        A run is known by `run_id` in the metadata, not by LangChain's `config["run_id"]`.
        Checkpoints of other runs whose delta channels are rebuilt from what is removed stay, and
        cannot be read by a graph any more: it raises `MissingAncestorError` for those up to the
        next that stores these channels whole.

        Args:
            run_ids: the runs; of all threads and namespaces.

        Raises:
            CheckpointError: what `load_many` and `delete_many` of the store raise.

        Cost: reads every checkpoint in the store; of a namespace that has some of them, those that
            stay once more.
        """
        runs = frozenset(arguments.texts("run_ids", run_ids))
        if not runs:
            return
        async for session_id in sessions(self._store, {}):
            await self._removal.remove_runs(session_id, runs)

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

        In each namespace the newest checkpoint always stays, with its writes. Ancestors from which
        delta channels of what stays are rebuilt are kept apart, with theirs: they are no
        checkpoints of the thread any more, for whoever lists, asks for one by its id or counts. A
        namespace of a graph within a task goes as a whole when the checkpoint that the task
        followed is gone.

        Args:
            thread_ids: the threads.
            strategy: `"keep_latest"`, or `"delete"` to remove everything.
            keep_last: keep so many instead of one.
            older_than: keep those stored since then instead; with `keep_last` both.

        Raises:
            InvalidArgumentError: `thread_ids` is a str, a number is not a whole one of at least
                1, a time is below 0, or one of them is given with `"delete"`.
            CheckpointError: what `load_many`, `update` and `delete_many` of the store raise.

        Durability: one commit for each namespace, so all of it or nothing.

        Cost: one listing of the thread's sessions; for each namespace a few `read`s, which read
            each checkpoint that stays and each ancestor; of what becomes an ancestor the record is
            written once more, without its values.
        """
        arguments.require_retention(strategy, keep_last, older_than)
        threads = [arguments.named("thread_ids", t) for t in listed("thread_ids", thread_ids)]
        for thread_id in map(str, threads):
            if strategy == "delete":
                await self.adelete_thread(thread_id)
                continue
            with told_of_thread(thread_id):
                await self._prune(thread_id, keep_last, older_than)

    async def _prune(
        self, thread_id: str, keep_last: int | None, older_than: timedelta | None
    ) -> None:
        of_thread = sessions(self._store, {"thread_id": thread_id})
        session_ids = [session_id async for session_id in of_thread]
        for session_id in session_ids:
            await self._removal.prune(session_id, keep_last, older_than)
        for session_id in session_ids:
            await self._removal.remove_ended(session_id)

    # Copying

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """
        Copy all checkpoints and writes of a thread, in all namespaces, durably, keeping ids.

        Args:
            source_thread_id: left as it is; of an unknown one nothing is copied.
            target_thread_id: one that is empty, or the first part of a copy, which is completed.

        Raises:
            InvalidArgumentError: the target has what the source has not, as when somebody has gone
                on with it: the copy would hide that. Nothing was copied.
            SessionChangedError: somebody has stored in the target meanwhile; what was copied stays.
            CheckpointCorruptError: one of the source is damaged; what was copied stays.
            CheckpointError: what else `load_many` and `save` of the store raise.

        Durability: on return all is durable. After a crash the target may hold the first part;
            copy again.

        Cost: reads and writes everything, 32 checkpoints at a time; what is there already is read.
        """
        source = str(arguments.named("source_thread_id", source_thread_id))
        target = str(arguments.named("target_thread_id", target_thread_id))
        if source != target:
            with told_of_thread(source):
                await copying.copy_thread(self._store, source, target)

    # Versions

    def get_next_version(self, current: str | int | None, channel: None) -> str:  # noqa: ARG002
        """Return a version after another, different also from those of forks."""
        number = 0
        if current is not None:
            number = int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - not a secret
