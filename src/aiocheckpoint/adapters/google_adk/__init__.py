"""
Sessions of Google ADK, in any store of checkpoints; needs the extra `google-adk`.

```py
from google.adk.runners import Runner
from aiocheckpoint.adapters.google_adk import SessionService

runner = Runner(app_name="shop", agent=agent, session_service=SessionService("state/"))
```
"""

import shlex
import sys

try:
    from aiocheckpoint.adapters.google_adk.records import AdkRecord, SessionHead, SharedState
    from aiocheckpoint.adapters.google_adk.service import SessionService
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "google":
        raise
    _HINT = f"{shlex.quote(sys.executable)} -m pip install google-adk"
    raise ModuleNotFoundError(
        f"the adapter needs Google ADK, the extra `google-adk`: {_HINT}", name=error.name
    ) from error

__all__ = ("AdkRecord", "SessionHead", "SessionService", "SharedState")
