"""What LangGraph stores, as records of ours; pure.

A thread's namespace is one session. A checkpoint is a record whose id begins with `s`; what one
call of `aput_writes` brought is one whose id begins with `p`, and so sorts below. What was a
checkpoint, and stays only because delta channels of others are rebuilt from it, begins with `a`.
Ids, metadata and versions are plain JSON.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    PendingWrite,
    writes_sort_key,
)
from msgspec import UNSET, UnsetType

from aiocheckpoint import (
    BlobRecord,
    CheckpointId,
    InvalidArgumentError,
    JsonValue,
    SessionId,
    new_checkpoint_id,
)
from aiocheckpoint.adapters.langgraph.serialized import Decoder, Serialized

STATE_PREFIX = "s"
PENDING_PREFIX = "p"
ANCESTOR_PREFIX = "a"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BASE32 = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
_KEY_LENGTH = 26
_DIGEST_MARK = "w"
TAG_LENGTH = 11
_WRITER_LENGTH = 6
_RANDOM_LENGTH = 10
NOBODY = "0" * _WRITER_LENGTH
"""Writes whatever it is of whom nothing is known."""
_TIME_ORDERED = 6
_EPOCH = datetime(1582, 10, 15, tzinfo=UTC)  # of the times in UUIDs
_SESSION = re.compile(r"[a-z2-7]{52}(\.[a-z2-7]{52})?")


class ThreadRecord(BlobRecord, kw_only=True):
    """
    A checkpoint of a thread, or what one task wrote after it.

    Attributes:
        thread_id: as LangGraph gave it, as a str.
        checkpoint_ns: the namespace, `""` for the graph itself.
        checkpoint: LangGraph's id of the checkpoint.
        parent: LangGraph's id of the checkpoint before it, None for the first.
        trigger: the checkpoint's source, `"pending"` for writes.
        iteration: the checkpoint's step, -2 where it has none.
        metadata: the part of the checkpoint's metadata that is plain JSON.
        document: the part of the checkpoint that is plain JSON.
        channels: serialized values by the names of their channels.
        serialized: what of `document` is not plain JSON, serialized, by its key.
        serialized_metadata: likewise of `metadata`.
        task_id: the task that wrote.
        task_path: where it stands in the graph.
        writes: what it wrote: `channel`, `index` and the serialized `value`.
        made_of: of which writes after its parent a checkpoint is made, where delta channels are
            rebuilt from them: how their ids go on behind the parent's; UNSET for all.
    """

    thread_id: str
    checkpoint_ns: str
    checkpoint: str
    parent: str | None = None
    trigger: str = ""
    iteration: int = -2
    metadata: JsonValue | UnsetType = UNSET
    document: JsonValue | UnsetType = UNSET
    channels: JsonValue | UnsetType = UNSET
    serialized: JsonValue | UnsetType = UNSET
    serialized_metadata: JsonValue | UnsetType = UNSET
    task_id: str | UnsetType = UNSET
    task_path: str | UnsetType = UNSET
    writes: JsonValue | UnsetType = UNSET
    made_of: list[str] | UnsetType = UNSET


# Ids


def configurable_of(config: RunnableConfig) -> dict[str, Any]:
    """
    Return the part of a config that names a thread, a namespace and a checkpoint.

    Raises:
        InvalidArgumentError: it is no config.
    """
    given: object = config
    configurable = (given.get("configurable") or {}) if isinstance(given, Mapping) else None
    if not isinstance(configurable, dict):
        raise InvalidArgumentError("config", given, "a config, a dict with a dict `configurable`")
    return configurable


def session_of(thread_id: object, checkpoint_ns: str = "") -> SessionId:
    """
    Return the session in which a thread's namespace is stored.

    Any thread id will do, namespaces of any depth, also where names of files ignore case: it is
    made of digests. The ids themselves are in the files.
    """
    thread = thread_prefix(thread_id)
    return f"{thread}.{_digest_name(checkpoint_ns)}" if checkpoint_ns else thread


def root_of(session_id: SessionId) -> SessionId:
    """Return the session of a thread's own namespace, of one of any namespace of it."""
    return session_id.partition(".")[0]


