"""Runs of the Pydantic AI harness: `python -m benchmarks.adapters.pydantic_harness_turns`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_ai import (
    ModelMessage,
    ModelMessagesTypeAdapter,
)
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    EventKind,
    FileStepStore,
    SqliteStepStore,
    StepEvent,
    ToolEffectRecord,
    ToolEffectStatus,
)
from pydantic_ai_harness.step_persistence import StepStore as FrameworkStore

from aiocheckpoint import AsyncCheckpointWriter, Durability
from aiocheckpoint.adapters.pydantic_harness import HarnessRecord, StepStore
from benchmarks.adapters.pydantic_ai_messages import messages
from benchmarks.adapters.turns import TURNS, Store, json_bytes, measure

CALLS = 7
_RUN = "run"


class Steps:
    """A run in a store; each turn makes the seven calls that the framework makes."""

    def __init__(self, store: FrameworkStore) -> None:
        self._store = store
        self._messages: list[ModelMessage] = []

    async def write(self, turn: int) -> None:
        """Store the steps of a turn: four events, a tool that begins and ends, a snapshot."""
        self._messages += messages(turn)
        await self._event(turn, "model_request_started")
        await self._event(turn, "model_request_completed")
        await self._effect(turn, "started")
        await self._event(turn, "tool_call_started")
        await self._effect(turn, "completed")
        await self._event(turn, "tool_call_completed")
        key = f"{turn}:{turn}:complete"
        await self._store.save_snapshot(
            ContinuableSnapshot(
                run_id=_RUN, step_index=turn, messages=[*self._messages], idempotency_key=key
            )
        )

    async def _event(self, turn: int, kind: EventKind) -> None:
        key = f"{turn}:{kind}"
        await self._store.append_event(
            StepEvent(run_id=_RUN, kind=kind, step_index=turn, idempotency_key=key)
        )

    async def _effect(self, turn: int, status: ToolEffectStatus) -> None:
        call = f"call-{turn}"
        await self._store.record_tool_effect(
            ToolEffectRecord(tool_call_id=call, tool_name="look_up", run_id=_RUN, status=status)
        )

    async def read(self) -> int:
        """Load the newest snapshot."""
        found = await self._store.latest_snapshot(run_id=_RUN)
        return 0 if found is None else len(found.messages)


@asynccontextmanager
async def ours(directory: Path, durability: Durability = "journal") -> AsyncIterator[Store]:
    """Open the adapter."""
    async with AsyncCheckpointWriter[Any](
        directory, record_type=HarnessRecord, durability=durability
    ) as writer:
        yield Steps(StepStore(writer))


@asynccontextmanager
async def in_files(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's store in files, which does not sync."""
    yield Steps(FileStepStore(directory))


@asynccontextmanager
async def in_sqlite(directory: Path) -> AsyncIterator[Store]:
    """Open the framework's store in SQLite."""
    yield Steps(SqliteStepStore(database=directory / "steps.db"))


if __name__ == "__main__":
    whole = [message for turn in range(TURNS) for message in messages(turn)]
    measure(
        {
            "`FileStepStore`": in_files,
            "`SqliteStepStore`": in_sqlite,
            "`StepStore`": ours,
            '`StepStore`, `"none"`': partial(ours, durability="none"),
        },
        json_bytes(ModelMessagesTypeAdapter, whole),
    )
