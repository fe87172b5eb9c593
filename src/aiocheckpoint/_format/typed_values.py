"""Typed values to JSON, and whether they come back from it as they were; pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, get_origin

import msgspec
from msgspec import inspect

from aiocheckpoint._format.json_values import MAX_DEPTH, member
from aiocheckpoint.errors import CheckpointEncodeError

# In a dict, for clocks that tests freeze replace these classes wherever a module names them.
_TIMES: dict[type, tuple[str, ...]] = {
    datetime: (
        "year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo", "fold",
    ),
    date: ("year", "month", "day"),
    time: ("hour", "minute", "second", "microsecond", "tzinfo", "fold"),
    timedelta: ("days", "seconds", "microseconds"),
}  # fmt: skip


def to_json(path: str, value: Any, *, as_text: bool) -> Any:
    """
    Return a typed value as JSON gives it back.

    Args:
        path: of the value, for the error.
        value: anything.
        as_text: whether there may be tuples in it, which only JSON itself makes lists.

    Raises:
        CheckpointEncodeError: with the path of the part that msgspec cannot encode.
    """
    try:
        if as_text:
            return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_plain_time))
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_plain_time)
    except RecursionError as error:
        raise CheckpointEncodeError(path, "is nested too deep; flatten it") from error
    except Exception as error:
        reason = f"cannot be encoded: {error}"
        raise CheckpointEncodeError(_unencodable(path, value), reason) from error


def _plain_time(value: Any) -> Any:
    """Return the plain time that one of a frozen clock, of pandas or of pendulum is."""
    for kind, names in _TIMES.items():
        if isinstance(value, kind):
            return kind(**{name: getattr(value, name) for name in names})
    raise TypeError(f"a {type(value).__qualname__} is nothing that msgspec writes as JSON")


def _unencodable(path: str, value: Any) -> str:
    """Return the path of the innermost part that cannot be encoded."""
    for _ in range(MAX_DEPTH):  # or a cycle would never end
        bad = next((part for part in _parts(path, value) if not _can_be_encoded(part[1])), None)
        if bad is None:
            break
        path, value = bad
    return path


def _can_be_encoded(value: Any) -> bool:
    try:
        msgspec.json.encode(value, enc_hook=_plain_time)
    except Exception:  # noqa: BLE001 - whatever a property of theirs raises
        return False
    return True


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((member(path, key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((path, item) for item in value)
    else:
        yield from ((f"{path}.{name}", getattr(value, name)) for name in _field_names(value))


def _field_names(value: Any) -> tuple[str, ...]:
    kind = type(value)
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in kind.__attrs_attrs__)
    return tuple(getattr(kind, "__struct_fields__", getattr(kind, "__dataclass_fields__", ())))


def may_hold_tuples(annotation: Any) -> bool:
    """Tell whether there may be a tuple somewhere in a value of a type."""
    tuples = (inspect.AnyType, inspect.TupleType, inspect.VarTupleType, inspect.NamedTupleType)
    return any(isinstance(info, tuples) for info in _types_in(annotation))


def equality_tells(annotation: Any) -> bool:
    """
    Tell whether `==` of two values of a type sees all that JSON may have changed.

    Not where a class says itself what is equal, or a dataclass leaves fields out; and a
    signaling NaN of `Decimal` cannot be compared at all.
    """
    return all(map(_equality_tells, _types_in(annotation)))


def _equality_tells(info: inspect.Type) -> bool:
    match info:
        case inspect.StructType(cls=named):
            kind = get_origin(named) or named  # that of `Page[int]` is `Page`
            return kind.__struct_config__.eq and kind.__eq__ is msgspec.Struct.__eq__
        case inspect.CustomType() | inspect.DataclassType() | inspect.NamedTupleType():
            return False
        case _:
            return not isinstance(info, inspect.DecimalType)


def _types_in(annotation: Any) -> Iterator[inspect.Type]:
    """Yield a type and all that it is made of, each once."""
    seen: set[int] = set()
    pending: list[Any] = [inspect.type_info(annotation)]
    while pending:
        part = pending.pop()
        if isinstance(part, (list, tuple)):
            pending += part
        elif isinstance(part, (inspect.Type, inspect.Field)) and id(part) not in seen:
            seen.add(id(part))
            pending += msgspec.structs.astuple(part)
            if isinstance(part, inspect.Type):
                yield part


def first_change(path: str, before: Any, after: Any) -> str | None:
    """
    Return the path of the first part of a typed value that does not come back equal.

    Fields that `==` leaves out count, and two names of one moment are equal. Where a type says
    `Any`, msgspec restores no `bytes`, `datetime` or Struct; a large `int` in a float field
    loses digits, the offset of a time zone its seconds.
    """
    if before is after:
        return None
    match before, after:
        case (dict(), dict()) if before.keys() == after.keys():
            pairs = [(member(path, key), item, after[key]) for key, item in before.items()]
        case (list(), list()) | (tuple(), tuple()) if len(before) == len(after):
            items = enumerate(zip(before, after, strict=True))
            pairs = [(f"{path}[{index}]", *pair) for index, pair in items]
        case ((set() | frozenset()), (set() | frozenset())) if before == after:
            restored = {item: item for item in after}
            pairs = [(path, item, restored[item]) for item in before]
        case datetime(), datetime():
            return None if before == after or _is_same_moment(before, after) else path
        case Decimal(), Decimal():
            return None if str(before) == str(after) else path
        case _:
            names = _field_names(before)
            if not names:
                return None if before == after else path
            if type(before) is not type(after):
                return path
            pairs = [(f"{path}.{n}", getattr(before, n), getattr(after, n)) for n in names]
    return next((change for pair in pairs if (change := first_change(*pair))), None)


def _is_same_moment(before: datetime, after: datetime) -> bool:
    """Tell so also of an hour that clocks show twice, for which `==` never holds across zones."""
    is_aware = before.utcoffset() is not None and after.utcoffset() is not None
    return is_aware and before - after == timedelta()
