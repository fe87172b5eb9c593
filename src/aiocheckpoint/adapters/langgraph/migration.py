"""Moving threads here from another saver, checkpoint by checkpoint, each compared afterwards."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from aiocheckpoint.adapters.langgraph.records import configurable_of, is_plain

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
    Checkpoints that do not read the same from both savers; all others were copied.

    Attributes:
        failures: of each one its config, and which part differs.
    """

    def __init__(self, failures: Sequence[tuple[RunnableConfig, str]]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        return "\n".join(
            f"the {part} of {configurable_of(config)} is not the same after the copy"
            for config, part in self.failures
        )


class _Undecoded(SerializerProtocol):
    """
    Leaves values that are not plain as the bytes that they are, and writes these again.

    A process that cannot import the classes of the application, or must not, would be given dicts
    in their place.
    """

    def __init__(self, serde: JsonPlusSerializer) -> None:
        self._serde = serde

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._serde.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, packed = data
        if kind != "msgpack":
            value = self._serde.loads_typed(data)
            if _names_a_class(value):
                reason = (
                    "a value that an old LangGraph wrote as JSON is of a class that is not here"
                )
                raise ValueError(f"{reason}; call `copy_threads` where it can be imported")
            return value
        return ormsgpack.unpackb(packed, ext_hook=ormsgpack.Ext, option=ormsgpack.OPT_NON_STR_KEYS)


def _names_a_class(value: object) -> bool:
    """Tell whether in a value there is one that its serializer could not make."""
    if isinstance(value, dict):
        is_named = value.get("lc") == 2 and value.get("type") == "constructor"
        return is_named or any(map(_names_a_class, value.values()))
    return isinstance(value, list) and any(map(_names_a_class, value))


async def copy_threads(
    source: BaseCheckpointSaver[Any],
    target: BaseCheckpointSaver[Any],
    *,
    progress: Callable[[Copied], object] | None = None,
) -> Copied:
    """
    Copy all threads of a saver, with all namespaces, checkpoints and pending writes.

    Each checkpoint is read back and compared. It may be run again: what is there already is
    replaced by the same. Nobody may use the source meanwhile. What LangGraph's own serializer has
    written, encrypted or not, is copied as it is, and the application's classes are not needed;
    a serializer of the application has to know them.

    Args:
        source: an asynchronous saver: `AsyncSqliteSaver`, `AsyncPostgresSaver` or another, with
            the serializer that has written there.
        target: a `CheckpointSaver`.
        progress: called after each checkpoint.

    Returns:
        how much was copied.

    Raises:
        CopyMismatchError: checkpoints read differently from the target; all others are there.
        CheckpointError: what `aput` and `aput_writes` of the target raise.

    Cost: two reads of the source a checkpoint, one commit of the target for it and one for each
        task that wrote after it.
    """
    original = _plain(source.serde)
    serdes = _undecoded(source.serde), _undecoded(target.serde)
    if serdes[0] is not None and serdes[1] is not None:
        source, target = _with_serde(source, serdes[0]), _with_serde(target, serdes[1])
    copied = Copied()
    threads: set[str] = set()
    failures: list[tuple[RunnableConfig, str]] = []
    # Ids alone first: a store may be larger than memory. Oldest first, as they were put.
    configs = [found.config async for found in source.alist(None)]
    for config in reversed(configs):
        found = await source.aget_tuple(config)
        if found is None:
            failures.append((config, "source"))
            continue
        found = found._replace(metadata=_revived(found.metadata, original))
        await _copy(source, target, found)
        part = _difference(found, await target.aget_tuple(config), _plain(target.serde))
        if part is not None:
            failures.append((config, part))
            continue
        threads.add(configurable_of(config)["thread_id"])
        writes = copied.writes + len(found.pending_writes or ())
        copied = Copied(len(threads), copied.checkpoints + 1, writes)
        if progress is not None:
            progress(copied)
    if failures:
        raise CopyMismatchError(failures)
    return copied


def _plain(serde: SerializerProtocol) -> SerializerProtocol:
    """Return what gives the same bytes for the same value, as encryption does not."""
    return serde.serde if isinstance(serde, EncryptedSerializer) else serde


def _undecoded(serde: SerializerProtocol) -> SerializerProtocol | None:
    """Return a serializer that copies what one has written; None for one of the application."""
    if type(serde) is JsonPlusSerializer:
        return _Undecoded(serde)
    if type(serde) is EncryptedSerializer:
        inner = _undecoded(serde.serde)
        return inner and EncryptedSerializer(serde.cipher, inner)
    return None


def _with_serde(
    saver: BaseCheckpointSaver[Any], serde: SerializerProtocol
) -> BaseCheckpointSaver[Any]:
    """Return a clone, as `with_allowlist` of LangGraph does."""
    clone = copy.copy(saver)
    clone.serde = serde
    return clone


def _revived(metadata: CheckpointMetadata, serde: SerializerProtocol) -> CheckpointMetadata:
    """Return metadata, which are read here, with those values decoded that lose nothing by it."""
    revived: dict[str, Any] = {}
    for key, value in metadata.items():
        packed = serde.dumps_typed(value)
        decoded = value if is_plain(value) else serde.loads_typed(packed)
        revived[key] = decoded if serde.dumps_typed(decoded) == packed else value
    return cast("CheckpointMetadata", revived)


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
