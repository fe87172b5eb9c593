"""
Sessions of the Claude Agent SDK, in any store of checkpoints; needs the extra `claude-agent`.

```py
from claude_agent_sdk import ClaudeAgentOptions, query
from aiocheckpoint.adapters.claude_agent import SessionStore

options = ClaudeAgentOptions(session_store=SessionStore("state/"))
async for message in query(prompt="hello", options=options):
    ...
```
"""

import shlex
import sys

try:
    from aiocheckpoint.adapters.claude_agent.records import ClaudeRecord, SessionStart, Transcript
    from aiocheckpoint.adapters.claude_agent.store import SessionStore
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "claude_agent_sdk":
        raise
    _HINT = f"{shlex.quote(sys.executable)} -m pip install claude-agent-sdk"
    raise ModuleNotFoundError(
        f"the adapter needs the Claude Agent SDK, the extra `claude-agent`: {_HINT}",
        name=error.name,
    ) from error

__all__ = ("ClaudeRecord", "SessionStart", "SessionStore", "Transcript")