def thread_prefix(thread_id: object) -> str:
    """Return what the names of all sessions of a thread begin with."""
    return _digest_name(str(thread_id))


def is_session(session_id: SessionId) -> bool:
    """Tell whether a session may be one of ours."""
    return _SESSION.fullmatch(session_id) is not None


@lru_cache(maxsize=1024)
def _digest_name(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


@lru_cache(maxsize=1024)
def key_of(checkpoint: str) -> str:
    """
    Return a checkpoint's key: 26 letters and digits, which sort like the id if that is a UUID.

    Any other id's key is a digest, and sorts after all of them.
    """
    if _UUID.fullmatch(checkpoint):
        return _base32(int(checkpoint.replace("-", ""), 16), _KEY_LENGTH)
    digest = hashlib.sha256(checkpoint.encode("utf-8", "surrogatepass")).digest()
    return _DIGEST_MARK + _base32(int.from_bytes(digest) >> 131, _KEY_LENGTH)[1:]


def tells_checkpoint(key: str) -> bool:
    """Tell whether a key tells the checkpoint's id, and so sorts like it."""
    return not key.startswith(_DIGEST_MARK)


def checkpoint_of(key: str) -> str | None:
    """Return the id that a key tells; None where only the record can tell."""
    if not tells_checkpoint(key):
        return None
    digits = f"{int(key, 32):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _base32(number: int, length: int) -> str:
    """Return a number in base 32, an even number of digits; they sort like the numbers."""
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(5 * (length - 2), -1, -10)]
    return "".join(pairs)


def state_id(key: str) -> CheckpointId:
    """Return the id of a checkpoint's record."""
    return STATE_PREFIX + key


def is_state(record_id: CheckpointId) -> bool:
    """Tell whether a record is a checkpoint's."""
    return record_id.startswith(STATE_PREFIX)


def ancestor_id(key: str) -> CheckpointId:
    """Return the id of the record of what was a checkpoint, and stays as an ancestor of others."""
    return ANCESTOR_PREFIX + key


def pending_prefix(key: str) -> str:
    """Return what the ids of all records of writes after a checkpoint begin with."""
    return PENDING_PREFIX + tag_of(key)


def new_pending_id(key: str, writer: str) -> CheckpointId:
    """
    Return a fresh id of a record of writes.

    It tells the beginning of the checkpoint's key, the time at which it was made; the record
    itself decides. With more of it the file's name would be too long, as told of
    `new_checkpoint_id`.
    """
    return pending_prefix(key) + writer + _random(_RANDOM_LENGTH)


def new_writer() -> str:
    """Return what the ids of all that somebody writes have, behind the checkpoint's."""
    return _random(_WRITER_LENGTH)


def _random(length: int) -> str:
    return _base32(int(new_checkpoint_id(), 16), length)


def name_in(pending: CheckpointId) -> str:
    """Return how the id of a record of writes goes on behind the checkpoint's."""
    return pending[len(PENDING_PREFIX) + TAG_LENGTH :]


def counted(state: ThreadRecord, pending: Iterable[CheckpointId]) -> set[CheckpointId]:
    """Return of which records of writes after its parent a checkpoint is made."""
    if state.made_of is UNSET:
        return {*pending}
    names = {NOBODY, *state.made_of}
    return {
        found
        for found in pending
        if not names.isdisjoint((name_in(found), name_in(found)[:_WRITER_LENGTH]))
    }


def key_in(state: CheckpointId) -> str:
    """Return the key in the id of a checkpoint's record, or of an ancestor's."""
    return state[1:]


def tag_of(key: str) -> str:
    """Return the beginning of a checkpoint's key, which the ids of its writes have."""
    return key[:TAG_LENGTH]


