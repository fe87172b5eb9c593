"""
A shop's agent with a scripted model: it looks an order up, asks for an approval, and refunds.

`python -m tests.adapters.strands.shop STORAGE LOG [interrupt answer]` runs it, or goes on with
it. Each call of a tool is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from typing import Any

from strands import Agent, tool
from strands.hooks import BeforeToolCallEvent
from strands.models import Model
from strands.session import SessionManager as FrameworkManager

from aiocheckpoint.adapters.strands import SessionManager


def said(line: str) -> None:
    """Print a line at once, and give whoever reads it the time to kill this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ScriptedModel(Model):
    """A model that reads the whole conversation, calls each tool once, and then answers."""

    def __init__(self, *calls: tuple[str, dict[str, Any]], answer: str = "Done.") -> None:
        self._calls = calls
        self._answer = answer

    def update_config(self, **model_config: Any) -> None:
        """Do nothing."""

    def get_config(self) -> Any:
        """Return nothing."""
        return {}

    def structured_output(self, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """Refuse."""
        raise NotImplementedError

    async def stream(self, messages: Any, *args: Any, **options: Any) -> AsyncIterable[Any]:
        """Answer."""
        said(f"model reads {len(messages)} messages")
        content = [part for message in messages for part in message["content"]]
        answered = {part["toolResult"]["toolUseId"] for part in content if "toolResult" in part}
        yield {"messageStart": {"role": "assistant"}}
        for name, arguments in self._calls:
            if name not in answered:
                start = {"toolUse": {"name": name, "toolUseId": name}}
                yield {"contentBlockStart": {"start": start}}
                text = str(arguments).replace("'", '"')
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": text}}}}
                yield {"contentBlockStop": {}}
                yield {"messageStop": {"stopReason": "tool_use"}}
                return
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": self._answer}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def quiet_agent(sessions: FrameworkManager[Any] | None, model: Model, **options: Any) -> Agent:
    """Return an agent that prints nothing."""
    return Agent(model=model, session_manager=sessions, callback_handler=None, **options)


def shop_agent(sessions: SessionManager, log: Path) -> Agent:
    """Return the agent; its tools write to a log."""

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @tool
    async def look_up(order: int) -> str:
        """Look an order up."""
        said("looks up")
        await asyncio.to_thread(logged, f"look_up {order}")
        return "a lamp, " + "broken " * 20_000

    @tool
    async def refund(euros: int) -> str:
        """Refund."""
        await asyncio.to_thread(logged, f"refund {euros}")
        return "refunded"

    def ask(event: BeforeToolCallEvent) -> None:
        if event.tool_use["name"] == "refund" and event.interrupt("approval") != "yes":
            event.cancel_tool = "refused"

    model = ScriptedModel(
        ("look_up", {"order": 7}), ("refund", {"euros": 40}), answer="40 euros are on their way."
    )
    agent = quiet_agent(sessions, model, tools=[look_up, refund])
    agent.add_hook(ask, BeforeToolCallEvent)
    return agent


async def main(storage: str, log: str, *answer: str) -> None:
    """Run it as far as it goes."""
    async with SessionManager("ann", storage, save_latest_on="message") as sessions:
        agent = await asyncio.to_thread(shop_agent, sessions, Path(log))
        given: Any = None if agent.messages else "My lamp arrived broken."
        if answer:
            interrupt_id, response = answer
            given = [{"interruptResponse": {"interruptId": interrupt_id, "response": response}}]
        result = await agent.invoke_async(given)
        waits = [interrupt.id for interrupt in result.interrupts or ()]
        said(f"waiting {waits[0]}" if waits else str(result).strip())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
