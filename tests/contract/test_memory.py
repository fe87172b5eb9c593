"""The store in memory keeps the whole contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings

from aiocheckpoint import (
    CheckpointData,
    CheckpointRecord,
    CheckpointTooLargeError,
    InvalidArgumentError,
    InvalidIdError,
    SessionOwnedError,
    Transaction,
    blob_digest,
)
from aiocheckpoint.testing import (
    LargeValue,
    MemoryStore,
)
from aiocheckpoint.testing.machine import StoreMachine
from tests.contract.whole import Blobs, Damage, Reopen, Store, WholeContract
from tests.some_cases import examples


class TestMemoryStore(WholeContract):
    """All parts of the contract, on one store for each test."""

    checkpoints_of_a_page = sessions_of_a_page = blobs_of_a_page = 100  # it has none

    @pytest.fixture(name="store")
    def _store(self) -> Store:
        return MemoryStore()

    @pytest.fixture(name="other")
    def _other(self, store: MemoryStore[CheckpointData]) -> Store:
        return MemoryStore(beside=store)

    @pytest.fixture(name="narrow_store")
    def _narrow_store(self, store: MemoryStore[CheckpointData]) -> Store:
        return MemoryStore(beside=store, max_bytes=10_000)

    @pytest.fixture(name="foreign_store")
    def _foreign_store(self, store: MemoryStore[CheckpointData]) -> Blobs:
        return MemoryStore(LargeValue, beside=store)

    @pytest.fixture(name="bounded_store")
    def _bounded_store(self) -> Store:
        return MemoryStore(max_checkpoints=3)

    @pytest.fixture(name="hasty_store")
    def _hasty_store(self) -> Store:
        return MemoryStore(lock_timeout_seconds=0.5)

    @pytest.fixture(name="blob_store")
    def _blob_store(self) -> Blobs:
        return MemoryStore(LargeValue)

    @pytest.fixture(name="other_blob_store")
    def _other_blob_store(self, blob_store: MemoryStore[LargeValue]) -> Blobs:
        return MemoryStore(LargeValue, beside=blob_store)

    @pytest.fixture(name="bounded_blob_store")
    def _bounded_blob_store(self, blob_store: MemoryStore[LargeValue]) -> Blobs:
        return MemoryStore(LargeValue, beside=blob_store, max_checkpoints=3)

    @pytest.fixture(name="reopen")
    def _reopen(self) -> Reopen:
        async def reopen(store: MemoryStore[Any]) -> MemoryStore[Any]:
            return MemoryStore(store.record_type, beside=store)

        return reopen

    @pytest.fixture(name="damage")
    def _damage(self, store: MemoryStore[CheckpointData]) -> Damage:
        async def damage(session_id: str, checkpoint_id: str) -> None:
            store.damage(session_id, checkpoint_id)

        return damage

    @pytest.fixture(name="damage_blob")
    def _damage_blob(self, blob_store: MemoryStore[LargeValue]) -> Damage:
        async def damage(session_id: str, digest: str) -> None:
            blob_store.damage(session_id, digest)

        return damage


class MemoryMachine(StoreMachine):
    """The store in memory, against the model."""

    _first: MemoryStore[CheckpointData] | None = None

    async def connect(self) -> Store:
        self._first = MemoryStore(beside=self._first)
        return self._first


TestMachine = MemoryMachine.TestCase
TestMachine.settings = settings(max_examples=examples(20, 50), stateful_step_count=30)


async def test_stores_records_of_the_applications_own() -> None:
    """A MemoryStore of another record type gives that type back."""

    class Level(CheckpointRecord):
        number: int

    store = MemoryStore(Level)
    await store.save(Level(session_id="game", number=3))
    loaded = await store.load("game")
    assert type(loaded) is Level
    assert loaded.number == 3


async def test_an_id_of_another_type_is_refused() -> None:
    """A MemoryStore refuses an id that is not a str, as the writer does."""
    number: Any = 7
    with pytest.raises(InvalidIdError):
        await MemoryStore().load(number)


async def test_keeps_as_many_as_it_is_told() -> None:
    """With `max_checkpoints` the oldest go, and so do those of one update."""
    store = MemoryStore(max_checkpoints=2)
    for key in "abc":
        await store.save(CheckpointData(session_id="s", checkpoint_id=key))
    assert await store.ids("s") == ("c", "b")
    assert (store.max_checkpoints, MemoryStore().max_checkpoints) == (2, None)
    with pytest.raises(InvalidArgumentError):
        MemoryStore(max_checkpoints=0)


async def test_an_owner_is_waited_for_as_long_as_said() -> None:
    """After `lock_timeout_seconds` the one that waits is told, and the owner still owns."""
    store = MemoryStore(lock_timeout_seconds=0.01)

    async def own() -> None:
        async with store.own("s"):
            pass

    async with store.own("s") as owner:
        with pytest.raises(SessionOwnedError) as told:
            await asyncio.create_task(own())
        await owner.save(CheckpointData(session_id="s"))
    assert told.value.waited_seconds == 0.01


def test_owners_of_all_loops_take_turns() -> None:
    """Threads with loops of their own own a session one after the other, and no update is lost."""
    store = MemoryStore()

    async def count() -> None:
        for _ in range(50):
            async with store.own("s") as owner:
                newest = await store.load("s")
                number = 0 if newest is None else newest.iteration
                await asyncio.sleep(0)
                await owner.save(
                    CheckpointData(session_id="s", checkpoint_id="a", iteration=number + 1)
                )

    async def in_threads() -> None:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, count()) for _ in range(4)))
        newest = await store.load("s")
        assert newest is not None
        assert newest.iteration == 200

    asyncio.run(in_threads())


async def test_recover_moves_nothing_where_nobody_can_tell() -> None:
    """What is over `max_bytes` may be intact: a client that may not read it leaves all as it is."""
    store = MemoryStore()
    await store.save(CheckpointData(session_id="s", checkpoint_id="a", resume_hint="x" * 2000))
    await store.save(CheckpointData(session_id="s", checkpoint_id="b"))
    store.damage("s", "b")
    with pytest.raises(CheckpointTooLargeError):
        await MemoryStore(beside=store, max_bytes=1000).recover("s")
    assert await store.ids("s") == ("b", "a")
    assert (await store.recover("s")).newest_valid_id == "a"


async def test_a_copy_is_of_what_was_there_when_it_was_called() -> None:
    """What is deleted while it waits to save is copied with its blobs, and is no damage."""
    store = MemoryStore(LargeValue)
    digests = {key: blob_digest(key.encode()) for key in "ab"}
    for key, digest in digests.items():
        record = LargeValue(session_id="s", checkpoint_id=key, blob_digests=(digest,))
        await store.save(record, blobs={digest: key.encode()})

    is_begun, may_end = asyncio.Event(), asyncio.Event()

    async def wait(session: Transaction[LargeValue]) -> None:
        del session
        is_begun.set()
        await may_end.wait()

    updating = asyncio.create_task(store.update("t", wait))
    await is_begun.wait()
    copying = asyncio.create_task(store.copy_session("s", "t"))
    await asyncio.sleep(0)
    assert await store.delete("s", "b")
    may_end.set()
    assert await copying == 2
    await updating
    assert set(await store.load_blobs("t", digests.values())) == set(digests.values())
