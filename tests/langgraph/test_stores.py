"""The saver keeps its promises on every store, not on a directory alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    InvalidArgumentError,
    UnsupportedOperationError,
    open_store,
)
from aiocheckpoint.adapters.langgraph import CheckpointSaver, ThreadRecord
from aiocheckpoint.stores.postgres import PostgresStore
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import MemoryStore
from tests.langgraph import test_forks
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import chat, thread
from tests.langgraph.places import Place
from tests.langgraph.promises import Promises, checkpoint, got, listed, metadata, names, put
from tests.langgraph.test_conformance import CHECKS

pytestmark = pytest.mark.blocking  # the servers' drivers look for files of passwords

_FORKS = (
    "test_the_second_of_two_is_told",
    "test_who_was_told_is_told_until_it_looks",
    "test_one_saver_may_put_side_by_side",
    "test_two_that_begin_a_thread",
    "test_who_asks_for_a_checkpoint_may_fork",
    "test_writes_hide_nobody",
    "test_a_fork_hides_nobody",
    "test_writes_of_others_are_no_conflict",
    "test_writes_of_others_hold_up_nobody",
    "test_threads_of_one_saver_are_no_conflict",
    "test_it_can_be_allowed",
)


def _promises() -> dict[str, Callable[..., Any]]:
    """Return those that are not about files."""
    promises: dict[str, Any] = {name: getattr(Promises(), name) for name in names()}
    kept = {n: p for n, p in promises.items() if "root" not in p.__annotations__}
    return kept | {name: getattr(test_forks.TestForks(), name) for name in _FORKS}


@pytest.mark.parametrize(
    "every", [3, pytest.param(1, marks=pytest.mark.campaign)], ids=["some", "all"]
)
@pytest.mark.long
async def test_promises(place: Place, every: int) -> None:
    """Each promise is kept on each store, and the store is sound afterwards."""
    promises = [*_promises().values()]
    assert len(promises) >= 30
    for promise in promises[:: every if place.url else 1]:
        make = MakeSaver(place)
        await promise(make)
        await make.close()
        await place.checked()


async def test_every_check_of_the_kit_passes(place: Place) -> None:
    """LangGraph's own conformance kit passes on each store, all 81 checks."""

    @checkpointer_test(name="aiocheckpoint")
    async def savers() -> AsyncIterator[CheckpointSaver]:
        async with CheckpointSaver(place.storage()) as saver:
            yield saver
        await place.checked()

    report = await validate(savers, progress=ProgressCallbacks.quiet())

    failures = {name: found.failures for name, found in report.results.items() if found.failures}
    assert failures == {}
    assert {name: found.tests_passed for name, found in report.results.items()} == CHECKS


def test_synchronous_methods(place: Place) -> None:
    """They do the same on each store, and leave neither thread nor connection."""
    with CheckpointSaver(place.storage()) as saver:
        first = saver.put(thread("t", checkpoint_ns=""), checkpoint({"x": [1]}), metadata(), {})
        saver.put_writes(first, [("x", 2)], "task")
        found = saver.get_tuple(thread("t"))
        assert found is not None
        assert found.pending_writes == [("task", "x", 2)]
        assert [each.config for each in saver.list(None)] == [first]
        saver.flush()
        saver.copy_thread("t", "u")
        saver.delete_thread("t")
        assert saver.get_tuple(thread("t")) is None
        assert saver.get_tuple(thread("u")) is not None


class TestStorage:
    @pytest.mark.parametrize("kind", ["directory", "shared", "memory", "postgresql", "bucket"])
    async def test_an_open_store_with_retention_is_refused(self, root: Path, kind: str) -> None:
        """It would remove pending writes, so it is refused before anything is stored."""
        makers: dict[str, Any] = {
            "directory": partial(AsyncCheckpointWriter, root),
            "shared": partial(open_store, root),
            "memory": MemoryStore,
            "postgresql": partial(PostgresStore, "postgresql://nowhere.invalid/agents"),
            "bucket": partial(S3Store, "s3://nowhere/agents"),
        }
        async with makers[kind](record_type=ThreadRecord, max_checkpoints=3) as store:
            refused = "storage .*opened without `max_checkpoints`, here 3.*give .*`keep_last`"
            with pytest.raises(InvalidArgumentError, match=refused):
                CheckpointSaver(store)
        async with makers[kind](record_type=ThreadRecord) as store, CheckpointSaver(store):
            pass
        assert not [*root.glob("*")]

    async def test_an_open_store_stays_open(self, root: Path) -> None:
        """Whoever has opened a store closes it; a saver that is closed does not."""
        stores: tuple[BlobStore[ThreadRecord], ...] = (
            AsyncCheckpointWriter(root, record_type=ThreadRecord),
            open_store(root, record_type=ThreadRecord),
            MemoryStore(ThreadRecord),
        )
        for store in stores:
            async with store:
                async with CheckpointSaver(store) as saver:
                    await chat(saver, thread("t"), 1)
                    await saver.aflush()
                async with CheckpointSaver(store) as saver:
                    assert (await got(saver, thread("t"))).metadata["step"] >= 1
                assert [found async for found in store.sessions()] != []

    async def test_a_file_url_is_a_directory(self, root: Path) -> None:
        """`file://` and a path are the same: one place, the same files, and the same options."""
        for name, location in (("url", f"file://{root}"), ("path", root), ("text", str(root))):
            async with CheckpointSaver(location, durability="file") as saver:
                after = await put(saver, thread(name), {"x": 1})
                await put(saver, after, {"x": 2})
            async with CheckpointSaver(root) as saver:
                assert len(await listed(saver, thread(name))) == 2
            with pytest.raises(InvalidArgumentError, match="durability"):
                CheckpointSaver(location, durability="perhaps")
        files = [path.name for path in root.glob("*/checkpoints/*")]
        assert len([name for name in files if name.endswith(".json")]) == 9  # a latest.json each
        assert not [name for name in files if name.endswith(".backup")]

    def test_options_that_the_storage_lacks(self, root: Path) -> None:
        """An option is refused by its name where it would be left out in silence."""
        for storage, options in (
            ("postgresql:///threads", {"durability": "none"}),
            (MemoryStore(ThreadRecord), {"max_bytes": 10}),
            (None, {}),
            (7, {}),
        ):
            given: Any = storage
            with pytest.raises(InvalidArgumentError) as refused:
                CheckpointSaver(given, **options)
            assert refused.value.name in {*options, "storage"}
        with pytest.raises(InvalidArgumentError):
            CheckpointSaver(root, durability="perhaps")

    async def test_figures_are_those_of_a_directory(self, root: Path) -> None:
        """What only a writer counts is told of a directory, and refused of others by name."""
        for location in (root, f"file://{root}"):
            async with CheckpointSaver(location) as saver:
                await put(saver, thread("t"), {"x": 1})
                assert saver.stats().changes >= 1
                await saver.aflush()
                assert saver.stats().unflushed_changes == 0
        async with CheckpointSaver(MemoryStore(ThreadRecord)) as saver:
            with pytest.raises(UnsupportedOperationError, match="stats"):
                saver.stats()
