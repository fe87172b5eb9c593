"""States with delta channels are made of what their own runs wrote, whoever writes beside them."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from langgraph.types import Command, StateUpdate, interrupt
from msgspec import UNSET

from aiocheckpoint.adapters.langgraph import (
    CheckpointSaver,
    CopyMismatchError,
    ThreadChangedError,
    copy_threads,
    session_of,
)
from aiocheckpoint.adapters.langgraph.records import PENDING_PREFIX, STATE_PREFIX
from tests.langgraph import graphs
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.overtaken_process import Gate, answering, begun, extended

_THREAD: Any = thread("t")
_SESSION = session_of("t")
_DURABILITIES: Sequence[Any] = ("sync", "async", "exit")


_Texts = Annotated[list[str], DeltaChannel(extended, list, snapshot_frequency=1000)]


class _Asking(TypedDict):
    said: _Texts
    notes: _Texts


class _KilledError(Exception):
    """What happens to a process, told to the test."""


@dataclass
class _Plan:
    """
    What becomes of who acts by it.

    Attributes:
        dies: whether it is killed before its first checkpoint, with all that it has written.
        has_looked: set by the first look.
        may_go_on: waited for after each look.
    """

    dies: bool = False
    has_looked: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)


_PLAN: ContextVar[_Plan | None] = ContextVar("plan", default=None)


class _Staged(CheckpointSaver):
    """A saver whose callers act by the plan of their context."""

    async def aget_tuple(self, config: Any) -> Any:
        found = await super().aget_tuple(config)
        plan = _PLAN.get()
        if plan is not None:
            plan.has_looked.set()
            await plan.may_go_on.wait()
        return found

    async def aput(self, *args: Any) -> Any:
        plan = _PLAN.get()
        if plan is not None and plan.dies:
            raise _KilledError
        return await super().aput(*args)


def _graph(saver: BaseCheckpointSaver[Any]) -> Any:
    """
    Return a graph that answers, and keeps what was said in a delta channel and as a whole.

    What it is given goes to these at once, and not by a first node, as that of a `StateGraph` does.
    """
    answer = NodeBuilder().subscribe_only("asked").do(lambda asked: [f"answer {asked}"])
    channels: Any = {
        "asked": LastValue(str),
        "log": DeltaChannel(extended, list, snapshot_frequency=1000),
        "turns": BinaryOperatorAggregate(list, operator.add),
    }
    return Pregel(
        nodes={"answer": answer.write_to("log", "turns")},
        channels=channels,
        input_channels=[*channels],
        output_channels=["log", "turns"],
        stream_channels=["log", "turns"],
        checkpointer=saver,
    )


def _asked(text: str) -> dict[str, Any]:
    return {"asked": text, "log": [text], "turns": [text]}


Kind = Literal["sync", "async", "exit", "update", "input"]
_KINDS: Sequence[Kind] = ("sync", "async", "exit", "update", "input")


async def _act(graph: Any, kind: Kind, text: str) -> None:
    """Say something in the thread: by a run of a durability, as the node, or as its input."""
    if kind in _DURABILITIES:
        await graph.ainvoke(_asked(text), _THREAD, durability=kind)
    elif kind == "update":
        await graph.aupdate_state(_THREAD, [text], as_node="answer")
    else:
        await graph.aupdate_state(_THREAD, _asked(text), as_node="__input__")


def _by(plan: _Plan, acting: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    async def act() -> None:
        _PLAN.set(plan)
        await acting()

    return asyncio.create_task(act())


async def _values(graph: Any, config: Any = _THREAD) -> Any:
    values = (await graph.aget_state(config)).values
    assert values["log"] == values["turns"]
    return values


@pytest.mark.parametrize("is_one_saver", [False, True])
@pytest.mark.parametrize("other", _KINDS)
@pytest.mark.parametrize("killed", _KINDS)
@pytest.mark.some
async def test_what_a_killed_one_wrote_is_in_nobody_elses_state(
    root: Path, killed: Kind, other: Kind, *, is_one_saver: bool
) -> None:
    """Of two who go on from a checkpoint, one leaves its writes alone; also copied and pruned."""
    memory = _graph(InMemorySaver())
    async with _Staged(root) as one, _Staged(root) as two:
        first, second = _graph(one), _graph(one if is_one_saver else two)
        for graph in (memory, first):
            await _act(graph, "sync", "hello")
        plans = _Plan(dies=True), _Plan()
        acts = (
            _by(plans[0], lambda: _act(first, killed, "killed")),
            _by(plans[1], lambda: _act(second, other, "other")),
        )
        for plan in plans:
            await plan.has_looked.wait()
        plans[0].may_go_on.set()
        with pytest.raises(_KilledError):
            await acts[0]
        plans[1].may_go_on.set()
        await acts[1]
        await _act(memory, other, "other")
        wanted = await _values(memory)
        assert await _values(second) == wanted

        await one.acopy_thread("t", "copy")
        assert await _values(first, thread("copy")) == wanted
        await first.aupdate_state(_THREAD, None, as_node="__copy__")
        assert await _values(first) == wanted
        await one.aprune(["t", "copy"])
        assert await _values(first) == wanted
        assert await _values(first, thread("copy")) == wanted
        for graph in (memory, first):
            await _act(graph, "exit", "bye")
        assert await _values(second) == await _values(memory)


@pytest.mark.parametrize("by", ["update", "sync", "exit"])
@pytest.mark.parametrize("killed", _KINDS)
@pytest.mark.some
async def test_what_a_killed_one_wrote_between_two_looks(
    root: Path, killed: Kind, by: Kind
) -> None:
    """Of a checkpoint asked for by its id counts what was there then, as it is looked at again."""
    async with _Staged(root) as one, _Staged(root) as two:
        first, second = _graph(one), _graph(two)
        await _act(first, "sync", "hello")
        newest = (await first.aget_state(_THREAD)).config

        async def act() -> None:
            if by == "update":
                await second.aupdate_state(newest, ["other"], as_node="answer")
            else:
                await second.ainvoke(_asked("other"), newest, durability=by)

        plans = _Plan(dies=True), _Plan()
        acting = _by(plans[1], act)
        await plans[1].has_looked.wait()
        plans[0].may_go_on.set()
        with pytest.raises(_KilledError):
            await _by(plans[0], lambda: _act(first, killed, "killed"))
        plans[1].may_go_on.set()
        await acting
        assert not any("killed" in said for said in (await _values(second))["log"])


@pytest.mark.parametrize("durability", _DURABILITIES)
@pytest.mark.parametrize("is_one_saver", [False, True])
async def test_what_a_run_wrote_after_another_went_on(
    root: Path, durability: Any, *, is_one_saver: bool
) -> None:
    """A run that is overtaken in a node, and killed behind it, changes no state of the other."""
    gate = Gate()
    async with _Staged(root) as one, _Staged(root) as two:
        slow, quick = (answering(saver, gate.wait) for saver in (one, one if is_one_saver else two))
        await quick.ainvoke({"notes": ["first"]}, _THREAD, durability="sync")
        plan = _Plan()
        plan.may_go_on.set()
        running = _by(
            plan, lambda: slow.ainvoke({"notes": ["slow"]}, _THREAD, durability=durability)
        )
        await gate.is_reached.wait()
        await begun(quick, durability)
        ended = await quick.ainvoke({"notes": ["quick"]}, _THREAD, durability="sync")
        plan.dies = True
        gate.may_pass.set()
        with pytest.raises(_KilledError):
            await running
        assert (await quick.aget_state(_THREAD)).values == ended


@pytest.mark.blocking  # reads what the process says
@pytest.mark.parametrize("durability", _DURABILITIES)
@pytest.mark.some(1)
async def test_a_process_that_is_killed(root: Path, durability: Any) -> None:
    """A process that ends between its task's writes and its checkpoint changes no other's state."""
    command = [sys.executable, "-m", "tests.langgraph.overtaken_process", str(root), durability]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        async with CheckpointSaver(root) as saver:
            graph = answering(saver, asyncio.Event().wait)
            ended = await graph.ainvoke({"notes": ["quick"]}, _THREAD, durability="sync")
            count = await _count_writes(saver)
            print(file=process.stdin, flush=True)
            assert process.wait() == -signal.SIGKILL
            assert await _count_writes(saver) > count
            assert (await graph.aget_state(_THREAD)).values == ended


async def _count_writes(saver: CheckpointSaver, limit: int | None = None) -> int:
    found = [item async for item in saver.alist(_THREAD, limit=limit)]
    return sum(len(item.pending_writes or ()) for item in found)


def _side_by_side(saver: BaseCheckpointSaver[Any], text: str, may_end: asyncio.Event) -> Any:
    """Return a graph of a fast node and a slow one, and what tells that this waits."""
    is_waiting = asyncio.Event()

    async def slow(_: Any) -> dict[str, list[str]]:
        is_waiting.set()
        await may_end.wait()
        return {"notes": [text]}

    return _noting(saver, fast=lambda _: {"notes": ["fast"]}, slow=slow), is_waiting


def _noting(saver: BaseCheckpointSaver[Any], **nodes: Any) -> Any:
    """Return a graph of nodes side by side, with one delta channel."""
    channel: Any = DeltaChannel(extended, list, snapshot_frequency=1000)
    make_type: Any = TypedDict
    builder: Any = StateGraph(make_type("State", {"notes": Annotated[list[str], channel]}))
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile(checkpointer=saver)


def _ask(_: Any) -> dict[str, list[str]]:
    answer = interrupt("?")
    return {"notes": [answer]} if answer else {}


@pytest.mark.parametrize("durability", _DURABILITIES)
@pytest.mark.parametrize("is_killed", [False, True])
async def test_what_a_run_took_up_counts_and_what_came_later_does_not(
    root: Path, durability: Any, *, is_killed: bool
) -> None:
    """Of a run that is gone on with by another, that one has what it was shown when it began."""
    may_end = asyncio.Event(), asyncio.Event()
    async with _Staged(root) as one, _Staged(root) as two:
        first, is_waiting = _side_by_side(one, "first", may_end[0])
        second, is_waiting_too = _side_by_side(two, "second", may_end[1])
        plan = _Plan()
        plan.may_go_on.set()
        running = _by(plan, lambda: first.ainvoke({"notes": ["q"]}, _THREAD, durability="sync"))
        await is_waiting.wait()
        while not await _count_writes(two, limit=1):
            await asyncio.sleep(0)
        taking_up = asyncio.create_task(second.ainvoke(None, _THREAD, durability=durability))
        await is_waiting_too.wait()
        plan.dies = is_killed
        may_end[0].set()
        if is_killed:
            with pytest.raises(_KilledError):
                await running
            may_end[1].set()
            ended = await taking_up
        else:
            await running
            may_end[1].set()
            with pytest.raises(ThreadChangedError):
                await taking_up
            ended = {"notes": ["q", "fast", "first"]}
        assert (await second.aget_state(_THREAD)).values == ended
        assert ended["notes"] == ["q", "fast", "second" if is_killed else "first"]


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_an_older_state_stays_as_it_was(root: Path, durability: Any) -> None:
    """A second answer to an older question changes no state of those that followed the first."""
    async with CheckpointSaver(root) as saver:
        graph = _noting(saver, ask=_ask)
        await graph.ainvoke({"notes": ["first"]}, _THREAD, durability=durability)
        asked = (await graph.aget_state(_THREAD)).config
        await graph.ainvoke(Command(resume=""), _THREAD, durability=durability)
        answered = await graph.aget_state(_THREAD)
        again: Any = Command(resume="", update={"notes": ["and more"]})
        ended = await graph.ainvoke(again, asked, durability=durability)
        assert (await graph.aget_state(_THREAD)).values == ended
        assert (await graph.aget_state(answered.config)).values == answered.values
        assert ended["notes"] == ["first", "and more"]


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_whoever_may_hide_another_has_a_state_of_its_own(root: Path, durability: Any) -> None:
    """With `refuse_forks=False` both of two are stored, each with what it wrote."""
    async with _Staged(root, refuse_forks=False) as saver:
        graph = _graph(saver)
        await _act(graph, "sync", "hello")
        plans = _Plan(), _Plan()
        acts = [
            _by(plan, partial(_act, graph, durability, text))
            for text, plan in zip("ab", plans, strict=True)
        ]
        for plan in plans:
            await plan.has_looked.wait()
        for text, plan, act in zip("ab", plans, acts, strict=True):
            plan.may_go_on.set()
            await act
            said = ["hello", "answer hello", text, f"answer {text}"]
            assert (await _values(graph))["log"] == said
        async for state in graph.aget_state_history(_THREAD):
            assert state.values.get("log", []) == state.values.get("turns", [])


@pytest.mark.parametrize("looks", ["never", "before", "at each"])
@pytest.mark.parametrize("is_at_once", [False, True])
@pytest.mark.parametrize("order", ["checkpoints first", "writes first", "in turn"])
@pytest.mark.some(6)
async def test_what_is_put_by_hand_counts(
    make: MakeSaver, order: str, looks: str, *, is_at_once: bool
) -> None:
    """A thread that is copied by `aput` and `aput_writes` is whole, in whatever order it comes."""
    memory, saver = InMemorySaver(), make()
    source = _graph(memory)
    for text in ("one", "two"):
        await _act(source, "sync", text)
    found = [item async for item in memory.alist(_THREAD)][::-1]

    async def put(item: Any) -> None:
        parent = item.parent_config or thread("t", checkpoint_ns="")
        await saver.aput(parent, item.checkpoint, item.metadata, {})
        if looks == "at each":
            await saver.aget_tuple(item.config)

    async def put_some(item: Any, task: str, write: tuple[str, Any]) -> None:
        if looks == "before":
            await saver.aget_tuple(_THREAD)
        await saver.aput_writes(item.config, [write], f"{task}{write[0]}", "")

    async def put_writes(item: Any) -> None:
        for task, channel, value in item.pending_writes:
            putting = put_some(item, task, (channel, value))
            await (asyncio.create_task(putting) if is_at_once else putting)

    steps = {
        "checkpoints first": [*((put, item) for item in found), *((put_writes, i) for i in found)],
        "writes first": [*((put_writes, item) for item in found), *((put, item) for item in found)],
        "in turn": [step for item in found for step in ((put, item), (put_writes, item))],
    }
    if looks == "before":
        await saver.aget_tuple(_THREAD)
    for step, item in steps[order]:
        await step(item)
    graph = _graph(saver)
    for item in found:
        wanted = (await source.aget_state(item.config)).values
        assert (await graph.aget_state(item.config)).values == wanted


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_a_copy_is_made_of_what_the_other_is(make: MakeSaver, durability: Any) -> None:
    """Also where the task that copies a checkpoint has looked at the one before that."""
    graph = _graph(make())
    await _act(graph, durability, "hello")
    await _values(graph)
    await _act(graph, durability, "bye")
    before = await asyncio.create_task(_values(graph))
    await graph.aupdate_state(_THREAD, None, as_node="__copy__")
    assert await _values(graph) == before


class _Workers(CheckpointSaver):
    """A saver whose calls are done by tasks in turn, each of which does some of every update."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(2)]
        self._tasks = [asyncio.create_task(self._work(queue)) for queue in self._queues]

    async def _work(self, queue: asyncio.Queue[Any]) -> None:
        while (asked := await queue.get()) is not None:
            call, done = asked
            done.set_result(await call)

    async def _by_next(self, call: Any) -> Any:
        queue, done = self._queues.pop(0), asyncio.get_running_loop().create_future()
        self._queues.append(queue)
        await queue.put((call, done))
        return await done

    async def aget_tuple(self, config: Any) -> Any:
        return await self._by_next(super().aget_tuple(config))

    async def aput(self, *args: Any) -> Any:
        return await self._by_next(super().aput(*args))

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        return await self._by_next(super().aput_writes(config, writes, task_id, task_path))

    async def aclose(self) -> None:
        for queue in self._queues:
            await queue.put(None)
        await asyncio.gather(*self._tasks)
        await super().aclose()


