"""What a run that was cancelled still stores, in the background, hides no later run."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from aiocheckpoint import CheckpointId
from aiocheckpoint.adapters.langgraph import CheckpointSaver, ThreadChangedError, ThreadRecord
from aiocheckpoint.testing import MemoryStore
from tests.langgraph.graphs import thread


class _Asked(TypedDict):
    question: str
    said: Annotated[list[str], operator.add]


class _Told(TypedDict):
    said: Annotated[list[str], operator.add]


class _Slow(MemoryStore[ThreadRecord]):
    """A store that lets the checkpoints of one run wait."""

    def __init__(self) -> None:
        super().__init__(ThreadRecord)
        self.is_open = asyncio.Event()

    async def save(self, record: ThreadRecord, /, **options: Any) -> CheckpointId:
        """Store a checkpoint, in its time."""
        metadata: Any = record.metadata
        if metadata and metadata.get("run") == "one" and record.trigger == "loop":
            await self.is_open.wait()
        return await super().save(record, **options)


class _Agent:
    """A graph that says something in each step, and never ends when it is asked the first."""

    def __init__(self, saver: CheckpointSaver, *, has_memory: bool) -> None:
        self.is_waiting = asyncio.Event()
        builder = StateGraph(_Asked, output_schema=_Told)
        for name in ("one", "two"):
            builder.add_node(name, lambda state: {"said": [f"about {state['question']}"]})
        builder.add_node("three", self._answer)
        builder.add_edge(START, "one")
        builder.add_edge("one", "two")
        builder.add_edge("two", "three")
        if not has_memory:
            self.graph: Any = builder.compile(checkpointer=saver)
            return
        outer = StateGraph(_Asked)
        outer.add_node("memory", builder.compile(checkpointer=True))
        outer.add_edge(START, "memory")
        self.graph = outer.compile(checkpointer=saver)

    async def _answer(self, state: _Asked) -> dict[str, list[str]]:
        if state["question"] == "one":
            self.is_waiting.set()
            await asyncio.Event().wait()
        return {"said": [f"answer {state['question']}"]}

    async def ask(self, question: str) -> list[str]:
        """Ask a question, and return all that was said."""
        config: Any = {**thread("t"), "metadata": {"run": question}}
        ended = await self.graph.ainvoke({"question": question}, config, durability="async")
        said: list[str] = ended["said"]
        return said


async def _give_up(run: asyncio.Task[Any]) -> None:
    """Cancel a run, and what it waits for then, as often as a server does that ends."""
    while not run.done():
        run.cancel()
        await asyncio.sleep(0)


async def _asked_until_answered(agent: _Agent, question: str) -> list[str]:
    """Ask, and once more where the end of the run that was given up has come between."""
    try:
        return await agent.ask(question)
    except ThreadChangedError:
        return await agent.ask(question)


@pytest.mark.parametrize("has_memory", [False, True])
@pytest.mark.parametrize("is_beside", [False, True])
async def test_a_later_run_stays_the_newest(*, has_memory: bool, is_beside: bool) -> None:
    """Neither beside the later run nor after it the one that was cancelled takes its place."""
    store = _Slow()
    async with CheckpointSaver(store) as saver:
        agent = _Agent(saver, has_memory=has_memory)
        await agent.ask("zero")
        given_up = asyncio.create_task(agent.ask("one"))
        await agent.is_waiting.wait()
        await _give_up(given_up)
        if is_beside:
            store.is_open.set()
        later = asyncio.create_task(_asked_until_answered(agent, "two"))
        await asyncio.sleep(0)
        store.is_open.set()
        said = await later
        await _all_stored()
        assert said[-1] == "answer two"
        state = await agent.graph.aget_state(thread("t"))
        assert (state.values["said"], state.next) == (said, ())
        assert "about two" in await agent.ask("three")


async def _all_stored() -> None:
    """Wait for all that is stored in the background."""
    tasks = [task for task in asyncio.all_tasks() if "put" in str(task.get_coro())]
    await asyncio.gather(*tasks, return_exceptions=True)
