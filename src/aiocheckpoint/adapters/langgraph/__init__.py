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
    await graph.ainvoke({"messages": []}, {"configurable": {"thread_id": "1"}})
```
"""

from aiocheckpoint.adapters.langgraph.migration import copy_threads
from aiocheckpoint.adapters.langgraph.records import ThreadRecord, session_of
from aiocheckpoint.adapters.langgraph.saver import CheckpointSaver

__all__ = ("CheckpointSaver", "ThreadRecord", "copy_threads", "session_of")