@pytest.mark.parametrize("looks", range(3))
@pytest.mark.parametrize("kind", ["update", "input"])
async def test_an_update_that_several_tasks_put(root: Path, kind: Kind, looks: int) -> None:
    """Where one task looks, another one writes and any puts, as of a pool, nothing is lost."""
    async with _Workers(root) as saver:
        graph = _graph(saver)
        await _act(graph, "sync", "hello")
        for text in "abcd":
            for _ in range(looks):
                await _values(graph)
            await _act(graph, kind, text)
        assert (await _values(graph))["log"] == ["hello", "answer hello", *"abcd"]


async def test_several_updates_that_several_tasks_put(root: Path) -> None:
    """The same of updates that are applied together."""
    async with _Workers(root) as saver:
        graph = _graph(saver)
        await _act(graph, "sync", "hello")
        given: Any = [[[text] for text in step] for step in ("abc", "def")]
        steps = [[StateUpdate(said, "answer", None) for said in step] for step in given]
        await graph.abulk_update_state(_THREAD, steps)
        assert (await _values(graph))["log"] == ["hello", "answer hello", *"abcdef"]


async def _make_old(saver: CheckpointSaver, session_id: str) -> None:
    """Store a session's records as an earlier version did."""

    async def change(session: Any) -> None:
        ids = await session.saved_ids()
        for number, record in enumerate(await session.load_many(ids[::-1])):
            session.delete(record.checkpoint_id)
            record.made_of = UNSET
            if record.checkpoint_id.startswith(PENDING_PREFIX):
                record.checkpoint_id = f"{record.checkpoint_id[:12]}{number:016}"
            session.save(record)

    await saver._store.update(session_id, change)


