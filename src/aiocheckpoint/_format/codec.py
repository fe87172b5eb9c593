"""Records to documents and back: of one type, of several, or documents already; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from itertools import combinations
from types import UnionType
from typing import Any, Generic, Protocol, TypeVar, Union, cast, get_args, get_origin

import msgspec

from aiocheckpoint._format import documents
from aiocheckpoint._format.blobs import DIGESTS_KEY, blob_digests
from aiocheckpoint._format.documents import CHECKSUM_KEY, VERSION_KEY, Draft
from aiocheckpoint._format.typed_values import (
    equality_tells,
    first_change,
    may_hold_tuples,
    to_json,
)
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    RecordTypeError,
    shown,
)
from aiocheckpoint.models import (
    BlobRecord,
    CheckpointData,
    CheckpointRecord,
    JsonValue,
    RawRecord,
    is_json_type,
)

_BUILTINS = frozenset({str, int, float, bool, type(None)})
_BASES = (CheckpointRecord, BlobRecord)
_TAG_KEY = "type"  # msgspec's own, unless a type names another
_TAG_TEXT = f'"{_TAG_KEY}"'.encode()
# We and Rust always write all of its fields. Without one it is a record of another type, which
# its defaults must not make an empty one.
_WHOLE = msgspec.defstruct(
    "CheckpointData",
    [(field.name, field.type) for field in msgspec.structs.fields(CheckpointData)],
)

_decode_base = msgspec.json.Decoder(CheckpointRecord).decode
RecordT = TypeVar("RecordT", bound=CheckpointRecord)
RecordT_co = TypeVar("RecordT_co", bound=CheckpointRecord, covariant=True)


class RecordCodec(Generic[RecordT]):
    """
    Encodes and decodes one record type.

    Raises:
        RecordTypeError: when msgspec cannot read the type, or it does not extend
            `CheckpointRecord`, is written as an array, has a key `_checksum` or `_version`, or
            changes the key or the type of a field of `CheckpointRecord`.
    """

    def __init__(self, record_type: type[RecordT]) -> None:
        objection = _objection_to(record_type)
        if objection is not None:
            raise RecordTypeError(name_of(record_type), objection)
        self.record_type = record_type
        fields = msgspec.structs.fields(record_type)
        self._keys = tuple(field.encode_name for field in fields)
        self._has_hook = hasattr(record_type, "__post_init__")
        typed = [(i, f) for i, f in enumerate(fields) if not is_json_type(f.type)]
        self._typed_keys = tuple(field.encode_name for _, field in typed)
        # A hook may change anything.
        checked = enumerate(fields) if self._has_hook else typed
        self._checked = tuple((i, f.encode_name, equality_tells(f.type)) for i, f in checked)
        self._with_tuples = {f.encode_name for f in fields if may_hold_tuples(f.type)}
        self._may_be_unset = [f.encode_name for f in fields if f.default is msgspec.UNSET]
        config = record_type.__struct_config__
        self._tag = {} if config.tag_field is None else {config.tag_field: config.tag}
        self._tag_value: object = msgspec.UNSET if config.tag_field is None else config.tag
        self._read_type: type[Any] = _WHOLE if record_type is CheckpointData else record_type
        self._decode = msgspec.json.Decoder(self._read_type).decode
        self._base_keys = {field.encode_name for field in _base_fields(record_type)}
        own = [field for field in fields if field.encode_name not in self._base_keys]
        self._own_keys = {*self._tag, *(field.encode_name for field in own)}
        is_told_apart = self._read_type is _WHOLE or any(field.required for field in own)
        self._must_see_keys = record_type not in _BASES and not is_told_apart
        self._tag_key = config.tag_field or _TAG_KEY
        # Of others only a field of their own may have that name.
        self._must_see_tag = record_type not in _BASES and (
            bool(self._tag) or self._tag_key not in self._keys
        )
        self._decode_tag = _tag_decoder(self._tag_key)

    def draft(self, record: RecordT) -> Draft:
        """
        Check and encode a record; everything that must happen before the first await.

        Returns:
            the draft, independent of `record` from now on.

        Raises:
            RecordTypeError: when it is not of the codec's very type.
            CheckpointEncodeError: naming the path of what would not come back as it is.

        Cost: one encode, and a check that takes about twice as long.
        """
        if type(record) is not self.record_type:
            reason = f"this writer stores {self.record_type.__qualname__}, and no subclass of it"
            raise RecordTypeError(type(record).__qualname__, reason)
        values = self._values(record)
        document = self._document(values)
        draft = documents.drafted(document)
        self._require_same(values, document, draft.text)
        return draft

    def _values(self, record: RecordT) -> tuple[Any, ...]:
        """Return what the fields of a record hold, in their order."""
        try:
            return msgspec.structs.astuple(record)
        except AttributeError as error:
            fields = zip(record.__struct_fields__, self._keys, strict=True)
            key = next((key for name, key in fields if not hasattr(record, name)), "")
            raise CheckpointEncodeError(key, "was deleted; give it a value") from error

    def _document(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return a record as a dict: JSON fields as they are, typed ones as JSON writes them."""
        document: dict[str, Any] = dict(zip(self._keys, values, strict=True))
        for key in self._typed_keys:
            value = document[key]
            if type(value) not in _BUILTINS and value is not msgspec.UNSET:
                document[key] = to_json(key, value, as_text=key in self._with_tuples)
        for key in self._may_be_unset:
            if document[key] is msgspec.UNSET:  # elsewhere it is no JSON value
                del document[key]
        if self._tag:
            document |= self._tag
        return document

    def _require_same(self, values: tuple[Any, ...], document: dict[str, Any], text: bytes) -> None:
        """Refuse what would not come back as it is."""
        try:
            if self._has_hook:  # it must not change the caller's
                restored = self._decode(text)
            else:
                restored = msgspec.convert(document, self.record_type, str_keys=True)
        except Exception as error:
            raise _invalid_field(error) from error
        found = msgspec.structs.astuple(restored)
        for index, key, is_told_by_equality in self._checked:
            was, now = values[index], found[index]
            if was is now or (is_told_by_equality and was == now):
                continue
            change = first_change(key, was, now)
            if change is not None:
                advice = "convert it to the type of its field, a time to UTC"
                raise CheckpointEncodeError(change, f"would not come back the same; {advice}")

    def decode(self, data: bytes, path: str, *, has_own_tag: bool = False) -> RecordT:
        """
        Return the record in a verified file.

        Args:
            data: the bytes `verified` returned.
            path: for the error.
            has_own_tag: whether somebody has looked, and found the tag of this type.

        Raises:
            CheckpointDecodeError: when it is not a record of the codec's type.

        Cost: one decode; above `PIECEWISE_BYTES` in pieces, so that no single step holds the
            GIL for long, and half as long again in all.
        """
        keys: Collection[str] = ()
        try:
            if len(data) > documents.PIECEWISE_BYTES:
                keys = document = documents.decode_object(data)
                tag: object = document.get(self._tag_key, msgspec.UNSET)
                record = msgspec.convert(document, self._read_type, str_keys=True)
            else:
                record = self._decode(data)
                if self._must_see_keys:
                    keys = documents.parts_of(data)
                tag = self._tag_value if has_own_tag else self._tag_in(data)
        except MemoryError:
            raise
        except Exception as error:
            raise CheckpointDecodeError(path, name_of(self.record_type), str(error)) from error
        if self._is_of_another(tag):
            reason = _what_stands(tag, self._tag_key)
            raise CheckpointDecodeError(path, name_of(self.record_type), reason)
        if self._must_see_keys and self._own_keys.isdisjoint(keys) and {*keys} - self._base_keys:
            reason = "it has other fields, and none of this type"
            raise CheckpointDecodeError(path, name_of(self.record_type), reason)
        if self._read_type is _WHOLE:
            record = self.record_type(**msgspec.structs.asdict(record))
        return cast("RecordT", record)

    def _tag_in(self, data: bytes) -> object:
        """Return the tag in a file, `UNSET` for none, and where it does not matter."""
        if not self._must_see_tag:
            return msgspec.UNSET
        if not self._tag and _TAG_TEXT not in data:
            return msgspec.UNSET
        return self._decode_tag(data).tag

    def _is_of_another(self, tag: object) -> bool:
        """Tell whether a file with a tag is of another type, which may share fields with this."""
        if self._tag:
            return tag is msgspec.UNSET
        return self._must_see_tag and isinstance(tag, str | int)


