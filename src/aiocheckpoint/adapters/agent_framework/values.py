"""Values of a workflow as JSON that gives them back as they were, and back."""

from __future__ import annotations

import base64
import hashlib
import pickle
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Final, NamedTuple

# The framework has no public name for it, and tells writers of storages to call it: it alone knows
# the types that `register_checkpoint_type` was given.
from agent_framework._workflows._checkpoint_encoding import decode_checkpoint_value
from agent_framework.exceptions import WorkflowCheckpointException

from aiocheckpoint import CheckpointEncodeError, JsonValue, exact

_PICKLED: Final = "__pickled__"
_TYPE: Final = "__type__"
_NATIVE: Final = frozenset({str, int, float, bool, NoneType})
_NATIVE_VALUES: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,  # not str(value), which an enum answers with its name
    int: int.__int__,
    float: float.__float__,
}
_MAX_KNOWN = 20_000


class _RefusedError(Exception):
    """A value that cannot be stored; `steps` lead to it, the innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[Any] = []


class Encoded(NamedTuple):
    """
    A value as JSON.

    Attributes:
        json: all of it.
        is_pickled: whether a part is pickled.
        is_escaped: whether a part is as `exact` writes what JSON lacks.
    """

    json: JsonValue
    is_pickled: bool
    is_escaped: bool


class Values:
    """
    Values to JSON and back.

    What `exact` keeps is written so. Any other object is pickled, each by itself, as the own
    storages of the framework do: its contract asks for objects of any class, and its messages are
    such. Unpickled are only types that it allows.

    Args:
        allowed_types: further ones, each as `module:qualname`.
    """

    def __init__(self, allowed_types: Iterable[str]) -> None:
        self._allowed_types = frozenset(allowed_types)
        self._readable: set[bytes] = set()

    def to_json(self, value: Any) -> Encoded:
        """
        Return a value as JSON, and what it takes to come back.

        Raises:
            CheckpointEncodeError: it would not come back; names its path.
        """
        try:
            plain = self._plain(value)
            json = exact.to_json(plain)
            return Encoded(json, is_pickled=plain is not value, is_escaped=json is not plain)
        except _RefusedError as refused:
            raise CheckpointEncodeError(_path(refused.steps), refused.reason) from refused.__cause__
        except RecursionError as error:
            raise CheckpointEncodeError("", "is nested too deep; flatten it") from error

    def from_json(self, json: JsonValue, *, is_pickled: bool, is_escaped: bool) -> Any:
        """
        Return the value of which `to_json` made JSON.

        Args:
            json: is not changed.
            is_pickled: as `to_json` returned it; a walk through all of it is done for True alone.
            is_escaped: likewise.

        Raises:
            WorkflowCheckpointException: a type that is not allowed, or is not there any more.
            ExactValueError: it is not of `to_json`.
        """
        value = exact.from_json(json) if is_escaped else json
        if not is_pickled:
            return value
        return decode_checkpoint_value(value, allowed_types=self._allowed_types)

    def _plain(self, value: Any) -> Any:
        """Return a value that `exact` takes; the same one where nothing had to be pickled."""
        kind = type(value)
        if kind in _NATIVE:
            return value
        if kind is dict:
            if _PICKLED in value and _TYPE in value:
                return self._pickled(value)
            changes = self._changes(value.items())
            plain = {**value, **dict(changes)} if changes else value
            return plain if all(type(key) is str for key in value) else self._exact(plain, value)
        if kind is list:
            changes = self._changes(enumerate(value))
            if not changes:
                return value
            items = [*value]
            for index, item in changes:
                items[index] = item
            return items
        return self._exact(value, value)

    def _changes(self, items: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        changes = []
        key: Any = None
        try:
            for key, item in items:
                if type(item) in _NATIVE:
                    continue
                plain = self._plain(item)
                if plain is not item:
                    changes.append((key, plain))
        except _RefusedError as refused:
            refused.steps.append(key)
            raise
        return changes

    def _exact(self, plain: Any, value: Any) -> Any:
        """Return a value if it can be stored exactly, or else what it is pickled to."""
        try:
            exact.to_json(plain)
        except CheckpointEncodeError:
            return self._pickled(value)
        return plain

    def _pickled(self, value: Any) -> Any:
        try:
            pickled = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # whatever the object itself does
            raise _RefusedError(f"cannot be pickled: {error}") from error
        kind = type(value)
        json = {
            _PICKLED: base64.b64encode(pickled).decode("ascii"),
            _TYPE: f"{kind.__module__}:{kind.__qualname__}",
        }
        digest = hashlib.sha256(pickled).digest()
        if digest in self._readable:
            return json
        try:
            decode_checkpoint_value(json, allowed_types=self._allowed_types)
        except WorkflowCheckpointException as error:
            for native, value_of in _NATIVE_VALUES.items():
                if isinstance(value, native):  # an enum of texts, which the framework takes for one
                    return value_of(value)
            reason = f"could not be read again; call register_checkpoint_type first: {error}"
            raise _RefusedError(reason) from error
        if len(self._readable) >= _MAX_KNOWN:
            self._readable.clear()
        self._readable.add(digest)
        return json


def _path(steps: list[Any]) -> str:
    parts = [f".{step}" if isinstance(step, str) else f"[{step!r}]" for step in reversed(steps)]
    return "".join(parts).removeprefix(".")
