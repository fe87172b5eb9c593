"""One owner of a session at a time, by a lease and a fencing token."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import (
    CheckpointData,
    CheckpointError,
    OwnershipLostError,
    SessionOwnedError,
    WriterClosedError,
)
from aiocheckpoint.store import Transaction
from aiocheckpoint.stores.postgres import ownership
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.proxy import Proxy
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers


def _step(number: int) -> CheckpointData:
    return CheckpointData(session_id="s", checkpoint_id=str(number), iteration=number)


async def _expire(server: PostgresServer, schema: str) -> None:
    """Let the lease end, as it would for an owner whose process is stopped."""
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f"update {schema}.session set owned_until = '-infinity'")
    await connection.close()


async def _wait_for_renewal(server: PostgresServer, schema: str) -> None:
    connection = await asyncpg.connect(server.dsn())
    async with asyncio.timeout(60):
        while not await connection.fetchval(f"select owned_until > now() from {schema}.session"):
            await asyncio.sleep(0.01)
    await connection.close()


async def test_one_owner_at_a_time(make_store: MakeStore) -> None:
    """A second one, of the same store or another, is told at once or waits for the end."""
    one, two = make_store(), make_store()
    async with one.own("s") as owner:
        for store in (one, two):
            with pytest.raises(SessionOwnedError) as told:
                async with store.own("s", wait=False):
                    pass
            expected = "a call of this process" if store is one else "until "
            assert told.value.owner.startswith(expected)
        await owner.save(_step(1))

        async def be_next() -> int:
            async with two.own("s") as other:
                await other.save(_step(2))
                return int(other.token)

        waiting = asyncio.create_task(be_next())
        await two.save(_step(3))
        assert not waiting.done()
    assert await waiting > owner.token
    assert await one.ids("s") == ("3", "2", "1")


async def test_first_come_first_served(make_store: MakeStore) -> None:
    """Tasks of one store own a session in the order of their calls."""
    store = make_store()
    order: list[int] = []

    async def own(number: int) -> None:
        async with store.own("s"):
            order.append(number)

    async with store.own("s"):
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(own(number)))
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_a_former_owner_writes_no_more(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """After its lease has ended and another has come, all writes through it are refused."""
    one, two = make_store(lease_seconds=1000), make_store()
    await two.save(_step(0))
    async with one.own("s") as owner:
        await owner.save(_step(1))
        await _expire(server, schema)
        await owner.save(_step(2))  # nobody has come
        async with two.own("s", wait=False) as other:
            assert other.token > owner.token

            async def work(session: Transaction[CheckpointData]) -> None:
                session.save(_step(8))

            calls: list[Any] = [
                lambda: owner.save(_step(9)),
                lambda: owner.delete_many(["1"]),
                lambda: owner.update(work),
            ]
            for call in calls:
                with pytest.raises(OwnershipLostError) as lost:
                    await call()
                assert lost.value.token == owner.token
            await one.save(_step(3))  # beside it anybody may
            await other.update(work)
        with pytest.raises(OwnershipLostError):
            await owner.save(_step(9))
    assert await one.ids("s") == ("8", "3", "2", "1", "0")


async def test_a_living_owner_keeps_its_session(
    make_store: MakeStore, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is renewed as long as the block runs."""
    monkeypatch.setattr(ownership, "_RENEWALS", 30_000)  # of a lease that outlasts any pause
    one, two = make_store(lease_seconds=300), make_store(lock_timeout_seconds=0.1)
    async with one.own("s") as owner:
        for _ in range(3):
            await _expire(server, schema)
            await _wait_for_renewal(server, schema)
            with pytest.raises(SessionOwnedError):
                async with two.own("s"):
                    pass
        await owner.save(_step(1))


async def test_an_owner_is_not_followed_while_something_long_is_committed(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """What holds the session holds up the renewal of its lease, and nobody gains by that."""
    store = make_store()
    await store.save(_step(1))
    holder, owner, look = [await asyncpg.connect(server.dsn()) for _ in range(3)]
    token = await owner.fetchval(f"select {schema}.own('s', 1, interval '1 hour', 1000)")
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute(f"update {schema}.session set owned_until = '-infinity'")

    async def until_waiting(count: int) -> None:
        query = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ $1"
        )
        async with asyncio.timeout(60):
            while await look.fetchval(query, schema) < count:
                await asyncio.sleep(0.01)

    async def follow() -> None:
        async with store.own("s", wait=False):
            pass

    following = asyncio.create_task(follow())
    await until_waiting(1)
    renewing = owner.fetchval(f"select {schema}.renew('s', {token}, interval '1 hour')")
    renewal = asyncio.ensure_future(renewing)
    await until_waiting(2)
    await transaction.commit()
    with pytest.raises(SessionOwnedError):
        await following
    assert await renewal
    for connection in (holder, owner, look):
        await connection.close()


