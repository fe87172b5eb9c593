"""
Durable, non-blocking checkpoints of AI-agent sessions for asyncio.

The house, one way: errors, models <- _format (pure) <- _disk (the only code that touches the
system) <- _engine (threads) <- _arguments, store, writer <- testing, adapters, cli.
"""

from aiocheckpoint._format.blobs import blob_digest
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    DurabilityUnknownError,
    FileSizeLimitError,
    FormatVersionError,
    InvalidArgumentError,
    InvalidIdError,
    JournalVersionError,
    MissingBlobError,
    NotACheckpointError,
    RecordTypeError,
    SessionChangedError,
    StorageError,
    StorageFullError,
    StoreBusyError,
    ThreadStartError,
    UnsupportedFileSystemError,
    WriterClosedError,
)
from aiocheckpoint.models import (
    ANY_NEWEST,
    AnyNewest,
    BlobRecord,
    CheckpointData,
    CheckpointId,
    CheckpointMeta,
    CheckpointRecord,
    Durability,
    Expected,
    Finding,
    JsonValue,
    RecoveryReport,
    SessionId,
    WriterStats,
    new_checkpoint_id,
)
from aiocheckpoint.store import CheckpointStore
from aiocheckpoint.writer import AsyncCheckpointWriter, SessionReader

__version__ = "0.2.0"

__all__ = (
    "ANY_NEWEST",
    "AnyNewest",
    "AsyncCheckpointWriter",
    "BlobRecord",
    "CheckpointCorruptError",
    "CheckpointData",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointError",
    "CheckpointId",
    "CheckpointMeta",
    "CheckpointMismatchError",
    "CheckpointRecord",
    "CheckpointStore",
    "CheckpointTooLargeError",
    "Durability",
    "DurabilityUnknownError",
    "Expected",
    "FileSizeLimitError",
    "Finding",
    "FormatVersionError",
    "InvalidArgumentError",
    "InvalidIdError",
    "JournalVersionError",
    "JsonValue",
    "MissingBlobError",
    "NotACheckpointError",
    "RecordTypeError",
    "RecoveryReport",
    "SessionChangedError",
    "SessionId",
    "SessionReader",
    "StorageError",
    "StorageFullError",
    "StoreBusyError",
    "ThreadStartError",
    "UnsupportedFileSystemError",
    "WriterClosedError",
    "WriterStats",
    "blob_digest",
    "new_checkpoint_id",
)
