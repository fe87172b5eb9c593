"""Records of the framework as JSON, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from pydantic import TypeAdapter
from pydantic_ai import ModelMessage
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    RunRecord,
    StepEvent,
    ToolEffectRecord,
)

from aiocheckpoint import CheckpointDecodeError, JsonValue, exact
from aiocheckpoint.adapters import _pydantic
from aiocheckpoint.adapters.pydantic_harness.records import NAMES, HarnessRecord, SnapshotRecord
from aiocheckpoint.kit import require_instance

RUNS = TypeAdapter(RunRecord)
EVENTS = TypeAdapter(StepEvent)
EFFECTS = TypeAdapter(ToolEffectRecord)
_SNAPSHOTS = TypeAdapter(ContinuableSnapshot)
_MESSAGE: TypeAdapter[ModelMessage] = TypeAdapter(ModelMessage)
_MESSAGES = "messages"
_RUN = "run_id"

ValueT = TypeVar("ValueT")
Fields: TypeAlias = dict[str, JsonValue]


class Draft(NamedTuple):
    """
    A snapshot that is to be stored; the caller's objects may change.

    Attributes:
        value: the snapshot without its messages.
        messages: as JSON, encoded.
        marks: what tells the messages apart.
    """

    value: Fields
    messages: list[bytes]
    marks: list[bytes]

    @classmethod
    def of(cls, snapshot: ContinuableSnapshot) -> Draft:
        """
        Return what is to be stored.

        Raises:
            InvalidArgumentError: it is no snapshot.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
        """
        require_instance("snapshot", snapshot, ContinuableSnapshot)
        fields = {name: value for name, value in vars(snapshot).items() if name != _MESSAGES}
        bare = ContinuableSnapshot(**fields, messages=[])
        messages = [
            _pydantic.to_bytes(_MESSAGE, message, f"{_MESSAGES}[{number}]")
            for number, message in enumerate(snapshot.messages)
        ]
        value = fields_of(_SNAPSHOTS, bare, "snapshot")
        del value[_MESSAGES]
        return cls(value, messages, [*map(_mark, messages)])

    @property
    def is_settled(self) -> bool:
        """Whether it may be gone on from without a look at the effects of its tools."""
        return bool(self.value["state"] == "complete")

    def items(self, start: int) -> list[JsonValue]:
        """
        Return the messages from one of them on.

        Raises:
            CheckpointEncodeError: one could not be read again.
        """
        items = [*map(msgspec.json.decode, self.messages[start:])]
        for number, item in enumerate(items, start):
            _pydantic.require_readable(_MESSAGE, item, f"{_MESSAGES}[{number}]")
        return items


def fields_of(adapter: TypeAdapter[ValueT], record: ValueT, path: str) -> Fields:
    """
    Return a record of the framework as JSON, without its run's id and the fields that are None.

    Raises:
        CheckpointEncodeError: a value that would not come back as it is; names its path.
    """
    fields = _pydantic.to_json(adapter, record, path)
    return {name: value for name, value in fields.items() if value is not None and name != _RUN}


def marks_of(items: Sequence[JsonValue]) -> list[bytes]:
    """Return what tells messages apart that are stored."""
    return [_mark(msgspec.json.encode(item, order="deterministic")) for item in items]


def value_of(adapter: TypeAdapter[ValueT], record: HarnessRecord) -> ValueT:
    """
    Return the framework's record that a record holds.

    Raises:
        CheckpointDecodeError: this version of the framework does not know such a record.
    """
    fields = {**(record.value or {}), _RUN: NAMES.text_in(record.session_id)}
    return _pydantic.from_json(adapter, fields, record.checkpoint_id)


def snapshot_of(record: SnapshotRecord, items: list[Any]) -> ContinuableSnapshot:
    """
    Return the snapshot of a record and its messages, as `exact` gives them back.

    Raises:
        CheckpointDecodeError: this version of the framework does not know such a snapshot, or it
            has fewer messages than it says.
    """
    if len(items) != record.history_length:
        reason = f"it has {len(items)} of its {record.history_length} messages"
        raise CheckpointDecodeError(record.checkpoint_id, "ContinuableSnapshot", reason)
    fields = {**exact.from_json(record.value), _RUN: NAMES.text_in(record.session_id)}
    whole = {**fields, _MESSAGES: items}
    return _pydantic.validated(_SNAPSHOTS, whole, record.checkpoint_id)


def _mark(message: bytes) -> bytes:
    return hashlib.sha256(message).digest()
