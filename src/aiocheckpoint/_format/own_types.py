"""Types of an application's own that have a name in files; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from operator import attrgetter
from types import NoneType
from typing import Any, Generic, TypeVar

import msgspec

from aiocheckpoint._format.json_values import is_unicode
from aiocheckpoint._format.scalars import SCALARS
from aiocheckpoint.errors import InvalidArgumentError

ValueT = TypeVar("ValueT")

_BUILT_IN = {*(scalar.kind for scalar in SCALARS), dict, list, tuple, set, frozenset}
_BUILT_IN |= {bool, NoneType}
_WANTED = (
    "a dataclass that takes all of its fields, a Struct, a NamedTuple or an Enum; "
    "of any other class an OwnType"
)


class OwnType(msgspec.Struct, Generic[ValueT], frozen=True):
    """
    A class, and how its instances are taken apart and made again.

    Attributes:
        cls: the class. No subclass of it counts.
        encode: returns what an instance is made of: any value that `to_json` takes.
        decode: makes an instance of what `encode` returned.
    """

    cls: type[ValueT]
    encode: Callable[[ValueT], Any]
    decode: Callable[[Any], ValueT]


class Types:
    """
    The types of an application's own that may stand in values, by their names in files.

    A dataclass, a Struct and a NamedTuple are stored by their fields and made again by a call
    with these, an Enum by its value; for any other class give an `OwnType`. Each value is made
    again once while it is encoded, so that one that cannot be read is refused at save.

    Args:
        types: classes by names. A name stays with what was saved under it. Where a class has
            several, the first is written and all are read.

    Raises:
        InvalidArgumentError: for a name that is no text, or what is none of the above.

    Cost: make one and keep it.
    """

    def __init__(self, types: Mapping[str, type[Any] | OwnType[Any]]) -> None:
        given_types: object = types
        if not isinstance(given_types, Mapping):
            raise InvalidArgumentError("types", given_types, "a dict from names to classes")
        self.by_name: dict[str, OwnType[Any]] = {}
        self.by_class: dict[type, tuple[str, OwnType[Any]]] = {}
        for name, given in types.items():
            if not _is_name(name):
                raise InvalidArgumentError("types", name, "names that are texts")
            own = given if isinstance(given, OwnType) else _by_its_kind(name, given)
            if not _is_class(own.cls) or own.cls in _BUILT_IN:
                wanted = "a class that is not stored exactly already"
                raise InvalidArgumentError(f"types[{name!r}]", own.cls, wanted)
            self.by_name[name] = own
            self.by_class.setdefault(own.cls, (name, own))


def _is_name(given: object) -> bool:
    return isinstance(given, str) and given != "" and is_unicode(given)


def _is_class(given: object) -> bool:
    return isinstance(given, type)


def _by_its_kind(name: str, given: Any) -> OwnType[Any]:
    """Return how instances of a class that tells its parts are taken apart."""
    names = _field_names(given) if isinstance(given, type) else None
    if isinstance(given, type) and issubclass(given, Enum):
        return OwnType(given, attrgetter("value"), given)
    if names is None:
        raise InvalidArgumentError(f"types[{name!r}]", given, _WANTED)
    return OwnType(given, _taken_apart(names), lambda fields: given(**fields))


def _field_names(cls: type) -> tuple[str, ...] | None:
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if dataclasses.is_dataclass(cls):
        fields = dataclasses.fields(cls)
        return tuple(field.name for field in fields) if all(f.init for f in fields) else None
    return getattr(cls, "_fields", None) if issubclass(cls, tuple) else None


def _taken_apart(names: tuple[str, ...]) -> Callable[[Any], dict[str, Any]]:
    def take_apart(value: Any) -> dict[str, Any]:
        fields = ((name, getattr(value, name)) for name in names)
        return {name: part for name, part in fields if part is not msgspec.UNSET}

    return take_apart
