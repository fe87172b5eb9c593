"""
A shop's agent with a scripted model: it looks an order up, asks for an approval, and refunds.

`python -m tests.adapters.pydantic_ai.shop STORAGE LOG [approve]` runs it, or goes on
with it.
Each call of a tool is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from pydantic_ai import (
    Agent,
    Conversation,
    DeferredToolRequests,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from aiocheckpoint.adapters.pydantic_ai import ConversationStore


def said(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Answer as a model would that reads the whole conversation."""
    parts = [part for message in messages for part in message.parts]
    answered = {part.tool_call_id for part in parts if part.part_kind == "tool-return"}
    said(f"model reads {len(messages)} messages")
    if "look-up" not in answered:
        return ModelResponse(parts=[ToolCallPart("look_up", {"order": 7}, "look-up")])
    if "refund" not in answered:
        return ModelResponse(parts=[ToolCallPart("refund", {"euros": 40}, "refund")])
    return ModelResponse(parts=[TextPart("Your 40 euros are on their way.")])


def shop_agent(log: Path) -> Agent[None, Any]:
    """Return the agent; its tools write to a log."""
    agent = Agent(FunctionModel(think), output_type=[str, DeferredToolRequests])

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @agent.tool_plain
    async def look_up(order: int) -> str:
        """Look an order up."""
        await asyncio.to_thread(logged, f"look_up {order}")
        return "a lamp, " + "broken " * 20_000

    @agent.tool_plain(requires_approval=True)
    async def refund(euros: int) -> str:
        """Refund."""
        await asyncio.to_thread(logged, f"refund {euros}")
        return "refunded"

    return agent


async def main(storage: str, log: str, *options: str) -> None:
    """Run it as far as it goes."""
    agent = shop_agent(Path(log))
    async with ConversationStore(storage) as store:
        loaded = await store.load("ann")
        conversation = loaded or Conversation(conversation_id="ann")
        waiting = conversation.deferred_tool_requests
        if waiting is not None and "approve" not in options:
            said("waiting")
            return
        answers = None if waiting is None else waiting.build_results(approve_all=True)
        asked = None if conversation.messages else "My lamp arrived broken."
        async with agent.iter(
            asked, conversation=conversation, deferred_tool_results=answers
        ) as run:
            async for _ in run:
                await store.save_step(conversation, run)
        assert run.result is not None
        is_waiting = isinstance(run.result.output, DeferredToolRequests)
        said("waiting" if is_waiting else str(run.result.output))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
