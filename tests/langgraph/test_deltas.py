"""What pruning keeps so that delta channels are rebuilt, and what cannot be rebuilt any more."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from aiocheckpoint import AsyncCheckpointWriter, StorageError
from aiocheckpoint.adapters.langgraph import (
    CheckpointSaver,
    CopyMismatchError,
    MissingAncestorError,
    ThreadChangedError,
    ThreadRecord,
    copy_threads,
    session_of,
)
from aiocheckpoint.adapters.langgraph.records import (
    ANCESTOR_PREFIX,
    PENDING_PREFIX,
    key_in,
    state_id,
    tag_in,
)
from aiocheckpoint.testing import MemoryStore
from tests.langgraph import graphs
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.overtaken_process import Gate, answering, begun, extended
from tests.langgraph.promises import got, listed, outcome_of

_THREAD: Any = thread("t")
_SESSION = session_of("t")


async def _run(graph: Any, turns: int, first: int = 0) -> None:
    """Run turns, each under a `run_id` of its own."""
    for turn in range(first, first + turns):
        run: Any = {**_THREAD, "metadata": {"run_id": f"run{turn}"}}
        await graph.ainvoke({"text": str(turn)}, run, durability="sync")


async def _ids(saver: CheckpointSaver, prefix: str) -> list[str]:
    return [*await saver._store.ids(_SESSION, prefix=prefix)]


async def _pruned(saver: CheckpointSaver) -> tuple[Any, Any]:
    """Return the graph of a pruned thread, and the config of a checkpoint that only others need."""
    graph = graphs.two_deltas_graph(5).compile(checkpointer=saver)
    await _run(graph, 17)
    before = await listed(saver, _THREAD)
    await saver.aprune(["t"], keep_last=3)
    assert await listed(saver, _THREAD) == before[:3]
    ancestors = await saver._store.load_many(_SESSION, await _ids(saver, ANCESTOR_PREFIX))
    ids = {record.checkpoint for record in ancestors}
    held = [found.config for found in before if found.checkpoint["id"] in ids]
    return graph, held[-2]  # the oldest has one channel whole


async def test_what_only_others_need_is_as_if_it_were_gone(make: MakeSaver) -> None:
    """Whoever holds its config is shown nothing, and cannot begin from nothing by it."""
    saver = make()
    graph, held = await _pruned(saver)
    newest = await graph.aget_state(_THREAD)
    assert await saver.aget_tuple(held) is None
    assert await listed(saver, held) == []
    assert (await graph.aget_state(held)).values == {}
    with pytest.raises(ThreadChangedError, match="is not there any more"):
        await graph.ainvoke({"text": "edited"}, held, durability="sync")
    with pytest.raises(ThreadChangedError, match="is not there any more"):
        await graph.aupdate_state(held, {"text": "edited"})
    assert await graph.aget_state(_THREAD) == newest
    with pytest.raises(StorageError, match="was removed meanwhile"):
        await saver.aget_delta_channel_history(config=held, channels=["pages", "notes"])


async def test_it_goes_when_nobody_needs_it_any_more(make: MakeSaver) -> None:
    """Ancestors, and the writes after them, go with the last that is rebuilt from them."""
    saver = make(keep_last=2)
    graph: Any = graphs.two_deltas_graph(4).compile(checkpointer=saver)
    most = 0
    for turn in range(30):
        await _run(graph, 1, turn)
        ancestors = await _ids(saver, ANCESTOR_PREFIX)
        most = max(most, len(ancestors))
        links = {tag_in(found) for found in (*ancestors, *await _ids(saver, "s"))}
        assert {tag_in(found) for found in await _ids(saver, PENDING_PREFIX)} <= links
    assert 0 < most <= 3 * 3 * 4 + 3  # pages are written every third turn, of three steps each
    state = await graph.aget_state(_THREAD)
    assert state.values["notes"] == [f"note {turn}" for turn in range(30)]
    assert state.values["pages"] == [f"page {turn}" for turn in range(0, 30, 3)]
    whole: Any = graphs.two_deltas_graph(1).compile(checkpointer=saver)
    await _run(whole, 1, 30)  # which has a page, too
    await saver.aprune(["t"])
    assert await _ids(saver, ANCESTOR_PREFIX) == []
    assert len(await saver._store.ids(_SESSION)) == 1
    after = (await whole.aget_state(_THREAD)).values
    assert after["notes"] == [f"note {turn}" for turn in range(31)]


async def test_a_thread_pruned_by_an_earlier_version(make: MakeSaver) -> None:
    """Ancestors that are listed still are kept apart by the next pruning, once."""
    saver = make()
    graph, _ = await _pruned(saver)
    expected = (await graph.aget_state(_THREAD)).values
    ancestors = await _ids(saver, ANCESTOR_PREFIX)

    async def list_all(session: Any) -> None:
        links = await session.load_many([*ancestors, *await session.ids(prefix="s")])
        session.delete(*ancestors)
        for record in sorted(links, key=lambda record: str(record.checkpoint)):
            record.checkpoint_id = state_id(key_in(record.checkpoint_id))
            session.save(record)

    await saver._store.update(_SESSION, list_all)
    assert len(await listed(saver, _THREAD)) == 3 + len(ancestors)
    assert (await graph.aget_state(_THREAD)).values == expected
    await saver.aprune(["t"], keep_last=3)
    assert len(await listed(saver, _THREAD)) == 3
    assert await _ids(saver, ANCESTOR_PREFIX) == ancestors
    assert (await graph.aget_state(_THREAD)).values == expected
    before = await saver._store.list(_SESSION)
    await saver.aprune(["t"], keep_last=3)
    assert await saver._store.list(_SESSION) == before


class _Failing(MemoryStore[ThreadRecord]):
    """A store that refuses each change of several things, once."""

    refusals = 0

    async def update(self, *args: Any) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise StorageError("save", _SESSION, 28, "no space left")
        return await super().update(*args)


async def test_pruning_that_fails_changes_nothing() -> None:
    """What is kept apart, and what is removed, is one commit: all of it, or nothing."""
    store = _Failing(ThreadRecord)
    async with CheckpointSaver(store) as saver:
        graph: Any = graphs.two_deltas_graph(5).compile(checkpointer=saver)
        await _run(graph, 17)
        before = await store.list(_SESSION)
        store.refusals = 1
        with pytest.raises(StorageError, match="no space left"):
            await saver.aprune(["t"], keep_last=3)
        assert await store.list(_SESSION) == before
        await saver.aprune(["t"], keep_last=3)
        assert len(await listed(saver, _THREAD)) == 3


class _Busy(MemoryStore[ThreadRecord]):
    """A store in which something is done before one of its reads."""

    def __init__(self) -> None:
        super().__init__(ThreadRecord)
        self.reads_left = -1
        self.interfere: Any = None

    async def read(self, *args: Any) -> Any:
        self.reads_left -= 1
        if self.reads_left == 0:
            await self.interfere()
        return await super().read(*args)


@pytest.mark.parametrize("reads", range(1, 14, 2))
@pytest.mark.few(2)
async def test_who_reads_while_others_prune_reads_the_whole(reads: int) -> None:
    """Ancestors that are kept apart in the middle of a read are found all the same."""
    store = _Busy()
    async with CheckpointSaver(store) as saver, CheckpointSaver(store) as other:
        graph: Any = graphs.two_deltas_graph(5).compile(checkpointer=saver)
        await _run(graph, 17)
        whole = (await graph.aget_state(_THREAD)).values
        store.interfere = lambda: other.aprune(["t"])
        store.reads_left = reads
        assert (await graph.aget_state(_THREAD)).values == whole
        assert store.reads_left < 0
        assert len(await listed(saver, _THREAD)) == 1


async def test_others_go_on_after_pruning(make: MakeSaver) -> None:
    """What pruning stores is nobody's checkpoint: no saver takes it for another's turn."""
    one, two = make(), make(keep_last=2)
    own, other = (graphs.two_deltas_graph(5).compile(checkpointer=s) for s in (one, two))
    for turn in range(0, 20, 2):
        await _run(own, 1, turn)
        await two.aprune(["t"], keep_last=2)
        await _run(other, 1, turn + 1)
    state = await own.aget_state(_THREAD)
    assert state.values["notes"] == [f"note {turn}" for turn in range(20)]


@pytest.mark.long
async def test_what_tasks_stored_goes_with_what_they_followed(make: MakeSaver) -> None:
    """A namespace of a task goes when the checkpoint that it followed stays only for others."""
    for keep_last in (None, 3):
        saver = make(keep_last=keep_last)
        inner = graphs.two_deltas_graph(3).compile()

        async def call(state: Any, inner: Any = inner) -> Any:
            return {"text": (await inner.ainvoke({"text": state["text"]}))["text"]}

        graph = graphs.two_deltas_graph(5, call).compile(checkpointer=saver)
        await _run(graph, 17)
        await saver.aprune(["t"], keep_last=3)
        assert await _ids(saver, ANCESTOR_PREFIX)
        assert len([name async for name in saver._store.sessions()]) <= 2
        await saver.adelete_thread("t")


async def test_a_copy_has_what_is_kept_apart(make: MakeSaver) -> None:
    """A copy of a pruned thread is as whole as the thread."""
    saver = make()
    graph, _ = await _pruned(saver)
    await saver.acopy_thread("t", "copy")
    whole = [s.values async for s in graph.aget_state_history(_THREAD)]
    await saver.adelete_thread("t")
    assert [s.values async for s in graph.aget_state_history(thread("copy"))] == whole


async def test_what_cannot_be_moved_is_refused(make: MakeSaver, root: Path) -> None:
    """A pruned thread with delta channels is not moved in part, and all others are."""
    saver = make()
    await _pruned(saver)
    await graphs.two_deltas_graph(5).compile(checkpointer=saver).ainvoke({"text": ""}, thread("u"))
    target = make(root / "target")
    with pytest.raises(CopyMismatchError, match=r"thread 't': .* only `copy_store` copies"):
        await copy_threads(saver, target)
    assert await target.aget_tuple(_THREAD) is None
    assert len(await listed(target, thread("u"))) == len(await listed(saver, thread("u")))


async def test_a_run_is_removed_from_what_is_kept_apart(make: MakeSaver) -> None:
    """Of a run that is removed nothing stays, whatever is rebuilt from it; that is told."""
    saver = make()
    graph, _ = await _pruned(saver)
    ancestors = await saver._store.load_many(_SESSION, await _ids(saver, ANCESTOR_PREFIX))
    runs = {str((record.metadata or {})["run_id"]) for record in ancestors}
    await saver.adelete_for_runs([min(runs)])
    with pytest.raises(MissingAncestorError) as told:
        await graph.aget_state(_THREAD)
    assert told.value.thread_id == "t"
    assert told.value.missing in {record.checkpoint for record in ancestors}
    assert len(await listed(saver, _THREAD)) == 3
    await saver.adelete_for_runs([f"run{turn}" for turn in range(17)])
    assert await saver._store.ids(_SESSION) == ()


@pytest.mark.blocking  # damages files
@pytest.mark.damages_store
async def test_recovering_hides_no_gap(make: MakeSaver, root: Path) -> None:
    """What is rebuilt from a checkpoint in the quarantine is refused; the next whole one reads."""
    saver = make()
    graph: Any = graphs.delta_graph(1, 4).compile(checkpointer=saver)
    await graph.ainvoke({"numbers": [1]}, _THREAD, durability="sync")
    await graph.ainvoke({"numbers": [2]}, _THREAD, durability="sync")
    await saver.aclose()
    second = sorted(root.glob(f"{_SESSION}/checkpoints/cp_*_s*.json"))[1]
    second.write_text(second.read_text().replace('"thread_id": "t"', '"thread_id": "x"'))
    async with AsyncCheckpointWriter(root, record_type=ThreadRecord) as writer:
        assert len((await writer.recover(_SESSION)).quarantined) == 1

    saver = make()
    graph = graphs.delta_graph(1, 4).compile(checkpointer=saver)
    refused, whole = 0, []
    for found in await listed(saver, _THREAD):
        state = await outcome_of(graph.aget_state(found.config))
        if isinstance(state, MissingAncestorError):
            assert state.channels == ("numbers",)
            refused += 1
        else:
            numbers = state.values.get("numbers", [])
            assert numbers == [1, 0, 1, 2, 0, 1][: len(numbers)]
            whole.append(state)
    assert refused
    ended = await graph.ainvoke({"numbers": [3]}, whole[0].config, durability="sync")
    assert ended["numbers"] == [*whole[0].values["numbers"], 3, 0, 1]
    assert (await graph.aget_state(_THREAD)).values == ended


async def test_a_thread_may_begin_behind_what_is_not_there(make: MakeSaver) -> None:
    """A first checkpoint that names one of elsewhere before it lacks nothing."""
    for durability in ("sync", "async", "exit"):
        states = []
        for saver in (make(), InMemorySaver()):
            graph: Any = graphs.two_deltas_graph(5).compile(checkpointer=saver)
            begun = thread(
                durability, checkpoint_id="1f1ea735-7c14-6637-800a-34329782ad52", checkpoint_ns=""
            )
            await graph.ainvoke({"text": "first"}, begun, durability=durability)
            await graph.ainvoke({"text": "next"}, thread(durability), durability=durability)
            states.append([s.values async for s in graph.aget_state_history(thread(durability))])
        assert states[0] == states[1]


@pytest.mark.parametrize("keep_last", [1, 2, 20])
@pytest.mark.few(1)
async def test_a_graph_without_a_channel_leaves_nothing_that_cannot_be_read(
    make: MakeSaver, keep_last: int
) -> None:
    """After turns of a graph that lacks the delta channels a newer one goes on."""
    saver = make(keep_last=keep_last)
    newer: Any = graphs.two_deltas_graph(50).compile(checkpointer=saver)
    older: Any = StateGraph(graphs.Numbers)
    older.add_node("add", lambda state: {"numbers": [1]})
    older.add_edge(START, "add")
    for first in range(0, 9, 3):
        await _run(newer, 3, first)
        older_graph = older.compile(checkpointer=saver)
        await older_graph.ainvoke({"numbers": []}, _THREAD, durability="sync")
    await _run(newer, 1)
    async for state in newer.aget_state_history(_THREAD):
        assert isinstance(state.values, dict)


def test_the_error_can_be_pickled() -> None:
    """It names the namespace too, and comes back whole."""
    error = MissingAncestorError("abc", "ann", "child:1", "2", "1", ("notes", "pages"))
    copied = pickle.loads(pickle.dumps(error))
    assert vars(copied) == vars(error)
    assert str(copied) == str(error)
    assert "thread 'ann', namespace 'child:1': checkpoint '2' cannot be read: 'notes', " in str(
        error
    )


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("is_one_saver", [False, True])
async def test_what_a_refused_run_wrote_is_in_nobody_elses_state(
    make: MakeSaver, durability: Any, *, is_one_saver: bool
) -> None:
    """A run that is told of another one leaves nothing from which the other's is rebuilt."""
    gate = Gate()
    one = make()
    two = one if is_one_saver else make()
    graphs_of = [answering(saver, gate.wait) for saver in (one, two)]
    await graphs_of[1].ainvoke({"notes": ["first"]}, thread("t"), durability="sync")
    slow = graphs_of[0].ainvoke({"notes": ["slow"]}, thread("t"), durability=durability)
    running = asyncio.create_task(slow)
    await gate.is_reached.wait()
    await begun(graphs_of[0], durability)  # what it is storing comes before the other one reads
    quick = await graphs_of[1].ainvoke({"notes": ["quick"]}, thread("t"), durability="sync")
    gate.may_pass.set()
    with pytest.raises(ThreadChangedError):
        await running
    for graph in graphs_of:
        assert (await graph.aget_state(thread("t"))).values == quick
    assert "answer slow" not in quick["notes"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_what_others_have_built_on_stays(make: MakeSaver, durability: Any) -> None:
    """What a run wrote before another one took it up stays where the run is refused."""
    may_end, is_waiting, runs = asyncio.Event(), asyncio.Event(), list[str]()

    def fast(_state: Any) -> dict[str, list[str]]:
        runs.append("fast")
        return {"notes": ["fast"]}

    async def slow(_state: Any) -> dict[str, list[str]]:
        runs.append("slow")
        if runs.count("slow") == 1:
            is_waiting.set()
            await may_end.wait()
        return {"notes": ["slow"]}

    channel: Any = DeltaChannel(extended, list, snapshot_frequency=1000)
    make_type: Any = TypedDict
    builder: Any = StateGraph(make_type("State", {"notes": Annotated[list[str], channel]}))
    for name, node in (("fast", fast), ("slow", slow)):
        builder.add_node(name, node)
        builder.add_edge(START, name)
    one, two = make(), make()
    first, second = builder.compile(checkpointer=one), builder.compile(checkpointer=two)
    running = asyncio.create_task(first.ainvoke({"notes": ["q"]}, thread("t"), durability="sync"))
    await is_waiting.wait()
    while not (await got(one, thread("t"))).pending_writes:
        await asyncio.sleep(0)
    ended = await second.ainvoke(None, thread("t"), durability=durability)
    may_end.set()
    with pytest.raises(ThreadChangedError):
        await running
    assert ended["notes"] == ["q", "fast", "slow"]
    assert (runs.count("fast"), runs.count("slow")) == (1, 2)
    assert (await second.aget_state(thread("t"))).values == ended


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_nobody_goes_on_from_a_pruned_checkpoint(make: MakeSaver, durability: Any) -> None:
    """A run from a checkpoint that is gone is refused, also where it is stored at its end."""
    saver = make()
    graph = answering(saver, Gate().wait)
    for question in ("first", "second"):
        ended = await graph.ainvoke({"notes": [question]}, thread("t"), durability="sync")
    *_, oldest = await listed(saver, thread("t"))
    await saver.aprune(["t"])
    with pytest.raises(ThreadChangedError, match="is not there any more"):
        await graph.ainvoke({"notes": ["edit"]}, oldest.config, durability=durability)
    assert (await graph.aget_state(thread("t"))).values == ended
