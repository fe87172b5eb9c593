"""Records of several types in one store, each file saying of which it is; pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from types import UnionType
from typing import Any, Generic, Protocol, Union, get_args, get_origin

import msgspec

from aiocheckpoint._format.codec import RecordCodec, RecordT, name_of
from aiocheckpoint._format.documents import Draft
from aiocheckpoint._format.raw import RawCodec
from aiocheckpoint.errors import CheckpointDecodeError, RecordTypeError, shown
from aiocheckpoint.models import JsonValue, RawRecord


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
            objection = _objection_to(one, other)
            if objection is not None:
                raise RecordTypeError(name_of(other), f"beside {name_of(one)}, {objection}")
        configs = [codec.record_type.__struct_config__ for codec in codecs]
        (self._tag_key,) = {config.tag_field for config in configs} - {None}
        self._by_tag = dict(zip([config.tag for config in configs], codecs, strict=True))
        self._by_type = {codec.record_type: codec for codec in codecs}
        self._name = " | ".join(map(name_of, self._by_type))
        self.record_type = record_type
        tag = ("tag", JsonValue, msgspec.field(name=self._tag_key, default=None))
        tagged: type[Any] = msgspec.defstruct("_Tagged", [tag])
        self._decode_tag = msgspec.json.Decoder(tagged).decode

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
        codec = self._by_tag.get(tag) if isinstance(tag, str | int | None) else None
        if codec is None:
            found = "no " if tag is None else f"{shown(tag)} as its "
            raise CheckpointDecodeError(path, self._name, f"it has {found}{self._tag_key!r}")
        return codec.decode(data, path)


def _objection_to(one: type[Any], other: type[Any]) -> str | None:
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
