"""Conversations and entries for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_ai import Conversation, ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.conversation_store import (
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)


def message(number: int, size: int = 0) -> ModelMessage:
    """Return a question, or its answer where the number is odd."""
    text = f"{number:06} " + "x" * size
    if number % 2:
        return ModelResponse(parts=[TextPart(text)])
    return ModelRequest.user_text_prompt(text)


def messages(numbers: Iterable[int], size: int = 0) -> list[ModelMessage]:
    """Return questions and answers."""
    return [message(number, size) for number in numbers]


def texts(conversation: Conversation | None) -> list[int]:
    """Return the numbers of the messages of a conversation."""
    assert conversation is not None
    return [number_of(message) for message in conversation.messages]


def number_of(message: ModelMessage) -> int:
    """Return the number of a message."""
    part: Any = message.parts[0]
    return int(part.content[:6])


def chain(*numbers: int, after: str | None = None) -> list[ConversationEntry]:
    """Return entries that follow one another."""
    found: list[ConversationEntry] = []
    for number in numbers:
        found.append(ConversationEntry(parent_id=after, message=message(number)))
        after = found[-1].id
    return found


def record(conversation_id: str, entries: Sequence[ConversationEntry], **options: Any) -> Any:
    """Return the record of a conversation that ends with the last of the entries."""
    head_id = entries[-1].id if entries else None
    return ConversationRecord(conversation_id=conversation_id, head_id=head_id, **options)


async def saved(
    store: ConversationStore, conversation_id: str, numbers: Iterable[int], **options: Any
) -> Conversation:
    """Return a conversation of these messages that was saved."""
    conversation = Conversation(conversation_id=conversation_id, messages=messages(numbers))
    await store.save(conversation, **options)
    return conversation
