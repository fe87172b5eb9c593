"""Moving runs here from the framework's own stores, each compared afterwards."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic_ai_harness.media import SqliteMediaStore
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    FileStepStore,
    RunRecord,
    SqliteStepStore,
    StepEvent,
    ToolEffectRecord,
)
from pydantic_ai_harness.step_persistence import StepStore as FrameworkStore

from aiocheckpoint.adapters._lists import in_order, require_read
from aiocheckpoint.adapters._moving import ADVICE, Copied, Move, Progress, RefusedError, is_same
from aiocheckpoint.adapters._sources import (
    brief,
    copied_database,
    listed,
    reading_source,
    require_names,
    sqlite_rows,
)
from aiocheckpoint.adapters._storage import Storage
from aiocheckpoint.adapters.pydantic_harness.records import HarnessRecord
from aiocheckpoint.adapters.pydantic_harness.store import StepStore

_RUNS_SQL = "SELECT run_id FROM runs"
_LOGGER = "pydantic_ai_harness.step_persistence"

PartT = TypeVar("PartT")


class Source(FrameworkStore, Protocol):
    """A store of the framework's kind that lists snapshots, as all of its own do."""

    async def list_snapshots(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> list[ContinuableSnapshot]:
        """Return the snapshots of a run."""
        ...


async def copy_runs(
    source: Source, storage: Storage[HarnessRecord], *, progress: Progress | None = None
) -> Copied:
    """
    Copy all runs of another store, each read back and compared.

    It may be run again: what is there already, and the same, is left as it is; a run of which there
    is more or other than in the source is refused before anything of it is written, and all others
    are copied. Nobody may use the source meanwhile; it is not changed: of the database of a
    `SqliteStepStore`, which that brings to its format of today, a copy is read, in the directory
    for temporary files. Keys of snapshots that it has pruned are not known here.

    Args:
        source: a store of the framework, as `FileStepStore("runs/")`.
        storage: as of `StepStore`.
        progress: called after each run.

    Returns:
        how much was copied, or was there; the entries are events and snapshots.

    Raises:
        CopyMismatchError: once all else is copied: of some runs something cannot be read, also a
            snapshot that the source leaves out with a warning, another one of that id is there, it
            cannot be stored, or it reads differently afterwards. Or, of a store that is none of
            files or of a database of SQLite, one is damaged that ends its list: nothing was copied.
        sqlite3.Error: it is no such database.
        CheckpointError: what else the calls of `StepStore` raise, as of a full disk.

    Cost: one full read of the source; one update of each record, and one full read here.
    """
    async with StepStore(storage) as target, _unchanged(source) as unchanged:
        with Move(progress, unit="run") as move:
            for run in await _runs(unchanged, move):
                with move.part(run.run_id) as part:
                    require_read("run", run)
                    part.entries = await _copy(unchanged, target, run)
    return move.copied


@asynccontextmanager
async def _unchanged(source: Source) -> AsyncGenerator[Source]:
    """Give what reads the same, and does not change the source."""
    match source:
        case (
            SqliteStepStore(_database=Path() as opened, _media_store=media)
            | SqliteStepStore(_connection=sqlite3.Connection() as opened, _media_store=media)
        ):
            async with copied_database(opened) as copy:
                match media:
                    case (
                        SqliteMediaStore(_database=Path() as same, _table=table)
                        | SqliteMediaStore(_connection=sqlite3.Connection() as same, _table=table)
                    ) if same == opened:
                        media = SqliteMediaStore(database=copy, table=table)
                yield SqliteStepStore(database=copy, media_store=media)
        case _:
            yield source


async def _runs(source: Source, move: Move) -> list[RunRecord]:
    """Return the runs, oldest first; one that is damaged would end a list of the framework."""
    run_ids = await asyncio.to_thread(_run_ids, source)
    if run_ids is None:
        return await listed("the list of runs", source.list_runs())
    runs: list[RunRecord] = []
    for run_id in run_ids:
        with move.part(run_id) as part:
            part.sessions = 0
            runs.append(await _run(source, run_id))
    return sorted(runs, key=lambda run: in_order(run.started_at))


def _run_ids(source: Source) -> list[Any] | None:
    """Return the ids of the runs of a store of the framework; None where it is not known how."""
    match source:
        case FileStepStore(_root=Path() as root):
            return sorted(path.parent.name for path in root.glob("*/run.json"))
        case SqliteStepStore(_database=Path() as database):
            return [run_id for (run_id,) in sqlite_rows(database, _RUNS_SQL)]
        case _:
            return None


async def _run(source: Source, run_id: str) -> RunRecord:
    require_names(run_id)
    with reading_source("its record", OSError):
        run = await source.get_run(run_id=run_id)
    if run is None:
        raise RefusedError("it went away meanwhile; copy when nobody writes")
    _require_own(run_id, run)
    return run


def _require_own(run_id: str, *parts: RunRecord | StepEvent | ToolEffectRecord) -> None:
    """Refuse what says that it is of another run, to which it would go."""
    for part in parts:
        if part.run_id != run_id:
            what = f"a {type(part).__name__} of it"
            raise RefusedError(f"{what} is of run {part.run_id!r}; mend or delete it")


async def _copy(source: Source, target: StepStore, run: RunRecord) -> int:
    run_id = run.run_id
    with reading_source("its events", OSError):
        events = await source.list_events(run_id=run_id)
    with reading_source("its snapshots", OSError), _warnings_refused():
        snapshots = await source.list_snapshots(run_id=run_id, include_interrupted=True)
    with reading_source("its tool effects", OSError):
        effects = await _effects(source, run_id, events)
    _require_own(run_id, *events, *effects)
    stored = await target.get_run(run_id=run_id)
    if stored not in (None, run):
        raise RefusedError(f"another one is there already; {ADVICE}")
    events_there, snapshots_there = await _lists(target, run_id)
    effects_there = await _effects(target, run_id, [*events, *events_there])
    new_events = _lacking(events, events_there)
    new_snapshots = _lacking(snapshots, snapshots_there)
    if any(effect not in effects for effect in effects_there):
        raise _gone_on()
    if stored is None:
        await target.register_run(run)
    for event in new_events:
        await target.append_event(event)
    for snapshot in new_snapshots:
        await target.save_snapshot(snapshot)
    for effect in effects:
        if effect not in effects_there:
            await target.record_tool_effect(effect)
    found = (*await _lists(target, run_id), await _effects(target, run_id, events))
    if not is_same(found, (events, snapshots, effects)):
        raise RefusedError("it is not the same after the copy")
    return len(events) + len(snapshots)


def _lacking(parts: Sequence[PartT], there: Sequence[PartT]) -> Sequence[PartT]:
    """Return what is not there yet; what is must be the first part."""
    if not is_same([*there], [*parts[: len(there)]]):
        raise _gone_on()
    return parts[len(there) :]


def _gone_on() -> RefusedError:
    return RefusedError(f"it has other steps there already; {ADVICE}")


async def _lists(store: Source, run_id: str) -> tuple[list[StepEvent], list[ContinuableSnapshot]]:
    events = await store.list_events(run_id=run_id)
    return events, await store.list_snapshots(run_id=run_id, include_interrupted=True)


async def _effects(
    store: Source, run_id: str, events: Sequence[StepEvent]
) -> list[ToolEffectRecord]:
    """Return the effects of the tools that are going on, or of which an event tells."""
    unresolved = await store.list_unresolved_tool_effects(run_id=run_id)
    calls = {event.tool_call_id for event in events} | {one.tool_call_id for one in unresolved}
    found = [
        await store.get_tool_effect(run_id=run_id, tool_call_id=call)
        for call in sorted(filter(None, calls))
    ]
    return [effect for effect in found if effect is not None]


@contextmanager
def _warnings_refused() -> Generator[None]:
    """Refuse what the framework leaves out with a warning."""
    warnings: list[str] = []

    def note(record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        warnings.append(f"{record.getMessage()}; mend or delete it: {brief(error)}")

    handler = logging.Handler(logging.WARNING)
    handler.emit = note  # type: ignore[method-assign]
    logger = logging.getLogger(_LOGGER)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if warnings:
        raise RefusedError(warnings[0])
