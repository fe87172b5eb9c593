"""What is saved: records whose content follows from a few fields, so that a torn one shows."""

from __future__ import annotations

from datetime import UTC, datetime

from aiocheckpoint import BlobRecord, CheckpointData, blob_digest

CREATED_AT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)


def record(
    session_id: str, checkpoint_id: str, iteration: int = 0, *, size: int = 100
) -> CheckpointData:
    """Return a checkpoint with a message of so many characters."""
    return CheckpointData(
        session_id=session_id,
        checkpoint_id=checkpoint_id,
        created_at=CREATED_AT,
        iteration=iteration,
        messages=[{"role": "user", "content": _filler(session_id, checkpoint_id, iteration, size)}],
        tokens_used=size,
    )


def _filler(session_id: str, checkpoint_id: str, iteration: int, size: int) -> str:
    text = f"{session_id}/{checkpoint_id}/{iteration} "
    return (text * (size // len(text) + 1))[:size]


def assert_whole(found: CheckpointData | None) -> CheckpointData:
    """Return a record that was found; it must be there and be as `record` makes it."""
    assert found is not None, "it is not there"
    made = record(found.session_id, found.checkpoint_id, found.iteration, size=found.tokens_used)
    assert found == made, f"{found} is not as it was saved"
    return found


class Note(BlobRecord):
    """A record with blobs."""

    text: str = ""


def note(session_id: str, checkpoint_id: str, *blobs: bytes, text: str = "") -> Note:
    """Return a note that refers to blobs."""
    return Note(
        session_id=session_id,
        checkpoint_id=checkpoint_id,
        created_at=CREATED_AT,
        blob_digests=tuple(map(blob_digest, blobs)),
        text=text,
    )


def by_digest(*blobs: bytes) -> dict[str, bytes]:
    """Return blobs as `save` takes them."""
    return {blob_digest(blob): blob for blob in blobs}