@pytest.mark.parametrize("durability", _DURABILITIES)
@pytest.mark.some(1)
async def test_threads_of_earlier_versions(make: MakeSaver, durability: Any) -> None:
    """Of a checkpoint that does not tell all writes count, and who goes on from one has them."""
    ended: dict[str, list[Any]] = {"old": [], "new": []}
    for name, values in ended.items():
        config = thread(name)
        graph = _noting(make(), ask=_ask, beside=lambda _: {"notes": ["beside"]})
        inputs: list[Any] = [{"notes": ["q"]}, Command(resume="yes")]
        for given in inputs * 2:
            await graph.ainvoke(given, config, durability=durability)
            graph = _noting(saver := make(), ask=_ask, beside=lambda _: {"notes": ["beside"]})
            if name == "old":
                await _make_old(saver, session_of(name))
            values.append([state.values async for state in graph.aget_state_history(config)])
    assert ended["old"] == ended["new"]
    assert ended["old"][-1][0]["notes"] == ["q", "yes", "beside"] * 2


async def _made_of(saver: CheckpointSaver, session_id: str) -> list[Any]:
    ids = await saver._store.ids(session_id, prefix=STATE_PREFIX)
    return [record.made_of for record in await saver._store.load_many(session_id, ids)]


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_only_what_is_rebuilt_tells(make: MakeSaver, durability: Any) -> None:
    """Checkpoints with all their values tell nothing, the others in a few bytes each."""
    saver = make()
    await graphs.chat(saver, thread("chat"), 3, durability=durability)
    assert {*await _made_of(saver, session_of("chat"))} == {UNSET}
    graph = graphs.delta_graph(30).compile(checkpointer=saver)
    for _ in range(3):
        await graph.ainvoke({"numbers": [1]}, _THREAD, durability=durability)
    told = [part for part in await _made_of(saver, _SESSION) if part is not UNSET]
    assert told
    assert max(len(str(part)) for part in told) < 20


