"""
Checkpoints of LangGraph graphs, on files; needs the extra `langgraph`.

```python
from aiocheckpoint.adapters.langgraph import CheckpointSaver

async with CheckpointSaver("state/") as saver:
    graph = builder.compile(checkpointer=saver)
```
"""

from aiocheckpoint.adapters.langgraph.migration import copy_threads
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, session_of
from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver

__all__ = ("CheckpointSaver", "ThreadRecord", "copy_threads", "session_of")
