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

from aiocheckpoint.adapters._needs import needs

with needs(
    "the Claude Agent SDK", "claude_agent_sdk", extra="claude-agent", requirement="claude-agent-sdk"
):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.claude_agent.migration import copy_sessions
    from aiocheckpoint.adapters.claude_agent.records import ClaudeRecord, SessionStart, Transcript
    from aiocheckpoint.adapters.claude_agent.store import SessionStore, UnreadableSession

__all__ = (
    "ClaudeRecord",
    "Copied",
    "CopyMismatchError",
    "SessionStart",
    "SessionStore",
    "Transcript",
    "UnreadableSession",
    "copy_sessions",
)
