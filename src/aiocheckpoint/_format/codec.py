"""Records to documents and back; pure."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import DIGESTS_KEY
from aiocheckpoint._format.documents import CHECKSUM_KEY, VERSION_KEY, Draft
from aiocheckpoint._format.json_values import encode_exactly, first_change
from aiocheckpoint.errors import CheckpointCorruptError, CheckpointEncodeError, RecordTypeError
from aiocheckpoint.models import BlobRecord, CheckpointRecord, is_json_type

_BUILTINS = frozenset({str, int, float, bool, type(None)})

RecordT = TypeVar("RecordT", bound=CheckpointRecord)


class RecordCodec(Generic[RecordT]):
    """
    Encodes and decodes one record type.

    Raises:
        RecordTypeError: when the type does not extend `CheckpointRecord`, is written as an
            array, has a key `_checksum` or `_version`, or changes the key or the type of a
            field of `CheckpointRecord`.
    """

    def __init__(self, record_type: type[RecordT]) -> None:
        objection = _objection_to(record_type)
        if objection is not None:
            name = getattr(record_type, "__qualname__", repr(record_type))
            raise RecordTypeError(name, objection)
        self.record_type = record_type
        fields = msgspec.structs.fields(record_type)
        self._json_keys = {f.name: f.encode_name for f in fields if is_json_type(f.type)}
        self._typed_keys = {f.name: f.encode_name for f in fields if not is_json_type(f.type)}
        config = record_type.__struct_config__
        self._tag = {} if config.tag_field is None else {config.tag_field: config.tag}
        self._decode = msgspec.json.Decoder(record_type).decode

    def draft(self, record: RecordT) -> Draft:
        """
        Check and encode a record; everything that must happen before the first await.

        Returns:
            the draft, independent of `record` from now on.

        Raises:
            RecordTypeError: when it is not of the codec's very type.
            CheckpointEncodeError: naming the path of what cannot be stored exactly.

        Cost: one encode, and a check that takes about twice as long.
        """
        if type(record) is not self.record_type:
            reason = f"this writer stores {self.record_type.__qualname__}, and no subclass of it"
            raise RecordTypeError(type(record).__qualname__, reason)
        document = self._document(record)
        text, floats = encode_exactly(document)
        self._require_same(record, document)
        return Draft(document["session_id"], document["checkpoint_id"], text, tuple(floats))

    def _document(self, record: RecordT) -> dict[str, Any]:
        """Return the record as a dict: JSON fields as they are, typed ones as JSON sees them."""
        document: dict[str, Any] = dict(self._tag)
        for name, key in self._typed_keys.items():
            value = getattr(record, name)
            document[key] = value if type(value) in _BUILTINS else _to_builtins(key, value)
        for name, key in self._json_keys.items():
            document[key] = getattr(record, name)
        return {key: value for key, value in document.items() if value is not msgspec.UNSET}

    def _require_same(self, record: RecordT, document: dict[str, Any]) -> None:
        """Refuse typed fields that would not come back as they are."""
        try:
            restored = msgspec.convert(document, self.record_type, str_keys=True)
        except msgspec.ValidationError as error:
            raise _invalid_field(error) from error
        for name, key in self._typed_keys.items():
            was, now = getattr(record, name), getattr(restored, name)
            change = None if was is now else first_change(key, was, now)
            if change is not None:
                reason = "would not come back the same; convert it to the type of its field"
                raise CheckpointEncodeError(change, reason)

    def decode(self, data: bytes, path: str) -> RecordT:
        """
        Return the record in a verified file.

        Args:
            data: the bytes `verified` returned.
            path: for the error.

        Raises:
            CheckpointCorruptError: when it is not a record of the codec's type.

        Cost: one decode; above `PIECEWISE_BYTES` in pieces, so that no single step holds the
            GIL for long, and half as long again in all.
        """
        try:
            if len(data) <= documents.PIECEWISE_BYTES:
                return self._decode(data)
            return msgspec.convert(documents.decode_object(data), self.record_type, str_keys=True)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            reason = f"it is not a {self.record_type.__qualname__}: {error}"
            raise CheckpointCorruptError(path, reason) from error


def _objection_to(record_type: object) -> str | None:
    if not (isinstance(record_type, type) and issubclass(record_type, CheckpointRecord)):
        return "it does not extend CheckpointRecord"
    config = record_type.__struct_config__
    if config.array_like:
        return "it is written as an array; remove array_like=True"
    fields = {field.name: field for field in msgspec.structs.fields(record_type)}
    keys = {config.tag_field, *(field.encode_name for field in fields.values())}
    if not keys.isdisjoint((CHECKSUM_KEY, VERSION_KEY)):
        return "the keys _checksum and _version are taken; rename the field"
    base_type = BlobRecord if issubclass(record_type, BlobRecord) else CheckpointRecord
    if base_type is CheckpointRecord and DIGESTS_KEY in keys:
        return "the key blob_digests is taken; rename the field, or extend BlobRecord"
    for base in msgspec.structs.fields(base_type):
        field = fields[base.name]
        if (field.encode_name, field.type) != (base.encode_name, base.type):
            return f"{base.name} must keep its key and its type; rename and retype other fields"
    return None


def _to_builtins(key: str, value: Any) -> Any:
    try:
        return value if value is msgspec.UNSET else msgspec.to_builtins(value, str_keys=True)
    except (TypeError, RecursionError) as error:
        raise CheckpointEncodeError(key, f"cannot be encoded: {error}") from error


def _invalid_field(error: msgspec.ValidationError) -> CheckpointEncodeError:
    reason, _, path = str(error).partition(" - at `$")
    return CheckpointEncodeError(path.strip("`").lstrip("."), f"is not valid: {reason}")
