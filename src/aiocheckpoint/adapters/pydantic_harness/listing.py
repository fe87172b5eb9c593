"""Lists of runs, and of what they have, whatever is wrong with some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pydantic_ai_harness.step_persistence import RunRecord

from aiocheckpoint import BlobStore, CheckpointError, SessionId, SessionReader
from aiocheckpoint.adapters._lists import (
    OF_ONE,
    finished,
    in_order,
    of_unknown,
    saved_at,
    session_names,
)
from aiocheckpoint.adapters.pydantic_harness.records import (
    EVENT,
    NAMES,
    RUN_ID,
    SNAPSHOT,
    HarnessRecord,
    StepRecord,
)
from aiocheckpoint.adapters.pydantic_harness.values import RUNS, value_of


@dataclass(kw_only=True)
class UnreadableRun(RunRecord):
    """
    A run that `get_run` refuses, in a list: its id, and what its events and snapshots tell of it.

    Its `started_at` is when it was stored.

    Attributes:
        problem: what `get_run` says of it.
    """

    problem: str


class _Lineage(NamedTuple):
    """Which conversation a run is of, and by which run it was begun."""

    conversation_id: str | None
    parent_run_id: str | None


async def listed(
    store: BlobStore[HarnessRecord], parent_run_id: str | None, conversation_id: str | None
) -> list[RunRecord]:
    """
    Return the runs, the one that began first first.

    Raises:
        CheckpointError: of some nobody can tell the name, or whether they are among those that are
            wanted; all others are its `listed`.
    """
    wanted = _Lineage(conversation_id, parent_run_id)
    names, nameless = await session_names(store, NAMES.of(""))
    runs: list[RunRecord] = []
    for name in names:
        try:
            record = await store.load(name, RUN_ID)
            found = value_of(RUNS, record) if isinstance(record, StepRecord) else None
        except OF_ONE as error:
            lineage = await _lineage(store, name)
            if lineage is None and wanted != (None, None):
                nameless.append(error)
                continue
            nameless += of_unknown([error])
            found = await _unreadable(store, name, lineage, error)
        if found is not None and _fits(found, wanted):
            runs.append(found)
    runs.sort(key=lambda run: in_order(run.started_at))
    return finished(runs, nameless)


def _fits(run: RunRecord, wanted: _Lineage) -> bool:
    is_of_parent = wanted.parent_run_id in (None, run.parent_run_id)
    return is_of_parent and wanted.conversation_id in (None, run.conversation_id)


async def _unreadable(
    store: BlobStore[HarnessRecord],
    name: SessionId,
    lineage: _Lineage | None,
    error: CheckpointError,
) -> UnreadableRun | None:
    """Return what a list has of a run that cannot be read; None when it is not there."""
    time = await saved_at(store, name, RUN_ID)
    if time is None:
        return None
    return UnreadableRun(
        run_id=NAMES.text_in(name),
        conversation_id=None if lineage is None else lineage.conversation_id,
        parent_run_id=None if lineage is None else lineage.parent_run_id,
        started_at=time,
        problem=str(error),
    )


async def _lineage(store: BlobStore[HarnessRecord], name: SessionId) -> _Lineage | None:
    """Return what the newest event or snapshot that can be read tells of its run."""

    async def read(session: SessionReader[HarnessRecord]) -> _Lineage | None:
        for prefix in (EVENT, SNAPSHOT):
            for checkpoint_id in await session.saved_ids(prefix=prefix):
                try:
                    record = await session.load(checkpoint_id)
                except OF_ONE:
                    continue
                if record is not None and record.value is not None:
                    get = record.value.get
                    return _Lineage(get("conversation_id"), get("parent_run_id"))
        return None

    try:
        return await store.read(name, read)
    except OF_ONE:
        return None
