"""A workflow of Microsoft Agent Framework that asks for an approval: kill it, and run it again.

python examples/agent_framework_resume.py [directory]
"""

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from typing import Any, Never

from agent_framework import (
    Agent,
    AgentExecutorResponse,
    BaseChatClient,
    ChatResponse,
    Content,
    Executor,
    FunctionInvocationLayer,
    Message,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    tool,
)

from aiocheckpoint.adapters.agent_framework import CheckpointStorage

NAME = "order-7"


class LookUp(Executor):
    """The first step."""

    @handler
    async def look_up(self, text: str, context: WorkflowContext[list[Message]]) -> None:
        print("look_up: order 7", flush=True)
        await context.send_message([Message("user", [text]), Message("user", ["a broken lamp"])])


class Tell(Executor):
    """The last step, which keeps the answer."""

    @handler
    async def tell(
        self, response: AgentExecutorResponse, context: WorkflowContext[Never, str]
    ) -> None:
        context.set_state("answer", response.agent_response.text)
        await context.yield_output(response.agent_response.text)


@tool(approval_mode="always_require")
async def refund(euros: int) -> str:
    """Refund."""
    print(f"refund: {euros} euros", flush=True)
    return "done"


class Client(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """Stands in the place of a model, so that no key is needed."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], **_options: Any
    ) -> Awaitable[ChatResponse[Any]]:
        async def answer() -> ChatResponse[Any]:
            contents = [content for message in messages for content in message.contents]
            print(f"the model reads {len(contents)} contents", flush=True)
            await asyncio.sleep(0.2)
            if any(content.type == "function_result" for content in contents):
                part = Content.from_text("Your 40 euros are on their way.")
            else:
                part = Content.from_function_call("call-1", "refund", arguments={"euros": 40})
            return ChatResponse(messages=[Message("assistant", [part])])

        return answer()


async def main(directory: str) -> None:
    async with CheckpointStorage(directory) as storage:
        look_up, tell = LookUp(id="look_up"), Tell(id="tell")
        agent = Agent(client=Client(), name="shop", tools=[refund])
        builder = WorkflowBuilder(
            name=NAME, start_executor=look_up, checkpoint_storage=storage, output_from=[tell]
        )
        workflow = builder.add_edge(look_up, agent).add_edge(agent, tell).build()
        latest = await storage.get_latest(workflow_name=NAME)
        if latest is not None and "answer" in latest.state:
            print(latest.state["answer"])
            return
        if latest is None:
            result = await workflow.run("My lamp arrived broken.")
        else:  # go on where it was
            asked = latest.pending_request_info_events
            answers = {
                request_id: event.data.to_function_approval_response(approved=True)
                for request_id, event in asked.items()
            }
            if answers:
                print("approved by Ann", flush=True)
            result = await workflow.run(
                checkpoint_id=latest.checkpoint_id, responses=answers or None
            )
        for output in result.get_outputs():
            print(output)
        for event in result.get_request_info_events():
            print("waiting:", event.data.function_call.name, event.data.function_call.arguments)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
