"""An agent of Strands Agents that asks for approval: kill it, and run it again.

python examples/strands_resume.py [directory]
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent
from strands.interrupt import InterruptException
from strands.models import Model

from aiocheckpoint.adapters.strands import SessionManager


@tool
async def look_up(order: int) -> str:
    """Look an order up."""
    print(f"look_up: order {order}", flush=True)
    return "a broken lamp"


@tool
async def refund(euros: int) -> str:
    """Refund."""
    print(f"refund: {euros} euros", flush=True)
    return "refunded"


def ask(event: BeforeToolCallEvent) -> None:
    """Let a refund wait for Ann; the state says for which answer, in the same snapshot."""
    if event.tool_use["name"] != "refund":
        return
    try:
        answer = event.interrupt("approval")
    except InterruptException as waiting:
        event.agent.state.set("waits_for", waiting.interrupt.id)
        raise
    event.agent.state.delete("waits_for")
    if answer != "yes":
        event.cancel_tool = "refused"


class Scripted(Model):
    """Stands in the place of a model, so that no key is needed."""

    calls = (("look_up", {"order": 7}), ("refund", {"euros": 40}))

    def update_config(self, **model_config: Any) -> None: ...

    def get_config(self) -> Any: ...

    def structured_output(self, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        raise NotImplementedError

    async def stream(self, messages: Any, *_args: Any, **_options: Any) -> AsyncIterable[Any]:
        step = sum("toolResult" in part for message in messages for part in message["content"])
        print(f"the model thinks, step {step}", flush=True)
        await asyncio.sleep(0.2)
        yield {"messageStart": {"role": "assistant"}}
        if step < len(self.calls):
            name, arguments = self.calls[step]
            start = {"toolUse": {"name": name, "toolUseId": f"call-{step}"}}
            yield {"contentBlockStart": {"start": start}}
            delta: dict[str, Any] = {"toolUse": {"input": json.dumps(arguments)}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            delta = {"text": "Your 40 euros are on their way."}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn" if "text" in delta else "tool_use"}}


async def main(directory: str) -> None:
    async with SessionManager("order-7", directory, save_latest_on="message") as sessions:
        agent = Agent(
            model=Scripted(),
            tools=[look_up, refund],
            session_manager=sessions,
            callback_handler=None,
        )
        agent.add_hook(ask, BeforeToolCallEvent)
        last = agent.messages[-1]["content"] if agent.messages else []
        if agent.messages and agent.messages[-1]["role"] == "assistant" and "text" in last[-1]:
            print(last[-1]["text"])
            return
        waits_for = agent.state.get("waits_for")
        given: Any = None if agent.messages else "My lamp arrived broken."
        if waits_for:
            print("approved by Ann", flush=True)
            given = [{"interruptResponse": {"interruptId": waits_for, "response": "yes"}}]
        result = await agent.invoke_async(given)
        print("waiting: refund 40 euros?" if result.interrupts else str(result).strip())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
