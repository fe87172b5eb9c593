"""What a store is given of a record that it is to store."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

import pytest

from aiocheckpoint import CheckpointData, CheckpointRecord, RawRecord
from aiocheckpoint.kit import RecordKit


class Plain(CheckpointRecord):
    """It has nothing of its own that a listing tells."""


class Odd(CheckpointRecord):
    """Its fields have the names that a listing tells, and other values."""

    trigger: Any = ""
    iteration: Any = 0


class Level(enum.IntEnum):
    LOW = 3


class Typed(CheckpointRecord):
    """The same of other types."""

    iteration: Level = Level.LOW


def _raw() -> RawRecord:
    body = RecordKit(CheckpointData, 1 << 20).encode(_LARGE).body
    kit: RecordKit[Any] = RecordKit(RawRecord, 1 << 20)
    return kit.decode(body, "", "s", _LARGE.checkpoint_id)  # type: ignore[no-any-return]


_LARGE = CheckpointData(session_id="s", trigger="a\x00é", iteration=7, messages=["x"] * 1000)


@pytest.mark.parametrize(
    "record",
    [
        _LARGE,
        CheckpointData(session_id="s", iteration=2**31 - 1),
        _raw(),
        Plain(session_id="s"),
        Odd(session_id="s", trigger={"a": [1.5, None]}, iteration=2.0),
        Odd(session_id="s", trigger=None, iteration=True),
        Typed(session_id="s"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_what_a_listing_tells_needs_no_body(record: CheckpointRecord) -> None:
    """A store is given it apart, and so has not to look through a body that may be large."""
    kit: RecordKit[Any] = RecordKit(type(record), 1 << 20)
    encoded = kit.encode(record)
    saved_at = datetime.now(UTC)
    listed = kit.meta(encoded.listed, "s3://b/x", saved_at)
    assert listed is not None
    assert listed == kit.meta(encoded.body, "s3://b/x", saved_at)
    assert len(encoded.listed) < 400
