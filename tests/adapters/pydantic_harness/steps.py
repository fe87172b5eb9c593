"""Runs, events, snapshots and effects for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    RunRecord,
    StepEvent,
    ToolEffectRecord,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def message(number: int, size: int = 0) -> ModelMessage:
    """Return a question, or its answer where the number is odd."""
    text = f"{number:06} " + "x" * size
    if number % 2:
        return ModelResponse(parts=[TextPart(text)], timestamp=START)
    return ModelRequest(parts=[UserPromptPart(text, timestamp=START)])


def messages(numbers: Iterable[int], size: int = 0) -> list[ModelMessage]:
    """Return questions and answers."""
    return [message(number, size) for number in numbers]


def snapshot(step: int, count: int | None = None, **options: Any) -> ContinuableSnapshot:
    """Return a snapshot of so many messages."""
    length = step + 1 if count is None else count
    given: dict[str, Any] = {"run_id": "r", "messages": messages(range(length))}
    return ContinuableSnapshot(step_index=step, **given | options)


def event(step: int, **options: Any) -> StepEvent:
    """Return an event."""
    given: dict[str, Any] = {"run_id": "r", "kind": "run_started"}
    return StepEvent(step_index=step, **given | options)


def effect(call: str, status: Any, **options: Any) -> ToolEffectRecord:
    """Return what is known of a tool call."""
    given: dict[str, Any] = {"run_id": "r", "tool_name": "pay"}
    return ToolEffectRecord(tool_call_id=call, status=status, **given | options)


def run(number: int, **options: Any) -> RunRecord:
    """Return a run that began on such a day."""
    given: dict[str, Any] = {"run_id": f"r{number}"}
    return RunRecord(started_at=START + timedelta(days=number), **given | options)


async def kept(store: Any, **options: Any) -> list[int]:
    """Return the steps of the snapshots that there are."""
    found = await store.list_snapshots(run_id="r", **options)
    return [snapshot.step_index for snapshot in found]