@pytest.mark.blocking  # in threads
@pytest.mark.parametrize("is_one_saver", [False, True])
def test_threads_that_update_at_once(root: Path, *, is_one_saver: bool) -> None:
    """The same holds of `update_state`, in threads."""
    has_looked, may_store = threading.Barrier(3), [threading.Event(), threading.Event()]

    class Slow(CheckpointSaver):
        def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            if (at := number.get()) is not None:
                has_looked.wait()
                may_store[at].wait()
            super().put_writes(config, writes, task_id, task_path)

        def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            if number.get() == 0:
                raise _KilledError
            return super().put(config, checkpoint, metadata, new_versions)

    number: ContextVar[int | None] = ContextVar("number", default=None)

    def update(at: int, graph: Any) -> None:
        number.set(at)
        with suppress(_KilledError):
            graph.update_state(_THREAD, [str(at)], as_node="answer")

    with Slow(root) as one, Slow(root) as two:
        made = [_graph(one), _graph(one if is_one_saver else two)]
        made[0].invoke(_asked("hello"), _THREAD)
        threads = [threading.Thread(target=update, args=each) for each in enumerate(made)]
        for each in threads:
            each.start()
        has_looked.wait()
        for each, event in zip(threads, may_store, strict=True):
            event.set()
            each.join()
        values = made[0].get_state(_THREAD).values
        assert values["log"] == values["turns"] == ["hello", "answer hello", "1"]


