"""Lists in which nothing that cannot be read hides the rest, or is hidden itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from aiocheckpoint import (
    BlobStore,
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointId,
    CheckpointRecord,
    CheckpointTooLargeError,
    ExactValueError,
    FormatVersionError,
    InvalidArgumentError,
    JournalCorruptError,
    NotACheckpointError,
    SessionId,
    SessionReader,
    StorageError,
)
from aiocheckpoint.kit import raise_all

RecordT = TypeVar("RecordT", bound=CheckpointRecord)
ListT = TypeVar("ListT")

OF_ONE: Final = (
    CheckpointCorruptError, CheckpointDecodeError, CheckpointTooLargeError, ExactValueError,
    FormatVersionError, NotACheckpointError, StorageError,
)  # fmt: skip
"""What is wrong with one checkpoint, or session, and not with all."""

UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def session_names(
    store: BlobStore[Any], prefix: str
) -> tuple[list[SessionId], list[CheckpointError]]:
    """Return the names of the sessions that begin so, and why of some nobody can tell it."""
    names: list[SessionId] = []
    try:
        async for name in store.sessions(prefix=prefix):
            names.append(name)  # noqa: PERF401 - what was yielded before an error counts
    except OF_ONE as error:  # after all others
        return names, [error]
    return names, []


async def newest_of(
    store: BlobStore[RecordT], names: Sequence[SessionId]
) -> tuple[dict[SessionId, RecordT], dict[SessionId, CheckpointError]]:
    """
    Return the newest record of each session that has one, and why some cannot be read.

    Cost: one `load_newest`; where n are refused, some 2 n log2(len(names)) more.
    """
    try:
        return {**await store.load_newest(names)}, {}
    except OF_ONE as error:
        if len(names) == 1:
            return {}, {names[0]: error}
    half = len(names) // 2
    found, refused = await newest_of(store, names[:half])
    more_found, more_refused = await newest_of(store, names[half:])
    return found | more_found, refused | more_refused


async def each_of(
    session: SessionReader[RecordT], checkpoint_ids: Sequence[CheckpointId]
) -> tuple[list[RecordT], dict[CheckpointId, CheckpointError]]:
    """Return those of the records that are there, in the order given, and why some are not read."""
    found: list[RecordT] = []
    refused: dict[CheckpointId, CheckpointError] = {}
    for checkpoint_id in checkpoint_ids:
        try:
            record = await session.load(checkpoint_id)
        except OF_ONE as error:
            refused[checkpoint_id] = error
        else:
            found += [] if record is None else [record]
    return found, refused


async def saved_at(
    store: BlobStore[Any], session_id: SessionId, checkpoint_id: CheckpointId | None = None
) -> datetime | None:
    """
    Return when a checkpoint that cannot be read was stored.

    Args:
        store: where.
        session_id: of it.
        checkpoint_id: the one that was saved last for None.

    Returns:
        1970 where nobody can tell; None when it is not there any more.
    """
    try:
        metas = await store.list(session_id, limit=1 if checkpoint_id is None else None)
    except OF_ONE:
        return UNKNOWN_TIME
    times = (it.saved_at for it in metas if checkpoint_id in (None, it.checkpoint_id))
    return next(times, None)


def in_order(time: datetime) -> datetime:
    """Return what a time is sorted by, also beside those that say no zone."""
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def finished(listed: ListT, *refused: Iterable[CheckpointError]) -> ListT:
    """
    Return a list that names all there is.

    Args:
        listed: what could be told.
        refused: what the list cannot name.

    Raises:
        CheckpointError: the first that is refused, with the list as its `listed`.
    """
    try:
        raise_all((error for errors in refused for error in errors), listed)
    except CheckpointError as error:
        error.add_note("all else that was asked for is in `listed` of this error")
        raise
    return listed


def of_unknown(refused: Iterable[CheckpointError]) -> list[CheckpointError]:
    """Return those errors by which there may also be sessions whose names nobody knows."""
    return [error for error in refused if isinstance(error, JournalCorruptError)]


def require_read(name: str, value: object) -> None:
    """
    Refuse what a list has in the place of something that could not be read: it has no content.

    Raises:
        InvalidArgumentError: it is such.
    """
    problem = getattr(value, "problem", None)
    if problem is not None:
        raise InvalidArgumentError(name, value, f"one that can be read: {problem}")
