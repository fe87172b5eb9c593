"""Rows of a listing as entries, each with what is wrong as far as its columns tell; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiocheckpoint.errors import CheckpointCorruptError, CheckpointTooLargeError
from aiocheckpoint.kit import EncodedRecord, RecordKit
from aiocheckpoint.models import CheckpointMeta, SessionId
from aiocheckpoint.stores.postgres.packing import unpacked


def meta_of(kit: RecordKit[Any], record: EncodedRecord, location: str) -> CheckpointMeta:
    """Return what a listing tells of a record that is about to be stored."""
    now = datetime.now(UTC)  # overwritten by the server's clock
    return kit.entry(record.listed, location, now, record.session_id, record.checkpoint_id)


def entry_of(
    kit: RecordKit[Any], row: Mapping[str, Any], location: str, session_id: SessionId
) -> CheckpointMeta:
    """Return what a listing tells of a checkpoint that is stored."""
    checkpoint_id = row["checkpoint_id"].decode()
    problem = _problem_of(kit, row["size_bytes"], location)
    if row["parts"] is not None and problem is None:
        try:
            body = unpacked(row["parts"], location)
        except CheckpointCorruptError:
            body = b""  # which is listed as damaged
        return kit.entry(body, location, row["saved_at"], session_id, checkpoint_id)
    return CheckpointMeta(
        checkpoint_id=checkpoint_id,
        session_id=session_id,
        created_at=row["created_at"] or row["saved_at"],
        saved_at=row["saved_at"],
        trigger=row["trigger"].decode(),
        iteration=row["iteration"] or 0,
        checksum=row["checksum"].hex(),
        location=location,
        problem=problem,
    )


def _problem_of(kit: RecordKit[Any], size_bytes: int | None, location: str) -> str | None:
    """Return why a document of this size cannot be loaded; None of one that may be."""
    if size_bytes is None:
        reason = "its body is missing, or the server cannot read it"
        return str(CheckpointCorruptError(location, reason))
    try:
        kit.require_size(location, size_bytes)
    except CheckpointTooLargeError as error:
        return str(error)
    return None