@pytest.mark.blocking  # forks
def test_a_forked_process_is_another(root: Path) -> None:
    """What a process and its child write from the same thread of the program is told apart."""

    class Forking(CheckpointSaver):
        forks = False

        def get_tuple(self, config: Any) -> Any:
            found = super().get_tuple(config)
            if self.forks:
                self.forks = False
                child = os.fork()
                if child == 0:
                    self.put = lambda *_: os._exit(0)  # type: ignore[method-assign]
                    graph.update_state(_THREAD, ["child"], as_node="answer")
                os.waitpid(child, 0)
            return found

    with Forking(root) as saver:
        graph = _graph(saver)
        graph.invoke(_asked("hello"), _THREAD)
        graph.get_state(_THREAD)
        saver.forks = True
        graph.update_state(_THREAD, ["parent"], as_node="answer")
        values = graph.get_state(_THREAD).values
        assert values["log"] == values["turns"] == ["hello", "answer hello", "parent"]


def _with_memory(wait: Callable[[], Awaitable[object]], *savers: CheckpointSaver) -> list[Any]:
    """Return a graph of a node that is one with a memory, which answers, on each saver."""
    inner = answering(True, wait)
    return [_noting(saver, inner=inner) for saver in savers]


async def _snapshots(saver: CheckpointSaver) -> list[Any]:
    memory = answering(saver, asyncio.Event().wait)
    config = thread("t", checkpoint_ns="inner")
    return [state async for state in memory.aget_state_history(config)]


