"""JSON to the values of which it was made; pure."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType
from typing import Any

from aiocheckpoint._format.escapes import (
    COLLECTIONS,
    DICT,
    MARK,
    OWN,
    RefusedError,
    require_level,
    with_changes,
)
from aiocheckpoint._format.own_types import Types
from aiocheckpoint._format.scalars import SCALARS
from aiocheckpoint.errors import shown
from aiocheckpoint.models import JsonValue

_PLAIN = frozenset({str, int, float, bool, NoneType})
_SCALARS = {MARK + scalar.name: scalar for scalar in SCALARS}
_COLLECTIONS = {tag: kind for kind, tag in COLLECTIONS.items()}
_OPENED = b'{"' + MARK.encode()  # in a text the quote would have a backslash before it
_AS_WRITTEN = "as to_json writes it"


def may_hold_escapes(text: bytes) -> bool:
    """Tell whether compact JSON may hold an escape, much faster than a walk through it."""
    return _OPENED in text


class Decoder:
    """Makes the value again of which an encoder made JSON."""

    def __init__(self, types: Types) -> None:
        self._types = types

    def decode(self, value: JsonValue, level: int) -> Any:
        """Return the value that JSON stands for; JSON itself where it stands for itself."""
        kind = type(value)
        if kind is dict:
            if len(value) == 1:
                [(tag, payload)] = value.items()
                if type(tag) is str and tag.startswith(MARK):
                    return self._unescaped(tag, payload, level)
            changes = self._changes(value.items(), level + 1)
            return {**value, **dict(changes)} if changes else value
        if kind is list:
            changes = self._changes(enumerate(value), level + 1)
            return with_changes(value, changes) if changes else value
        if kind in _PLAIN:
            return value
        raise RefusedError(f"is a {kind.__qualname__}; give what was loaded, and once")

    def _changes(self, items: Iterable[tuple[Any, JsonValue]], level: int) -> list[tuple[Any, Any]]:
        require_level(level - 1)
        changes: list[tuple[Any, Any]] = []
        key: object = None
        try:
            for key, item in items:
                if type(item) in _PLAIN:
                    continue
                decoded = self.decode(item, level)
                if decoded is not item:
                    changes.append((key, decoded))
        except RefusedError as refused:
            refused.steps.append(key)
            raise
        return changes

    def _unescaped(self, tag: str, payload: JsonValue, level: int) -> Any:
        try:
            if tag in _SCALARS:
                return _SCALARS[tag].from_text(payload)
            if tag in _COLLECTIONS:
                return _built(_COLLECTIONS[tag], self._list(payload, level + 1))
            if tag == DICT:
                return self._dict(payload, level + 1)
            if tag == OWN:
                return self._own(payload, level + 1)
        except RefusedError as refused:
            refused.steps.append(tag)
            raise
        raise RefusedError(f"has the key {tag!r}; read it with the version that wrote it")

    def _dict(self, payload: JsonValue, level: int) -> Any:
        pairs = self._list(payload, level)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise RefusedError(f"is no dict {_AS_WRITTEN}")
        return _built(dict, pairs)

    def _own(self, payload: JsonValue, level: int) -> Any:
        if not (type(payload) is list and len(payload) == 2 and type(payload[0]) is str):
            raise RefusedError(f"is no value of a type {_AS_WRITTEN}")
        name, parts = payload
        if name not in self._types.by_name:
            raise RefusedError(f"is of the type {name!r}, which is not in types; give it")
        parts = self._list(payload, level)[1]
        try:
            return self._types.by_name[name].decode(parts)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise RefusedError(f"cannot be made a {name!r}: {shown(error)}", error) from error

    def _list(self, payload: JsonValue, level: int) -> list[Any]:
        if type(payload) is not list:
            raise RefusedError(f"is no list {_AS_WRITTEN}")
        decoded: list[Any] = self.decode(payload, level)
        return decoded


def _built(kind: type[Any], items: list[Any]) -> Any:
    """Return a collection of all items."""
    objection = f"is no {kind.__name__} {_AS_WRITTEN}"
    try:
        built = kind(items)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # an item cannot be hashed, or compared
        raise RefusedError(f"{objection}: {error}", error) from error
    if len(built) != len(items):
        raise RefusedError(f"{objection}: something is in it twice")
    return built
