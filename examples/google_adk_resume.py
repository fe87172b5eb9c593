"""An agent of Google ADK that asks for a confirmation: kill it, and run it again.

python examples/google_adk_resume.py [directory]
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import Session
from google.adk.tools.function_tool import FunctionTool
from google.genai import types

from aiocheckpoint.adapters.google_adk import SessionService

ASKS = "adk_request_confirmation"


async def look_up(order: int) -> dict[str, str]:
    """Look an order up."""
    print(f"look_up: order {order}", flush=True)
    return {"order": "a broken lamp"}


async def refund(euros: int) -> dict[str, str]:
    """Refund."""
    print(f"refund: {euros} euros", flush=True)
    return {"refund": "done"}


class Model(BaseLlm):
    """Stands in the place of a model, so that no key is needed."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - its own
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = [part for content in llm_request.contents for part in content.parts or []]
        answers = [part.function_response for part in parts if part.function_response]
        answered = {answer.name for answer in answers if "error" not in (answer.response or {})}
        print(f"the model thinks, step {len(answered)}", flush=True)
        await asyncio.sleep(0.2)
        if "look_up" not in answered:
            part = types.Part.from_function_call(name="look_up", args={"order": 7})
        elif "refund" not in answered:
            part = types.Part.from_function_call(name="refund", args={"euros": 40})
        else:
            part = types.Part(text="Your 40 euros are on their way.")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def waiting_call(session: Session) -> types.FunctionCall | None:
    """Return the call that waits for a human."""
    answered = {found.id for event in session.events for found in event.get_function_responses()}
    calls = [call for event in session.events for call in event.get_function_calls()]
    return next((call for call in calls if call.name == ASKS and call.id not in answered), None)


def last_words(session: Session) -> str | None:
    """Return what the agent has said, if nothing came after it."""
    contents = [event.content for event in session.events if event.content]
    if not contents or contents[-1].role != "model":
        return None
    return "".join(part.text or "" for part in contents[-1].parts or []) or None


async def main(directory: str) -> None:
    tools: list[Any] = [look_up, FunctionTool(refund, require_confirmation=True)]
    agent = LlmAgent(name="shop", model=Model(model="scripted"), tools=tools)
    app = App(
        name="shop", root_agent=agent, resumability_config=ResumabilityConfig(is_resumable=True)
    )
    async with SessionService(directory) as service:
        order: Any = {"app_name": "shop", "user_id": "ann", "session_id": "order-7"}
        session = await service.get_session(**order) or await service.create_session(**order)
        answer = last_words(session)
        if answer is not None:  # it was killed before it printed that, or it has ended
            print(answer)
            return
        options: dict[str, Any] = {}
        if session.events:  # go on where it was
            options["invocation_id"] = session.events[-1].invocation_id
        call = waiting_call(session)
        if call is not None:
            print("confirmed by Ann", flush=True)
            yes = types.FunctionResponse(id=call.id, name=call.name, response={"confirmed": True})
            part = types.Part(function_response=yes)
            options["new_message"] = types.Content(role="user", parts=[part])
        elif not session.events:
            options["new_message"] = types.UserContent("My lamp arrived broken.")
        runner = Runner(app=app, session_service=service)
        async for event in runner.run_async(user_id="ann", session_id="order-7", **options):
            for part in (event.content.parts if event.content else None) or []:
                if part.text:
                    print(part.text)
        after = await service.get_session(**order)
        if after is not None and waiting_call(after):
            print("waiting: refund 40 euros?")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
