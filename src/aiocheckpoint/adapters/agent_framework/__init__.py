"""
Checkpoints and conversations of Microsoft Agent Framework, in any store.

Needs the extra `agent-framework`.

```py
from agent_framework import WorkflowBuilder
from aiocheckpoint.adapters.agent_framework import CheckpointStorage

storage = CheckpointStorage("state/")
builder = WorkflowBuilder(name="order-7", start_executor=start, checkpoint_storage=storage)
```
"""

from aiocheckpoint.adapters._needs import needs

with needs(
    "Microsoft Agent Framework",
    "agent_framework",
    extra="agent-framework",
    requirement="agent-framework-core",
):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.agent_framework.history import HistoryProvider, StoredMessages
    from aiocheckpoint.adapters.agent_framework.migration import copy_checkpoints
    from aiocheckpoint.adapters.agent_framework.sharing import StoredCheckpoint
    from aiocheckpoint.adapters.agent_framework.storage import (
        CheckpointStorage,
        FailedSave,
        UnreadableCheckpoint,
    )

__all__ = (
    "CheckpointStorage",
    "Copied",
    "CopyMismatchError",
    "FailedSave",
    "HistoryProvider",
    "StoredCheckpoint",
    "StoredMessages",
    "UnreadableCheckpoint",
    "copy_checkpoints",
)
