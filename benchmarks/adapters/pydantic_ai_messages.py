"""What a turn of Pydantic AI adds, for the benchmarks of both its stores."""

from __future__ import annotations

from pydantic_ai import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)

from benchmarks.adapters.turns import text


def messages(turn: int) -> list[ModelMessage]:
    """Return what a turn adds: a question, a call of a tool, what it returned, and the answer."""
    call = f"call-{turn}"
    return [
        ModelRequest.user_text_prompt(text(turn, 400)),
        ModelResponse(parts=[ToolCallPart("look_up", {"order": turn}, call)]),
        ModelRequest(parts=[ToolReturnPart("look_up", text(turn + 1000, 600), call)]),
        ModelResponse(parts=[TextPart(text(turn + 2000, 600))]),
    ]
