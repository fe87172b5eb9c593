"""
Durable, non-blocking checkpoints of AI-agent sessions for asyncio.

The house, one way: errors <- models <- floats, json_values <- codec <- layout, arguments,
retention, index <- files <- journal <- sessions <- blobs <- store <- replay <- recovery, jobs
<- lanes, changes <- commit <- writer <- testing, adapters, cli.
"""

from aiocheckpoint._format.codec import blob_digest
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    DurabilityUnknownError,
    FormatVersionError,
    InvalidArgumentError,
    InvalidIdError,
    JournalVersionError,
    MissingBlobError,
    NotACheckpointError,
    PruneError,
    RecordTypeError,
    SessionChangedError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    ThreadStartError,
    WriterClosedError,
)
from aiocheckpoint.models import (
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Finding,
    RecoveryReport,
    SessionId,
    new_checkpoint_id,
)
from aiocheckpoint.writer import AsyncCheckpointWriter, CheckpointStore, SessionReader

__all__ = (
    "AsyncCheckpointWriter",
    "BlobRecord",
    "CheckpointCorruptError",
    "CheckpointData",
    "CheckpointEncodeError",
    "CheckpointError",
    "CheckpointId",
    "CheckpointMeta",
    "CheckpointMismatchError",
    "CheckpointRecord",
    "CheckpointStore",
    "CheckpointTooLargeError",
    "DurabilityUnknownError",
    "Finding",
    "FormatVersionError",
    "InvalidArgumentError",
    "InvalidIdError",
    "JournalVersionError",
    "MissingBlobError",
    "NotACheckpointError",
    "PruneError",
    "RecordTypeError",
    "RecoveryReport",
    "StoreBusyError",
    "SessionChangedError",
    "SessionId",
    "SessionReader",
    "StorageError",
    "StorageFullError",
    "ThreadStartError",
    "WriterClosedError",
    "blob_digest",
    "new_checkpoint_id",
)
