"""The ids that a saver gives out tell what was shown, whoever hands them back."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from msgspec.structs import replace

from aiocheckpoint.adapters.langgraph import CheckpointSaver, records
from aiocheckpoint.adapters.langgraph import looks as looks_module
from aiocheckpoint.adapters.langgraph.arguments import Place, Run
from aiocheckpoint.adapters.langgraph.looks import Looks
from aiocheckpoint.adapters.langgraph.reading import Group
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.overtaken_process import Gate, answering, extended

_THREAD: Any = thread("t")
_DURABILITIES: Sequence[Any] = ("sync", "async", "exit")
_LEFT: Any = [("notes", ["left"])]


class _Beside(CheckpointSaver):
    """
    A saver beside each put of which somebody leaves a write, as an update that is killed.

    Attributes:
        is_alone: whether nobody does.
        by_turns: whether each call is made in a task, or a thread, of its own.
    """

    is_alone = True
    by_turns = False

    async def _call(self, call: Any) -> Any:
        return await (asyncio.create_task(call) if self.by_turns else call)

    async def aget_tuple(self, config: Any) -> Any:
        return await self._call(super().aget_tuple(config))

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        return await self._call(super().aput_writes(config, writes, task_id, task_path))

    async def aput(self, *args: Any) -> Any:
        if not self.is_alone:
            found = await self.aget_tuple(_THREAD)
            await super().aput_writes(found.config, _LEFT, "left")
        return await self._call(super().aput(*args))

    def _run(self, call: Callable[[], Any]) -> Any:
        if not self.by_turns:
            return call()
        found: list[Any] = []
        thread_ = threading.Thread(target=lambda: found.append(call()))
        thread_.start()
        thread_.join()
        return found[0]

    def get_tuple(self, config: Any) -> Any:
        return self._run(partial(super().get_tuple, config))

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        return self._run(partial(super().put_writes, config, writes, task_id, task_path))

    def put(self, *args: Any) -> Any:
        if not self.is_alone:
            found = self.get_tuple(_THREAD)
            super().put_writes(found.config, _LEFT, "left")
        return self._run(partial(super().put, *args))


def _graph(saver: CheckpointSaver) -> Any:
    return answering(saver, asyncio.Event().wait)


async def _notes(graph: Any) -> list[str]:
    found: list[str] = (await graph.aget_state(_THREAD)).values["notes"]
    return found


@pytest.mark.parametrize("by_turns", [False, True])
async def test_of_updates_at_once_each_has_its_own_writes(root: Path, *, by_turns: bool) -> None:
    """Also of two in turn in one task, and where each call is made in a task of its own."""
    async with _Beside(root) as saver:
        graph = _graph(saver)
        await graph.ainvoke({"notes": ["question"]}, _THREAD)
        saver.by_turns, saver.is_alone = by_turns, False
        await graph.aupdate_state(_THREAD, {"notes": ["own"]}, as_node="answer")
        assert await _notes(graph) == ["question", "answer question", "own"]


@pytest.mark.blocking  # on purpose
@pytest.mark.parametrize("by_turns", [False, True])
def test_the_same_of_threads(root: Path, *, by_turns: bool) -> None:
    """The same holds of `update_state`, in one thread, or in a thread for each call."""
    with _Beside(root) as saver:
        graph = _graph(saver)
        graph.update_state(_THREAD, {"notes": ["first"]}, as_node="answer")
        saver.by_turns, saver.is_alone = by_turns, False
        graph.update_state(_THREAD, {"notes": ["own"]}, as_node="answer")
        assert graph.get_state(_THREAD).values["notes"] == ["first", "own"]


def _by_json(config: Any) -> Any:
    """Return a config whose id was read from JSON."""
    configurable = config["configurable"]
    read = json.loads(json.dumps(configurable.get("checkpoint_id")))
    return {**config, "configurable": {**configurable, "checkpoint_id": read}}


class _Reading(CheckpointSaver):
    """A saver of which some calls are given ids that were read from JSON."""

    calls: frozenset[str] = frozenset()

    def _read(self, call: str, config: Any) -> Any:
        return _by_json(config) if call in self.calls else config

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        given = self._read("writes", config)
        return await super().aput_writes(given, writes, task_id, task_path)

    async def aput(self, config: Any, *args: Any) -> Any:
        return await super().aput(self._read("put", config), *args)


def _asking_graph(saver: CheckpointSaver) -> Any:
    """Return a graph of a node that asks, and one beside it that has ended by then."""
    channel: Any = DeltaChannel(extended, list, snapshot_frequency=1000)
    make_type: Any = TypedDict
    builder: Any = StateGraph(make_type("State", {"notes": Annotated[list[str], channel]}))
    builder.add_node("beside", lambda _: {"notes": ["beside"]})
    builder.add_node("ask", lambda _: {"notes": [interrupt("?")]})
    for name in ("beside", "ask"):
        builder.add_edge(START, name)
    return builder.compile(checkpointer=saver)


async def _act(graph: Any, kind: str) -> list[str]:
    """Say something in the thread, and return what was said."""
    if kind == "update":
        await graph.aupdate_state(_THREAD, {"notes": ["own"]}, as_node="ask")
        return ["own"]
    await graph.ainvoke({"notes": ["question"]}, _THREAD, durability=kind)
    answer: Any = Command(resume="yes")
    await graph.ainvoke(answer, _THREAD, durability=kind)
    return ["question", "yes", "beside"]


async def _act_often(graph: Any, kind: str, times: int = 2) -> None:
    said = [text for _ in range(times) for text in await _act(graph, kind)]
    assert (await _notes(graph))[-len(said) :] == said
    assert (await _notes(graph)).count("beside") == said.count("beside") + 1


@pytest.mark.parametrize("calls", [{"writes"}, {"put"}, {"put", "writes"}])
@pytest.mark.parametrize("kind", ["update", *_DURABILITIES])
@pytest.mark.some
async def test_an_id_that_was_read_loses_nothing(root: Path, kind: str, calls: set[str]) -> None:
    """Where some calls hand in an equal id from elsewhere, all that was written counts."""
    async with _Reading(root) as saver:
        graph = _asking_graph(saver)
        await _act(graph, "sync")
        saver.calls = frozenset(calls)
        await _act_often(graph, kind)


class _Three(CheckpointSaver):
    """A saver whose calls are made by others on the same directory, as behind a balancer."""

    others: dict[str, CheckpointSaver]

    async def aget_tuple(self, config: Any) -> Any:
        return await CheckpointSaver.aget_tuple(self.others.get("look", self), config)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
        by = self.others.get("writes", self)
        return await CheckpointSaver.aput_writes(by, config, writes, task_id, task_path)

    async def aput(self, *args: Any) -> Any:
        return await CheckpointSaver.aput(self.others.get("put", self), *args)


@pytest.mark.parametrize("calls", [{"look"}, {"writes"}, {"put"}, {"look", "put"}])
@pytest.mark.parametrize("kind", ["update", *_DURABILITIES])
@pytest.mark.some
async def test_ids_of_another_saver_lose_nothing(root: Path, kind: str, calls: set[str]) -> None:
    """What one saver has given out tells another one nothing, so all that was written counts."""
    others, own = CheckpointSaver(root, refuse_forks=False), _Three(root, refuse_forks=False)
    async with others as other, own as saver:
        saver.others = {}
        graph = _asking_graph(saver)
        await _act(graph, "sync")
        saver.others = dict.fromkeys(calls, other)
        await _act_often(graph, kind)


@pytest.mark.parametrize("remembered", range(4))
@pytest.mark.parametrize("kind", ["update", *_DURABILITIES])
@pytest.mark.some
async def test_whoever_is_forgotten_loses_nothing(
    make: MakeSaver, monkeypatch: pytest.MonkeyPatch, kind: str, remembered: int
) -> None:
    """Where so many others have looked since that nothing is known, all that was written counts."""
    for name in ("_REMEMBERED", "_REMEMBERED_OF_OTHERS"):
        monkeypatch.setattr(looks_module, name, remembered)
    graph = _asking_graph(make())
    await _act(graph, "sync")
    await _act_often(graph, kind)


@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_pages_make_no_run_forgotten(
    root: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    """However many have looked since a run began, what somebody left is not in its state."""
    for name in ("_REMEMBERED", "_REMEMBERED_OF_OTHERS"):
        monkeypatch.setattr(looks_module, name, 8)
    gate = Gate()
    async with _Beside(root) as saver:
        graph = answering(saver, gate.wait)
        await graph.ainvoke({"notes": ["question"]}, _THREAD)
        running = asyncio.create_task(
            graph.ainvoke({"notes": ["slow"]}, _THREAD, durability=durability)
        )
        await gate.is_reached.wait()
        for _ in range(20):
            await _notes(graph)
        saver.is_alone = False
        gate.may_pass.set()
        ended = await running
        saver.is_alone = True
        assert await _notes(graph) == ended["notes"]


def test_a_run_that_writes_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others have begun, and ended, since it did."""
    monkeypatch.setattr(looks_module, "_REMEMBERED", 2)
    looks, run, place = Looks(), Run(0, object()), Place("t", "", "c")
    looks.to(run)
    writer = looks.of(place, run).writer
    for number in range(1, 4):
        looks.to(Run(number, object()))
        assert looks.of(place, run).writer == writer


