"""Runs of one thread at the same time, by one saver: whoever was answered stays the newest."""

from __future__ import annotations

import asyncio
import itertools
import operator
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, interrupt

from aiocheckpoint import CheckpointId, StorageError
from aiocheckpoint.adapters.langgraph import (
    CheckpointSaver,
    ThreadChangedError,
    ThreadRecord,
    watches,
)
from aiocheckpoint.adapters.langgraph.underway import Underway
from aiocheckpoint.adapters.langgraph.watches import Watch
from aiocheckpoint.testing import MemoryStore
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import chain_graph, thread
from tests.langgraph.promises import got, put

DURABILITIES = ["sync", "async", "exit"]


class _State(TypedDict):
    question: str
    said: Annotated[list[str], operator.add]


class _Outer(TypedDict):
    question: str
    said: list[str]


class _Store(MemoryStore[ThreadRecord]):
    """A store that lets what is asked for wait, once."""

    def __init__(self) -> None:
        super().__init__(ThreadRecord)
        self.held: dict[str, asyncio.Event] = {}
        self.arrived = asyncio.Event()
        self.readers = 0
        self.fails = False

    def hold(self, operation: str) -> asyncio.Event:
        """Let the next such operation wait for the event that is returned."""
        self.arrived.clear()
        self.held[operation] = asyncio.Event()
        return self.held[operation]

    async def _pass(self, operation: str) -> None:
        event = self.held.pop(operation, None)
        if event is not None:
            self.arrived.set()
            await event.wait()

    async def save(self, record: ThreadRecord, /, **options: Any) -> CheckpointId:
        """Store a record, in its time."""
        await self._pass("save")
        if self.fails:
            self.fails = False
            raise StorageError("save", record.session_id, None, "the disk is gone")
        return await super().save(record, **options)

    async def read(self, session_id: str, work: Any, /) -> Any:
        """Read, and return it in its time."""
        found = await super().read(session_id, work)
        await self._pass("read")
        self.readers -= 1
        while self.readers > 0:  # each waits for all
            await asyncio.sleep(0)
        return found


class _Agent:
    """A graph of two steps; asked `slow` it waits in the first, asked `approve` for a person."""

    def __init__(
        self, saver: CheckpointSaver, durability: str = "async", *, has_memory: bool = False
    ) -> None:
        self.is_waiting = asyncio.Event()
        self.may_go_on = asyncio.Event()
        builder: Any = StateGraph(_State)
        builder.add_node("think", self._think)
        builder.add_node("answer", lambda state: {"said": [f"answer {state['question']}"]})
        builder.add_edge(START, "think")
        builder.add_edge("think", "answer")
        if has_memory:
            outer = StateGraph(_Outer)
            outer.add_node("memory", builder.compile(checkpointer=True))
            outer.add_edge(START, "memory")
            builder = outer
        self.graph: Any = builder.compile(checkpointer=saver)
        self._durability: Any = durability

    async def _think(self, state: _State) -> dict[str, list[str]]:
        if state["question"] == "slow":
            self.is_waiting.set()
            await self.may_go_on.wait()
        if state["question"] == "approve":
            return {"said": [interrupt("may I?")]}
        return {"said": []}

    async def ask(self, question: str, config: Any = None, **options: Any) -> list[str]:
        """Ask a question, and return all that was said."""
        asked, options = {"question": question}, {"durability": self._durability, **options}
        ended = await self.graph.ainvoke(asked, config or thread("t"), **options)
        said: list[str] = ended["said"]
        return said

    async def asked_slowly(self, **options: Any) -> asyncio.Task[list[str]]:
        """Return a run that waits in the midst of its first step."""
        run = asyncio.create_task(self.ask("slow", **options))
        await self.is_waiting.wait()
        return run

    async def newest(self) -> list[str]:
        """Return all that was said, as the thread's newest state has it."""
        said: list[str] = (await self.graph.aget_state(thread("t"))).values["said"]
        return said

    async def is_told(self, run: Awaitable[Any]) -> None:
        """Let a run go on, which is told that another one has."""
        self.may_go_on.set()
        with pytest.raises(ThreadChangedError, match="run has begun or gone on with it"):
            await run


