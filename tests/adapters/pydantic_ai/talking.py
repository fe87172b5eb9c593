"""
A process that adds pairs of messages to one conversation: `python -m ... STORAGE NAME`.

Each line that it prints is the number of a pair that was saved.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from pydantic_ai import Conversation, ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.conversation_store import ConversationConflict

from aiocheckpoint.adapters.pydantic_ai import ConversationStore


def pair(name: str, number: int) -> list[ModelMessage]:
    """Return a question and its answer."""
    return [
        ModelRequest.user_text_prompt(f"{name} {number} asks"),
        ModelResponse(parts=[TextPart(f"{name} {number} answers")]),
    ]


async def main(storage: str, name: str) -> None:
    """Add pairs until the process is killed; whoever is told of another save loads again."""
    async with ConversationStore(storage) as store:
        for number in itertools.count():
            while True:
                loaded = await store.load("shared") or Conversation(conversation_id="shared")
                loaded.messages += pair(name, number)
                try:
                    await store.save(loaded)
                except ConversationConflict:
                    continue
                break
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
