"""
A shop's workflow with a scripted model: it looks an order up, asks for an approval, and refunds.

`python -m tests.adapters.agent_framework.shop STORAGE LOG [approve]` runs it, or goes
on with it.
Each step is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from agent_framework import (
    Agent,
    AgentExecutorRequest,
    BaseChatClient,
    ChatResponse,
    Content,
    Executor,
    FunctionInvocationLayer,
    Message,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    tool,
)

from aiocheckpoint.adapters.agent_framework import CheckpointStorage

NAME = "order-7"


def said(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ScriptedClient(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """Answers as a model would that reads the whole conversation."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Any, **options_more: Any
    ) -> Awaitable[ChatResponse[Any]]:
        """Call the tool if it was not answered yet, then say that it is done."""

        async def answer() -> ChatResponse[Any]:
            contents = [content for message in messages for content in message.contents]
            said(f"model reads {len(contents)} contents")
            if any(content.type == "function_result" for content in contents):
                part = Content.from_text("Your 40 euros are on their way.")
            else:
                part = Content.from_function_call("call", "refund", arguments={"euros": 40})
            return ChatResponse(messages=[Message("assistant", [part])])

        return answer()


def shop(log: Path, storage: CheckpointStorage, name: str = NAME) -> Workflow:
    """Return the workflow; its steps write to a log."""

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    class LookUp(Executor):
        @handler
        async def look_up(self, text: str, context: WorkflowContext[AgentExecutorRequest]) -> None:
            """Look an order up."""
            said("looking up")
            await asyncio.to_thread(logged, "look_up 7")
            context.set_state("order", {"number": 10**20, "text": "a lamp, " + "broken " * 20_000})
            messages = [Message("user", [text]), Message("user", ["a lamp, " + "broken " * 20_000])]
            await context.send_message(AgentExecutorRequest(messages=messages))

    @tool(approval_mode="always_require")
    async def refund(euros: int) -> str:
        """Refund."""
        said("refunding")
        await asyncio.to_thread(logged, f"refund {euros}")
        return "refunded"

    look_up = LookUp(id="look_up")
    agent = Agent(client=ScriptedClient(), name="shop", tools=[refund])
    builder = WorkflowBuilder(name=name, start_executor=look_up, checkpoint_storage=storage)
    return builder.add_edge(look_up, agent).build()


async def main(storage_place: str, log: str, *how: str) -> None:
    """Run it as far as it goes."""
    async with CheckpointStorage(storage_place) as storage:
        workflow = shop(Path(log), storage)
        latest = await storage.get_latest(workflow_name=NAME)
        if latest is None:
            result = await workflow.run("My lamp arrived broken.")
        elif not latest.pending_request_info_events:
            result = await workflow.run(checkpoint_id=latest.checkpoint_id)
        elif "approve" in how:
            answers = {
                request_id: event.data.to_function_approval_response(approved=True)
                for request_id, event in latest.pending_request_info_events.items()
            }
            result = await workflow.run(checkpoint_id=latest.checkpoint_id, responses=answers)
        else:
            said("waiting")
            return
        outputs = [output.text for output in result.get_outputs()]
        said("waiting" if result.get_request_info_events() else outputs[-1])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
