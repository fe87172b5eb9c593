"""
A shop's agent with a scripted model: it looks an order up, asks for an approval, and refunds.

`python -m tests.adapters.pydantic_harness.shop STORAGE LOG [approve]` runs it, or goes
on with it.
Each call of a tool is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from pydantic_ai import (
    Agent,
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_harness.step_persistence import StepPersistence

from aiocheckpoint.adapters.pydantic_harness import StepStore


def said(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def answered(messages: list[ModelMessage]) -> set[str]:
    """Return the calls of tools that have an answer."""
    parts = [part for message in messages for part in message.parts]
    return {part.tool_call_id for part in parts if part.part_kind == "tool-return"}


async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Answer as a model would that reads the whole conversation."""
    said(f"model reads {len(messages)} messages")
    if "look-up" not in answered(messages):
        return ModelResponse(parts=[ToolCallPart("look_up", {"order": 7}, "look-up")])
    if "refund" not in answered(messages):
        return ModelResponse(parts=[ToolCallPart("refund", {"euros": 40}, "refund")])
    return ModelResponse(parts=[TextPart("Your 40 euros are on their way.")])


def shop_agent(store: StepStore, log: Path) -> Agent[None, Any]:
    """Return the agent; its tools write to a log."""
    persistence: Any = StepPersistence(store=store, capture_frontier=True)
    agent = Agent(
        FunctionModel(think),
        output_type=[str, DeferredToolRequests],
        capabilities=[persistence],
    )

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @agent.tool_plain
    async def look_up(order: int) -> str:
        """Look an order up."""
        await asyncio.to_thread(logged, f"look_up {order}")
        said("look_up is going on")
        return "a lamp, " + "broken " * 20_000

    @agent.tool_plain(requires_approval=True)
    async def refund(euros: int) -> str:
        """Refund."""
        await asyncio.to_thread(logged, f"refund {euros}")
        return "refunded"

    return agent


async def history(store: StepStore) -> list[ModelMessage]:
    """Return how far the conversation has come, and say which tools may or may not have run."""
    for run in reversed(await store.list_runs(conversation_id="ann")):
        for effect in await store.list_unresolved_tool_effects(run_id=run.run_id):
            said(f"unknown: {effect.tool_name}")
        snapshot = await store.latest_snapshot(run_id=run.run_id, include_interrupted=True)
        if snapshot is not None:
            return snapshot.messages
    return []


async def main(storage: str, log: str, *options: str) -> None:
    """Run it as far as it goes."""
    async with StepStore(storage) as store:
        messages = await history(store)
        last = messages[-1].parts[-1] if messages else None
        is_waiting = isinstance(last, ToolCallPart) and last.tool_name == "refund"
        if is_waiting and "approve" not in options:
            said("waiting")
            return
        result = await shop_agent(store, Path(log)).run(
            None if messages else "My lamp arrived broken.",
            message_history=messages,
            deferred_tool_results=(
                DeferredToolResults(approvals={"refund": True}) if is_waiting else None
            ),
            conversation_id="ann",
        )
        is_waiting = isinstance(result.output, DeferredToolRequests)
        said("waiting" if is_waiting else str(result.output))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
