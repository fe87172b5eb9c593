"""A schema for each test, and servers that it may kill."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.stores.postgres.server import PostgresServer, reason_to_skip

MakeStore = Callable[..., Any]


@pytest.fixture(scope="session", name="server")
def _server(postgres_server: PostgresServer) -> PostgresServer:
    return postgres_server


@pytest.fixture(name="own_server")
def _own_server() -> Iterator[Callable[..., PostgresServer]]:
    """Make servers that a test may kill."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    made: list[PostgresServer] = []

    def make(primary: PostgresServer | None = None, **settings: Any) -> PostgresServer:
        made.append(PostgresServer(**settings))
        made[-1].make(primary)
        made[-1].start()
        return made[-1]

    try:
        yield make
    finally:
        for server in made:
            server.stop()


@pytest.fixture(name="schema")
def _schema(server: PostgresServer) -> str:
    return server.new_schema()


@pytest.fixture(name="make_store")
async def _make_store(server: PostgresServer, schema: str) -> AsyncIterator[MakeStore]:
    """Make stores on the schema of the test, and close them after it."""
    from aiocheckpoint.stores.postgres import PostgresStore

    made: list[PostgresStore[Any]] = []

    def make(source: Any = None, **options: Any) -> PostgresStore[Any]:
        options.setdefault("schema", schema)
        made.append(PostgresStore(source or server.dsn(), **options))
        return made[-1]

    yield make
    for store in made:
        await store.aclose()
    gc.collect()  # an unclosed connection of this test is reported here, not in the next
    gc.freeze()
