"""Records that are documents already; pure."""

from __future__ import annotations

import msgspec

from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import blob_digests
from aiocheckpoint._format.documents import Draft
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    RecordTypeError,
)
from aiocheckpoint.models import CheckpointRecord, RawRecord

_decode_base = msgspec.json.Decoder(CheckpointRecord).decode


class RawCodec:
    """
    Passes documents through.

    Attributes:
        record_type: that of its records.
    """

    record_type = RawRecord

    def draft(self, record: RawRecord) -> Draft:
        """
        Check a document, and what its record says of it.

        Raises:
            RecordTypeError: no `RawRecord`.
            CheckpointEncodeError: no checkpoint, or another one than the record says.
        """
        if type(record) is not RawRecord:
            reason = "this writer stores RawRecord, and no other type"
            raise RecordTypeError(type(record).__qualname__, reason)
        try:
            ids = documents.identity(record.document, "document")
            draft = documents.drafted(documents.decode_object(record.document))
            digests = blob_digests(draft.text)
        except (CheckpointCorruptError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CheckpointEncodeError("document", f"is no checkpoint: {error}") from error
        said = (record.session_id, record.checkpoint_id, tuple(record.blob_digests))
        if said != (ids.session_id, ids.checkpoint_id, digests):
            raise CheckpointEncodeError("document", "has other ids or blobs than its record")
        return draft

    def decode(self, data: bytes, path: str) -> RawRecord:
        """
        Return a verified document as a record.

        Raises:
            CheckpointDecodeError: its time is none.
        """
        documents.identity(data, path)
        try:
            base = _decode_base(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CheckpointDecodeError(path, "RawRecord", str(error)) from error
        return RawRecord(
            session_id=base.session_id,
            checkpoint_id=base.checkpoint_id,
            created_at=base.created_at,
            blob_digests=blob_digests(data),
            document=bytes(data),
        )
