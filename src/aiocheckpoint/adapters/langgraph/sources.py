"""Reading threads from another saver, as its tables have them where these are known."""

from __future__ import annotations

from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from aiocheckpoint import CheckpointError
from aiocheckpoint.adapters._sources import UNREADABLE, brief, text_in
from aiocheckpoint.adapters.langgraph.listing import unlisted
from aiocheckpoint.adapters.langgraph.records import configurable_of
from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver
from aiocheckpoint.adapters.langgraph.undecoded import revived

_PLACE = ("thread_id", "checkpoint_ns", "checkpoint_id")
_PLACES_SQL = f"SELECT {', '.join(_PLACE)} FROM checkpoints ORDER BY checkpoint_id"  # noqa: S608
_PATHS_SQL = (
    "SELECT DISTINCT task_id, task_path FROM writes "
    "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?"
)


class Place(NamedTuple):
    """Where a checkpoint is within its thread."""

    namespace: str
    checkpoint: str


def place_of(config: RunnableConfig) -> Place:
    """Return where the checkpoint of a config is."""
    configurable = configurable_of(config)
    return Place(configurable.get("checkpoint_ns") or "", configurable["checkpoint_id"])


class UnreadableError(Exception):
    """
    The source cannot read a checkpoint.

    Attributes:
        config: its config.
    """

    def __init__(self, config: RunnableConfig, error: Exception) -> None:
        reason = "cannot be read in the source, so nothing of the thread was copied"
        advice = (
            "where another serializer wrote it, call copy_threads with two savers that have that; "
            "only where it is damaged, mend or delete it"
        )
        super().__init__(f"{reason}; {advice}: {brief(error)}")
        self.config = config


async def read_whole(
    source: BaseCheckpointSaver[Any], config: RunnableConfig, serde: SerializerProtocol
) -> CheckpointTuple | None:
    """
    Return a checkpoint, None where it went away.

    Args:
        source: the saver.
        config: of the checkpoint.
        serde: decodes what is in its metadata.

    Raises:
        UnreadableError: it has a value that is damaged.
    """
    try:
        found = await source.aget_tuple(config)
        if found is None:
            return None
        _require_whole(found)
        return found._replace(metadata=revived(found.metadata, serde))
    except CheckpointError:  # of a source that is of this library, too
        raise
    except UNREADABLE as error:
        raise UnreadableError(config, error) from error


def _require_whole(found: CheckpointTuple) -> None:
    """
    Refuse what was read, but is no checkpoint of that place.

    Raises:
        ValueError: it is none; or TypeError, or KeyError.
    """
    checkpoint = found.checkpoint
    for key in ("channel_values", "channel_versions"):
        if not isinstance(checkpoint[key], dict):
            raise TypeError(f"its {key} is no dict")
    if checkpoint["id"] != place_of(found.config).checkpoint:
        raise ValueError(f"its value is of checkpoint {checkpoint['id']!r}")
    names: list[object] = [name for write in found.pending_writes or () for name in write[:2]]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("the task or the channel of a write is no text")
    parent = found.parent_config
    if parent is not None and not isinstance(configurable_of(parent)["checkpoint_id"], str):
        raise TypeError("the id of the one before it is no text")


def _tables(source: BaseCheckpointSaver[Any]) -> Any:
    """Return the connection of a saver whose tables are known; None of another."""
    is_known = type(source).__name__ == "AsyncSqliteSaver"
    return getattr(source, "conn", None) if is_known else None


async def configs_in(source: BaseCheckpointSaver[Any]) -> list[RunnableConfig]:
    """
    Return where all checkpoints are, oldest first, as they were put.

    Ids alone: a store may be larger than memory. To list a damaged one would end the list. An id
    of a database that is no text comes as what it is.
    """
    connection = _tables(source)
    if connection is None:
        return [found.config async for found in source.alist(None)][::-1]
    saver: Any = source
    await saver.setup()
    text_factory, connection.text_factory = connection.text_factory, text_in
    try:
        async with connection.execute(_PLACES_SQL) as cursor:
            return [{"configurable": dict(zip(_PLACE, row, strict=True))} async for row in cursor]
    finally:
        connection.text_factory = text_factory


async def unlisted_in(source: BaseCheckpointSaver[Any], thread_id: object) -> str | None:
    """Return what delta channels of a thread need that the saver does not list."""
    if not isinstance(source, CheckpointSaver):
        return None
    return await unlisted(source._store, str(thread_id))  # noqa: SLF001 - of this package


def require_names(source: BaseCheckpointSaver[Any], config: RunnableConfig) -> None:
    """
    Refuse a checkpoint of a database of which an id is damaged.

    Raises:
        UnreadableError: one is no text.
    """
    configurable = configurable_of(config)
    if _tables(source) is not None and not all(isinstance(configurable[k], str) for k in _PLACE):
        raise UnreadableError(config, TypeError("an id is no text"))


async def task_paths(
    source: BaseCheckpointSaver[Any], config: RunnableConfig
) -> dict[str, str] | None:
    """
    Return where tasks stand in the graph, None where the saver's tables are not known.

    Raises:
        UnreadableError: one of them is damaged.
    """
    connection = _tables(source)
    if connection is None:
        return None
    configurable = configurable_of(config)
    place = [configurable[key] for key in _PLACE]
    try:
        async with connection.execute(_PATHS_SQL, place) as cursor:
            paths = {task_id: path async for task_id, path in cursor}
        "".join(paths.values())  # all are texts
    except UNREADABLE as error:
        raise UnreadableError(config, error) from error
    return paths
