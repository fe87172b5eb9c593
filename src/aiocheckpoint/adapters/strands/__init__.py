"""
Sessions of Strands Agents, in any store of checkpoints; needs the extra `strands`.

```py
from strands import Agent
from aiocheckpoint.adapters.strands import SessionManager

agent = Agent(session_manager=SessionManager("support-42", "state/"))
```
"""

from aiocheckpoint.adapters._needs import needs

with needs("Strands Agents", "strands", extra="strands", requirement="strands-agents"):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.strands.manager import SessionConflictError, SessionManager
    from aiocheckpoint.adapters.strands.migration import copy_storage
    from aiocheckpoint.adapters.strands.records import StoredValue
    from aiocheckpoint.adapters.strands.storage import Storage

__all__ = (
    "Copied",
    "CopyMismatchError",
    "SessionConflictError",
    "SessionManager",
    "Storage",
    "StoredValue",
    "copy_storage",
)
