"""
Sessions of the OpenAI Agents SDK, in any store of checkpoints; needs the extra `openai-agents`.

```py
from agents import Agent, Runner
from aiocheckpoint.adapters.openai_agents import Session

session = Session("support-42", "state/")
result = await Runner.run(Agent("helper"), "hello", session=session)
```
"""

from aiocheckpoint.adapters._needs import needs

with needs(
    "the OpenAI Agents SDK", "agents", "openai", extra="openai-agents", requirement="openai-agents"
):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.openai_agents.migration import copy_sessions
    from aiocheckpoint.adapters.openai_agents.records import (
        AddedItems,
        Conversation,
        PausedRun,
        SessionRecord,
    )
    from aiocheckpoint.adapters.openai_agents.session import Session

__all__ = (
    "AddedItems",
    "Conversation",
    "Copied",
    "CopyMismatchError",
    "PausedRun",
    "Session",
    "SessionRecord",
    "copy_sessions",
)