async def _memory(saver: CheckpointSaver) -> list[Any]:
    """Return the states of the memory, the newest first."""
    return [state.values for state in await _snapshots(saver)]


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_a_graph_with_a_memory(root: Path, durability: Any) -> None:
    """The same holds within a node: of what an overtaken run wrote in a memory nothing counts."""
    gate = Gate()
    async with _Staged(root) as one, _Staged(root) as two:
        slow, quick = _with_memory(gate.wait, one, two)
        await quick.ainvoke({"notes": ["first"]}, _THREAD, durability="sync")
        plan = _Plan()
        plan.may_go_on.set()
        running = _by(
            plan, lambda: slow.ainvoke({"notes": ["slow"]}, _THREAD, durability=durability)
        )
        await gate.is_reached.wait()
        await begun(quick, durability)
        while durability != "exit" and (await _snapshots(two))[0].next != ("answer",):
            await asyncio.sleep(0)
        await quick.ainvoke({"notes": ["quick"]}, _THREAD, durability="sync")
        before = await _memory(two)
        plan.dies = True
        gate.may_pass.set()
        with pytest.raises(_KilledError):
            await running
        assert await _memory(two) == before


async def test_a_memory_that_is_taken_up_from_an_older_state(root: Path) -> None:
    """The same holds of a run from an older checkpoint, which lists where its memory begins."""
    gate = Gate()
    async with _Staged(root) as one, _Staged(root) as two:
        slow, quick = _with_memory(gate.wait, one, two)
        await quick.ainvoke({"notes": ["first"]}, _THREAD, durability="sync")
        older = (await quick.aget_state(_THREAD)).config
        await quick.ainvoke({"notes": ["second"]}, _THREAD, durability="sync")
        running = asyncio.create_task(slow.ainvoke({"notes": ["slow"]}, older, durability="sync"))
        await gate.is_reached.wait()
        plan = _Plan(dies=True)
        plan.may_go_on.set()
        with pytest.raises(_KilledError):
            await _by(plan, lambda: quick.ainvoke({"notes": ["x"]}, _THREAD, durability="exit"))
        gate.may_pass.set()
        await running
        newest, *_ = await _memory(two)
        assert newest["notes"][-2:] == ["slow", "answer slow"]
        assert newest["notes"].count("answer slow") == 1
        assert "answer x" not in newest["notes"]


