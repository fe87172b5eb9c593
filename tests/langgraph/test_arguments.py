"""What a saver cannot act on is refused by name, by both forms of a method, before it acts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from aiocheckpoint import InvalidArgumentError
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.promises import checkpoint, listed, metadata, put

_PLACE = thread("t", checkpoint_ns="", checkpoint_id="1")
_NOWHERE: tuple[Any, ...] = (
    {},
    {"configurable": {}},
    thread(None),
    thread({"id": "t"}),
    thread("t", checkpoint_ns=5, checkpoint_id="1"),
    thread("t", checkpoint_id=5),
)


def _refused() -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Return methods, by the name of their synchronous form, with what they refuse."""
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for config in _NOWHERE:
        found += [
            ("put", (config, checkpoint(), metadata(), {}), {}),
            ("put_writes", (config, [("x", 1)], "task"), {}),
            ("get_tuple", (config,), {}),
            ("get_delta_channel_history", (), {"config": config, "channels": ["x"]}),
        ]
    found += [
        ("put", (thread("t"), checkpoint(id=5), metadata(), {}), {}),
        ("put_writes", (thread("t", checkpoint_ns=""), [("x", 1)], "task"), {}),
        *(("put_writes", (_PLACE, writes, "task"), {}) for writes in ("ab", None)),
        *(("put_writes", (_PLACE, [("x", 1)], *task), {}) for task in ((5,), ("task", 5))),
        *(
            ("get_delta_channel_history", (), {"config": thread("t"), "channels": channels})
            for channels in ("x", None, [5])
        ),
        *(("list", (None,), {"limit": limit}) for limit in (-1, 2.5, "2", True)),
        *(("list", (None,), {"filter": wanted}) for wanted in ("x", ["x"])),
        ("list", (None,), {"before": thread("t", checkpoint_id=5)}),
        ("list", (None,), {"before": 5}),
        *((method, (config,), {}) for method in ("list", "get_tuple") for config in (5, "t")),
        *(("get_tuple", (config,), {}) for config in (None, {"configurable": "t"})),
        ("list", (thread("t", checkpoint_id=5),), {}),
        ("list", (thread("t", checkpoint_ns=5),), {}),
        *(("delete_thread", (each,), {}) for each in (None, ["t"])),
        *(("delete_for_runs", (runs,), {}) for runs in ("r", None, [5])),
        *(("prune", (threads,), {}) for threads in ("t", None, 5, [None], [["t"]])),
        *(("prune", (["t"],), {"keep_last": count}) for count in (-1, 0, 2.5, "2", True)),
        *(("prune", (["t"],), {"older_than": age}) for age in (-timedelta(seconds=1), 60, "1h")),
        *(("prune", (["t"],), {"strategy": strategy}) for strategy in ("some", None, 1)),
        ("prune", (["t"],), {"strategy": "delete", "keep_last": 3}),
        ("prune", (["t"],), {"strategy": "delete", "older_than": timedelta(1)}),
        ("copy_thread", (None, "u"), {}),
        ("copy_thread", ("t", None), {}),
    ]  # fmt: skip
    return found


async def _call(saver: CheckpointSaver, method: str, args: Any, options: Any) -> object:
    if method == "list":
        return await listed(saver, *args, **options)
    return await getattr(saver, f"a{method}")(*args, **options)


async def _call_synchronously(
    saver: CheckpointSaver, method: str, args: Any, options: Any
) -> object:
    def call() -> object:
        found = getattr(saver, method)(*args, **options)
        return [*found] if method == "list" else found

    return await asyncio.to_thread(call)


async def test_refused_before_anything_is_touched(make: MakeSaver) -> None:
    """Wrong types, numbers out of range and contradictions are named errors of the tree."""
    saver = make()
    config = thread("t")
    for step in range(3):
        config = await put(saver, config, step=step, run_id="r")
    for method, args, options in _refused():
        for call in (_call, _call_synchronously):
            with pytest.raises(InvalidArgumentError):
                pytest.fail(
                    f"{method} {args} {options}: {await call(saver, method, args, options)}"
                )
    assert [found.metadata["step"] for found in await listed(saver, None)] == [2, 1, 0]


@pytest.mark.parametrize("count", [0, -1, 2.5, "2", True])
def test_a_saver_is_not_made(make: MakeSaver, count: Any) -> None:
    """How many to keep is checked before the first run."""
    with pytest.raises(InvalidArgumentError, match="keep_last"):
        make(keep_last=count)


@pytest.mark.parametrize("serde", ["x", 5, JsonPlusSerializer])
def test_a_serializer_is_none(make: MakeSaver, serde: Any) -> None:
    """What cannot turn values into bytes, the class of what can among it, is told at once."""
    with pytest.raises(InvalidArgumentError, match="serde"):
        make(serde=serde)


def test_a_switch_is_a_bool(make: MakeSaver) -> None:
    """A text, "no" among them, would count as True."""
    wrong: Any = "no"
    for options in ({"refuse_forks": wrong}, {"refuse_inexact_floats": wrong}):
        with pytest.raises(InvalidArgumentError, match=min(options)):
            make(None, **options)


async def test_an_empty_id_of_a_checkpoint_is_none(make: MakeSaver) -> None:
    """The newest is read, every checkpoint is listed, and what is put has no parent."""
    saver = make()
    unnamed = thread("t", checkpoint_id="")
    for step in range(2):
        await put(saver, unnamed, step=step)
    newest = await saver.aget_tuple(unnamed)
    assert newest is not None
    assert (newest.metadata["step"], newest.parent_config) == (1, None)
    assert [found.metadata["step"] for found in await listed(saver, unnamed)] == [1, 0]
    assert [found.metadata["step"] for found in await listed(saver, None, before=unnamed)] == [1, 0]


async def test_no_thread_has_nothing(make: MakeSaver) -> None:
    """A list for a config without a thread is empty; only no config at all means all threads."""
    saver = make()
    for each in ("ann", "None"):
        await put(saver, thread(each))
    configs: tuple[Any, ...] = (
        {},
        {"configurable": {}},
        thread(None),
        thread(None, checkpoint_ns=""),
    )
    for config in configs:
        assert await listed(saver, config) == []
        assert await _call_synchronously(saver, "list", (config,), {}) == []
    assert len(await listed(saver, None)) == 2
