"""A LangGraph agent that uses tools and asks for approval: kill it, and run it again.

python examples/langgraph_resume.py [directory, postgresql://... or s3://...]
"""

import asyncio
import sys
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from aiocheckpoint.adapters.langgraph import CheckpointSaver

THREAD: Any = {"configurable": {"thread_id": "order-7"}}
SCRIPT = [  # in the place of a model, so that no key is needed
    AIMessage("", tool_calls=[ToolCall(name="look_up", args={"order": 7}, id="call-1")]),
    AIMessage("", tool_calls=[ToolCall(name="refund", args={"euros": 40}, id="call-2")]),
    AIMessage("Your 40 euros are on their way."),
]


async def model(state: MessagesState) -> dict[str, Any]:
    step = sum(isinstance(message, AIMessage) for message in state["messages"])
    print(f"the model thinks, step {step + 1}", flush=True)
    await asyncio.sleep(0.2)
    return {"messages": [SCRIPT[step]]}


async def tools(state: MessagesState) -> dict[str, Any]:
    (call,) = state["messages"][-1].tool_calls  # type: ignore[union-attr]
    if call["name"] == "refund":
        answer = interrupt(f"Refund {call['args']['euros']} euros?")
        result = f"refunded, as {answer} said"
    else:
        result = f"order {call['args']['order']}: a broken lamp"
    print(f"{call['name']}: {result}", flush=True)
    return {"messages": [ToolMessage(result, tool_call_id=call["id"])]}


def next_node(state: MessagesState) -> str:
    return "tools" if state["messages"][-1].tool_calls else END  # type: ignore[union-attr]


def build() -> StateGraph[MessagesState]:
    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tools", tools)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", next_node, ["tools", END])
    builder.add_edge("tools", "model")
    return builder


async def main(location: str) -> None:
    async with CheckpointSaver(location) as saver:
        graph = build().compile(checkpointer=saver)
        state = await graph.aget_state(THREAD)
        inputs: Any = None  # go on where it was
        if not state.values:
            inputs = {"messages": [HumanMessage("My lamp arrived broken.")]}
        elif state.interrupts:
            print("approved by Ann", flush=True)
            inputs = Command(resume="Ann")
        elif not state.tasks:  # `next` leaves out those whose writes are stored
            print(state.values["messages"][-1].content)
            return
        ended = await graph.ainvoke(inputs, THREAD, durability="sync")
        if "__interrupt__" in ended:
            print(f"waiting: {ended['__interrupt__'][0].value}")
        else:
            print(ended["messages"][-1].content)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "orders"))