def _what_stands(tag: object, key: str) -> str:
    """Say what a file has for a tag, to whoever expects another."""
    found = "no " if tag is msgspec.UNSET else f"{shown(tag)} as its "
    return f"it has {found}{key!r}"


@lru_cache(maxsize=64)  # of most types it is the same
def _tag_decoder(key: str) -> Callable[[bytes], Any]:
    """Return what reads the tag of a document alone."""
    tag = ("tag", JsonValue | msgspec.UnsetType, msgspec.field(name=key, default=msgspec.UNSET))
    tagged: type[Any] = msgspec.defstruct("_Tagged", [tag])
    return msgspec.json.Decoder(tagged).decode


def name_of(record_type: object) -> str:
    """Return the name of a type for errors, of whatever was given as one its representation."""
    return getattr(record_type, "__qualname__", None) or shown(record_type)


def _base_fields(record_type: type[CheckpointRecord]) -> tuple[msgspec.structs.FieldInfo, ...]:
    base = BlobRecord if issubclass(record_type, BlobRecord) else CheckpointRecord
    return msgspec.structs.fields(base)


def _objection_to(record_type: Any) -> str | None:
    origin = get_origin(record_type)
    kind = origin or record_type
    if not (isinstance(kind, type) and issubclass(kind, CheckpointRecord)):
        return "it does not extend CheckpointRecord"
    if origin is not None:
        return "it has parameters in brackets; extend it by a class with those, and give that"
    try:
        msgspec.json.Decoder(record_type)
    except Exception as error:  # noqa: BLE001 - of msgspec, or of what its annotations name
        return f"msgspec cannot read it: {error}"
    config = record_type.__struct_config__
    if config.array_like:
        return "it is written as an array; remove array_like=True"
    fields = {field.name: field for field in msgspec.structs.fields(record_type)}
    keys = {config.tag_field, *(field.encode_name for field in fields.values())}
    if not keys.isdisjoint((CHECKSUM_KEY, VERSION_KEY)):
        return "the keys _checksum and _version are taken; rename the field"
    if not issubclass(record_type, BlobRecord) and DIGESTS_KEY in keys:
        return "the key blob_digests is taken; rename the field, or extend BlobRecord"
    for base in _base_fields(record_type):
        field = fields[base.name]
        if (field.encode_name, field.type) != (base.encode_name, base.type):
            return f"{base.name} must keep its key and its type; rename and retype other fields"
    return None


