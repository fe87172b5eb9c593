"""
Durable, non-blocking checkpoints of AI-agent sessions for asyncio.

The house, one way: errors <- models <- floats, json_values <- codec <- layout, retention, index
<- files <- journal <- sessions <- store <- replay <- recovery, jobs <- lanes, changes <- commit
<- writer <- testing, adapters, cli.
"""

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    DurabilityUnknownError,
    FormatVersionError,
    InvalidIdError,
    JournalVersionError,
    NotACheckpointError,
    PruneError,
    RecordTypeError,
    SessionBusyError,
    StorageError,
    StorageFullError,
    WriterClosedError,
)
from aiocheckpoint.models import (
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Finding,
    RecoveryReport,
    SessionId,
    new_checkpoint_id,
)
from aiocheckpoint.writer import AsyncCheckpointWriter, CheckpointStore

__all__ = (
    "AsyncCheckpointWriter",
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
    "InvalidIdError",
    "JournalVersionError",
    "NotACheckpointError",
    "PruneError",
    "RecordTypeError",
    "RecoveryReport",
    "SessionBusyError",
    "SessionId",
    "StorageError",
    "StorageFullError",
    "WriterClosedError",
    "new_checkpoint_id",
)
