"""An agent of the Pydantic AI harness that asks for approval: kill it, and run it again.

python examples/pydantic_harness_resume.py [directory]
"""

import asyncio
import sys
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
from pydantic_ai_harness.step_persistence import RunRecord, StepPersistence

from aiocheckpoint.adapters.pydantic_harness import StepStore


async def think(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Stand in the place of a model, so that no key is needed."""
    parts = [part for message in messages for part in message.parts]
    answered = {part.tool_call_id for part in parts if part.part_kind == "tool-return"}
    print(f"the model thinks, step {len(answered)}", flush=True)
    await asyncio.sleep(0.2)
    if "call-1" not in answered:
        return ModelResponse(parts=[ToolCallPart("look_up", {"order": 7}, "call-1")])
    if "call-2" not in answered:
        return ModelResponse(parts=[ToolCallPart("refund", {"euros": 40}, "call-2")])
    return ModelResponse(parts=[TextPart("Your 40 euros are on their way.")])


def shop_agent(store: StepStore) -> Agent[None, Any]:
    persistence: Any = StepPersistence(store=store, capture_frontier=True)
    output: Any = [str, DeferredToolRequests]
    agent: Agent[None, Any] = Agent(
        FunctionModel(think), output_type=output, capabilities=[persistence]
    )

    @agent.tool_plain
    async def look_up(order: int) -> str:
        """Look an order up."""
        print(f"look_up: order {order}", flush=True)
        await asyncio.sleep(0.2)
        return "a broken lamp"

    @agent.tool_plain(requires_approval=True)
    async def refund(euros: int) -> str:
        """Refund."""
        print(f"refund: {euros} euros", flush=True)
        return "refunded"

    return agent


async def messages_so_far(store: StepStore) -> list[ModelMessage]:
    """Return how far the order has come, and say which tools may run a second time."""
    runs = await store.list_runs(conversation_id="order-7")
    for run in reversed(runs):
        snapshot = await store.latest_snapshot(run_id=run.run_id, include_interrupted=True)
        if snapshot is not None:
            await tell_what_may_repeat(store, runs, snapshot.messages)
            return snapshot.messages
    return []


async def tell_what_may_repeat(
    store: StepStore, runs: list[RunRecord], messages: list[ModelMessage]
) -> None:
    """Say what is known of calls without an answer; any of the runs may have made them."""
    for call in open_calls(messages):
        for run in runs:
            effect = await store.get_tool_effect(run_id=run.run_id, tool_call_id=call.tool_call_id)
            if effect is not None:
                what = "unknown" if effect.status == "started" else effect.status
                print(f"{what}: {effect.tool_name}", flush=True)


def open_calls(messages: list[ModelMessage]) -> list[ToolCallPart]:
    """Return the calls that have no answer yet."""
    parts = [part for message in messages for part in message.parts]
    answered = {part.tool_call_id for part in parts if part.part_kind == "tool-return"}
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    return [call for call in calls if call.tool_call_id not in answered]


async def main(directory: str) -> None:
    async with StepStore(directory) as store:
        messages = await messages_so_far(store)
        last = messages[-1].parts[-1] if messages else None
        approved = None
        if isinstance(last, ToolCallPart) and last.tool_name == "refund":
            print("approved by Ann", flush=True)
            approved = DeferredToolResults(approvals={last.tool_call_id: True})
        result = await shop_agent(store).run(
            None if messages else "My lamp arrived broken.",
            message_history=messages,
            deferred_tool_results=approved,
            conversation_id="order-7",
        )
        is_waiting = isinstance(result.output, DeferredToolRequests)
        print("waiting: refund 40 euros?" if is_waiting else result.output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
