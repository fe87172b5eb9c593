"""
Values that JSON lacks as values that it has, and back, without loss; off by default.

```python
from aiocheckpoint import exact

state = {"seen": {1, 2}, "at": (52.5, 13.4), "big": 10**20, "best": float("-inf")}
async with AsyncCheckpointWriter("state") as writer:
    await writer.save(CheckpointData(session_id="s", tool_results=exact.to_json(state)))
    restored = exact.from_json((await writer.load("s")).tool_results)
    assert restored == state
```

What is plain JSON already stays as it is. Anything else becomes an object of one key, which
begins with `!`, as `{"!tuple": [52.5, 13.4]}`; so does a dict that happens to look like one.
Nothing in a file is ever imported or executed: only types that the caller names are made.
"""

from __future__ import annotations

from typing import Any

from aiocheckpoint._format.escapes import RefusedError
from aiocheckpoint._format.escaping import Decoder, Encoder, is_plain
from aiocheckpoint._format.own_types import OwnType, Types
from aiocheckpoint.errors import CheckpointEncodeError, ExactValueError, InvalidArgumentError
from aiocheckpoint.models import JsonValue

__all__ = ("OwnType", "Types", "from_json", "to_json")

_NO_TYPES = Types({})


def to_json(value: Any, *, types: Types = _NO_TYPES, path: str = "") -> JsonValue:
    """
    Return a value as JSON that `from_json` makes the same value of, types included.

    Of the types here exactly these, and no subclass: `None`, `bool`, `int`, `float`, `str`,
    `bytes`, `list`, `tuple`, `dict` with keys of any of them, `set`, `frozenset`, `datetime`,
    `date`, `time`, `timedelta`, `Decimal`, `UUID`, and those in `types`. A time zone is a
    `datetime.timezone`, kept with its name, or a `ZoneInfo` with a key. What is lost: that two
    places held the very same object, the bits within a NaN, and in a file the order of the keys
    of a dict that is plain JSON.

    Args:
        value: is not changed.
        types: of the application's own.
        path: of the value in its record, for errors.

    Returns:
        what `save` takes as the value of a JSON field. Parts that are plain JSON, or all of
        it, are the very objects of `value`: save it before they change.

    Raises:
        CheckpointEncodeError: with the path of a part that cannot be represented, nests too deep
            (126 levels as JSON, in which a tuple counts as two), or contains itself.

    Cost: for plain JSON a little less than `save` takes to check and encode it; about a
        microsecond for each value that is not.
    """
    _require_types(types)
    try:
        return value if is_plain(value, 1) else Encoder(types).encode(value, 1)
    except RefusedError as refused:
        raise CheckpointEncodeError(refused.path_from(path), refused.reason) from refused.cause
    except RecursionError as error:
        raise CheckpointEncodeError(path, "is nested too deep; flatten it") from error
    except RuntimeError as error:  # "dictionary changed size during iteration"
        raise CheckpointEncodeError(path, f"was changed meanwhile: {error}") from error


def from_json(value: JsonValue, *, types: Types = _NO_TYPES, path: str = "") -> Any:
    """
    Return the value of which `to_json` made JSON.

    Args:
        value: a JSON value as it was loaded; is not changed.
        types: the application's own, by the names under which they were saved. No others are made.
        path: of the value in its record, for errors.

    Returns:
        the value. Parts that needed no escape, or all of it, are the very objects of `value`.

    Raises:
        ExactValueError: with the path in the file of what is no value of `to_json`: an escape
            that is unknown or damaged, a type that is not in `types` or whose `decode` fails.

    Cost: for plain JSON about that of `to_json`. The first time of a time zone in a process
        reads the system's file of it.
    """
    _require_types(types)
    try:
        return Decoder(types).decode(value, 1)
    except RefusedError as refused:
        raise ExactValueError(refused.path_from(path), refused.reason) from refused.cause
    except RecursionError as error:
        raise ExactValueError(path, "is nested too deep; flatten it") from error


def _require_types(types: object) -> None:
    if not isinstance(types, Types):
        raise InvalidArgumentError("types", types, "an exact.Types")
