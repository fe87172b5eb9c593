"""Moving flows here from CrewAI's SQLite store, each compared afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from crewai.flow.async_feedback.types import PendingFeedbackContext

from aiocheckpoint.adapters._moving import (
    ADVICE,
    Copied,
    Move,
    Progress,
    RefusedError,
    is_same_json,
)
from aiocheckpoint.adapters._sources import (
    parsed_object,
    reading_source,
    require_names,
    sqlite_rows,
)
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.crewai.persistence import FlowPersistence
from aiocheckpoint.adapters.crewai.records import FlowRecord

_FLOWS = "SELECT flow_uuid, max(id) FROM flow_states GROUP BY flow_uuid ORDER BY 2"
_STATE = "SELECT method_name, state_json FROM flow_states WHERE id = ?"
_WAITING = "SELECT flow_uuid, id FROM pending_feedback"
_PENDING = "SELECT context_json, state_json FROM pending_feedback WHERE id = ?"


def copy_flows(
    database: str | Path,
    storage: Storage[FlowRecord],
    *,
    progress: Progress | None = None,
) -> Copied:
    """
    Copy the flows of a `SQLiteFlowPersistence` database, each read back and compared.

    Of each flow the newest state is copied, which is all that CrewAI ever reads, and what it waits
    for. It may be run again: what is there already, and the same, is left as it is. A flow of which
    anything else is there is refused before anything of it is written, since it may have gone on;
    all others are copied. Nobody may use the database meanwhile; it is not changed.

    Args:
        database: the file.
        storage: as of `FlowPersistence`.
        progress: called after each flow.

    Returns:
        how many flows were copied, or were there, and how many of them wait for a person.

    Raises:
        CopyMismatchError: once all else is copied: of some flows a row cannot be read, another
            state is there, it cannot be stored, or it reads differently afterwards.
        sqlite3.Error: it is no such database.
        CheckpointError: what else the calls of `FlowPersistence` raise, as of a full disk.

    Cost: a read of the database, one save and two loads a flow.
    """
    waiting = dict(sqlite_rows(database, _WAITING))
    with FlowPersistence(storage) as target, Move(progress, unit="flow") as move:
        for flow_uuid, row in sqlite_rows(database, _FLOWS):
            with move.part(flow_uuid) as part:
                require_names(flow_uuid)
                flow = _read(database, row, waiting.get(flow_uuid))
                _copy(target, flow_uuid, flow)
                part.entries = int(flow.waiting is not None)
    return move.copied


def _read(database: str | Path, row: int, waiting_row: int | None) -> _Flow:
    """Return a flow by its rows, of its newest state and of what it waits for."""
    with reading_source(f"row {row} of flow_states"):
        ((method_name, text),) = sqlite_rows(database, _STATE, row)
    if not isinstance(method_name, str):
        raise RefusedError(f"method_name in row {row} of flow_states is no text; mend or delete it")
    state = parsed_object(text, f"state_json in row {row} of flow_states")
    waiting = None if waiting_row is None else _Waiting.read(database, waiting_row)
    return _Flow(method_name, state, waiting)


class _Waiting(NamedTuple):
    """What a flow waits for, and its state when it began to; contexts cannot be compared."""

    context: dict[str, Any]
    state: dict[str, Any]

    @classmethod
    def read(cls, database: str | Path, row: int) -> _Waiting:
        """Return what a row is, as CrewAI writes it today."""
        what = f"row {row} of pending_feedback"
        with reading_source(what):
            ((text, state_text),) = sqlite_rows(database, _PENDING, row)
        context = parsed_object(text, f"context_json in {what}")
        state = parsed_object(state_text, f"state_json in {what}")
        with reading_source(f"context_json in {what}"):
            return cls(PendingFeedbackContext.from_dict(context).to_dict(), state)


class _Flow(NamedTuple):
    """A flow in the source; its state is newer than that of its waiting if it has gone on."""

    method_name: str
    state: dict[str, Any]
    waiting: _Waiting | None


def _copy(target: FlowPersistence, flow_uuid: str, flow: _Flow) -> None:
    """Copy a flow: in one commit what it waits for, and behind it the state if that is newer."""
    state, waiting = _there(target, flow_uuid)
    is_begun = flow.waiting is not None and is_same_json(
        (state, waiting), (flow.waiting.state, flow.waiting)
    )
    if state is not None and not is_begun and not is_same_json((state, waiting), flow[1:]):
        raise RefusedError(f"{_what(state, flow)} there already; {ADVICE}")
    if flow.waiting is not None and state is None:
        context = PendingFeedbackContext.from_dict(flow.waiting.context)
        target.save_pending_feedback(flow_uuid, context, flow.waiting.state)
        state = flow.waiting.state
    if not is_same_json(state, flow.state):
        target.save_state(flow_uuid, flow.method_name, flow.state)
    if not is_same_json(_there(target, flow_uuid), flow[1:]):
        raise RefusedError("it is not the same after the copy")


def _what(state: object, flow: _Flow) -> str:
    return (
        "it waits for something else" if is_same_json(state, flow.state) else "it has another state"
    )


def _there(
    target: FlowPersistence, flow_uuid: str
) -> tuple[dict[str, Any] | None, _Waiting | None]:
    """Return the state of a flow in the target, and what it waits for."""
    waiting = target.load_pending_feedback(flow_uuid)
    found = None if waiting is None else _Waiting(waiting[1].to_dict(), waiting[0])
    return target.load_state(flow_uuid), found
