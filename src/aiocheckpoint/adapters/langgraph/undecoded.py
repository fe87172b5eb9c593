"""Values of another saver as the bytes that they are, so that its classes are not needed."""

from __future__ import annotations

import copy
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from aiocheckpoint.adapters.langgraph.serialized import is_plain


class _Undecoded(SerializerProtocol):
    """
    Leaves values that are not plain as the bytes that they are, and writes these again.

    A process that cannot import the classes of the application, or must not, would be given dicts
    in their place.
    """

    def __init__(self, serde: JsonPlusSerializer) -> None:
        self._serde = serde

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._serde.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, packed = data
        if kind != "msgpack":
            value = self._serde.loads_typed(data)
            if _names_a_class(value):
                reason = (
                    "a value that an old LangGraph wrote as JSON is of a class that is not here"
                )
                raise ValueError(f"{reason}; call `copy_threads` where it can be imported")
            return value
        return ormsgpack.unpackb(packed, ext_hook=ormsgpack.Ext, option=ormsgpack.OPT_NON_STR_KEYS)


def _names_a_class(value: object) -> bool:
    """Tell whether in a value there is one that its serializer could not make."""
    if isinstance(value, dict):
        is_named = value.get("lc") == 2 and value.get("type") == "constructor"
        return is_named or any(map(_names_a_class, value.values()))
    return isinstance(value, list) and any(map(_names_a_class, value))


def plain(serde: SerializerProtocol) -> SerializerProtocol:
    """Return what gives the same bytes for the same value, as encryption does not."""
    return serde.serde if isinstance(serde, EncryptedSerializer) else serde


def undecoded(serde: SerializerProtocol) -> SerializerProtocol | None:
    """Return a serializer that copies what one has written; None for one of the application."""
    if type(serde) is JsonPlusSerializer:
        return _Undecoded(serde)
    if type(serde) is EncryptedSerializer:
        inner = undecoded(serde.serde)
        return inner and EncryptedSerializer(serde.cipher, inner)
    return None


def with_serde(
    saver: BaseCheckpointSaver[Any], serde: SerializerProtocol
) -> BaseCheckpointSaver[Any]:
    """Return a clone, as `with_allowlist` of LangGraph does."""
    clone = copy.copy(saver)
    clone.serde = serde
    return clone


def revived(metadata: CheckpointMetadata, serde: SerializerProtocol) -> CheckpointMetadata:
    """Return metadata, which are read here, with those values decoded that lose nothing by it."""
    whole: dict[str, Any] = {}
    for key, value in metadata.items():
        packed = serde.dumps_typed(value)
        decoded = value if is_plain(value) else serde.loads_typed(packed)
        whole[key] = decoded if serde.dumps_typed(decoded) == packed else value
    return cast("CheckpointMetadata", whole)
