"""Values to JSON in which nothing is lost, and back; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import NoneType
from typing import Any

import msgspec

from aiocheckpoint._format.escapes import (
    COLLECTIONS,
    DICT,
    MARK,
    OWN,
    RefusedError,
    require_level,
    with_changes,
)
from aiocheckpoint._format.json_values import MAX_DEPTH, MAX_INT, MIN_INT, is_unicode
from aiocheckpoint._format.own_types import OwnType, Types
from aiocheckpoint._format.scalars import SCALARS, Scalar
from aiocheckpoint.errors import shown
from aiocheckpoint.models import JsonValue

_PLAIN = frozenset({str, int, float, bool, NoneType})
_CONSTANTS = frozenset({bool, NoneType})
_SCALARS = {scalar.kind: scalar for scalar in SCALARS}
_SUPPORTED = (*_SCALARS, *COLLECTIONS, dict, list)
_SCALARS_BY_TAG = {MARK + scalar.name: scalar for scalar in SCALARS}
_COLLECTIONS_BY_TAG = {tag: kind for kind, tag in COLLECTIONS.items()}
_OPENED = b'{"' + MARK.encode()  # in a text the quote would have a backslash before it
_MARK_BYTE = MARK.encode()
_MARK_OFFSET = len(_OPENED) - len(_MARK_BYTE)
_FEW_MARKS = 64  # in what is said aloud there may be many
_AS_WRITTEN = "as to_json writes it"
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def may_hold_escapes(text: bytes) -> bool:
    """Tell whether compact JSON may hold an escape, much faster than a walk through it."""
    at = text.find(_MARK_BYTE)  # one byte is found ten times as fast as several
    for _ in range(_FEW_MARKS):
        if at < 0:
            return False
        if text.startswith(_OPENED, max(at - _MARK_OFFSET, 0)):
            return True
        at = text.find(_MARK_BYTE, at + 1)
    return at >= 0 and text.find(_OPENED, max(at - _MARK_OFFSET, 0)) >= 0


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
            if tag in _SCALARS_BY_TAG:
                return _SCALARS_BY_TAG[tag].from_text(payload)
            if tag in _COLLECTIONS_BY_TAG:
                return _built(_COLLECTIONS_BY_TAG[tag], self._list(payload, level + 1))
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


class Encoder:
    """
    Makes JSON of one value.

    Levels are those of containers in one another in what is made, 0 being the record itself.
    """

    def __init__(self, types: Types) -> None:
        self._types = types
        self._is_within_own = False

    def encode(self, value: Any, level: int) -> JsonValue:
        """Return a value as JSON; the value itself where it is that already."""
        kind = type(value)
        if kind is dict:
            return self._dict(value, level)
        if kind is list:
            changes = self._changes(enumerate(value), level + 1)
            return with_changes(value, changes) if changes else value
        if kind in COLLECTIONS:
            return self._collection(value, COLLECTIONS[kind], level)
        if kind in _SCALARS:
            return value if _is_plain_scalar(value) else _escaped(_SCALARS[kind], value, level)
        if kind in _CONSTANTS:
            return value
        if kind in self._types.by_class:
            return self._own(value, *self._types.by_class[kind], level)
        raise RefusedError(_objection_to(kind))

    def _changes(self, items: Iterable[tuple[Any, Any]], level: int) -> list[tuple[Any, JsonValue]]:
        """Return what is not as it was, by its key; of most containers nothing."""
        require_level(level - 1)
        changes: list[tuple[Any, Any]] = []
        key: object = None
        try:
            for key, item in items:
                encoded = self.encode(item, level)
                if encoded is not item:
                    changes.append((key, encoded))
        except RefusedError as refused:
            refused.steps.append(key)
            raise
        return changes

    def _dict(self, value: dict[Any, Any], level: int) -> JsonValue:
        if not _has_plain_keys(value):
            return self._pairs(value, level)
        changes = self._changes(value.items(), level + 1)
        return {**value, **dict(changes)} if changes else value

    def _pairs(self, value: dict[Any, Any], level: int) -> JsonValue:
        """Return a dict as its keys and values, as its keys are not those of an object."""
        items = list(value.items())
        parts = dict(self._changes(items, level + 3))
        keys = [self._unnamed(key, level + 3, "a key") for key, _ in items]
        pairs = zip(keys, items, strict=True)
        return {DICT: [[encoded, parts.get(key, item)] for encoded, (key, item) in pairs]}

    def _collection(self, value: Any, tag: str, level: int) -> JsonValue:
        require_level(level + 1)
        items = list(value)
        if tag == "!tuple":
            return {tag: with_changes(items, self._changes(enumerate(items), level + 2))}
        parts = [self._unnamed(item, level + 2, "an item") for item in items]
        # Their order is another in each process; their text is one.
        return {tag: sorted(parts, key=_encode_sorted)}

    def _unnamed(self, value: Any, level: int, role: str) -> JsonValue:
        """Return a part that has no path of its own as JSON."""
        try:
            return self.encode(value, level)
        except RefusedError as refused:
            refused.steps.clear()
            refused.reason = f"has {role} that {refused.reason}"
            raise

    def _own(self, value: Any, name: str, own: OwnType[Any], level: int) -> JsonValue:
        """Return a value of a type of the application's own, which is made again to be sure."""
        if self._is_within_own:
            return self._own_parts(value, name, own, level)
        self._is_within_own = True
        encoded = self._own_parts(value, name, own, level)
        try:
            restored = Decoder(self._types).decode(encoded, level)
            again = self._own_parts(restored, name, own, level)
        except RefusedError as refused:
            reason = f"could not be read again; mend the type {name!r}: {refused.reason}"
            raise RefusedError(reason, refused.cause) from None
        if type(restored) is not own.cls or _encode_sorted(again) != _encode_sorted(encoded):
            raise RefusedError(f"would not come back the same; mend the type {name!r}")
        self._is_within_own = False
        return encoded

    def _own_parts(self, value: Any, name: str, own: OwnType[Any], level: int) -> JsonValue:
        require_level(level + 1)
        try:
            parts = own.encode(value)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise RefusedError(f"cannot be encoded: {shown(error)}", error) from error
        return {OWN: [name, self.encode(parts, level + 2)]}