@pytest.fixture(name="store")
def _store() -> _Store:
    return _Store()


@pytest.fixture(name="saver")
async def _saver(store: _Store) -> AsyncIterator[CheckpointSaver]:
    async with CheckpointSaver(store) as saver:
        yield saver


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("begins", [False, True])
class TestOvertaken:
    async def _began(
        self,
        saver: CheckpointSaver,
        durability: str,
        *,
        begins: bool,
        has_memory: bool = False,
    ) -> tuple[_Agent, asyncio.Task[list[str]]]:
        agent = _Agent(saver, durability, has_memory=has_memory)
        if not begins:
            await agent.ask("first")
        return agent, await agent.asked_slowly()

    @pytest.mark.parametrize("has_memory", [False, True])
    @pytest.mark.few(4)
    async def test_by_another_run(
        self, saver: CheckpointSaver, durability: str, *, begins: bool, has_memory: bool
    ) -> None:
        """A run that ends after another one was answered is told, and hides nothing."""
        agent, slow = await self._began(saver, durability, begins=begins, has_memory=has_memory)
        said = await agent.ask("quick")
        await agent.is_told(slow)
        assert await agent.newest() == said
        assert (await agent.ask("last"))[-2:] == ["answer quick", "answer last"]

    async def test_by_an_update(
        self, saver: CheckpointSaver, durability: str, *, begins: bool
    ) -> None:
        """A run after whose start the state was changed from without does not hide that."""
        agent, slow = await self._began(saver, durability, begins=begins)
        change = {"said": ["a correction"]}
        await agent.graph.aupdate_state(thread("t"), change, as_node="answer")
        await agent.is_told(slow)
        assert (await agent.newest())[-1] == "a correction"

    async def test_in_the_synchronous_form(
        self, saver: CheckpointSaver, durability: str, *, begins: bool
    ) -> None:
        """So it is where the other one runs in a thread, by the methods that block."""
        agent, slow = await self._began(saver, durability, begins=begins)
        graph: Any = chain_graph(2).compile(checkpointer=saver)
        await asyncio.to_thread(graph.invoke, {"numbers": []}, thread("t"))
        await agent.is_told(slow)
        assert (await graph.aget_state(thread("t"))).values["numbers"] == [0, 1]


async def test_runs_of_one_control(saver: CheckpointSaver) -> None:
    """So it is where an application gives all its runs one control, to end them together."""
    agent, control = _Agent(saver), RunControl()
    slow = await agent.asked_slowly(control=control)
    said = await agent.ask("quick", control=control)
    await agent.is_told(slow)
    assert await agent.newest() == said


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_memory_of_a_run_that_is_over(
    saver: CheckpointSaver, store: _Store, durability: str
) -> None:
    """What a graph with a memory would store is refused as soon as a later run has begun."""
    agent = _Agent(saver, durability, has_memory=True)
    await agent.ask("first")
    slow = await agent.asked_slowly()
    held = store.hold("read")
    quick = asyncio.create_task(agent.ask("quick"))
    await store.arrived.wait()
    await agent.is_told(slow)
    held.set()
    for said in (await quick, await agent.ask("last")):
        assert "answer quick" in said
        assert "answer slow" not in said