def _invalid_field(error: Exception) -> CheckpointEncodeError:
    reason, _, path = str(error).partition(" - at `$")
    return CheckpointEncodeError(path.strip("`").lstrip("."), f"is not valid: {reason}")


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


class Codec(Protocol[RecordT]):
    """Encodes and decodes the records of a store; what each does is told by `RecordCodec`."""

    @property
    def record_type(self) -> Any:
        """What was asked for."""
        ...

    def draft(self, record: RecordT) -> Draft:
        """Check and encode a record."""
        ...

    def decode(self, data: bytes, path: str) -> RecordT:
        """Return the record in a verified file."""
        ...


def codec_of(record_type: Any) -> Codec[Any]:
    """
    Return the codec of a record type, or of a union of them.

    Raises:
        RecordTypeError: a type that cannot be stored, or types that files would not tell apart.
    """
    try:
        members = tuple(dict.fromkeys(_members(record_type)))
    except Exception as error:  # of what an alias names, or because it names itself
        raise RecordTypeError(name_of(record_type), f"it cannot be read: {error}") from error
    if members == (RawRecord,):
        return RawCodec()
    if len(members) == 1:
        return _codec_of_one(members[0])
    return _codec_of_union(record_type, members)


# Codecs take up to a millisecond to make, and have no state.
@lru_cache(maxsize=64)
def _codec_of_one(record_type: type[Any]) -> RecordCodec[Any]:
    return RecordCodec(record_type)


