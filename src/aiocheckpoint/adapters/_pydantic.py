"""Values of frameworks that are made with pydantic, as JSON that gives them back as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from aiocheckpoint import CheckpointDecodeError, CheckpointEncodeError, JsonValue, exact

ValueT = TypeVar("ValueT")


def to_json(adapter: TypeAdapter[ValueT], value: ValueT, path: str) -> JsonValue:
    """
    Return a value as JSON of its own, which later changes by the caller do not reach.

    Args:
        adapter: of the value's type.
        value: is not changed.
        path: of the value, for errors.

    Raises:
        CheckpointEncodeError: a part that would not come back as it is; names its path.
    """
    found: JsonValue = msgspec.json.decode(to_bytes(adapter, value, path))
    require_readable(adapter, found, path)
    return found


def require_readable(adapter: TypeAdapter[Any], json: JsonValue, path: str) -> None:
    """
    Refuse JSON of `to_bytes` that could not be read: pydantic makes it of more than its types.

    Raises:
        CheckpointEncodeError: it could not.
    """
    try:
        adapter.validate_python(exact.from_json(json))
    except ValidationError as error:
        raise CheckpointEncodeError(path, f"could not be read again: {error}") from error


def to_bytes(adapter: TypeAdapter[ValueT], value: ValueT, path: str) -> bytes:
    """
    Return what `to_json` returns, encoded; equal for values that are equal, types included.

    Whether it could be read again is for `require_readable` to tell.

    pydantic's own JSON would make null of NaN, lists of tuples, and text of bytes; of a model in a
    field of any type it makes a dict, and of an enum its value, and so does this.

    Raises:
        CheckpointEncodeError: as `to_json`.
    """
    dumped = _dumped(adapter, value, path)
    with contextlib.suppress(AttributeError, TypeError):  # no message: not to be read, either
        _write_times(dumped)
    try:
        json = exact.to_json(dumped, path=path)
    except CheckpointEncodeError:
        json = exact.to_json(without_enums(dumped), path=path)
    return msgspec.json.encode(json, order="deterministic")


def from_json(adapter: TypeAdapter[ValueT], json: JsonValue, location: str) -> ValueT:
    """
    Return the value that `to_json` made JSON of.

    Args:
        adapter: of the value's type.
        json: as it was loaded.
        location: where it was stored, for errors.

    Raises:
        CheckpointDecodeError: this version of the framework does not know such a value.
        ExactValueError: it is no JSON of `to_json`.
    """
    return validated(adapter, exact.from_json(json), location)


def validated(adapter: TypeAdapter[ValueT], value: Any, location: str) -> ValueT:
    """
    Return the value of which `exact.to_json` made the JSON of `to_json`.

    Raises:
        CheckpointDecodeError: as `from_json`.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise CheckpointDecodeError(location, repr(adapter), str(error)) from error


def _dumped(adapter: TypeAdapter[Any], value: object, path: str) -> Any:
    try:
        return adapter.dump_python(value, warnings=False)
    except PydanticSerializationError as error:
        raise CheckpointEncodeError(path, str(error)) from error


def _write_times(dumped: Any) -> None:
    """Make texts of the times of messages, which their types read: most are plain JSON then."""
    for entry in dumped if isinstance(dumped, list) else [dumped]:
        message = entry.get("message", entry)
        for holder in (message, *message.get("parts", ())):
            time = holder.get("timestamp")
            if isinstance(time, datetime):
                holder["timestamp"] = time.isoformat()


def without_enums(
    value: object, of_other_types: Callable[[object], object] = lambda other: other
) -> object:
    """
    Return what a framework would store of the enums in a value.

    Args:
        value: of dicts, lists and tuples; is not changed.
        of_other_types: returns what stands for all else.
    """
    plain = partial(without_enums, of_other_types=of_other_types)
    match value:
        case Enum():
            return value.value
        case dict():
            found = {plain(name): plain(part) for name, part in value.items()}
            return found if len(found) == len(value) else value  # keys that would be one: refused
        case list():
            return [*map(plain, value)]
        case tuple():
            return tuple(map(plain, value))
        case _:
            return of_other_types(value)
