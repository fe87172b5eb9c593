"""Moving threads here from another saver, checkpoint by checkpoint, each compared afterwards."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointTuple,
    PendingWrite,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint.adapters._moving import ADVICE, OF_ONE_SESSION
from aiocheckpoint.adapters.langgraph.records import configurable_of
from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver
from aiocheckpoint.adapters.langgraph.sources import (
    Place,
    UnreadableError,
    configs_in,
    place_of,
    read_whole,
    require_names,
    task_paths,
    unlisted_in,
)
from aiocheckpoint.adapters.langgraph.undecoded import plain, undecoded, with_serde

_ONLY_STORES = "which only `copy_store` copies, so nothing of the thread was copied"


class Copied(NamedTuple):
    """
    How much was copied.

    Attributes:
        threads: so many begun.
        checkpoints: so many, in all namespaces.
        writes: so many pending writes.
    """

    threads: int = 0
    checkpoints: int = 0
    writes: int = 0


class CopyMismatchError(RuntimeError):
    """
    Threads that were not copied, or checkpoints that do not read the same; all others were copied.

    Attributes:
        failures: of each one the config of a checkpoint, and what is wrong with it.
    """

    def __init__(self, failures: Sequence[tuple[RunnableConfig, str]]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        return "\n".join(f"{_named(config)} {reason}" for config, reason in self.failures)


def _named(config: RunnableConfig) -> str:
    place = configurable_of(config)
    namespace = place.get("checkpoint_ns")
    within = f", namespace {namespace!r}" if namespace else ""
    return f"thread {place['thread_id']!r}{within}: checkpoint {place['checkpoint_id']!r}"


async def copy_threads(
    source: BaseCheckpointSaver[Any],
    target: BaseCheckpointSaver[Any],
    *,
    progress: Callable[[Copied], object] | None = None,
) -> Copied:
    """
    Copy all threads of a saver, with all namespaces, checkpoints and pending writes.

    Each checkpoint is read back and compared. It may be run again: of a thread that is there in
    part, as after a crash, the rest is added; one that is there whole is left as it is. A thread
    of which anything is there that the source has not is refused before anything of it is written,
    since the application may have gone on with it; so is one of which a value in the source is
    damaged. All others are copied, unless a saver other than `AsyncSqliteSaver` cannot list what is
    damaged: it raises that before anything is copied. Nobody may use the source meanwhile. What
    LangGraph's own serializer has written, encrypted or not, is copied as it is, and the
    application's classes are not needed; a serializer of the application has to know them.

    Savers but `AsyncSqliteSaver` do not tell which place in its step a task has: of a step that was
    half done a `DeltaChannel` has what is written after the move last. Between two places of
    `CheckpointSaver` use `copy_store`: a thread with delta channels is refused here that was pruned
    there, or in which two went on from one checkpoint.

    Args:
        source: an asynchronous saver: `AsyncSqliteSaver`, `AsyncPostgresSaver` or another, with
            the serializer that has written there.
        target: a `CheckpointSaver`, without `keep_last`; prune when all is there.
        progress: called after each checkpoint.

    Returns:
        how much was copied, or was there.

    Raises:
        CopyMismatchError: threads were refused, or could not be read or stored, or checkpoints read
            differently from the target; all others are there.
        CheckpointError: what else `aput` and `aput_writes` of the target raise, as of a full disk;
            its notes say what was refused before.

    Cost: three reads of the source a checkpoint, one commit of the target for it and one for each
        task that wrote after it; of what is there already one read more, and no commit.
    """
    original = plain(source.serde)
    serdes = undecoded(source.serde), undecoded(target.serde)
    if serdes[0] is not None and serdes[1] is not None:
        source, target = with_serde(source, serdes[0]), with_serde(target, serdes[1])
    if isinstance(target, CheckpointSaver):
        target = _copying_into(target)
    move = _Move(source, target, original, progress or (lambda _: None))
    threads: defaultdict[object, list[RunnableConfig]] = defaultdict(list)
    for config in await configs_in(source):
        thread_id = configurable_of(config)["thread_id"]
        is_damaged = thread_id is None or isinstance(thread_id, bytes)
        threads[thread_id if is_damaged else str(thread_id)].append(config)
    try:
        for configs in threads.values():
            await move.try_thread(configs)
    except Exception as error:
        if move.failures:
            error.add_note(str(CopyMismatchError(move.failures)))
        raise
    if move.failures:
        raise CopyMismatchError(move.failures)
    return move.copied


class _Move:
    """
    Copies thread by thread.

    Attributes:
        copied: how much.
        failures: what was refused, or is not the same.
    """

    def __init__(
        self,
        source: BaseCheckpointSaver[Any],
        target: BaseCheckpointSaver[Any],
        original: SerializerProtocol,
        progress: Callable[[Copied], object],
    ) -> None:
        self._source = source
        self._target = target
        self._original = original
        self._serde = plain(target.serde)
        self._progress = progress
        self.copied = Copied()
        self.failures: list[tuple[RunnableConfig, str]] = []

    async def try_thread(self, configs: Sequence[RunnableConfig]) -> None:
        """Copy a thread, and keep what is wrong with it alone."""
        try:
            await self._copy_thread(configs)
        except UnreadableError as error:
            self.failures.append((error.config, str(error)))
        except OF_ONE_SESSION as error:
            self.failures.append((configs[-1], f"was not copied with its thread: {error}"))

    async def _copy_thread(self, configs: Sequence[RunnableConfig]) -> None:
        """
        Copy a thread, unless there is anything of it in the target that is not in the source.

        Args:
            configs: all its checkpoints in the source, oldest first.
        """
        for config in configs:
            require_names(self._source, config)
        needed = await unlisted_in(self._source, configurable_of(configs[0])["thread_id"])
        if needed is not None:
            reason = f"needs for its delta channels {needed}, {_ONLY_STORES}"
            self.failures.append((configs[-1], reason))
            return
        there = await self._there(configs)
        if there is None:
            return
        for config in configs:  # all of it, before anything of it is written
            if place_of(config) not in there:
                await self._read(config)
            await task_paths(self._source, config)
        threads = self.copied.threads + 1
        for config in configs:
            found = await self._read(config)
            if found is None:
                self.failures.append((config, "went away meanwhile; copy when nobody writes"))
                continue
            done = there.get(place_of(config))
            if done is None:
                await self._put(found)
            await self._put_writes(found, done or frozenset())
            part = _difference(found, await _listed(self._target, config), self._serde)
            if part is not None:
                self.failures.append((config, f"is not the same after the copy: its {part}"))
                continue
            writes = self.copied.writes + len(found.pending_writes or ())
            self.copied = Copied(threads, self.copied.checkpoints + 1, writes)
            self._progress(self.copied)

    async def _there(self, configs: Sequence[RunnableConfig]) -> dict[Place, frozenset[str]] | None:
        """
        Return what is in the target already, and which tasks' writes are.

        Returns:
            None when that is no part of the source, and so was refused.
        """
        wanted: defaultdict[str, deque[RunnableConfig]] = defaultdict(deque)
        for config in configs:
            wanted[place_of(config).namespace].append(config)
        thread_id = configurable_of(configs[0])["thread_id"]
        for namespace in wanted:  # so that a put is refused that somebody has come before
            await self._target.aget_tuple(
                {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}
            )
        whole: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        listed = [found.config async for found in self._target.alist(whole)][::-1]
        known = {*map(place_of, configs)}
        there: dict[Place, frozenset[str]] = {}
        for config in listed:
            place = place_of(config)
            row = wanted[place.namespace]
            if place not in known:
                reason: str | None = "is in the target and not in the source"
            elif place != place_of(row[0]):
                older = configurable_of(row[0])["checkpoint_id"]
                reason = f"is in the target without {older!r}, which is older"
            else:
                reason, there[place] = await self._compared(row.popleft())
            if reason is not None:
                self.failures.append(
                    (config, f"{reason}, so nothing of the thread was copied; {ADVICE}")
                )
                return None
        return there

    async def _compared(self, config: RunnableConfig) -> tuple[str | None, frozenset[str]]:
        """Return how a checkpoint differs that both have, and which tasks wrote in the target."""
        before, after = await self._read(config), await _listed(self._target, config)
        if before is None or after is None:
            return "went away meanwhile", frozenset()
        tasks = _by_task(after.pending_writes or ())
        wanted = _by_task(before.pending_writes or ())
        for task_id, writes in tasks.items():
            if not _is_same(writes, wanted.get(task_id), self._serde):
                return "has other pending writes in the target", frozenset()
        part = _difference(before._replace(pending_writes=after.pending_writes), after, self._serde)
        reason = part and f"is not the same in the target as in the source: its {part}"
        return reason, frozenset(tasks)

    async def _read(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await read_whole(self._source, config, self._original)

    async def _put(self, found: CheckpointTuple) -> None:
        configurable = dict(configurable_of(found.config))
        parent = found.parent_config
        configurable["checkpoint_id"] = parent and configurable_of(parent)["checkpoint_id"]
        place: RunnableConfig = {"configurable": configurable}
        versions = found.checkpoint["channel_versions"]
        await self._target.aput(place, found.checkpoint, found.metadata, versions)

    async def _put_writes(self, found: CheckpointTuple, done: frozenset[str]) -> None:
        by_task = _by_task(found.pending_writes or ())
        if by_task.keys() <= done:
            return
        paths = await task_paths(self._source, found.config)
        for number, (task_id, writes) in enumerate(by_task.items()):
            if task_id in done:
                continue
            # A saver that does not tell the paths still tells the order.
            path = f"{number:010}" if paths is None else paths.get(task_id, "")
            await self._target.aput_writes(found.config, writes, task_id, path)


def _copying_into(saver: CheckpointSaver) -> CheckpointSaver:
    """Return a clone whose puts may fork, as the source may; only those of others are told of."""
    clone = copy(saver)
    clone._turns = saver._turns.of_a_copy()  # noqa: SLF001 - of this package
    return clone


async def _listed(
    saver: BaseCheckpointSaver[Any], config: RunnableConfig
) -> CheckpointTuple | None:
    """Return a checkpoint by listing it: to ask for it by its id would allow a fork from it."""
    async for found in saver.alist(config):
        return found
    return None


def _by_task(pending: Iterable[PendingWrite]) -> dict[str, list[tuple[str, Any]]]:
    by_task: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for task_id, channel, value in pending:
        by_task[task_id].append((channel, value))
    return by_task


def _difference(
    before: CheckpointTuple, after: CheckpointTuple | None, serde: SerializerProtocol
) -> str | None:
    """Return which part of a checkpoint is not the same; None where all are."""
    for part in CheckpointTuple._fields:
        if not _is_same(getattr(before, part), getattr(after, part, None), serde):
            return part
    return None


def _is_same(one: Any, other: Any, serde: SerializerProtocol) -> bool:
    """Tell whether values serialize alike, as NaN does, in whatever order their keys are."""
    if serde.dumps_typed(one) == serde.dumps_typed(other):
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _is_same(one[key], other[key], serde) for key in one
        )
    return bool(one == other)
