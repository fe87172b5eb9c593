"""A replica takes over from a server that dies: what is lost, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import asyncpg
import pytest

from aiocheckpoint import (
    CheckpointData,
    SessionChangedError,
    StoreUnavailableError,
    UnsuitableStoreError,
)
from aiocheckpoint.stores.postgres import PostgresStore
from tests.stores.postgres.load import require_nothing_lost
from tests.stores.postgres.server import PostgresServer, has_program

pytestmark = pytest.mark.servers

_TEXT = "".join(f"word {number} of a long message, " for number in range(100))


def _step(number: int) -> CheckpointData:
    return CheckpointData(
        session_id="s", checkpoint_id=f"{number:04}", iteration=number, messages=[_TEXT, number]
    )


class Pair(NamedTuple):
    """A server and its replica, and a connection to each."""

    primary: PostgresServer
    replica: PostgresServer
    ask_primary: Callable[..., Any]
    ask_replica: Callable[..., Any]

    def dsn(self, wanted: str = "") -> str:
        """Return a URL of the two, of whichever takes changes where that is said."""
        hosts = ",".join(quote(str(s.directory), safe="") for s in (self.primary, self.replica))
        url = f"postgresql:///postgres?user=postgres&host={hosts}"
        return f"{url}&target_session_attrs={wanted}" if wanted else url

    async def replicate(self) -> None:
        """Wait until the replica has all there is."""
        position = await self.ask_primary("select pg_current_wal_lsn()::text")
        await _until(self.ask_replica, f"select pg_last_wal_replay_lsn() >= '{position}'::pg_lsn")

    async def part(self) -> None:
        """Let the replica get nothing any more."""
        await self.ask_replica("alter system set primary_conninfo = ''")
        await self.ask_replica("select pg_reload_conf()")
        await _until(self.ask_primary, "select count(*) = 0 from pg_stat_replication")

    async def fail_over(self) -> None:
        """Kill the server, and let its replica take over."""
        await asyncio.to_thread(self.primary.kill)
        await asyncio.to_thread(self.replica.promote)


async def _until(ask: Callable[..., Any], query: str, *arguments: Any) -> None:
    async with asyncio.timeout(60):
        while not await ask(query, *arguments):
            await asyncio.sleep(0.02)


@pytest.fixture(name="pair")
async def _pair(own_server: Callable[..., PostgresServer]) -> AsyncIterator[Pair]:
    if not await asyncio.to_thread(has_program, "pg_basebackup"):
        pytest.skip("pg_basebackup, which makes a replica, did not come with the server")
    primary = await asyncio.to_thread(own_server)
    replica = await asyncio.to_thread(own_server, primary)
    ask_primary = await asyncpg.connect(primary.dsn())
    ask_replica = await asyncpg.connect(replica.dsn())
    await _until(ask_primary.fetchval, "select count(*) = 1 from pg_stat_replication")
    yield Pair(primary, replica, ask_primary.fetchval, ask_replica.fetchval)
    for connection in (ask_primary, ask_replica):
        connection.terminate()


@pytest.mark.parametrize("wanted", ["primary", "read-write"])
@pytest.mark.some(1)
async def test_a_synchronous_replica_has_all_that_was_acknowledged(pair: Pair, wanted: str) -> None:
    """Under load saves wait for it, and go on: none is lost, none is made twice."""
    await pair.ask_primary("alter system set synchronous_standby_names = '*'")
    await pair.ask_primary("select pg_reload_conf()")
    await _until(pair.ask_primary, "select sync_state = 'sync' from pg_stat_replication")
    async with PostgresStore(pair.dsn(wanted), server_timeout_seconds=120) as store:
        await require_nothing_lost(store, [pair.fail_over])
        assert not await pair.ask_replica("select pg_is_in_recovery()")


async def test_an_asynchronous_replica_lacks_what_it_was_not_told(pair: Pair) -> None:
    """The newest saves are lost, none before them; conditions tell, and nothing rests on them."""
    async with PostgresStore(pair.dsn("primary"), server_timeout_seconds=120) as store:
        for number in range(5):
            await store.save(_step(number))
        await pair.replicate()
        await pair.part()
        for number in (5, 6):
            await store.save(_step(number))

        await pair.fail_over()

        with pytest.raises(SessionChangedError) as told:
            await store.save(_step(7), expected="0006")
        assert told.value.newest_id == "0004"
        await store.save(_step(8))
        await store.update("s", _append)
        assert await store.ids("s") == ("0009", "0008", "0004", "0003", "0002", "0001", "0000")
        assert [data.messages[1] for data in await store.load_many("s", ["0008", "0009"])] == [8, 9]
        assert await store.check() == ()


async def test_a_replica_answers_no_read_in_the_place_of_its_server(pair: Pair) -> None:
    """What it lacks was acknowledged: a read waits for whoever takes over, or says so."""
    async with PostgresStore(pair.dsn(), server_timeout_seconds=1) as store:
        await store.save(_step(0))
        await pair.replicate()
        await pair.part()
        await store.save(_step(1))
        await asyncio.to_thread(pair.primary.kill)
        with pytest.raises(StoreUnavailableError):
            await store.load("s")
    async with PostgresStore(pair.replica.dsn()) as store:
        with pytest.raises(UnsuitableStoreError, match="is a replica"):
            await store.load("s")
    await asyncio.to_thread(pair.replica.promote)
    async with PostgresStore(pair.dsn()) as store:
        assert await store.ids("s") == ("0000",)


async def _append(session: Any) -> None:
    session.save(_step(9))


async def test_no_token_is_given_twice(pair: Pair) -> None:
    """An owner whose hold is lost with the server has a smaller token than those who follow."""
    async with PostgresStore(pair.dsn("primary"), server_timeout_seconds=120) as store:
        await store.save(_step(0))
        await pair.replicate()
        await pair.part()
        before = []
        for _ in range(40):  # a sequence is logged for 32 at a time
            async with store.own("s") as owner:
                before.append(owner.token)

        await pair.fail_over()

        async with store.own("s") as owner:
            assert owner.token > max(before)