def test_what_was_shown_to_pages_takes_little() -> None:
    """Of a thread that has many pending writes, and that somebody looks at all the time."""
    saved = ThreadRecord(
        session_id="t", checkpoint_id="s1", thread_id="t", checkpoint_ns="", checkpoint="11"
    )
    pending = [replace(saved, checkpoint_id=f"p{at:030}") for at in range(100)]
    looks, group = Looks(), Group(saved, pending)
    tracemalloc.start()
    for _ in range(2048):
        looks.shown(group, None)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 8 * 2**20


async def _configs(graph: Any, durability: Any) -> dict[str, Any]:
    """Let a graph begin a thread, and return configs of its newest checkpoint."""
    parts = graph.astream(
        {"notes": ["question"]}, _THREAD, stream_mode="checkpoints", durability=durability
    )
    streamed = [part["config"] async for part in parts][-1]
    return {"streamed": streamed, "read": (await graph.aget_state(_THREAD)).config}


@pytest.mark.parametrize("config", ["streamed", "read"])
@pytest.mark.parametrize("durability", _DURABILITIES)
async def test_a_run_from_a_config_of_a_deleted_thread(
    make: MakeSaver, durability: Any, config: str
) -> None:
    """Its state is made of what it wrote, though another one was given that very config."""
    saver = make()
    graph = _graph(saver)
    held = (await _configs(graph, durability))[config]
    await saver.adelete_thread("t")
    await graph.ainvoke({"notes": ["again"]}, held, durability=durability)
    assert await _notes(graph) == ["again", "answer again"]