async def test_a_dead_owner_is_followed(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """A session whose owner says nothing any more is free when the lease has ended."""
    store = make_store()
    await store.save(_step(1))
    connection = await asyncpg.connect(server.dsn())
    dead = await connection.fetchval(f"select {schema}.own('s', 1, interval '1 hour', 1000)")
    await connection.close()
    with pytest.raises(SessionOwnedError):
        async with store.own("s", wait=False):
            pass

    async def follow() -> None:
        async with store.own("s") as owner:
            assert owner.token > dead
            await owner.save(_step(2))

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await _expire(server, schema)
    await following


async def test_nothing_is_left_of_an_owner_that_saved_nothing(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """An empty session has no row after it was owned."""
    store = make_store()
    async with store.own("s"):
        pass
    connection = await asyncpg.connect(server.dsn())
    assert await connection.fetchval(f"select count(*) from {schema}.session") == 0
    await connection.close()


async def test_a_close_waits_for_no_owner(make_store: MakeStore) -> None:
    """A store closes while its sessions are owned; the owner is told by name, and ends in peace."""
    store = make_store()
    async with store.own("s") as owner:
        await owner.save(_step(1))
        await store.aclose()
        with pytest.raises(WriterClosedError):
            await owner.save(_step(2))

    assert await make_store().ids("s") == ("1",)


async def test_a_close_waits_for_work_no_longer_than_for_a_lock(make_store: MakeStore) -> None:
    """Work that never ends holds up no close, and nothing of it is stored."""
    store = make_store(lock_timeout_seconds=0.2)
    begun, end = asyncio.Event(), asyncio.Event()

    async def work(session: Transaction[CheckpointData]) -> None:
        session.save(_step(1))
        begun.set()
        await end.wait()

    update = asyncio.create_task(store.update("s", work))
    await begun.wait()
    async with asyncio.timeout(20):  # the lock's time, and none for the connection of the work
        await store.aclose()
    end.set()
    with pytest.raises(CheckpointError):
        await update

    assert await make_store().ids("s") == ()


async def test_a_wait_for_a_token_that_is_given_up_warns_of_nothing(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """Whoever is cancelled before it has the lock of tokens gives back none; who has it, does."""
    store = make_store()
    async with store.own("s"):
        pass
    lock = f"""select pg_advisory_lock(hashtextextended('"{schema}".owner_token', 0))"""
    holder, waiter = [await asyncpg.connect(server.dsn()) for _ in range(2)]
    told: list[object] = []
    waiter.add_log_listener(lambda _, message: told.append(message))
    await holder.execute(lock)
    await waiter.execute("set lock_timeout = '10ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await waiter.fetchval(f"select {schema}.new_token()")
    await holder.execute(f"drop sequence {schema}.owner_token")
    await holder.close()
    with pytest.raises(asyncpg.UndefinedTableError):
        await waiter.fetchval(f"select {schema}.new_token()")
    assert told == []
    assert not await waiter.fetchval("select count(*) from pg_locks where locktype = 'advisory'")
    await waiter.close()


async def test_a_cancelled_call_owns_nothing(make_store: MakeStore, server: PostgresServer) -> None:
    """The answer that a session is owned was on its way: it is free again when the call ends."""
    async with Proxy(server) as proxy:
        store = make_store(proxy.dsn())
        async with store.own("another"):
            pass
        owned, may_end = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            owned.set()
            await may_end.wait()

        async def own() -> None:
            async with store.own("session to own"):
                pass

        proxy.on(b"session to own", hold, is_passed_on=True)
        owning = asyncio.create_task(own())
        await owned.wait()
        owning.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await owning
        async with make_store().own("session to own", wait=False):
            pass


_OWN_LATE = """
alter function {schema}.own(bytea, bigint, interval, integer) rename to own_at_once;
create sequence {schema}.calls;
create function {schema}.own(p_id bytea, p_holder bigint, p_lease interval, p_wait_ms integer)
returns bigint language plpgsql as $$
begin
    if nextval('{schema}.calls') = 1 then
        begin
            perform pg_sleep(60);
        exception when query_canceled then
            perform pg_sleep(0.3);
        end;
    end if;
    return {schema}.own_at_once(p_id, p_holder, p_lease, p_wait_ms);
end $$;
"""
_OWNING = """
select wait_event from pg_stat_activity where state = 'active' and query like '%{schema}%.own(%'
    and pid <> pg_backend_pid()
"""


async def test_a_cancelled_call_that_the_server_ends_late_owns_nothing(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """The server could not be told any more: the session is free all the same."""
    store, other = make_store(), make_store()
    async with store.own("another"):
        pass
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(_OWN_LATE.format(schema=schema))

    async def own() -> None:
        async with store.own("s"):
            pass

    owning = asyncio.create_task(own())
    going_on = _OWNING.format(schema=schema)
    while await connection.fetchval(going_on) != "PgSleep":
        pass
    owning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owning
    while await connection.fetch(going_on):
        pass
    await connection.close()
    async with other.own("s", wait=False):
        pass
