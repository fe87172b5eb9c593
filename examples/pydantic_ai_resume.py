"""An agent of Pydantic AI that asks for approval: kill it, and run it again.

python examples/pydantic_ai_resume.py [directory]
"""

import asyncio
import sys

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


agent = Agent(FunctionModel(think), output_type=[str, DeferredToolRequests])


@agent.tool_plain
async def look_up(order: int) -> str:
    """Look an order up."""
    print(f"look_up: order {order}", flush=True)
    return "a broken lamp"


@agent.tool_plain(requires_approval=True)
async def refund(euros: int) -> str:
    """Refund."""
    print(f"refund: {euros} euros", flush=True)
    return "refunded"


async def main(directory: str) -> None:
    async with ConversationStore(directory) as store:
        conversation = await store.load("order-7") or Conversation(conversation_id="order-7")
        question = None if conversation.messages else "My lamp arrived broken."
        answers = None
        if conversation.deferred_tool_requests is not None:
            print("approved by Ann", flush=True)
            answers = conversation.deferred_tool_requests.build_results(approve_all=True)
        async with agent.iter(
            question, conversation=conversation, deferred_tool_results=answers
        ) as run:
            async for _ in run:
                await store.save_step(conversation, run)
        if conversation.deferred_tool_requests is not None:
            print("waiting: refund 40 euros?")
        elif run.result is not None:
            print(run.result.output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
