"""A save that has a commit to itself takes a shorter way through the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import BlobRecord, CheckpointData, SessionChangedError, blob_digest
from aiocheckpoint.errors import MissingBlobError, OwnershipLostError, StoreUnavailableError
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer

_TEXT = " ".join(f"word{number}" for number in range(600))
_BLOB = b"a page"


def _step(number: int, checkpoint_id: str | None = None) -> CheckpointData:
    return CheckpointData(
        created_at=datetime(2026, 11, 27, tzinfo=UTC),
        session_id="s",
        checkpoint_id=checkpoint_id or f"{number:04}",
        iteration=number,
        messages=[_TEXT, f"step {number}"],
    )


@pytest.fixture(name="admin")
async def _admin(server: PostgresServer, schema: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f"set search_path = {schema}")
    yield connection
    await connection.close()


@pytest.fixture(name="tell_longer")
async def _tell_longer(admin: Any) -> Callable[[], Awaitable[None]]:
    """Make the longer way fail from now on, so that what is saved has gone the shorter one."""

    async def tell() -> None:
        await admin.execute(
            "create or replace function no_longer_way() returns trigger language plpgsql as"
            " $$ begin if position('apply' in current_query()) > 0 then"
            " raise 'the longer way'; end if; return new; end $$"
        )
        await admin.execute(
            "create trigger no_longer_way before update on session"
            " for each row execute function no_longer_way()"
        )

    return tell


async def _bodies(admin: Any) -> list[int]:
    rows = await admin.fetch("select seq from body order by seq")
    return [row["seq"] for row in rows]


async def test_the_saves_of_one_task_go_the_shorter_way(
    make_store: MakeStore, tell_longer: Callable[[], Awaitable[None]]
) -> None:
    """New ones, ones that replace the newest, ones with a condition, and to more than are kept."""
    store = make_store(max_checkpoints=3)
    await store.save(_step(0))
    await tell_longer()
    for number in range(1, 20):
        await store.save(_step(number), expected=f"{number - 1:04}")
    await store.save(_step(20, "0019"), expected="0019")
    await store.save(_step(21, "0019"))
    await store.save(_step(22))
    assert [meta.iteration for meta in await store.list("s")] == [22, 21, 18]
    assert await store.load("s") == _step(22)
    assert await store.check() == ()
    with pytest.raises(StoreUnavailableError, match="the longer way"):
        await store.delete("s", "0018")


async def test_what_is_replaced_leaves_nothing(make_store: MakeStore, admin: Any) -> None:
    """Of the newest one, saved again and again, the bodies stay that the last one needs."""
    store = make_store()
    await store.save(_step(0, "x"))
    for number in range(1, 40):
        await store.save(_step(number, "x"), expected="x")
        assert len(await _bodies(admin)) <= 16
    small = make_store()
    for number in range(40, 45):
        await small.save(CheckpointData(session_id="s", checkpoint_id="x", iteration=number))
    assert await _bodies(admin) == [45]
    assert [meta.iteration for meta in await store.list("s")] == [44]
    assert await store.check() == ()


async def test_an_earlier_one_is_replaced(make_store: MakeStore) -> None:
    """It is the newest then, whatever the new body is packed against."""
    store = make_store()
    for number in range(20):
        await store.save(_step(number, "ab"[number % 2]))
        await store.save(_step(100 + number, f"c{number}"))
    found = [meta.iteration for meta in await store.list("s")]
    assert found[:4] == [119, 19, 118, 18]
    assert found[4:] == [100 + number for number in range(17, -1, -1)]
    assert await store.check() == ()


async def test_blobs_that_are_there_are_named_again(make_store: MakeStore, admin: Any) -> None:
    """They stay as long as they are named; one that is not there is missed."""
    store = make_store(record_type=BlobRecord)
    digest = blob_digest(_BLOB)

    def record(checkpoint_id: str, *digests: str) -> BlobRecord:
        return BlobRecord(session_id="s", checkpoint_id=checkpoint_id, blob_digests=digests)

    await store.save(record("1", digest), blobs={digest: _BLOB})
    await store.save(record("2", digest))
    await store.save(record("2", digest), expected="2")
    await store.save(record("1"))
    assert await store.load_blobs("s", [digest]) == {digest: _BLOB}
    with pytest.raises(MissingBlobError):
        await store.save(record("3", blob_digest(b"another")))
    await store.save(record("2"), expected="1")
    assert await admin.fetchval("select count(*) from blob") == 0
    assert await admin.fetchval("select count(*) from blob_use") == 0
    await store.save(record("4"))
    with pytest.raises(MissingBlobError):
        await store.save(record("5", digest))
    assert [meta.checkpoint_id for meta in await store.list("s")] == ["4", "2", "1"]


async def test_what_is_refused_there_says_why(make_store: MakeStore) -> None:
    """Nothing is changed where another one is the newest, or the owner is another one."""
    one, other = make_store(), make_store()
    await one.save(_step(0))
    await one.save(_step(1))
    await other.save(_step(2))
    with pytest.raises(SessionChangedError) as told:
        await one.save(_step(3), expected="0001")
    assert told.value.newest_id == "0002"
    with pytest.raises(SessionChangedError):
        await one.save(_step(3, "0001"), expected="0001")
    await other.delete("s", "0002")
    with pytest.raises(SessionChangedError):
        await one.save(_step(3), expected="0002")
    await one.save(_step(3), expected="0001")
    assert [meta.iteration for meta in await one.list("s")] == [3, 1, 0]


async def test_who_does_not_own_a_session_saves_nothing(make_store: MakeStore, admin: Any) -> None:
    """A token that is not that of the owner any more is refused, and the newest one taken."""
    store = make_store()
    async with store.own("s") as owned:
        await owned.save(_step(0))
        await owned.save(_step(1))
        await admin.execute("update session set owner_token = owner_token + 1")
        with pytest.raises(OwnershipLostError):
            await owned.save(_step(2))
        assert [meta.iteration for meta in await store.list("s")] == [1, 0]


async def test_a_damaged_base_is_not_built_upon(make_store: MakeStore, admin: Any) -> None:
    """What was changed in the tables since is noticed, and the next one stands by itself."""
    store = make_store()
    for number in range(4):
        await store.save(_step(number))
    await admin.execute("update body set content = content || '\\x00'::bytea where seq = 2")
    await store.save(_step(4))
    assert await admin.fetchval("select base_seq from body where seq = 5") is None
    assert await store.load("s") == _step(4)


async def test_saves_of_several_tasks_and_stores(make_store: MakeStore) -> None:
    """Whoever holds the session is waited for, and all are there once."""
    stores = [make_store() for _ in range(3)]

    async def saved(number: int) -> None:
        for step in range(10):
            await stores[number].save(_step(step, f"{number}-{step}"))

    await asyncio.gather(*map(saved, range(3)))
    listed = await stores[0].list("s")
    saved_ids = {f"{number}-{step}" for number in range(3) for step in range(10)}
    assert {meta.checkpoint_id for meta in listed} == saved_ids
    assert await stores[0].check() == ()
