"""Moving flows here from CrewAI's SQLite store, each compared afterwards."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crewai.flow.async_feedback.types import PendingFeedbackContext

from aiocheckpoint.adapters._moving import Copied, CopyMismatchError, Progress
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.crewai.persistence import FlowPersistence
from aiocheckpoint.adapters.crewai.records import FlowRecord

_NEWEST = """
    SELECT flow_uuid, method_name, state_json FROM flow_states
    WHERE id IN (SELECT max(id) FROM flow_states GROUP BY flow_uuid) ORDER BY id
"""
_PENDING = "SELECT flow_uuid, context_json, state_json FROM pending_feedback ORDER BY id"


def copy_flows(
    database: str | Path,
    storage: Storage[FlowRecord],
    *,
    progress: Progress | None = None,
) -> Copied:
    """
    Copy the flows of a `SQLiteFlowPersistence` database, each read back and compared.

    Of each flow the newest state is copied, which is all that CrewAI ever reads, and what it waits
    for. It may be run again: what is there already, and the same, is left as it is. Nobody may use
    the database meanwhile; it is not changed.

    Args:
        database: the file.
        storage: as of `FlowPersistence`.
        progress: called after each flow.

    Returns:
        how many flows were copied, or were there, and how many of them wait for a person.

    Raises:
        CopyMismatchError: a row is no JSON; the flow has another state there; or it reads
            differently afterwards.
        sqlite3.Error: it is no such database.
        CheckpointError: what the calls of `FlowPersistence` raise.

    Cost: one read of the database, one save and two loads a flow.
    """
    copied = Copied()
    pending = {row[0]: row for row in _rows(database, _PENDING)}
    with FlowPersistence(storage) as target:
        for flow_uuid, method_name, text in [*_rows(database, _NEWEST)]:
            _copy_state(target, flow_uuid, method_name, _parsed(flow_uuid, text))
            waiting = pending.pop(flow_uuid, None)
            if waiting is not None:
                _copy_pending(target, flow_uuid, *(_parsed(flow_uuid, row) for row in waiting[1:]))
            copied = Copied(copied.sessions + 1, copied.entries + (waiting is not None))
            if progress is not None:
                progress(copied)
    return copied


def _copy_state(
    target: FlowPersistence, flow_uuid: str, method_name: str, state: dict[str, Any]
) -> None:
    found = target.load_state(flow_uuid)
    if found is None:
        target.save_state(flow_uuid, method_name, state)
        found = target.load_state(flow_uuid)
    elif not _same(found, state):
        raise CopyMismatchError(flow_uuid, "it is there with another state; copy to an empty place")
    if not _same(found, state):
        raise CopyMismatchError(flow_uuid, "it is not the same after the copy")


def _copy_pending(
    target: FlowPersistence, flow_uuid: str, context: dict[str, Any], state: dict[str, Any]
) -> None:
    found = target.load_pending_feedback(flow_uuid)
    if found is None:
        newest = target.load_state(flow_uuid)
        target.save_pending_feedback(flow_uuid, PendingFeedbackContext.from_dict(context), state)
        if newest is not None and not _same(newest, state):  # it went on and was not cleared
            target.save_state(flow_uuid, "", newest)
        found = target.load_pending_feedback(flow_uuid)
    wanted = PendingFeedbackContext.from_dict(context).to_dict()
    if found is None or not _same(found[0], state) or not _same(found[1].to_dict(), wanted):
        raise CopyMismatchError(flow_uuid, "what it waits for is not the same as there")


def _same(one: object, other: object) -> bool:
    """Compare as text, where NaN is what NaN is."""
    return json.dumps(one) == json.dumps(other)


def _rows(database: str | Path, sql: str) -> Iterator[tuple[str, str, str]]:
    uri = f"file:{quote(str(database))}?mode=ro"  # or SQLite would make it
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        yield from connection.execute(sql)


def _parsed(flow_uuid: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        reason = "a row is no JSON; mend or delete it"
        raise CopyMismatchError(flow_uuid, reason) from error
    if not isinstance(value, dict):
        raise CopyMismatchError(flow_uuid, "a row is no JSON object; mend or delete it")
    return value
