"""
A shop's agent with a scripted model: it looks an order up, asks for a confirmation, and refunds.

`python -m tests.adapters.google_adk.shop STORAGE LOG [confirm]` runs it, or goes on
with it.
Each call of a tool is a line of the log, which stands for what it does to the world.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.events import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import Session
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from aiocheckpoint.adapters.google_adk import SessionService

ASKS = "adk_request_confirmation"
ORDER: Any = {"app_name": "shop", "user_id": "ann", "session_id": "order-7"}


def said(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class ScriptedModel(BaseLlm):
    """Answers as a model would that reads the whole conversation."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Call the tools that were not answered yet, then say that it is done."""
        parts = [part for content in llm_request.contents for part in content.parts or []]
        answers = [part.function_response for part in parts if part.function_response]
        answered = {answer.name for answer in answers if "error" not in (answer.response or {})}
        said(f"model reads {len(parts)} parts")
        if "look_up" not in answered:
            part = types.Part.from_function_call(name="look_up", args={"order": 7})
        elif "refund" not in answered:
            part = types.Part.from_function_call(name="refund", args={"euros": 40})
        else:
            part = types.Part(text="Your 40 euros are on their way.")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def shop_agent(log: Path) -> LlmAgent:
    """Return the agent; its tools write to a log."""

    def logged(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    async def look_up(order: int, tool_context: ToolContext) -> dict[str, str]:
        """Look an order up."""
        await asyncio.to_thread(logged, f"look_up {order}")
        tool_context.state["app:looked_up"] = tool_context.state.get("app:looked_up", 0) + 1
        tool_context.state["user:order"] = order
        tool_context.state["temp:scratch"] = "never stored"
        return {"order": "a lamp, " + "broken " * 20_000}

    async def refund(euros: int) -> dict[str, str]:
        """Refund."""
        await asyncio.to_thread(logged, f"refund {euros}")
        return {"refund": "done"}

    tools: list[Any] = [look_up, FunctionTool(refund, require_confirmation=True)]
    return LlmAgent(name="shop", model=ScriptedModel(model="scripted"), tools=tools)


def runner_of(log: Path, service: SessionService) -> Runner:
    """Return the framework's real runner, with our service."""
    app = App(
        name="shop",
        root_agent=shop_agent(log),
        resumability_config=ResumabilityConfig(is_resumable=True),
    )
    return Runner(app=app, session_service=service)


def asked(session: Session) -> types.FunctionCall | None:
    """Return the call that waits for a human."""
    answered = {answer.id for event in session.events for answer in event.get_function_responses()}
    calls = [call for event in session.events for call in event.get_function_calls()]
    waiting = [call for call in calls if call.name == ASKS and call.id not in answered]
    return waiting[-1] if waiting else None


def confirmation(call: types.FunctionCall) -> types.Content:
    """Return a human's yes to a call."""
    response = types.FunctionResponse(id=call.id, name=call.name, response={"confirmed": True})
    return types.Content(role="user", parts=[types.Part(function_response=response)])


def last_text(events: list[Event]) -> str:
    """Return what was said last."""
    parts = [part for event in events if event.content for part in event.content.parts or []]
    return next((part.text for part in reversed(parts) if part.text), "")


async def main(storage: str, log: str, *how: str) -> None:
    """Run it as far as it goes."""
    async with SessionService(storage) as service:
        session = await service.get_session(**ORDER)
        if session is None:
            session = await service.create_session(**ORDER)
        options: dict[str, Any] = (
            {"invocation_id": session.events[-1].invocation_id} if session.events else {}
        )
        call = asked(session)
        if call is not None:
            if "confirm" not in how:
                said("waiting")
                return
            options["new_message"] = confirmation(call)
        elif not session.events:
            options["new_message"] = types.UserContent("My lamp arrived broken.")
        events = runner_of(Path(log), service).run_async(
            user_id=session.user_id, session_id=session.id, **options
        )
        async for _ in events:
            said("event")
        session = await service.get_session(**ORDER)
        assert session is not None
        said("waiting" if asked(session) else last_text(session.events))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
