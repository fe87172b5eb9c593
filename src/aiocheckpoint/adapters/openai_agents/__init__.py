"""
Sessions of the OpenAI Agents SDK, in any store of checkpoints; needs the extra `openai-agents`.

```py
from agents import Agent, Runner
from aiocheckpoint.adapters.openai_agents import Session

session = Session("support-42", "state/")
result = await Runner.run(Agent("helper"), "hello", session=session)
```
"""

import shlex
import sys

try:
    from aiocheckpoint.adapters.openai_agents.migration import (
        Copied,
        CopyMismatchError,
        copy_sessions,
    )
    from aiocheckpoint.adapters.openai_agents.records import (
        AddedItems,
        Conversation,
        PausedRun,
        SessionRecord,
    )
    from aiocheckpoint.adapters.openai_agents.session import Session
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] not in ("agents", "openai"):
        raise
    _HINT = f"{shlex.quote(sys.executable)} -m pip install openai-agents"
    raise ModuleNotFoundError(
        f"the adapter needs the OpenAI Agents SDK, the extra `openai-agents`: {_HINT}",
        name=error.name,
    ) from error

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