@lru_cache(maxsize=64)
def _codec_of_union(record_type: Any, members: tuple[Any, ...]) -> UnionCodec[Any]:
    return UnionCodec(record_type, [_codec_of_one(member) for member in members])


def _members(record_type: Any) -> Iterator[Any]:
    """Yield the types of a union, also of one that a `type` statement names."""
    if hasattr(record_type, "__value__"):
        yield from _members(record_type.__value__)
    elif get_origin(record_type) in (Union, UnionType):
        for member in get_args(record_type):
            yield from _members(member)
    else:
        yield record_type


class UnionCodec(Generic[RecordT]):
    """
    One codec a type; to decode, the tag in the file chooses.

    Args:
        record_type: the union.
        codecs: of its types, two or more.

    Raises:
        RecordTypeError: when two of them have no tag or the same, or tags by different keys.
    """

    def __init__(self, record_type: Any, codecs: list[RecordCodec[RecordT]]) -> None:
        for one, other in combinations([codec.record_type for codec in codecs], 2):
            objection = _objection_beside(one, other)
            if objection is not None:
                raise RecordTypeError(name_of(other), f"beside {name_of(one)}, {objection}")
        configs = [codec.record_type.__struct_config__ for codec in codecs]
        (self._tag_key,) = {c.tag_field for c in configs if c.tag_field is not None}
        self._by_tag = dict(zip([config.tag for config in configs], codecs, strict=True))
        self._by_type = {codec.record_type: codec for codec in codecs}
        self._name = " | ".join(map(name_of, self._by_type))
        self.record_type = record_type
        self._decode_tag = _tag_decoder(self._tag_key)

    def draft(self, record: RecordT) -> Draft:
        """
        Check and encode a record as the codec of its type does.

        Raises:
            RecordTypeError: when it is of none of the types.
            CheckpointEncodeError: naming the path of what would not come back as it is.
        """
        codec = self._by_type.get(type(record))
        if codec is None:
            reason = f"this writer stores {self._name}, and no subclass of them"
            raise RecordTypeError(type(record).__qualname__, reason)
        return codec.draft(record)

    def decode(self, data: bytes, path: str) -> RecordT:
        """
        Return the record in a verified file, of the type that its tag names.

        Raises:
            CheckpointDecodeError: when its tag is that of none of the types, or it is no record
                of the one that has it.

        Cost: as of the codec of its type, and one look through the text for the tag.
        """
        tag = self._decode_tag(data).tag
        known = None if tag in (None, msgspec.UNSET) else tag
        codec = self._by_tag.get(known) if isinstance(known, str | int | None) else None
        if codec is None:
            raise CheckpointDecodeError(path, self._name, _what_stands(tag, self._tag_key))
        return codec.decode(data, path, has_own_tag=known is not None)


def _objection_beside(one: type[Any], other: type[Any]) -> str | None:
    """Say why files of two types would not be told apart."""
    configs = one.__struct_config__, other.__struct_config__
    keys = {config.tag_field for config in configs}
    if keys == {None}:
        return "it needs a tag to be told from it in files: class ...(CheckpointRecord, tag=True)"
    if None in keys:
        untagged = other if configs[1].tag_field is None else one
        (key,) = keys - {None}
        if any(field.encode_name == key for field in msgspec.structs.fields(untagged)):
            return f"the key {key!r} of the tag is a field of {name_of(untagged)}; rename one"
    elif len(keys) == 2:
        return f"its tag has the key {configs[1].tag_field!r}, and not {configs[0].tag_field!r}"
    elif configs[0].tag == configs[1].tag:
        return f"it has the same tag {configs[1].tag!r}"
    return None
