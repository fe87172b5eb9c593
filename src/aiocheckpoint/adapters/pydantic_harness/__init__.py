"""
Steps of runs of the Pydantic AI harness, in any store; needs the extra `pydantic-harness`.

```py
from pydantic_ai import Agent
from pydantic_ai_harness.step_persistence import StepPersistence
from aiocheckpoint.adapters.pydantic_harness import StepStore

persistence = StepPersistence(store=StepStore("state/"))
result = await Agent("openai:gpt-5.2", capabilities=[persistence]).run("hello")
```
"""

from aiocheckpoint.adapters._needs import needs

with needs(
    "the Pydantic AI harness",
    "pydantic",
    "pydantic_ai",
    "pydantic_ai_harness",
    extra="pydantic-harness",
    requirement="pydantic-ai-harness>=0.62",
):
    from aiocheckpoint.adapters._moving import Copied, CopyMismatchError
    from aiocheckpoint.adapters.pydantic_harness.listing import UnreadableRun
    from aiocheckpoint.adapters.pydantic_harness.migration import copy_runs
    from aiocheckpoint.adapters.pydantic_harness.records import (
        HarnessRecord,
        SnapshotRecord,
        StepRecord,
        Totals,
    )
    from aiocheckpoint.adapters.pydantic_harness.store import StepStore

__all__ = (
    "Copied",
    "CopyMismatchError",
    "HarnessRecord",
    "SnapshotRecord",
    "StepRecord",
    "StepStore",
    "Totals",
    "UnreadableRun",
    "copy_runs",
)
