"""The examples of graphs in the pages store each step before the next one begins.

LangGraph's own default does not: a process that dies in the next step then loses what the one
before was given. A person's answer is no step, and stored before it is acted on by none.
"""

from __future__ import annotations

import ast
import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from aiocheckpoint.adapters.langgraph import CheckpointSaver, session_of
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import Numbers, chain_graph, thread

_ROOT = Path(__file__).parents[2]
_PAGES = ("README.md", "docs/how-to/langgraph.md")
_SYNC = ', durability="sync"'
_A_MOMENT_SECONDS, _GUARD_SECONDS = 0.2, 60


def example(page: str) -> str:
    """Return the first block of a page that makes a graph with our saver."""
    blocks = (_ROOT / page).read_text(encoding="utf-8").split("```python\n")[1:]
    texts = [block.partition("```")[0] for block in blocks]
    return next(text for text in texts if "CheckpointSaver(" in text and "ainvoke" in text)


class Order:
    """
    Whether nodes ran before what came before them was stored.

    Attributes:
        runs: how often a node ran.
        early: how often while a checkpoint was still to be stored.
        seconds: for how long a checkpoint waits for a node that does, until there was one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = self.early = 0
        self.seconds = _A_MOMENT_SECONDS
        self._storing = 0
        self._ran = threading.Event()
        add_node, aput = StateGraph.add_node, CheckpointSaver.aput

        def add(graph: Any, name: str, node: Any) -> Any:
            def run(state: Any) -> Any:
                self.runs += 1
                self.early += self._storing > 0
                self._ran.set()
                return node(state)

            return add_node(graph, name, run)

        async def put(saver: Any, *args: Any, **options: Any) -> Any:
            self._storing += 1
            self._ran.clear()
            try:
                if not self.early:
                    await asyncio.to_thread(self._ran.wait, self.seconds)
                return await aput(saver, *args, **options)
            finally:
                self._storing -= 1

        monkeypatch.setattr(StateGraph, "add_node", add)
        monkeypatch.setattr(CheckpointSaver, "aput", put)


def run(text: str) -> None:
    """Run a block as `python -m asyncio` does, but at once."""
    code = compile(text, "a block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(code, {}))


@pytest.fixture(name="order")
def _order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    monkeypatch.chdir(tmp_path)
    return Order(monkeypatch)


@pytest.mark.blocking
@pytest.mark.parametrize("page", _PAGES)
def test_each_step_is_stored_before_the_next(page: str, order: Order) -> None:
    """No node of the example runs while what it was given is not stored."""
    run(example(page))
    assert order.runs > 0
    assert order.early == 0


@pytest.mark.blocking
@pytest.mark.parametrize("page", _PAGES)
def test_without_its_durability_it_is_not(page: str, order: Order) -> None:
    """The same example without `durability="sync"` is told by that."""
    text = example(page)
    assert _SYNC in text
    order.seconds = _GUARD_SECONDS
    run(text.replace(_SYNC, ""))
    assert order.early > 0


def _asking(saver: CheckpointSaver, acting: asyncio.Event | None = None) -> Any:
    """Return a graph that asks and acts on the answer: with an event it never ends to."""

    async def ask(_: Numbers) -> dict[str, list[int]]:
        answer = interrupt("go on?")
        if acting is not None:
            acting.set()
            await asyncio.Event().wait()
        return {"numbers": [answer]}

    builder: Any = StateGraph(Numbers)
    builder.add_node("ask", ask)
    builder.set_entry_point("ask")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_an_answer_is_acted_on_before_it_is_stored(
    durability: Any, make: MakeSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks then is asked again, and later goes on with it; the question is shown to both."""
    acting, storing, stored = asyncio.Event(), asyncio.Event(), asyncio.Event()
    config, saver, later = thread("ann"), make(), _asking(make())
    aput_writes = saver.aput_writes

    async def put_late(*args: Any, **options: Any) -> None:
        await storing.wait()
        await aput_writes(*args, **options)
        stored.set()

    await _asking(saver).ainvoke({"numbers": []}, config)
    monkeypatch.setattr(saver, "aput_writes", put_late)
    first = _asking(saver, acting).ainvoke(Command(resume=7), config, durability=durability)
    running = asyncio.ensure_future(first)
    await acting.wait()  # would be for ever, if the answer were stored first
    assert (await later.aget_state(config)).interrupts
    assert "__interrupt__" in await later.ainvoke(None, config)

    storing.set()
    if durability != "exit":
        await stored.wait()
        assert (await later.aget_state(config)).interrupts
        assert await later.ainvoke(None, config) == {"numbers": [7]}
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.blocking  # in the threads that take it
@pytest.mark.parametrize("count", [1, 99])
async def test_a_stream_in_threads_is_ended(make: MakeSaver, count: int) -> None:
    """What the page gives to servers yields the whole stream, and ends one that is left."""
    page = (_ROOT / "docs/how-to/langgraph.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    names: dict[str, Any] = {}
    exec(next(block for block in blocks if "async def taken" in block), names)
    graph: Any = chain_graph(3).compile(checkpointer=make())
    stream = graph.stream({"numbers": []}, thread("t"), durability="async")
    body, chunks = names["taken"](stream), []
    async for chunk in body:
        chunks.append(chunk)
        if len(chunks) == count:
            break
    await body.aclose()
    assert stream.gi_frame is None
    assert chunks == [{f"node{n}": {"numbers": [n]}} for n in range(min(count, 3))]


@pytest.mark.blocking  # it lists the directory
async def test_the_sessions_of_a_thread_are_known_by_their_ids(make: MakeSaver, root: Path) -> None:
    """Whoever restores a thread finds all of it: graphs within nodes begin with its id."""
    inner = chain_graph(2).compile(checkpointer=True)
    builder = StateGraph(Numbers)
    builder.add_node("memory", inner)
    builder.add_node("task", chain_graph(2).compile())
    builder.add_edge(START, "memory")
    builder.add_edge("memory", "task")
    saver = make()
    graph: Any = builder.compile(checkpointer=saver)
    for thread_id in ("ann", "an", "ann.b"):
        await graph.ainvoke({"numbers": []}, thread(thread_id))
    await saver.aflush()
    for thread_id in ("ann", "an", "ann.b"):
        own = session_of(thread_id)
        ids = [path.name for path in root.iterdir() if path.name.startswith(own)]
        assert own in ids
        assert [name for name in ids if name.startswith(f"{own}.")]
        await saver.adelete_thread(thread_id)
        await saver.aflush()
        assert not [path for path in root.iterdir() if path.name.startswith(own)]