class TestNotTold:
    @pytest.mark.parametrize("durability", DURABILITIES)
    async def test_beside_whoever_looks(self, saver: CheckpointSaver, durability: str) -> None:
        """Pages that show the newest state and the history of a run do not stop it."""
        agent = _Agent(saver, durability)
        await agent.ask("first")
        run = await agent.asked_slowly()
        for _ in range(3):
            await agent.newest()
            assert [state async for state in agent.graph.aget_state_history(thread("t"))]
        agent.may_go_on.set()
        assert (await run)[-1] == "answer slow"
        assert await agent.ask("last") == ["answer first", "answer slow", "answer last"]

    @pytest.mark.parametrize("thread_id", ["t", "another"])
    async def test_beside_a_node_that_looks(self, saver: CheckpointSaver, thread_id: str) -> None:
        """A node that looks with the config it was given is no run, on its thread or another."""
        graph: Any = None

        async def look(_state: _State, config: RunnableConfig) -> dict[str, list[str]]:
            whole = thread(thread_id, checkpoint_ns="")["configurable"]
            given: Any = {**config, "configurable": {**config["configurable"], **whole}}
            state = await graph.aget_state(given)
            assert [state async for state in graph.aget_state_history(given)]
            return {"said": [f"{state.values['question']} is asked"]}

        agent = _Agent(saver)
        run = asyncio.create_task(agent.ask("slow", thread("another")))
        await agent.is_waiting.wait()
        builder: Any = StateGraph(_State)
        builder.add_node("look", look)
        builder.add_edge(START, "look")
        graph = builder.compile(checkpointer=saver)
        for _ in range(2):
            ended = await graph.ainvoke({"question": "slow"}, thread("t"))
        assert ended["said"] == ["slow is asked"] * 2
        agent.may_go_on.set()
        assert await run == ["answer slow"]

    async def test_runs_of_other_threads(self, saver: CheckpointSaver) -> None:
        """Runs of other threads are no other runs."""
        agent = _Agent(saver)
        run = await agent.asked_slowly()
        await agent.ask("quick", thread("u"))
        agent.may_go_on.set()
        assert await run == ["answer slow"]

    async def test_after_a_run_that_could_not_store(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """The run after one that failed goes on from what is there."""
        agent = _Agent(saver)
        said = await agent.ask("first")
        for _ in range(3):
            store.fails = True
            with pytest.raises(StorageError, match="the disk is gone"):
                await agent.ask("failing")
        assert (await agent.ask("last"))[: len(said)] == said

    @pytest.mark.parametrize(
        "remove",
        [
            lambda saver: saver.adelete_thread("t"),
            lambda saver: saver.adelete_for_runs(["second"]),
            lambda saver: saver.aprune(["t"]),
        ],
        ids=["the thread", "a run", "what is old"],
    )
    async def test_after_something_was_removed(
        self, saver: CheckpointSaver, remove: Callable[[CheckpointSaver], Awaitable[None]]
    ) -> None:
        """The run after a removal goes on from what is left, also where nothing is."""
        agent = _Agent(saver)
        for question in ("first", "second"):
            await agent.ask(question, {**thread("t"), "metadata": {"run_id": question}})
        await remove(saver)
        assert (await agent.ask("last"))[-1] == "answer last"
        assert (await agent.newest())[-1] == "answer last"

    async def test_who_goes_back_by_an_id(self, saver: CheckpointSaver) -> None:
        """Time travel overtakes a run, which is told, and is no conflict itself."""
        agent = _Agent(saver)
        await agent.ask("first")
        first = (await got(saver, thread("t"))).config
        await agent.ask("second")
        slow = await agent.asked_slowly()
        assert await agent.ask("again", first) == ["answer first", "answer again"]
        await agent.is_told(slow)
        assert await agent.newest() == ["answer first", "answer again"]

    async def test_of_a_fork_beside_a_page(self, saver: CheckpointSaver) -> None:
        """Time travel is under way while a page shows a hundred states by their ids."""
        agent = _Agent(saver, "exit")
        for number in range(50):
            await agent.ask(f"{number}")
        configs = [found.config async for found in saver.alist(thread("t"))]
        run = asyncio.create_task(agent.ask("slow", configs[-1]))
        await agent.is_waiting.wait()
        for config in configs:
            await agent.graph.aget_state(config)
        agent.may_go_on.set()
        assert (await run)[-1] == "answer slow"

    async def test_a_copy_of_the_newest(self, saver: CheckpointSaver) -> None:
        """The newest state may be copied, which is a fork from the one before it."""
        agent = _Agent(saver)
        said = await agent.ask("first")
        await agent.graph.aupdate_state(thread("t"), None, as_node="__copy__")
        assert await agent.newest() == said

    async def test_a_copy_of_what_another_saver_has_put(self, make: MakeSaver) -> None:
        """So may what another saver has put last."""
        one, two = _Agent(make()), _Agent(make())
        said = await one.ask("first")
        assert await two.newest() == said
        await two.graph.aupdate_state(thread("t"), None, as_node="__copy__")
        assert await one.newest() == said

    @pytest.mark.parametrize("steps", [0, 3])
    @pytest.mark.few(1)
    async def test_whoever_leaves_at_a_question(self, root: Path, steps: int) -> None:
        """An answer meets the question, however much waits behind what is being stored."""
        builder: Any = StateGraph(_State)
        names = [f"{number}" for number in range(steps)]
        for name in names:
            builder.add_node(name, lambda _state: {"said": ["a step"]})
        builder.add_node("approve", lambda _state: {"said": [interrupt("may I?")]})
        for before, after in itertools.pairwise([START, *names, "approve"]):
            builder.add_edge(before, after)
        async with CheckpointSaver(root) as saver:
            graph = builder.compile(checkpointer=saver)
            for number in range(20):
                async for chunk in graph.astream({"question": "approve"}, thread(number)):
                    if "__interrupt__" in chunk:
                        break
                ended = await graph.ainvoke(Command(resume="yes"), thread(number))
                assert ended["said"] == [*["a step"] * steps, "yes"]

    @pytest.mark.parametrize("durability", DURABILITIES)
    @pytest.mark.some(1)
    async def test_whoever_leaves_a_stream(self, root: Path, durability: str) -> None:
        """Wherever a stream is left, the next question is answered at once and stays."""
        async with CheckpointSaver(root) as saver:
            agent = _Agent(saver, durability)
            for left_after in [0, 1, 2] * 5:
                stream = agent.graph.astream(
                    {"question": "left"},
                    thread("t"),
                    stream_mode="values",
                    durability=durability,
                )
                async for _ in stream:
                    if not left_after:
                        break
                    left_after -= 1  # noqa: PLW2901 - counts what is left of it
                del stream
                assert (await agent.ask("next"))[-1] == "answer next"
                assert (await agent.newest())[-1] == "answer next"

    async def test_a_loop_that_was_closed_in_the_midst(self, root: Path) -> None:
        """What a loop that is closed will never store holds up nobody."""
        async with CheckpointSaver(MemoryStore(ThreadRecord)) as saver:
            left: list[Any] = []

            async def leave() -> None:
                never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

                async def wait(*_: Any, **__: Any) -> None:
                    await never

                patch = pytest.MonkeyPatch()
                patch.setattr(MemoryStore, "save", wait)
                storing = put(saver, thread("t"))
                left.append(storing)
                storing.send(None)
                patch.undo()

            await asyncio.to_thread(asyncio.run, leave())
            for question in ("first", "second"):
                assert (await _Agent(saver).ask(question))[-1] == f"answer {question}"
            left[0].close()


class TestLooks:
    async def _storing(
        self, saver: CheckpointSaver, store: _Store
    ) -> tuple[_Agent, asyncio.Task[list[str]], asyncio.Event]:
        """Return a run whose end is being stored, and what lets that be."""
        agent = _Agent(saver, "exit")
        await agent.ask("first")
        quick = asyncio.create_task(agent.ask("quick"))
        held = store.hold("save")
        await store.arrived.wait()
        return agent, quick, held

    async def test_whoever_left_at_a_question(self, saver: CheckpointSaver, store: _Store) -> None:
        """An answer meets the question, also where the run was left while it was being stored."""
        agent = _Agent(saver)
        await agent.ask("first")
        held = store.hold("save")
        async for chunk in agent.graph.astream({"question": "approve"}, thread("t")):
            if "__interrupt__" in chunk:
                break
        answering = asyncio.create_task(agent.graph.ainvoke(Command(resume="yes"), thread("t")))
        await asyncio.sleep(0)
        held.set()
        assert (await answering)["said"] == ["answer first", "yes", "answer approve"]

    async def test_is_shown_what_is_being_stored(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """A look waits for what its loop is storing, and may be cancelled."""
        start = await put(saver, thread("t"), step=0)
        held = store.hold("save")
        storing = asyncio.create_task(put(saver, start, step=1))
        await store.arrived.wait()
        looks = [asyncio.create_task(got(saver, thread("t"))) for _ in range(2)]
        await asyncio.sleep(0)
        looks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await looks[0]
        held.set()
        assert (await looks[1]).config == await storing

    async def test_is_shown_what_a_task_has_written(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """So it is with what tasks have written, of which a run would do some again."""
        start = await put(saver, thread("t"), step=0)
        held = store.hold("save")
        storing = asyncio.create_task(saver.aput_writes(start, [("x", 1)], "task"))
        await store.arrived.wait()
        look = asyncio.create_task(got(saver, start))
        for _ in range(9):
            await asyncio.sleep(0)
        held.set()
        assert (await look).pending_writes == [("task", "x", 1)]
        await storing

    @pytest.mark.blocking
    async def test_beside_what_another_loop_is_storing(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """A run in another loop, which was shown what is overtaken by then, is told."""
        agent, quick, held = await self._storing(saver, store)
        graph: Any = chain_graph(2).compile(checkpointer=saver)
        with pytest.raises(ThreadChangedError):
            await asyncio.to_thread(graph.invoke, {"numbers": []}, thread("t"))
        held.set()
        assert await agent.newest() == await quick

    @pytest.mark.blocking
    async def test_of_another_loop_while_something_was_stored(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """A change by whoever was shown, in another loop, what was overtaken by then is told."""
        agent, quick, held = await self._storing(saver, store)
        has_read, may_return = threading.Event(), threading.Event()
        read = store.read

        async def slowly(session_id: str, work: Any, /) -> Any:
            found = await read(session_id, work)
            has_read.set()
            await asyncio.to_thread(may_return.wait)
            return found

        store.read = slowly  # type: ignore[method-assign]
        change = agent.graph.update_state
        late = asyncio.to_thread(change, thread("t"), {"said": ["late"]}, as_node="answer")
        telling = asyncio.create_task(late)
        await asyncio.to_thread(has_read.wait)
        store.read = read  # type: ignore[method-assign]
        held.set()
        said = await quick
        may_return.set()
        await agent.is_told(telling)
        assert await agent.newest() == said

    @pytest.mark.parametrize("by", ["one saver", "two savers"])
    @pytest.mark.parametrize("form", ["async", "sync"])
    async def test_by_an_id_excuses_no_change_of_the_newest(
        self, saver: CheckpointSaver, store: _Store, by: str, form: str
    ) -> None:
        """Of two changes of the newest state one is told, though a page shows that by its id."""
        other = saver if by == "one saver" else CheckpointSaver(store)
        agents = [_Agent(each, "sync") for each in (saver, other)]
        await agents[0].ask("first")
        for agent in agents:
            newest = await agent.graph.aget_state(thread("t"))
            await asyncio.create_task(agent.graph.aget_state(newest.config))

        async def change(agent: _Agent, said: str) -> Any:
            config, change = thread("t"), {"said": [said]}
            if form == "async":
                return await agent.graph.aupdate_state(config, change, "answer")
            return await asyncio.to_thread(agent.graph.update_state, config, change, "answer")

        store.readers = 2
        changes = [change(agent, name) for agent, name in zip(agents, "ab", strict=True)]
        ended = await asyncio.gather(*changes, return_exceptions=True)
        told = [each for each in ended if isinstance(each, ThreadChangedError)]
        assert len(told) == 1
        kept = "ab"[ended.index(told[0]) - 1]
        assert (await agents[0].newest())[-1] == kept
        await other.aclose()

    async def test_by_an_id_excuses_no_run(self, make: MakeSaver) -> None:
        """A page that shows states of a run by their ids lets that hide nothing of others."""
        one, two = _Agent(make(), "sync"), _Agent(make(), "sync")
        await one.ask("first")
        slow = await one.asked_slowly()
        said = await two.ask("quick")
        async for state in one.graph.aget_state_history(thread("t")):
            await one.graph.aget_state(state.config)
        one.may_go_on.set()
        with pytest.raises(ThreadChangedError, match="another saver has gone on with it"):
            await slow
        assert await two.newest() == said

    async def test_at_many_others(
        self, saver: CheckpointSaver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fork is under way while pages show other threads, however many."""
        monkeypatch.setattr(watches, "_REMEMBERED_SESSIONS", 4)
        agent = _Agent(saver, "exit")
        await agent.ask("first")
        first = (await got(saver, thread("t"))).config
        await agent.ask("second")
        fork = asyncio.create_task(agent.ask("slow", first))
        await agent.is_waiting.wait()
        for number in range(9):
            await agent.graph.aget_state(thread(f"{number}"))
        agent.may_go_on.set()
        assert await fork == ["answer first", "answer slow"]

    async def test_beside_many_other_runs(
        self, saver: CheckpointSaver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run of which the saver remembers nothing any more hides no other one."""
        monkeypatch.setattr(watches, "_REMEMBERED_SESSIONS", 4)
        agent = _Agent(saver)
        await agent.ask("first")
        slow = await agent.asked_slowly()
        said = await agent.ask("quick")
        for number in range(5):
            await agent.ask("another", thread(f"{number}"))
        agent.may_go_on.set()
        with pytest.raises(ThreadChangedError):
            await slow
        assert await agent.newest() == said

    @pytest.mark.blocking
    async def test_from_another_loop_waits_for_nobody(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """Code that blocks the loop by a look is shown what is stored by then."""
        start = await put(saver, thread("t"), step=0)
        held = store.hold("save")
        storing = asyncio.create_task(put(saver, start, step=1))
        await store.arrived.wait()
        found = saver.get_tuple(thread("t"))
        assert found is not None
        assert found.config == start
        held.set()
        await storing

    async def test_that_was_overtaken(self, saver: CheckpointSaver, store: _Store) -> None:
        """Whoever was shown a state that another run has followed by then is told."""
        agent = _Agent(saver)
        await agent.ask("first")
        held = store.hold("read")
        late = asyncio.create_task(agent.ask("late"))
        await store.arrived.wait()
        said = await agent.ask("quick")
        held.set()
        await agent.is_told(late)
        assert await agent.newest() == said

    async def test_of_a_change_that_was_overtaken(
        self, saver: CheckpointSaver, store: _Store
    ) -> None:
        """A change from without of a state that a run has followed by then is told."""
        agent = _Agent(saver)
        await agent.ask("first")
        held = store.hold("read")
        change = agent.graph.aupdate_state(thread("t"), {"said": ["late"]}, as_node="answer")
        late = asyncio.create_task(change)
        await store.arrived.wait()
        said = await agent.ask("quick")
        held.set()
        await agent.is_told(late)
        assert await agent.newest() == said


async def test_forks_of_one_saver_are_told_of_or_not(root: Path) -> None:
    """With refuse_forks=False runs of one saver fork a thread as with LangGraph's own savers."""
    async with CheckpointSaver(root, refuse_forks=False) as saver:
        agent = _Agent(saver)
        slow = await agent.asked_slowly()
        await agent.ask("quick")
        agent.may_go_on.set()
        assert await slow == ["answer slow"]
        assert await agent.newest() == ["answer slow"]


def _no_run_is_told(patch: pytest.MonkeyPatch) -> None:
    take = Watch.take

    def always(self: Watch, key: str, parent: str | None, _run: Any, **_: Any) -> bool:
        return take(self, key, parent, None, is_free=True)

    patch.setattr(Watch, "take", always)


def _late_looks_count(patch: pytest.MonkeyPatch) -> None:
    look = Watch.look

    def now(self: Watch, key: str | None, last_id: str | None, _turns: int) -> None:
        look(self, key, last_id, self.turns)

    patch.setattr(Watch, "look", now)


def _looks_wait_for_nobody(patch: pytest.MonkeyPatch) -> None:
    async def at_once(_self: Underway, _session_id: str, **_: bool) -> None:
        pass

    patch.setattr(Underway, "settled", at_once)


@pytest.mark.parametrize(
    ("mutate", "promise"),
    [
        (_no_run_is_told, TestNotTold().test_who_goes_back_by_an_id),
        (_late_looks_count, TestLooks().test_of_a_change_that_was_overtaken),
        (_looks_wait_for_nobody, TestLooks().test_whoever_left_at_a_question),
    ],
)
async def test_mutant_is_noticed(
    store: _Store,
    saver: CheckpointSaver,
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[pytest.MonkeyPatch], None],
    promise: Callable[..., Awaitable[None]],
) -> None:
    """A saver with this fault breaks the promise that is named for it."""
    mutate(monkeypatch)
    given = {"store": store, "saver": saver}
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await promise(**{k: v for k, v in given.items() if k in promise.__annotations__})
