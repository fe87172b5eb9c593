"""
States of flows of CrewAI, in any store of checkpoints; needs the extra `crewai`.

```py
from crewai.flow.flow import Flow, start
from crewai.flow.persistence import persist
from aiocheckpoint.adapters.crewai import FlowPersistence

@persist(FlowPersistence("flows/"))
class Greeting(Flow):
    @start()
    def greet(self):
        self.state["text"] = "hello"
```
"""

from aiocheckpoint.adapters._needs import needs

with needs("CrewAI", "crewai", "crewai_core", "pydantic", extra="crewai", requirement="crewai"):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.crewai.migration import copy_flows
    from aiocheckpoint.adapters.crewai.persistence import FlowPersistence
    from aiocheckpoint.adapters.crewai.records import FlowRecord, MethodState, PendingFeedback

__all__ = (
    "Copied",
    "CopyMismatchError",
    "FlowPersistence",
    "FlowRecord",
    "MethodState",
    "PendingFeedback",
    "copy_flows",
)