def tag_in(record_id: CheckpointId) -> str:
    """Return the beginning of the checkpoint's key in the id of a record of any kind."""
    return tag_of(record_id[1:])


def made_at(record_id: CheckpointId) -> datetime | None:
    """
    Return when a checkpoint's id was made, to a millisecond, from one of a record of any kind.

    Returns:
        None where the id does not tell: it is no UUID of version 6, as LangGraph makes them.
    """
    tag = tag_in(record_id)
    if not tells_checkpoint(tag):
        return None
    number = int(tag, 32)  # 48 bits of the time, 4 of the version, and one more
    if number >> 1 & 15 != _TIME_ORDERED:
        return None
    return _EPOCH + timedelta(microseconds=(number >> 5 << 12) / 10)


def followed(record: ThreadRecord) -> dict[str, str]:
    """Return which checkpoints, by their namespaces, a graph has run after."""
    metadata = record.metadata
    parents = metadata.get("parents") if isinstance(metadata, dict) else None
    return {
        namespace: checkpoint
        for namespace, checkpoint in (parents.items() if isinstance(parents, Mapping) else ())
        if isinstance(checkpoint, str) and namespace != record.checkpoint_ns
    }


# Pending writes


class Write(NamedTuple):
    """
    One pending write, serialized.

    Attributes:
        record: that it is in.
        position: its place among what its task wrote; below 0 for errors, interrupts and such.
        channel: the channel's name.
        value: the serialized value.
    """

    record: ThreadRecord
    position: int
    channel: str
    value: Serialized

    @property
    def order(self) -> tuple[str, str, int]:
        """What sorts writes as the graph applied them."""
        record = self.record
        return writes_sort_key(str(record.task_path or ""), str(record.task_id), self.position)


def encode_writes(
    writes: Sequence[tuple[str, Any]], encode: Callable[[Any], Serialized]
) -> list[JsonValue]:
    """Return what a task wrote as JSON."""
    return [
        {"channel": channel, "index": WRITES_IDX_MAP.get(channel, at), "value": encode(value)}
        for at, (channel, value) in enumerate(writes)
    ]


def merged_writes(records: Iterable[ThreadRecord]) -> list[Write]:
    """
    Return the writes in records, saved first first, in the order in which they apply.

    Of two by the same task at the same index the first counts, as a task that is run again
    writes the same; of errors, interrupts and such the last.
    """
    merged: dict[tuple[str, int], Write] = {}
    for record in records:
        for write in record.writes or ():
            found = Write(record, write["index"], write["channel"], write["value"])
            key = (str(record.task_id), found.position)
            if found.position < 0 or key not in merged:
                merged[key] = found
    return sorted(merged.values(), key=lambda write: write.order)


def writes_in(state: ThreadRecord, pending: Sequence[ThreadRecord]) -> list[Write]:
    """
    Return the writes after its parent that a checkpoint is made of, as they apply.

    A run that was shown what a task had written, and has run it all the same, is made of what it
    wrote itself. An update takes up both.
    """
    if state.made_of is UNSET:
        return merged_writes(pending)
    names = counted(state, (record.checkpoint_id for record in pending))
    own: list[ThreadRecord] = []
    others: list[ThreadRecord] = []
    for record in pending:
        if record.checkpoint_id in names:
            is_own = name_in(record.checkpoint_id).startswith(state.made_of[0])
            (own if is_own else others).append(record)
    if state.trigger != "update":
        tasks = {record.task_id for record in own}
        others = [record for record in others if record.task_id not in tasks]
    return sorted([*merged_writes(others), *merged_writes(own)], key=lambda write: write.order)


def pending_write(write: Write, decoder: Decoder) -> PendingWrite:
    """Return a write as LangGraph has it."""
    value = decoder.decode(write.record, write.value)
    return (str(write.record.task_id), write.channel, value)
