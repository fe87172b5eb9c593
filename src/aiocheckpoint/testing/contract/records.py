"""Records, ids and values for the contract, and what its tests ask in common."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from aiocheckpoint.errors import CheckpointError
from aiocheckpoint.kit import blob_digest
from aiocheckpoint.models import BlobRecord, CheckpointData, CheckpointId, JsonValue, SessionId
from aiocheckpoint.store import BlobStore, CheckpointStore

_START = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)

ODD_IDS = (
    "",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "*",
    "[a]",
    "a*",
    "ann@example.org",
    "a b ",
    "a.",
    "CON",
    "-rf",
    "\n",
    "\0",
    "latest.json",
    ".aiocheckpoint",
    "дерево",
    "Zo\u00eb",
    "Zoe\u0308",
    "🪵",
    "x" * 5000,
)
"""Ids that a store has to tell apart, two of which look alike, and that must not lead out of it."""

IDS_BY_PREFIX: dict[str, tuple[str, ...]] = {
    "a%": ("a%1",),
    "a_": ("a_1",),
    "a*": ("a*1",),
    "a?": ("a?1",),
    "a\\": ("a\\1",),
    "a[": ("a[b]1",),
    "a[b]": ("a[b]1",),
    "A": ("A_1",),
    "a": ("ab1", "a_1", "a\\1", "a[b]1", "a?1", "a*1", "a%1"),
    "%": (),
    "_": (),
    "*": (),
}
"""Ids that a prefix finds, the greatest first, which a pattern in its place would mistake."""

EXACT_VALUES: tuple[JsonValue, ...] = (
    None,
    True,
    False,
    0,
    -(2**63),
    2**63 - 1,
    2**64 - 1,
    0.1,
    -0.0,
    1e16,
    1e-5,
    5e-324,
    1.7976931348623157e308,
    "",
    '"\\\b\f\n\r\t\0\x7f\u2028',
    "naïve 日本語 🪵",
    [],
    {},
    [[], {}, [None]],
    {"": {"a b": [1, 2.5, "3"]}},
)
"""JSON values that have to come back as they are, type and sign included."""

REFUSED_VALUES: tuple[object, ...] = (
    math.nan,
    math.inf,
    b"x",
    {1, 2},
    (1, 2),
    2**64,
    "\ud800",
    {1: "x"},
    object(),
)
"""Values that JSON, or another reader of the format, would not give back."""


class LargeValue(BlobRecord):
    """
    The record of the contract of blobs.

    Attributes:
        note: some text.
    """

    note: str = ""


Store: TypeAlias = CheckpointStore[CheckpointData]
Blobs: TypeAlias = BlobStore[LargeValue]


def checkpoint(session_id: SessionId, iteration: int = 0, **fields: Any) -> CheckpointData:
    """Return a checkpoint whose times run against the order of its iterations."""
    created_at = _START - timedelta(minutes=iteration)
    return CheckpointData(
        session_id=session_id, iteration=iteration, created_at=created_at, **fields
    )


def large(checkpoint_id: CheckpointId, *blobs: bytes, session_id: SessionId = "s") -> LargeValue:
    """Return a record that names blobs."""
    digests = tuple(map(blob_digest, blobs))
    return LargeValue(session_id=session_id, checkpoint_id=checkpoint_id, blob_digests=digests)


def by_digest(*blobs: bytes) -> dict[str, bytes]:
    """Return blobs by their digests, as `save` takes them."""
    return {blob_digest(blob): blob for blob in blobs}


async def error_of(call: Awaitable[object]) -> CheckpointError | None:
    """Return the error that a call raises; None if it does not."""
    try:
        await call
    except CheckpointError as error:
        return error
    return None


async def refusal(call: Awaitable[object]) -> type[CheckpointError] | None:
    """Return the kind of error that a call raises; None if it does not."""
    error = await error_of(call)
    return None if error is None else type(error)


async def sessions_of(store: CheckpointStore[Any], prefix: str = "") -> list[SessionId]:
    """Return the ids of the sessions, sorted."""
    return sorted([session_id async for session_id in store.sessions(prefix=prefix)])


async def listed_ids(store: CheckpointStore[Any], session_id: SessionId) -> list[CheckpointId]:
    """Return the ids of a session as `list` tells them, saved last first."""
    return [meta.checkpoint_id for meta in await store.list(session_id)]
