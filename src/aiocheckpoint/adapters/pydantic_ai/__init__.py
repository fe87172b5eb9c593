"""
Conversations of Pydantic AI, in any store of checkpoints; needs the extra `pydantic-ai`.

```py
from pydantic_ai import Agent, Conversation
from aiocheckpoint.adapters.pydantic_ai import ConversationStore

store = ConversationStore("state/")
conversation = await store.load("support-42") or Conversation(conversation_id="support-42")
result = await Agent("openai:gpt-5.2").run("hello", conversation=conversation)
await store.save(result)
```
"""

from aiocheckpoint.adapters._needs import needs

with needs(
    "Pydantic AI 2.66",
    "pydantic",
    "pydantic_ai",
    extra="pydantic-ai",
    requirement="pydantic-ai-slim>=2.66",
):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.pydantic_ai.listing import UnreadableConversation
    from aiocheckpoint.adapters.pydantic_ai.migration import copy_conversations
    from aiocheckpoint.adapters.pydantic_ai.records import (
        ConversationHead,
        ConversationStoreRecord,
        ForkedConversation,
    )
    from aiocheckpoint.adapters.pydantic_ai.store import ConversationStore

__all__ = (
    "ConversationHead",
    "ConversationStore",
    "ConversationStoreRecord",
    "Copied",
    "CopyMismatchError",
    "ForkedConversation",
    "UnreadableConversation",
    "copy_conversations",
)