def is_plain(value: Any, level: int) -> bool:
    """
    Tell whether a value is its own JSON.

    Most values are, so this is kept quick: it calls nothing that it can do itself.
    """
    kind = type(value)
    if kind is dict:
        if level >= MAX_DEPTH or not _has_plain_keys(value):
            return False
        items = value.values()
    elif kind is list:
        if level >= MAX_DEPTH:
            return False
        items = value
    else:
        return _is_plain_scalar(value)
    for item in items:
        kind = type(item)
        if kind is str:
            if not (item.isascii() or is_unicode(item)):
                return False
        elif kind is dict or kind is list:
            if not is_plain(item, level + 1):
                return False
        elif kind not in _CONSTANTS and not _is_plain_scalar(item):
            return False
    return True


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    """Tell whether a dict can stand as an object: its keys are text, and it is no escape."""
    for key in value:
        if type(key) is not str or not (key.isascii() or is_unicode(key)):
            return False
    return len(value) != 1 or not next(iter(value)).startswith(MARK)


def _is_plain_scalar(value: Any) -> bool:
    """Tell whether JSON has a scalar as it is."""
    kind = type(value)
    if kind is str:
        return value.isascii() or is_unicode(value)
    if kind is int:
        return bool(MIN_INT <= value <= MAX_INT)
    if kind is float:
        return math.isfinite(value)
    return kind in _CONSTANTS


def _escaped(scalar: Scalar, value: Any, level: int) -> JsonValue:
    require_level(level)
    return {MARK + scalar.name: scalar.to_text(value)}


def _objection_to(kind: type) -> str:
    name = kind.__qualname__
    for base in _SUPPORTED:
        if issubclass(kind, base):
            plain = base.__name__
            return f"is a {name}, not a plain {plain}; convert it, or give its class in types"
    return f"is a {name}, which is not written exactly; convert it, or give its class in types"
