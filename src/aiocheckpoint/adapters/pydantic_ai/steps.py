"""What a run that goes on adds to its conversation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_ai import AgentRun, ModelMessage, ModelRequest, ModelRequestNode


def messages_after(given: Sequence[ModelMessage], run: AgentRun[Any, Any]) -> list[ModelMessage]:
    """
    Return the messages of a conversation with those that a run has added to it so far.

    What a capability has trimmed or rewritten is what the model is sent: of the conversation it
    stays as it was, as when the framework saves a result.

    Args:
        given: the conversation as it was at the step before.
        run: between two of its nodes, or at its end.
    """
    waiting = _waiting_request(run)
    added = [*run.new_messages(), *waiting]
    for number, message in reversed([*enumerate(added, 1)]):
        if given and _is_same(message, given[-1]):
            return [*given, *added[number:]]
    if given and given[-1].run_id == run.run_id:  # the step before was rewritten
        return [*run.all_messages(), *waiting]
    return [*given, *added]


def _waiting_request(run: AgentRun[Any, Any]) -> list[ModelMessage]:
    """Return the answers of tools that the model has not seen yet."""
    node = run.next_node
    if not isinstance(node, ModelRequestNode):
        return []
    request = node.request
    if any(request is message for message in run.all_messages()[-1:]):
        return []
    request.run_id = request.run_id or run.run_id
    request.conversation_id = request.conversation_id or run.conversation_id
    request.timestamp = request.timestamp or datetime.now(UTC)
    return [request]


def _is_same(one: ModelMessage, other: ModelMessage) -> bool:
    """Tell whether two are one message; a request that a run goes on from gets another time."""
    if one is other or one == other:
        return True
    is_request = isinstance(one, ModelRequest) and isinstance(other, ModelRequest)
    return is_request and one.run_id == other.run_id and [*one.parts] == [*other.parts]
