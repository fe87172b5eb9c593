"""Several clients of one bucket: conflicts, updates, owners; and what is known of a session."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aiocheckpoint import (
    CheckpointData,
    NestedCallError,
    OwnershipLostError,
    SessionChangedError,
    SessionOwnedError,
    Transaction,
    UnsupportedOperationError,
)
from aiocheckpoint.stores.s3 import S3Store
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = pytest.mark.servers

Store = S3Store[CheckpointData]


def _data(iteration: int = 0, session_id: str = "s") -> CheckpointData:
    return CheckpointData(
        session_id=session_id, iteration=iteration, checkpoint_id=f"cp-{iteration}"
    )


@pytest.fixture(name="stores")
def _stores(make_store: MakeStore) -> list[Store]:
    return [make_store() for _ in range(3)]


async def test_clients_that_save_at_once_lose_nothing(stores: list[Store], fake: FakeS3) -> None:
    """All are there once, and those of a client are in the order of its calls."""
    saves = [
        store.save(CheckpointData(session_id="s", checkpoint_id=f"{client}-{number:02}"))
        for number in range(10)
        for client, store in enumerate(stores)
    ]
    await asyncio.gather(*saves)
    for store in stores:
        listed = [meta.checkpoint_id for meta in await store.list("s")][::-1]
        for client in "012":
            of_client = [key for key in listed if key.startswith(client)]
            assert of_client == [f"{client}-{number:02}" for number in range(10)]
        times = [meta.saved_at for meta in await store.list("s")]
        assert times == sorted(set(times), reverse=True)
    numbers = [int(key[-12:]) for key in fake.keys("sessions/s/")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_of_clients_that_expect_the_same_one_succeeds(stores: list[Store]) -> None:
    """The others are told what the newest is by now."""
    for store in stores:
        await store.ids("s")
    saves = [store.save(_data(number), expected=None) for number, store in enumerate(stores)]
    answers = await asyncio.gather(*saves, return_exceptions=True)
    (stored,) = await stores[0].ids("s")
    assert answers.count(stored) == 1
    told = [answer for answer in answers if isinstance(answer, SessionChangedError)]
    assert [error.newest_id for error in told] == [stored, stored]


async def test_updates_of_clients_count_every_one(stores: list[Store]) -> None:
    """Each reads what the one before it wrote."""
    await stores[0].save(_data())

    async def count(transaction: Transaction[CheckpointData]) -> int:
        newest = await transaction.load()
        assert newest is not None
        transaction.save(newest.next(iteration=newest.iteration + 1))
        transaction.delete(newest.checkpoint_id)
        return newest.iteration

    counts = await asyncio.gather(*(store.update("s", count) for store in stores * 5))
    assert sorted(counts) == list(range(15))
    newest = await stores[0].load("s")
    assert newest is not None
    assert (newest.iteration, len(await stores[1].list("s"))) == (15, 1)


async def test_an_update_that_decides_on_what_was_works_again(
    stores: list[Store],
) -> None:
    """Also where it stages nothing, or fails for what is no longer so."""
    first, second, _ = stores
    await first.save(_data())
    await second.save(_data(1))

    async def newest_id(transaction: Transaction[CheckpointData]) -> str:
        (meta,) = await transaction.list(limit=1)
        return meta.checkpoint_id

    assert await first.update("s", newest_id) == "cp-1"
    await second.save(_data(2))

    async def third(transaction: Transaction[CheckpointData]) -> int:
        newest = await transaction.load("cp-2")
        assert newest is not None, "not there"
        return newest.iteration

    assert await first.update("s", third) == 2
    with pytest.raises(ZeroDivisionError):
        await first.update("s", _fail)
    assert await first.ids("s") == ("cp-2", "cp-1", "cp-0")


async def _fail(transaction: Transaction[CheckpointData]) -> None:
    transaction.delete_session()
    raise ZeroDivisionError


async def test_an_update_reads_and_deletes_and_does_not_wait_for_itself(
    stores: list[Store],
) -> None:
    """What it stages shows afterwards, as a whole; nested calls are refused by name."""
    store = stores[0]
    for number in range(4):
        await store.save(_data(number))

    async def work(transaction: Transaction[CheckpointData]) -> None:
        assert await transaction.ids(prefix="cp", before="cp-3", limit=1) == ("cp-2",)
        assert [data.iteration for data in await transaction.load_many(["cp-2", "cp-0"])] == [0, 2]
        transaction.delete_session()
        transaction.save(_data(9))
        assert len(await transaction.list()) == 4
        with pytest.raises(NestedCallError):
            await store.save(_data(5))

    await store.update("s", work)
    assert await stores[1].ids("s") == ("cp-9",)
    with pytest.raises(UnsupportedOperationError):
        await store.update_many(["s", "t"], _never)


async def _never(_: object) -> None:
    raise AssertionError


async def test_updates_give_up_after_a_while(make_store: MakeStore) -> None:
    """With what the newest is by then."""
    store: Store = make_store(lock_timeout_seconds=0.05)
    other: Store = make_store()
    await other.save(_data())

    async def work(transaction: Transaction[CheckpointData]) -> None:
        newest = await other.load("s")
        assert newest is not None
        await other.save(newest.next())
        transaction.save(_data(7))

    with pytest.raises(SessionChangedError):
        await store.update("s", work)
    assert "cp-7" not in await other.ids("s")


async def test_owners_come_one_after_the_other(stores: list[Store]) -> None:
    """Over tasks and clients, with tokens that grow; who does not wait is told at once."""
    tokens: list[int] = []
    inside = 0

    async def live(store: Store) -> None:
        nonlocal inside
        async with store.own("s") as owner:
            inside += 1
            assert inside == 1
            tokens.append(owner.token)
            with pytest.raises(SessionOwnedError):
                async with stores[0].own("s", wait=False):
                    raise AssertionError
            await owner.save(_data(len(tokens)))
            inside -= 1

    await asyncio.gather(*(live(store) for store in stores for _ in range(2)))
    assert tokens == sorted(set(tokens))
    assert len(await stores[0].ids("s")) == 6


async def test_a_dead_owner_is_followed_and_its_writes_are_refused(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """When its lease has run out by the server's clock; another owner's writes go on."""
    first: Store = make_store(lease_seconds=1_000)
    second: Store = make_store(lock_timeout_seconds=5)
    async with first.own("s") as lost:
        await lost.save(_data())
        with pytest.raises(SessionOwnedError):
            async with second.own("s", wait=False):
                raise AssertionError
        now = fake.clock
        fake.clock = lambda: now() + timedelta(seconds=1_100)
        async with second.own("s") as owner:
            assert owner.token > lost.token
            await owner.save(_data(1))
            for write in (
                lost.save(_data(2)),
                lost.delete_many(["cp-1"]),
                lost.update(_save_nine),
            ):
                with pytest.raises(OwnershipLostError):
                    await write
            await first.save(_data(3))  # beside the owner, which is allowed
            await owner.update(_save_nine)
            assert await owner.delete_many(["cp-0"]) == 1
    assert await second.ids("s") == ("cp-9", "cp-3", "cp-1")


async def _save_nine(transaction: Transaction[CheckpointData]) -> None:
    transaction.save(_data(9))


async def test_an_owner_that_lives_is_not_followed(make_store: MakeStore, fake: FakeS3) -> None:
    """It shows signs of life, by which it is held for alive however long it takes."""
    first: Store = make_store(lease_seconds=0.3)
    second: Store = make_store(lock_timeout_seconds=0.1)
    now = datetime.now(UTC).replace(microsecond=0)
    fake.clock = lambda: now
    async with first.own("s") as owner:
        for _ in range(5):
            await _wait_for_sign_of_life(fake)
            now += timedelta(seconds=1)  # more than the lease, but dates are cut to a second
            with pytest.raises(SessionOwnedError) as told:
                async with second.own("s"):
                    raise AssertionError
            assert told.value.waited_seconds >= 0.1
            assert told.value.owner.startswith("since 20")
        await owner.save(_data())


async def _wait_for_sign_of_life(fake: FakeS3) -> None:
    """Wait until what is put again and again has the time that it is now."""
    fake.count()
    async with asyncio.timeout(60):
        while not fake.count()["put"]:
            await asyncio.sleep(0.01)


async def test_a_session_without_checkpoints_is_none(stores: list[Store]) -> None:
    """That it was owned, or emptied by others, does not make it one; a new save does."""
    async with stores[0].own("s"):
        assert [key async for key in stores[1].sessions()] == []
    await stores[1].save(_data())
    assert [key async for key in stores[2].sessions()] == ["s"]
    assert await stores[2].delete("s", "cp-0")
    assert [key async for key in stores[0].sessions()] == []
    assert not await stores[0].delete_session("s")
    await stores[0].save(_data(), expected=None)
    assert [key async for key in stores[1].sessions()] == ["s"]


async def test_what_was_swept_is_not_missed(make_store: MakeStore, fake: FakeS3) -> None:
    """Old commits go, their numbers stay used; those who knew them see what there is now."""
    store: Store = make_store(max_checkpoints=2)
    other: Store = make_store(max_checkpoints=2)
    for number in range(70):
        await store.save(_data(number))
        if number in (3, 60):
            assert len(await other.list("s")) == 2
    fake.age(timedelta(days=1))
    for number in range(70, 140):
        await store.save(_data(number))
    await store.aclose()
    assert len(fake.keys("sessions/s/")) < 80
    for reader in (other, make_store()):
        assert await reader.ids("s") == ("cp-139", "cp-138")
    await other.save(_data(200), expected="cp-139")
    assert await other.check() == ()


async def test_a_bucket_that_was_emptied_by_hand_is_begun_anew(
    stores: list[Store], fake: FakeS3
) -> None:
    """Whoever reads sees that nothing is there; what is saved then counts."""
    await stores[0].save(_data())
    await stores[0].save(_data(1))
    fake.objects.clear()
    assert await stores[0].load("s") is None
    await stores[0].save(_data(2), expected=None)
    assert await stores[1].ids("s") == ("cp-2",)