@pytest.mark.parametrize("durability", ["sync", "async"])
async def test_what_is_written_after_a_streamed_config(make: MakeSaver, durability: Any) -> None:
    """It counts for everybody, and not for the run alone whose config that is."""
    saver = make()
    graph = _graph(saver)
    held = (await _configs(graph, durability))["streamed"]
    found: Any = await saver.aget_tuple(_THREAD)
    await saver.aput_writes(held, [("notes", ["by hand"])], "task")
    following: Any = {**found.checkpoint, "id": str(uuid6())}
    await saver.aput(found.config, following, found.metadata, {})
    assert await _notes(graph) == ["question", "answer question", "by hand"]


async def test_what_is_put_by_hand_beside_another(make: MakeSaver) -> None:
    """After the parent of one that was shown: unless it is a copy, it is made of all."""
    saver = make()
    graph = _graph(saver)
    await graph.ainvoke({"notes": ["question"]}, _THREAD)
    await graph.aupdate_state(_THREAD, {"notes": ["own"]}, as_node="answer")
    shown: Any = await saver.aget_tuple(_THREAD)
    parent: Any = await saver.aget_tuple(shown.parent_config)
    await saver.aput_writes(parent.config, _LEFT, "left")
    versions = parent.checkpoint["channel_versions"]
    beside: Any = {
        **parent.checkpoint,
        "id": str(uuid6()),
        "channel_versions": {**versions, "notes": saver.get_next_version(versions["notes"], None)},
    }
    await saver.aput(shown.parent_config, beside, shown.metadata, {})
    assert sorted(await _notes(graph)) == ["answer question", "left", "own", "question"]


