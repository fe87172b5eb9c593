"""An agent of the OpenAI Agents SDK that asks for approval: kill it, and run it again.

python examples/openai_agents_resume.py [directory]
"""

import asyncio
import sys
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext

from aiocheckpoint.adapters.openai_agents import Session


@function_tool
async def look_up(order: int) -> str:
    """Look an order up."""
    print(f"look_up: order {order}", flush=True)
    return "a broken lamp"


@function_tool(needs_approval=True)
async def refund(context: ToolContext[Any], euros: int) -> str:
    """Refund; it may run again if its answer is not stored, so the payment gets a key."""
    print(f"refund: {euros} euros, idempotency key {context.tool_call_id}", flush=True)
    return "refunded"


async def think(call: ModelCall) -> Any:
    """Stand in the place of a model, so that no key is needed."""
    answered = {item.get("call_id") for item in call.input if isinstance(item, dict)}
    print(f"the model thinks, step {len(answered)}", flush=True)
    await asyncio.sleep(0.2)
    if "call-1" not in answered:
        return [function_call("look_up", {"order": 7}, call_id="call-1")]
    if "call-2" not in answered:
        return [function_call("refund", {"euros": 40}, call_id="call-2")]
    return [assistant_message("Your 40 euros are on their way.")]


async def main(directory: str) -> None:
    model = ScriptedModel([ModelStep.respond(think) for _ in range(9)])
    agent = Agent("shop", model=model, tools=[look_up, refund])
    async with Session("order-7", directory) as session:
        items: list[Any] = await session.get_items()
        answered = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
        state = await session.load_run(agent)
        asked = state.get_interruptions() if state is not None else []
        waiting = [call for call in asked if call.call_id not in answered]
        given: Any = "My lamp arrived broken."
        if state is not None and waiting:
            print("approved by Ann", flush=True)
            for call in waiting:
                state.approve(call)
            given = state
        elif items and items[-1].get("role") == "assistant":
            await session.delete_run()  # a kill may have left it
            print(items[-1]["content"][0]["text"])
            return
        elif items:
            given = []  # go on where it was
        quiet = RunConfig(tracing_disabled=True)
        result = await Runner.run(agent, given, session=session, run_config=quiet)
        if result.interruptions:
            await session.save_run(result.to_state())
            print("waiting: refund 40 euros?")
        else:
            await session.delete_run()
            print(result.final_output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
