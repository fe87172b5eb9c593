"""The store keeps what every adapter promises."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from pydantic_ai import ModelRequest
from pydantic_ai_harness.step_persistence import ContinuableSnapshot, StepEvent

from aiocheckpoint.adapters.pydantic_harness import HarnessRecord, StepStore
from tests.adapters.contract import AdapterContract


class TestSnapshots(AdapterContract):
    record_type = HarnessRecord

    def opened(self, storage: Any) -> StepStore:
        return StepStore(storage)

    async def add(self, adapter: StepStore, session: str, text: str) -> None:
        before = await adapter.latest_snapshot(run_id=session)
        messages = [] if before is None else before.messages
        messages.append(ModelRequest.user_text_prompt(text))
        await adapter.save_snapshot(
            ContinuableSnapshot(run_id=session, step_index=len(messages), messages=messages)
        )

    async def listed(self, adapter: StepStore) -> list[str]:
        return [found.run_id for found in await adapter.list_runs()]

    async def texts(self, adapter: StepStore, session: str) -> list[str]:
        snapshot: Any = await adapter.latest_snapshot(run_id=session)
        return [] if snapshot is None else [found.parts[0].content for found in snapshot.messages]


class TestEvents(AdapterContract):
    record_type = HarnessRecord

    def opened(self, storage: Any) -> StepStore:
        return StepStore(storage)

    async def add(self, adapter: StepStore, session: str, text: str) -> None:
        event = StepEvent(run_id=session, kind="run_failed", step_index=0, error=text)
        await adapter.append_event(event)

    async def listed(self, adapter: StepStore) -> list[str]:
        return [found.run_id for found in await adapter.list_runs()]

    async def texts(self, adapter: StepStore, session: str) -> list[str]:
        return [str(event.error) for event in await adapter.list_events(run_id=session)]