@pytest.mark.parametrize("read", ["state", "history", "tuple", "list"])
async def test_configs_are_plain(make: MakeSaver, read: str) -> None:
    """What was shown is not in a config: it may be encoded, copied and sent as any other."""
    saver = make()
    graph = _graph(saver)
    await graph.ainvoke({"notes": ["question"]}, _THREAD)
    looks: dict[str, Callable[[], Any]] = {
        "state": lambda: graph.aget_state(_THREAD),
        "history": lambda: anext(graph.aget_state_history(_THREAD)),
        "tuple": lambda: saver.aget_tuple(_THREAD),
        "list": lambda: anext(saver.alist(_THREAD)),
    }
    item = await looks[read]()
    config = item.config
    assert {*config["configurable"]} == {"thread_id", "checkpoint_ns", "checkpoint_id"}
    for each in (config, item.parent_config):
        assert type(each["configurable"]["checkpoint_id"]) is str
        assert json.loads(json.dumps(each)) == each
        assert msgspec.json.decode(msgspec.json.encode(each)) == each
        assert pickle.loads(pickle.dumps(each)) == each
        assert copy.deepcopy(each) == each
    for given in (config, copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        await graph.aupdate_state(given, {"notes": ["more"]}, as_node="answer")
        assert await _notes(graph) == ["question", "answer question", "more"]


async def test_ids_of_a_letter(make: MakeSaver) -> None:
    """They are the same object wherever they are from, and so tell nothing: all writes count."""
    saver = make()
    graph = _graph(saver)
    await graph.ainvoke({"notes": ["question"]}, _THREAD)
    found = await saver.aget_tuple(_THREAD)
    assert found is not None
    first: Any = {**found.checkpoint, "id": "1"}
    config = await saver.aput(found.config, first, found.metadata, {})
    await saver.aput_writes(config, [("notes", ["more"])], "task")
    await saver.aget_tuple(config)
    await saver.aput_writes(config, [("notes", ["and more"])], "then")
    second: Any = {**first, "id": "2"}
    config = await saver.aput(config, second, found.metadata, {})
    history = await saver.aget_delta_channel_history(config=config, channels=["notes"])
    told = [text for _, _, texts in history["notes"]["writes"] for text in texts]
    assert told == ["question", "answer question", "more", "and more"]


@pytest.mark.parametrize("to", ["t", "u"])
async def test_what_is_put_again_by_hand(root: Path, to: str) -> None:
    """As it was shown, in its own thread or another one: it is made of the same."""
    async with _Beside(root) as saver:
        graph = _graph(saver)
        await graph.ainvoke({"notes": ["question"]}, _THREAD)
        saver.is_alone = False
        await graph.aupdate_state(_THREAD, {"notes": ["own"]}, as_node="answer")
        saver.is_alone = True
        wanted = await _notes(graph)
        for listed in [item async for item in saver.alist(_THREAD)][::-1]:
            item: Any = await saver.aget_tuple(listed.config)
            parent = _in_thread(to, item.parent_config or thread("t", checkpoint_ns=""))
            await saver.aput(parent, item.checkpoint, item.metadata, {})
            if to != "t":
                for task, channel, value in item.pending_writes:
                    if value != ["left"]:
                        place = _in_thread(to, item.config)
                        await saver.aput_writes(place, [(channel, value)], task)
        assert (await graph.aget_state(thread(to))).values["notes"] == wanted


def _in_thread(thread_id: str, config: Any) -> Any:
    return {"configurable": {**config["configurable"], "thread_id": thread_id}}


def _all_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(looks_module, "rebuilt", lambda _: set())


def _all_write_alike(patch: pytest.MonkeyPatch) -> None:
    writer = records.new_writer()
    patch.setattr(records, "new_writer", lambda: writer)


def _all_that_is_shown_is_own(patch: pytest.MonkeyPatch) -> None:
    of = Looks.of

    def told(self: Looks, place: Place, run: Run | None) -> Any:
        look = of(self, place, run)
        return look._replace(made_of=[look.writer]) if look.made_of else look

    patch.setattr(Looks, "of", told)


def _equal_ids_tell_the_same(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(looks_module, "id", hash, raising=False)


@pytest.mark.damages_store
@pytest.mark.parametrize(
    ("mutate", "promise"),
    [
        (_all_counts, partial(test_of_updates_at_once_each_has_its_own_writes, by_turns=False)),
        (_all_write_alike, partial(test_of_updates_at_once_each_has_its_own_writes, by_turns=True)),
        (
            _all_that_is_shown_is_own,
            partial(test_an_id_that_was_read_loses_nothing, kind="sync", calls=set()),
        ),
        (
            _equal_ids_tell_the_same,
            partial(test_of_updates_at_once_each_has_its_own_writes, by_turns=True),
        ),
    ],
)
async def test_mutant_is_noticed(
    mutate: Any, promise: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saver that takes one for another breaks the promise that is named for it."""
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        await promise(root)
