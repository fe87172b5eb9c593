"""
Durable, non-blocking checkpoints of AI-agent sessions for asyncio.

The house, one way: errors <- models <- floats, json_values <- codec <- layout, arguments,
retention, index <- files <- journal <- sessions <- blocks <- store <- replay <- recovery, jobs
<- lanes, changes <- commit <- writer <- testing, adapters, cli.
"""

from aiocheckpoint.codec import block_digest
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
    MissingBlockError,
    NotACheckpointError,
    PruneError,
    RecordTypeError,
    SessionBusyError,
    SessionChangedError,
    StorageError,
    StorageFullError,
    ThreadStartError,
    WriterClosedError,
)
from aiocheckpoint.models import (
    BlockRecord,
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
    "BlockRecord",
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
    "MissingBlockError",
    "NotACheckpointError",
    "PruneError",
    "RecordTypeError",
    "RecoveryReport",
    "SessionBusyError",
    "SessionChangedError",
    "SessionId",
    "SessionReader",
    "StorageError",
    "StorageFullError",
    "ThreadStartError",
    "WriterClosedError",
    "block_digest",
    "new_checkpoint_id",
)
