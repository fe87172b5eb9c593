"""Events and states as JSON that gives them back as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from google.adk.events import Event
from google.adk.sessions import State
from pydantic import BaseModel, TypeAdapter

from aiocheckpoint import JsonValue, exact
from aiocheckpoint.adapters._pydantic import validated, without_enums
from aiocheckpoint.kit import require_instance

_EVENTS = TypeAdapter(list[Event])


class Delta(NamedTuple):
    """
    What a change of the state sets, by where it is kept; values as they are stored.

    Attributes:
        app: for all users; keys without their prefix, here and in `user`.
        user: for all sessions of the user.
        session: for one session.
    """

    app: dict[str, JsonValue]
    user: dict[str, JsonValue]
    session: dict[str, JsonValue]


def delta_of(state: Mapping[str, Any]) -> Delta:
    """
    Return a change of the state without what is temporary; the state may change afterwards.

    Raises:
        InvalidArgumentError: it is no dict with texts as its keys.
        CheckpointEncodeError: a value that would not come back; names its path.
    """
    require_instance("state", state, Mapping)
    delta = Delta({}, {}, {})
    for name, value in state.items():
        require_instance("a key of state", name, str)
        if name.startswith(State.TEMP_PREFIX):
            continue
        stored = _frozen(value, f"state.{name}")
        if name.startswith(State.APP_PREFIX):
            delta.app[name.removeprefix(State.APP_PREFIX)] = stored
        elif name.startswith(State.USER_PREFIX):
            delta.user[name.removeprefix(State.USER_PREFIX)] = stored
        else:
            delta.session[name] = stored
    return delta


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a user or an app with the keys that a session has for it."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def state_of(
    session: Mapping[str, JsonValue], app: Mapping[str, JsonValue], user: Mapping[str, JsonValue]
) -> dict[str, Any]:
    """Return the state that a session shows, from what is stored."""
    stored = {
        **session,
        **prefixed(State.APP_PREFIX, app),
        **prefixed(State.USER_PREFIX, user),
    }
    return {name: exact.from_json(value, path=f"state.{name}") for name, value in stored.items()}


def event_json(event: Event) -> JsonValue:
    """
    Return an event as JSON, without temporary state; the event may change afterwards.

    Raises:
        CheckpointEncodeError: a value that would not come back; names its path.
    """
    fields = event.model_dump(exclude_none=True)
    delta = fields["actions"]["state_delta"]
    fields["actions"]["state_delta"] = {
        name: value for name, value in delta.items() if not name.startswith(State.TEMP_PREFIX)
    }
    return _frozen(fields, "event")


def events_of(values: list[Any], location: str) -> list[Event]:
    """
    Return the events that `event_json` made JSON of, and `exact` has given back.

    Raises:
        CheckpointDecodeError: this version of the framework does not know such an event.
    """
    return validated(_EVENTS, values, location)


def _frozen(value: Any, path: str) -> JsonValue:
    """Return a value as JSON of its own, which later changes by the caller do not reach."""
    found: JsonValue = msgspec.json.decode(
        msgspec.json.encode(exact.to_json(_plain(value), path=path))
    )
    return found


def _plain(value: object) -> object:
    """Return what the framework would store of models and enums; all else stays as it is."""
    return without_enums(value, _of_model)


def _of_model(value: object) -> object:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(exclude_none=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    return value
