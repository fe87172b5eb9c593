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

import shlex
import sys

try:
    from aiocheckpoint.adapters.pydantic_ai.records import (
        ConversationHead,
        ConversationStoreRecord,
        ForkedConversation,
    )
    from aiocheckpoint.adapters.pydantic_ai.store import ConversationStore
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] not in ("pydantic", "pydantic_ai"):
        raise
    _HINT = f"{shlex.quote(sys.executable)} -m pip install 'pydantic-ai-slim>=2.66'"
    raise ModuleNotFoundError(
        f"the adapter needs Pydantic AI 2.66, the extra `pydantic-ai`: {_HINT}", name=error.name
    ) from error

__all__ = (
    "ConversationHead",
    "ConversationStore",
    "ConversationStoreRecord",
    "ForkedConversation",
)
