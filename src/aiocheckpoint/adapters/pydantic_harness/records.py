"""What is stored of a run of the Pydantic AI harness, and under which ids."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct

from aiocheckpoint import CheckpointRecord, JsonValue, new_checkpoint_id
from aiocheckpoint.adapters._storage import Names
from aiocheckpoint.history import HistoryRecord

NAMES: Final = Names("pydantic_harness")
RUN_ID: Final = "run"
EVENT: Final = "event"
SNAPSHOT: Final = "snapshot"
TOOL: Final = "tool-"
USED_KEY: Final = "key="


class Totals(Struct, frozen=True, omit_defaults=True):
    """
    What a run has after a record of it, so that what is missing is told from what never was.

    Attributes:
        events: so many.
        effects: so many tool calls.
        snapshots: so many, without those that were pruned.
        settled: the id of the newest snapshot that is `complete`; None when there is none.
        interrupted: of the newest snapshot, when that is not `complete`.
    """

    events: int = 0
    effects: int = 0
    snapshots: int = 0
    settled: str | None = None
    interrupted: str | None = None

    @property
    def newest(self) -> str | None:
        """The id of the newest snapshot; None when there is none."""
        return self.interrupted or self.settled


class StepRecord(CheckpointRecord, tag="pydantic_harness.StepRecord", kw_only=True):
    """
    The framework's record of a run, an event or the effect of a tool, by its id.

    The ids are `run`; `event=` and the event's key, or `event-` and something random; `tool-` and
    the id of the call. `key=` and a key is of a snapshot that was pruned.

    Attributes:
        value: the framework's record, as JSON, without the run's id and fields that are None; of
            a key None.
        totals: what the run has with it.
    """

    value: dict[str, JsonValue] | None
    totals: Totals


class SnapshotRecord(HistoryRecord, tag="pydantic_harness.SnapshotRecord", kw_only=True):
    """
    A snapshot, its messages in shared history.

    Its id is `snapshot=` and its key, or `snapshot-` and something random.

    Attributes:
        value: the framework's snapshot without its messages, as in `StepRecord`.
        totals: what the run has with it.
    """

    value: dict[str, JsonValue]
    totals: Totals


HarnessRecord: TypeAlias = StepRecord | SnapshotRecord
"""What an open store must be able to store: `open_store(url, record_type=HarnessRecord)`."""


def id_of(kind: str, key: str | None) -> str:
    """Return the id of an event or a snapshot; the same one for the same key."""
    return f"{kind}-{new_checkpoint_id()}" if key is None else f"{kind}={key}"
