"""Going on from a checkpoint that is not there any more."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from aiocheckpoint import ErasureIncompleteError, InvalidArgumentError, SessionChangedError
from aiocheckpoint.adapters.langgraph import CheckpointSaver, ThreadChangedError, ThreadRecord
from aiocheckpoint.testing import MemoryStore
from tests.langgraph import graphs
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import chat, thread
from tests.langgraph.promises import got, listed, put

_HELLO: Any = {"messages": [HumanMessage("hello")]}


@pytest.mark.parametrize("refuse_forks", [True, False])
@pytest.mark.parametrize("how", ["sync", "async", "exit", "update"])
@pytest.mark.some(4)
async def test_nobody_begins_from_nothing_where_a_checkpoint_was_pruned(
    make: MakeSaver, how: Any, refuse_forks: bool
) -> None:
    """A run from a config that is gone is refused, names the thread, and hides nothing."""
    saver = make(keep_last=2, refuse_forks=refuse_forks)
    graph: Any = graphs.chat_graph().compile(checkpointer=saver)
    await chat(saver, thread("ann"), 1)
    held = (await graph.aget_state(thread("ann"))).config
    await chat(saver, thread("ann"), 2)
    before = await got(saver, thread("ann"))
    assert await saver.aget_tuple(held) is None

    going_on = (
        graph.aupdate_state(held, _HELLO)
        if how == "update"
        else graph.ainvoke(_HELLO, held, durability=how)
    )
    with pytest.raises(ThreadChangedError, match=r"thread 'ann': checkpoint .* is not there"):
        await going_on

    assert await got(saver, thread("ann")) == before
    state = await chat(saver, thread("ann"), 1)
    assert len(state["messages"]) == 8


async def test_a_thread_that_was_deleted_begins_anew(make: MakeSaver) -> None:
    """Whoever goes on from a config of it begins, and nothing of what was there comes back."""
    saver = make()
    graph: Any = graphs.chat_graph().compile(checkpointer=saver)
    await chat(saver, thread("ann"), 2)
    held = (await graph.aget_state(thread("ann"))).config
    await saver.adelete_thread("ann")
    state = await graph.ainvoke(_HELLO, held, durability="sync")
    assert [message.content for message in state["messages"]] == ["hello", "answer 1"]
    assert (await graph.aget_state(thread("ann"))).values == state


async def test_whoever_asked_too_early_goes_on(make: MakeSaver) -> None:
    """A checkpoint that was asked for before it came is followed; a new thread may begin."""
    early, saver = make(), make()
    await put(saver, thread("t"), step=0)
    config: Any = await put(saver, thread("t", checkpoint_ns=""), step=1)
    elsewhere: Any = {**config, "configurable": {**config["configurable"], "thread_id": "u"}}
    assert await early.aget_tuple(elsewhere) is None
    begun = await put(early, elsewhere, step=2)
    assert (await got(early, thread("u"))).config == begun

    await saver.adelete_thread("t")
    assert await early.aget_tuple(config) is None
    await chat(saver, thread("t"), 1)
    newest: Any = (await listed(saver, thread("t")))[0].config
    await saver.acopy_thread("t", "v")
    copied: Any = {**newest, "configurable": {**newest["configurable"], "thread_id": "v"}}
    assert await got(early, copied)
    assert await put(early, copied, step=3)


def test_the_error_can_be_pickled() -> None:
    """It is a `SessionChangedError`, names the namespace, and comes back whole."""
    error = ThreadChangedError("abc", "s1", "ann", "child:1", None, "somebody went on with it")
    copied = pickle.loads(pickle.dumps(error))
    assert isinstance(copied, SessionChangedError)
    assert vars(copied) == vars(error)
    assert str(copied) == str(error)
    assert "thread 'ann', namespace 'child:1': somebody" in str(copied)


@pytest.mark.parametrize(
    "location", ["{root}", "file://{root}", "postgresql:///nothing", "s3://bucket/prefix"]
)
async def test_a_store_that_must_exist_is_an_option_everywhere(root: Path, location: str) -> None:
    """What `open_store` takes for every location the saver takes for every location."""
    saver = CheckpointSaver(location.format(root=root), must_exist=True)
    await saver.aclose()


@pytest.mark.parametrize(
    "location",
    [
        *("postgresql:/host/database", "s3:/bucket", "ftp://host/x", "s3//bucket"),
        *("$STATE/agents", "None", "~/agents"),
    ],
)
def test_a_location_that_is_none_is_told_by_the_name_of_the_argument(location: str) -> None:
    """What `open_store` refuses is refused as the saver's `storage`, and nothing is made."""
    with pytest.raises(InvalidArgumentError, match="storage must not be"):
        CheckpointSaver(location)


class SlowToErase(MemoryStore[ThreadRecord]):
    """A store that refuses to erase what it has deleted, as often as it is told."""

    def __init__(self, refusals: int) -> None:
        super().__init__(ThreadRecord)
        self.refusals = refusals
        self.asked: set[str] = set()

    async def delete_session(self, session_id: str) -> bool:
        """Delete, and tell that bytes stay."""
        self.asked.add(session_id)
        was_there = await super().delete_session(session_id)
        if self.refusals:
            self.refusals -= 1
            raise ErasureIncompleteError(session_id, (session_id,), "refused")
        return was_there


async def test_a_thread_that_could_not_be_erased_is_tried_again() -> None:
    """All namespaces are deleted, it is told, and the same call again erases what is not listed."""
    store = SlowToErase(2)
    async with CheckpointSaver(store) as saver:
        for namespace in ("", "child"):
            await put(saver, thread("t", checkpoint_ns=namespace), step=0)
        await put(saver, thread("u"), step=0)
        with pytest.raises(ErasureIncompleteError) as told:
            await saver.adelete_thread("t")
        assert len(told.value.others) == 1
        assert await listed(saver, thread("t")) == []
        first = {*store.asked}
        assert len(first) == 2
        store.asked.clear()
        await saver.adelete_thread("t")
        assert store.asked == first
        store.asked.clear()
        await saver.adelete_thread("t")
        assert store.asked == set()
