"""Statements are prepared where a connection leads to the server itself, and outlive migrations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import CheckpointData, Transaction
from aiocheckpoint.stores.postgres import PostgresStore
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_NAMED = "execute __asyncpg_stmt_"
_ASKS_OF_TYPES = "typeinfo_tree"


@pytest.mark.parametrize(
    ("options", "is_prepared"), [({}, True), ({"statement_cache_size": 0}, False)]
)
async def test_statements_are_prepared(
    own_server: Callable[..., PostgresServer], options: dict[str, Any], *, is_prepared: bool
) -> None:
    """By itself a store prepares them, as the server's log tells; what is asked for counts."""
    server = await asyncio.to_thread(own_server, log_statement="all")
    async with PostgresStore(server.dsn(), **options) as store:
        for number in range(3):
            await store.save(CheckpointData(session_id="s", iteration=number))
            assert await store.load("s") is not None
    log = await asyncio.to_thread((server.directory / "log").read_text)
    assert "aiocheckpoint" in log
    assert (_NAMED in log) == is_prepared


@pytest.mark.parametrize("options", [{}, {"statement_cache_size": 0}])
async def test_types_are_asked_for_once(
    own_server: Callable[..., PostgresServer], options: dict[str, Any]
) -> None:
    """What a type is made of is asked by one connection of a process, and by no later one."""
    server = await asyncio.to_thread(own_server, log_statement="all")
    read_log = (server.directory / "log").read_text

    async def work() -> str:
        before = len(await asyncio.to_thread(read_log))
        async with PostgresStore(server.dsn(), **options) as store:
            await store.save(CheckpointData(session_id="s"))
            assert await store.list("s")
            assert await store.load("s") is not None
        return (await asyncio.to_thread(read_log))[before:]

    await work()
    later = await work()
    assert "aiocheckpoint" in later
    assert _ASKS_OF_TYPES not in later


async def test_a_migration_beside_a_store(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """A column that becomes another type is read on, and an update is made, once."""
    store = make_store()
    data = CheckpointData(session_id="s", iteration=1)

    async def counted(session: Transaction[CheckpointData]) -> None:
        (*_, meta) = await session.list()
        session.save(data.next(iteration=(meta.iteration or 0) + 1))

    await store.save(data)
    await store.update("s", counted)
    assert len(await store.list("s")) == 2

    for column_type in ("integer", "bigint"):
        owner = await asyncpg.connect(server.dsn())
        await owner.execute(
            f"alter table {schema}.checkpoint alter column iteration type {column_type}"
        )
        await owner.close()
        before = len(await store.ids("s"))
        if column_type == "integer":
            assert [meta.iteration for meta in await store.list("s")][-1] == 1
        await store.update("s", counted)
        assert len(await store.list("s")) == before + 1
