"""Moving threads here from another saver, checkpoint by checkpoint, each compared afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, PendingWrite

from aiocheckpoint.adapters.langgraph.records import configurable_of

_PATHS_SQL = (
    "SELECT DISTINCT task_id, task_path FROM writes "
    "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
)


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
    A checkpoint that does not read the same from both savers.

    Attributes:
        config: of the checkpoint.
        part: which part differs.
    """

    def __init__(self, config: RunnableConfig, part: str) -> None:
        super().__init__(config, part)
        self.config = config
        self.part = part

    def __str__(self) -> str:
        return f"the {self.part} of {configurable_of(self.config)} is not the same after the copy"


async def copy_threads(
    source: BaseCheckpointSaver[Any],
    target: BaseCheckpointSaver[Any],
    *,
    progress: Callable[[Copied], object] | None = None,
) -> Copied:
    """
    Copy all threads of a saver, with all namespaces, checkpoints and pending writes.

    Each checkpoint is read back and compared. It may be run again: what is there already is
    replaced by the same. Nobody may use the source meanwhile.

    Args:
        source: an asynchronous saver: `AsyncSqliteSaver`, `AsyncPostgresSaver` or another.
        target: a `CheckpointSaver`.
        progress: called after each checkpoint.

    Returns:
        how much was copied.

    Raises:
        CopyMismatchError: a checkpoint reads differently from the target.
        CheckpointError: what `aput` and `aput_writes` of the target raise.

    Cost: two reads of the source a checkpoint, one commit of the target for it and one for each
        task that wrote after it.
    """
    copied = Copied()
    threads: set[str] = set()
    # Ids alone first: a store may be larger than memory. Oldest first, as they were put.
    configs = [found.config async for found in source.alist(None)]
    for config in reversed(configs):
        found = await source.aget_tuple(config)
        if found is None:
            raise CopyMismatchError(config, "source")
        await _copy(source, target, found)
        again = await target.aget_tuple(config)
        _require_same(target, found, again)
        threads.add(configurable_of(config)["thread_id"])
        writes = copied.writes + len(found.pending_writes or ())
        copied = Copied(len(threads), copied.checkpoints + 1, writes)
        if progress is not None:
            progress(copied)
    return copied


async def _copy(
    source: BaseCheckpointSaver[Any], target: BaseCheckpointSaver[Any], found: CheckpointTuple
) -> None:
    configurable = dict(configurable_of(found.config))
    parent = found.parent_config
    configurable["checkpoint_id"] = parent and configurable_of(parent)["checkpoint_id"]
    versions = found.checkpoint["channel_versions"]
    place: RunnableConfig = {"configurable": configurable}
    await target.aput(place, found.checkpoint, found.metadata, versions)
    by_task = _by_task(found.pending_writes or ())
    paths = await _task_paths(source, found.config)
    for number, (task_id, writes) in enumerate(by_task.items()):
        # A saver that does not tell the paths still tells the order.
        path = f"{number:010}" if paths is None else paths.get(task_id, "")
        await target.aput_writes(found.config, writes, task_id, path)


def _by_task(pending: Iterable[PendingWrite]) -> dict[str, list[tuple[str, Any]]]:
    by_task: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for task_id, channel, value in pending:
        by_task[task_id].append((channel, value))
    return by_task


async def _task_paths(
    source: BaseCheckpointSaver[Any], config: RunnableConfig
) -> dict[str, str] | None:
    """Return where tasks stand in the graph, None where the saver's tables are not known."""
    connection = getattr(source, "conn", None)
    if type(source).__name__ != "AsyncSqliteSaver" or connection is None:
        return None
    configurable = configurable_of(config)
    place = [configurable[key] for key in ("thread_id", "checkpoint_ns", "checkpoint_id")]
    async with connection.execute(_PATHS_SQL, place) as cursor:
        return {task_id: path async for task_id, path in cursor}


def _require_same(
    target: BaseCheckpointSaver[Any], before: CheckpointTuple, after: CheckpointTuple | None
) -> None:
    dumps = target.serde.dumps_typed
    for part in CheckpointTuple._fields:
        first, second = getattr(before, part), getattr(after, part, None)
        if first != second and dumps(first) != dumps(second):
            raise CopyMismatchError(before.config, part)
