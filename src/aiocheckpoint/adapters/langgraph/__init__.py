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

import shlex
import sys

try:
    from aiocheckpoint.adapters.langgraph.migration import (
        Copied,
        CopyMismatchError,
        copy_threads,
    )
    from aiocheckpoint.adapters.langgraph.records import ThreadRecord, session_of
    from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] not in ("langgraph", "langchain_core"):
        raise
    _HINT = f"{shlex.quote(sys.executable)} -m pip install langgraph"
    raise ModuleNotFoundError(
        f"the saver needs LangGraph, the extra `langgraph`: {_HINT}", name=error.name
    ) from error

__all__ = (
    "CheckpointSaver",
    "Copied",
    "CopyMismatchError",
    "ThreadRecord",
    "copy_threads",
    "session_of",
)
