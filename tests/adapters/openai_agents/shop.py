"""
A shop's agent with a scripted model: it looks an order up, asks for an approval, and refunds.

`python -m tests.adapters.openai_agents.shop STORAGE LOG [approve]` runs it, or goes on with it.
Each call of a tool is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

from aiocheckpoint.adapters.openai_agents import Session

QUIET = RunConfig(tracing_disabled=True)


def said(line: str) -> None:
    """Print a line at once, and give whoever reads it the time to kill this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def next_step(call: ModelCall) -> Any:
    """Answer as a model would that reads the whole conversation."""
    items = call.input if isinstance(call.input, list) else []
    answered = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    said(f"model reads {len(items)} items")
    if "look-up" not in answered:
        return [function_call("look_up", {"order": 7}, call_id="look-up", item_id="look-up")]
    if "refund" not in answered:
        return [function_call("refund", {"euros": 40}, call_id="refund", item_id="refund")]
    return [assistant_message("Your 40 euros are on their way.")]


def shop_agent(log: Path) -> Agent[Any]:
    """Return the agent; its tools write to a log."""

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @function_tool
    async def look_up(order: int) -> str:
        """Look an order up."""
        await asyncio.to_thread(logged, f"look_up {order}")
        return "a lamp, " + "broken " * 20_000

    @function_tool(needs_approval=True)
    async def refund(euros: int) -> str:
        """Refund."""
        await asyncio.to_thread(logged, f"refund {euros}")
        return "refunded"

    model = ScriptedModel([ModelStep.respond(next_step) for _ in range(9)])
    return Agent("shop", model=model, tools=[look_up, refund])


async def main(storage: str, log: str, *approve: str) -> None:
    """Run it as far as it goes."""
    agent = shop_agent(Path(log))
    async with Session("ann", storage) as session:
        state = await session.load_run(agent)
        if state is None:
            given: Any = [] if await session.get_items(1) else "My lamp arrived broken."
            result = await Runner.run(agent, given, session=session, run_config=QUIET)
        elif approve:
            for interruption in state.get_interruptions():
                state.approve(interruption)
            result = await Runner.run(agent, state, session=session, run_config=QUIET)
            await session.delete_run()
        else:
            said("waiting")
            return
        if result.interruptions:
            await session.save_run(result.to_state())
            said("waiting")
        else:
            said(str(result.final_output))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
