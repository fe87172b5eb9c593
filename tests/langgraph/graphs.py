"""Real compiled graphs, small ones."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from langgraph.types import interrupt


class Numbers(TypedDict):
    """A state to which nodes add."""

    numbers: Annotated[list[int], operator.add]


def thread(thread_id: Any, **more: Any) -> RunnableConfig:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": thread_id, **more}}


def chat_graph(text: str = "answer") -> StateGraph[Any, Any, Any, Any]:
    """Return a graph that answers each message with a text."""

    def answer(state: MessagesState) -> dict[str, list[AnyMessage]]:
        return {"messages": [AIMessage(f"{text} {len(state['messages'])}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


async def chat(saver: BaseCheckpointSaver[Any], config: Any, turns: int, **options: Any) -> Any:
    """Ask a few questions, and return the last state."""
    graph = chat_graph().compile(checkpointer=saver)
    state: Any = None
    for number in range(turns):
        inputs: Any = {"messages": [HumanMessage(f"question {number}")]}
        state = await graph.ainvoke(inputs, config, **options)
    return state


def chain_graph(length: int) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph of nodes one after the other, each of which adds its number."""
    builder = StateGraph(Numbers)
    for number in range(length):
        builder.add_node(f"node{number}", _adder(number))
        builder.add_edge(START if number == 0 else f"node{number - 1}", f"node{number}")
    builder.add_edge(f"node{length - 1}", END)
    return builder


def fan_out_graph(width: int) -> StateGraph[Any, Any, Any, Any]:
    """Return a graph of nodes side by side, and one after them."""
    builder = StateGraph(Numbers)
    builder.add_node("last", _adder(width))
    for number in range(width):
        builder.add_node(f"node{number}", _adder(number))
        builder.add_edge(START, f"node{number}")
        builder.add_edge(f"node{number}", "last")
    builder.add_edge("last", END)
    return builder


def _adder(number: int) -> Any:
    def node(state: Any) -> Any:
        return {"numbers": [number]}

    return node


def delta_graph(width: int, snapshot_frequency: int = 1000) -> Any:
    """Return a graph whose state is stored as what was added; its nodes run side by side."""
    from langgraph.channels.delta import DeltaChannel

    def extended(state: Any, writes: Sequence[Any]) -> list[int]:
        return [*state, *(number for numbers in writes for number in numbers)]

    channel: Any = DeltaChannel(extended, list, snapshot_frequency=snapshot_frequency)

    make_type: Any = TypedDict  # an annotation would be a text, and `channel` is not global
    builder: Any = StateGraph(make_type("State", {"numbers": Annotated[list[int], channel]}))
    builder.add_node("last", _adder(width))
    for number in range(width):
        builder.add_node(f"node{number}", _adder(number))
        builder.add_edge(START, f"node{number}")
        builder.add_edge(f"node{number}", "last")
    builder.add_edge("last", END)
    return builder


def two_deltas_graph(snapshot_frequency: int, node: Any = None) -> Any:
    """
    Return a graph that notes each turn, and the pages of every third, in two delta channels.

    Args:
        snapshot_frequency: of both, which so are stored whole at different steps.
        node: runs before; None for none.
    """
    from langgraph.channels.delta import DeltaChannel

    def extended(state: Any, writes: Sequence[Any]) -> list[str]:
        return [*state, *(text for texts in writes for text in texts)]

    def note(state: Any) -> dict[str, list[str]]:
        turn = len(state.get("notes", ()))
        pages = {"pages": [f"page {turn}"]} if turn % 3 == 0 else {}
        return {"notes": [f"note {turn}"], **pages}

    channel: Any = DeltaChannel(extended, list, snapshot_frequency=snapshot_frequency)
    make_type: Any = TypedDict  # as above
    deltas = dict.fromkeys(("notes", "pages"), Annotated[list[str], channel])
    builder: Any = StateGraph(make_type("State", {"text": str, **deltas}))
    builder.add_node("note", note)
    if node is None:
        builder.add_edge(START, "note")
    else:
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        builder.add_edge("node", "note")
    return builder


def asking_graph() -> StateGraph[Any, Any, Any, Any]:
    """Return a graph that counts, asks, and adds the answer."""

    class State(TypedDict):
        messages: Annotated[list[AnyMessage], add_messages]

    def count(state: State) -> dict[str, list[AnyMessage]]:
        return {"messages": [AIMessage(f"counted {len(state['messages'])}")]}

    def ask(state: State) -> dict[str, list[AnyMessage]]:
        return {"messages": [HumanMessage(interrupt("go on?"))]}

    builder = StateGraph(State)
    builder.add_node("count", count)
    builder.add_node("ask", ask)
    builder.add_edge(START, "count")
    builder.add_edge("count", "ask")
    builder.add_edge("ask", END)
    return builder


def side_by_side_graph(steps: int, ran: list[str], *, inside: bool) -> Any:
    """
    Return a graph that counts, then asks and charges at the same time.

    Args:
        steps: of counting.
        ran: is told of each charge.
        inside: whether a graph of its own asks.
    """

    def ask(state: Numbers) -> dict[str, list[int]]:
        return {"numbers": [interrupt("go on?")]}

    def charge(state: Numbers) -> dict[str, list[int]]:
        ran.append("charged")
        return {"numbers": [2]}

    def following(state: Numbers) -> list[str]:
        return ["count"] if len(state["numbers"]) < steps else ["ask", "charge"]

    async def ask_inside(state: Numbers) -> dict[str, list[int]]:
        asked = await asking.ainvoke({"numbers": []})
        return {"numbers": asked["numbers"]}

    inner = StateGraph(Numbers)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    asking: Any = inner.compile()
    builder: Any = StateGraph(Numbers)
    builder.add_node("count", _adder(1))
    builder.add_node("ask", ask_inside if inside else ask)
    builder.add_node("charge", charge)
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", following, ["count", "ask", "charge"])
    return builder
