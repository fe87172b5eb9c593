"""
Sessions of Google ADK, in any store of checkpoints; needs the extra `google-adk`.

```py
from google.adk.runners import Runner
from aiocheckpoint.adapters.google_adk import SessionService

runner = Runner(app_name="shop", agent=agent, session_service=SessionService("state/"))
```
"""

from aiocheckpoint.adapters._needs import needs

with needs("Google ADK", "google", extra="google-adk", requirement="google-adk"):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.google_adk.listing import UnreadableSession
    from aiocheckpoint.adapters.google_adk.migration import copy_database, copy_sessions
    from aiocheckpoint.adapters.google_adk.records import AdkRecord, SessionHead, SharedState
    from aiocheckpoint.adapters.google_adk.service import SessionService

__all__ = (
    "AdkRecord",
    "Copied",
    "CopyMismatchError",
    "SessionHead",
    "SessionService",
    "SharedState",
    "UnreadableSession",
    "copy_database",
    "copy_sessions",
)
