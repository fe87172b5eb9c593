"""
Checkpoints of LangGraph graphs, on files; needs the extra `langgraph`.

```python
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph

builder = StateGraph(MessagesState)
builder.add_node("greet", lambda state: {"messages": ["hello"]})
builder.add_edge(START, "greet")

async with CheckpointSaver("state/") as saver:
    graph = builder.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"messages": []}, config, durability="sync")
```
"""

from aiocheckpoint.adapters._needs import needs

with needs("LangGraph", "langgraph", "langchain_core", extra="langgraph", requirement="langgraph"):
    from aiocheckpoint.adapters.langgraph.history import MissingAncestorError
    from aiocheckpoint.adapters.langgraph.migration import (
        Copied,
        CopyMismatchError,
        copy_threads,
    )
    from aiocheckpoint.adapters.langgraph.records import ThreadRecord, session_of
    from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver
    from aiocheckpoint.adapters.langgraph.turns import ThreadChangedError

__all__ = (
    "CheckpointSaver",
    "Copied",
    "CopyMismatchError",
    "MissingAncestorError",
    "ThreadChangedError",
    "ThreadRecord",
    "copy_threads",
    "session_of",
)
