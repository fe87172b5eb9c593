"""Steps of runs of the Pydantic AI harness in any store of checkpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TypeVar

from msgspec.structs import replace
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    RunRecord,
    StepEvent,
    ToolEffectRecord,
)

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.adapters._given import require_text
from aiocheckpoint.adapters._lists import OF_ONE, finished, require_read
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.pydantic_harness.listing import listed
from aiocheckpoint.adapters.pydantic_harness.records import (
    EVENT,
    NAMES,
    RUN_ID,
    SNAPSHOT,
    TOOL,
    HarnessRecord,
    SnapshotRecord,
    StepRecord,
    Totals,
    id_of,
)
from aiocheckpoint.adapters.pydantic_harness.run import OpenRun, RecentRun, RunReader
from aiocheckpoint.adapters.pydantic_harness.values import (
    EFFECTS,
    EVENTS,
    RUNS,
    Draft,
    fields_of,
    snapshot_of,
    value_of,
)

_RECENT_RUNS = 64

ResultT = TypeVar("ResultT")


class StepStore(InStorage[HarnessRecord]):
    """
    Steps of runs of the Pydantic AI harness that survive the process, the machine, a power cut.

    ```py
    store = StepStore("state/")
    agent = Agent("openai:gpt-5.2", capabilities=[StepPersistence(store=store)])
    ```

    Any number of stores, tasks, event loops, threads and processes may use one storage, and one
    run of it; stores that are given the same path or URL share one store of checkpoints.

    **Durability**: when a call returns, what it changed is durable, as the store promises. A tool
    that was going on when the process died is among `list_unresolved_tool_effects`.

    **Keys** count once within a run, for ever: also after their snapshot was pruned.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for an older snapshot, for fewer
    events, or for tools that were not called.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `HarnessRecord`, which
            stays open.
        max_snapshots_per_run: at most so many snapshots of a run are kept, the newest, and besides
            them the newest that is `complete`; None: all.

    Raises:
        InvalidArgumentError: `max_snapshots_per_run` is neither None nor at least 1.
        CheckpointError: what `open_store` raises.
    """

    def __init__(
        self, storage: Storage[HarnessRecord], *, max_snapshots_per_run: int | None = None
    ) -> None:
        keep: object = max_snapshots_per_run
        if keep is not None and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 1):
            raise InvalidArgumentError(
                "max_snapshots_per_run", keep, "an int of at least 1, or None"
            )
        self._keep = max_snapshots_per_run
        super().__init__(storage, HarnessRecord)
        self._recent = lru_cache(_RECENT_RUNS)(_recent_of)

    async def _update(self, run_id: str, work: Callable[[OpenRun], Awaitable[ResultT]]) -> ResultT:
        return await self._store.update(
            NAMES.of(run_id), lambda session: work(OpenRun(session, self._recent(run_id)))
        )

    async def _read(self, run_id: str, work: Callable[[RunReader], Awaitable[ResultT]]) -> ResultT:
        name = NAMES.of(run_id)  # which refuses what is no text
        recent = self._recent(run_id)
        return await read_steadily(
            self._store, name, lambda session: work(RunReader(session, recent))
        )

    # Runs

    async def register_run(self, record: RunRecord) -> None:
        """
        Store a run.

        Args:
            record: its `run_id` may be any text.

        Raises:
            ValueError: there is one of this id, by another registration; nothing was changed.
            CheckpointError: what `update` of the store raises.
        """
        require_read("record", record)
        value = fields_of(RUNS, record, "record")
        registration_id = record.registration_id

        async def register(run: OpenRun) -> None:
            stored = await run.get(RUN_ID)
            if stored is None:
                run.put(RUN_ID, value, await run.totals())
            elif (
                registration_id is None
                or (stored.value or {}).get("registration_id") != registration_id
            ):
                raise ValueError(f"run_id {record.run_id!r} is already in the store")

        await self._update(record.run_id, register)

    async def get_run(self, *, run_id: str) -> RunRecord | None:
        """
        Return a run; None when there is none.

        Raises:
            CheckpointCorruptError: it is damaged.
            CheckpointError: what `load` of the store raises.
        """
        record = await self._store.load(NAMES.of(run_id), RUN_ID)
        return value_of(RUNS, record) if isinstance(record, StepRecord) else None

    async def list_runs(
        self, *, parent_run_id: str | None = None, conversation_id: str | None = None
    ) -> list[RunRecord]:
        """
        Return the runs, the one that began first first.

        One that `get_run` refuses, as it is damaged, is there too, as an `UnreadableRun`. Of which
        conversation it is, and which run began it, is told by its events and snapshots.

        Args:
            parent_run_id: only those that this run began.
            conversation_id: only those of this conversation.

        Raises:
            CheckpointError: nobody can tell the name of a run, or whether it is one of those asked
                for, or what a damaged part of the journal held; `listed` of the error has all
                others. Or something is wrong with all, as a server that is away.

        Cost: one load of each run.
        """
        return await listed(self._store, parent_run_id, conversation_id)

    # Events

    async def append_event(self, event: StepEvent) -> None:
        """
        Store an event; nothing when the run has one of its `idempotency_key`.

        Args:
            event: may be changed as soon as this was called.

        Raises:
            CheckpointError: what `update` of the store raises.

        Cost: one update of one small record.
        """
        value = fields_of(EVENTS, event, "event")
        key = event.idempotency_key
        checkpoint_id = id_of(EVENT, key)

        async def append(run: OpenRun) -> None:
            if key is None or await run.get(checkpoint_id) is None:
                totals = await run.totals()
                run.put(checkpoint_id, value, replace(totals, events=totals.events + 1))

        await self._update(event.run_id, append)

    async def list_events(self, *, run_id: str) -> list[StepEvent]:
        """
        Return the events of a run, in the order in which they were appended.

        Raises:
            CheckpointCorruptError: one is damaged, or was removed by something else; `listed` of
                the error has all others.
            CheckpointError: what `read` of the store raises.
        """

        async def event(_: RunReader, record: HarnessRecord) -> StepEvent:
            return value_of(EVENTS, record)

        return await self._each(run_id, EVENT, lambda totals: totals.events, event)

    # Snapshots

    async def save_snapshot(self, snapshot: ContinuableSnapshot) -> None:
        """
        Store a snapshot; nothing when the run has or had one of its `idempotency_key`.

        Args:
            snapshot: may be changed as soon as this was called.

        Raises:
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `update` of the store raises.

        Cost: one encode of all messages; one update, of what the newest snapshot does not have.
        """
        draft = Draft.of(snapshot)
        await self._update(snapshot.run_id, lambda run: run.save(draft, self._keep))

    async def latest_snapshot(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> ContinuableSnapshot | None:
        """
        Return the newest snapshot; None when there is none.

        Args:
            run_id: the run.
            include_interrupted: of all, not of those alone that are `complete`.

        Raises:
            CheckpointCorruptError: it is damaged, or was removed by something else.
            CheckpointError: what `read` of the store raises.
        """

        async def read(run: RunReader) -> ContinuableSnapshot | None:
            totals = await run.totals()
            newest = totals.newest if include_interrupted else totals.settled
            if newest is None:
                return None
            record = await run.snapshot(newest)
            return snapshot_of(record, await run.messages(record))

        return await self._read(run_id, read)

    async def list_snapshots(
        self, *, run_id: str, include_interrupted: bool = False
    ) -> list[ContinuableSnapshot]:
        """
        Return the snapshots of a run that were not pruned, in the order in which they were saved.

        Args:
            run_id: the run.
            include_interrupted: all, not those alone that are `complete`.

        Raises:
            CheckpointCorruptError: one is damaged, or was removed by something else; `listed` of
                the error has all others.
            CheckpointError: what `read` of the store raises.
        """

        async def snapshot(run: RunReader, record: HarnessRecord) -> ContinuableSnapshot | None:
            if not isinstance(record, SnapshotRecord):
                return None
            is_wanted = include_interrupted or record.value["state"] == "complete"
            return snapshot_of(record, await run.messages(record)) if is_wanted else None

        return await self._each(run_id, SNAPSHOT, lambda totals: totals.snapshots, snapshot)

    # What tools have done

    async def record_tool_effect(self, record: ToolEffectRecord) -> None:
        """
        Store what is known of a tool call, in the place of what was known before.

        Args:
            record: may be changed as soon as this was called.

        Raises:
            CheckpointError: what `update` of the store raises.

        Cost: one update of one small record.
        """
        value = fields_of(EFFECTS, record, "record")
        checkpoint_id = TOOL + record.tool_call_id

        async def put(run: OpenRun) -> None:
            totals = await run.totals()
            is_new = await run.get(checkpoint_id) is None
            run.put(checkpoint_id, value, replace(totals, effects=totals.effects + is_new))

        await self._update(record.run_id, put)

    async def get_tool_effect(self, *, run_id: str, tool_call_id: str) -> ToolEffectRecord | None:
        """
        Return what is known of a tool call; None when it was not called.

        Raises:
            CheckpointCorruptError: it is damaged, or one of the run was removed by something else.
            CheckpointError: what `read` of the store raises.
        """
        require_text("tool_call_id", tool_call_id)
        record = await self._store.load(NAMES.of(run_id), TOOL + tool_call_id)
        if isinstance(record, StepRecord):
            return value_of(EFFECTS, record)

        async def effects(run: RunReader) -> list[HarnessRecord]:
            return await run.all(TOOL, (await run.totals()).effects)

        found = [value_of(EFFECTS, record) for record in await self._read(run_id, effects)]
        return next((effect for effect in found if effect.tool_call_id == tool_call_id), None)

    async def list_unresolved_tool_effects(self, *, run_id: str) -> list[ToolEffectRecord]:
        """
        Return the tool calls that are going on, or were when their process died.

        Raises:
            CheckpointCorruptError: one is damaged, or was removed by something else; `listed` of
                the error has all others.
            CheckpointError: what `read` of the store raises.
        """

        async def effect(_: RunReader, record: HarnessRecord) -> ToolEffectRecord | None:
            found = value_of(EFFECTS, record)
            return found if found.status == "started" else None

        return await self._each(run_id, TOOL, lambda totals: totals.effects, effect)

    async def _each(
        self,
        run_id: str,
        prefix: str,
        count_of: Callable[[Totals], int],
        made: Callable[[RunReader, HarnessRecord], Awaitable[ResultT | None]],
    ) -> list[ResultT]:
        """
        Return what is made of the records whose ids begin so, saved first first.

        Args:
            run_id: the run.
            prefix: of their ids.
            count_of: returns how many there have to be.
            made: makes it, or None, which is left out.

        Raises:
            CheckpointError: one cannot be read, or is missing; all others are its `listed`.
        """

        async def read(run: RunReader) -> list[ResultT]:
            records = await run.all(prefix, count_of(await run.totals()))
            made_of = [await made(run, record) for record in records]
            return [one for one in made_of if one is not None]

        try:
            return await self._read(run_id, read)
        except OF_ONE as error:
            found, refused = await self._read(run_id, lambda run: run.each(prefix, made))
            return finished(found, refused or [error])


def _recent_of(run_id: str) -> RecentRun:  # noqa: ARG001 - what it is remembered by
    return RecentRun()