async def test_a_thread_that_has_others_writes_is_not_moved(root: Path, tmp_path: Path) -> None:
    """`copy_threads` has no place for which writes count, and refuses where not all do."""
    async with _Staged(root) as one, CheckpointSaver(tmp_path / "target") as target:
        graph = _graph(one)
        await _act(graph, "sync", "hello")
        await graph.ainvoke(_asked("hello"), thread("u"))
        plan = _Plan(dies=True)
        plan.may_go_on.set()
        held = _Plan()
        other = _by(held, lambda: _act(graph, "update", "other"))
        await held.has_looked.wait()
        with pytest.raises(_KilledError):
            await _by(plan, lambda: _act(graph, "update", "killed"))
        held.may_go_on.set()
        await other
        with pytest.raises(CopyMismatchError, match=r"thread 't'.* the lists of the writes"):
            await copy_threads(one, target)
        assert await target.aget_tuple(_THREAD) is None
        values = (await _graph(target).aget_state(thread("u"))).values
        assert values["log"] == ["hello", "answer hello"]


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_a_question_is_answered_that_was_edited_before(
    make: MakeSaver, durability: Any
) -> None:
    """Its own answer counts, and not what an update wrote for the node that asks."""
    builder: Any = StateGraph(_Asking)
    for name in ("one", "two"):
        builder.add_node(name, lambda _, name=name: {"said": [f"{name} {interrupt(name)}"]})
        builder.add_edge(START, name)
    builder.add_node("end", lambda _: {"said": ["end"]})
    builder.add_edge(["one", "two"], "end")
    saver = make()
    graph = builder.compile(checkpointer=saver)
    await graph.ainvoke({"said": ["question"]}, _THREAD, durability=durability)
    asked = await graph.aget_state(_THREAD)
    await graph.aupdate_state(_THREAD, {"notes": ["by hand"]}, as_node="one")
    answers: Any = Command(resume={each.id: "yes" for each in asked.interrupts})
    ended = await graph.ainvoke(answers, asked.config, durability=durability)
    assert ended["said"] == ["question", "one yes", "two yes", "end"]
    assert (await graph.aget_state(_THREAD)).values == ended
    await saver.acopy_thread("t", "copy")
    assert (await graph.aget_state(thread("copy"))).values == ended


@pytest.mark.parametrize("as_node", [None, "answer"])
async def test_an_update_after_one_that_was_killed(make: MakeSaver, as_node: str | None) -> None:
    """Its own writes count, though the other one's have the same task and place."""
    builder: Any = StateGraph(_Asking)
    builder.add_node("answer", lambda _: {"said": ["answer"]})
    builder.add_edge(START, "answer")
    graph = builder.compile(checkpointer=make())
    await graph.ainvoke({"said": ["question"]}, _THREAD, durability="sync")

    async def die(*_: Any) -> None:
        raise _KilledError

    with pytest.MonkeyPatch.context() as patch, suppress(_KilledError):
        patch.setattr(CheckpointSaver, "aput", die)
        await graph.aupdate_state(_THREAD, {"notes": ["dead"]}, as_node)
    graph = builder.compile(checkpointer=make())
    await graph.aupdate_state(_THREAD, {"said": ["new"]}, as_node)
    state = await graph.aget_state(_THREAD)
    assert state.values["said"] == ["question", "answer", "new"]
