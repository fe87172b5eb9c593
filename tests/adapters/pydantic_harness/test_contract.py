"""The store keeps what every adapter promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from pydantic_ai import ModelRequest
from pydantic_ai_harness.step_persistence import ContinuableSnapshot, RunRecord, StepEvent

from aiocheckpoint import open_store
from aiocheckpoint.adapters.pydantic_harness import HarnessRecord, StepStore
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract
from tests.adapters.lists import Told


class OddCalls(AdapterContract):
    async def give_up(self, root: Path, session: str) -> None:
        async with open_store(root) as store:
            await store.delete_session(f"pydantic_harness.{session}")

    async def make(self, adapter: StepStore, name: str) -> None:
        await adapter.register_run(RunRecord(run_id=name))

    async def open_one(self, adapter: StepStore, name: str) -> None:
        assert await adapter.get_run(run_id=name)

    async def list_all(self, adapter: StepStore) -> Any:
        return await adapter.list_runs()

    def told_by(self, listed: Any) -> Told:
        return {run.run_id: getattr(run, "problem", None) for run in listed}

    def stored_as(self, odd: Any) -> list[Any]:
        return [odd.decode() if isinstance(odd, bytes) else odd]  # as pydantic reads it

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        odd: Any
        for odd in (None, 5, ["s"], "\ud800"):
            yield partial(adapter.get_run, run_id=odd)
            yield partial(adapter.list_events, run_id=odd)
            yield partial(adapter.latest_snapshot, run_id=odd)
            yield partial(adapter.list_snapshots, run_id=odd)
            yield partial(adapter.list_unresolved_tool_effects, run_id=odd)
            yield partial(adapter.get_tool_effect, run_id=odd, tool_call_id="t")
            yield partial(adapter.get_tool_effect, run_id=session, tool_call_id=odd)
            event: Any = StepEvent(run_id=session, kind="run_failed", step_index=0)
            if odd is not None:
                yield partial(adapter.append_event, replace(event, idempotency_key=odd))
        for odd in (None, 5, {"a": 1}, "record"):
            yield partial(adapter.register_run, odd)
            yield partial(adapter.append_event, odd)
            yield partial(adapter.save_snapshot, odd)
            yield partial(adapter.record_tool_effect, odd)


class TestSnapshots(OddCalls):
    record_type = HarnessRecord

    def opened(self, storage: Any) -> StepStore:
        return StepStore(storage)

    async def add(self, adapter: StepStore, session: str, text: str) -> None:
        before = await adapter.latest_snapshot(run_id=session)
        messages = [] if before is None else before.messages
        request: Any = ModelRequest.user_text_prompt("")
        request.parts[0].content = text
        messages.append(request)
        await adapter.save_snapshot(
            ContinuableSnapshot(run_id=session, step_index=len(messages), messages=messages)
        )

    async def listed(self, adapter: StepStore) -> list[str]:
        return [found.run_id for found in await adapter.list_runs()]

    async def texts(self, adapter: StepStore, session: str) -> list[str]:
        snapshot: Any = await adapter.latest_snapshot(run_id=session)
        return [] if snapshot is None else [found.parts[0].content for found in snapshot.messages]


class TestEvents(OddCalls):
    record_type = HarnessRecord

    def opened(self, storage: Any) -> StepStore:
        return StepStore(storage)

    async def add(self, adapter: StepStore, session: str, text: str) -> None:
        event = StepEvent(run_id=session, kind="run_failed", step_index=0, error=text)
        await adapter.append_event(event)

    async def listed(self, adapter: StepStore) -> list[str]:
        return [found.run_id for found in await adapter.list_runs()]

    async def texts(self, adapter: StepStore, session: str) -> list[str]:
        events: Any = await adapter.list_events(run_id=session)
        return [event.error for event in events]
