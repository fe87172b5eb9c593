"""The store works through PgBouncer in transaction mode, which gives it no session of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from aiocheckpoint import CheckpointData, CheckpointStore
from aiocheckpoint.testing import CancellationContract, OwnershipContract, UpdateContract
from tests.servers import NOBODY, server_command
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_SERVER_CONNECTIONS = 3


@pytest.fixture(scope="module", name="bouncer")
def _bouncer(server: PostgresServer) -> Iterator[str]:
    """A PgBouncer that has three connections for all; its URL."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    directory = Path(tempfile.mkdtemp(prefix="bouncer-", dir="/tmp"))
    config = directory / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host={server.directory} user=postgres\n"
        "[pgbouncer]\n"
        "pool_mode = transaction\n"
        f"default_pool_size = {_SERVER_CONNECTIONS}\n"
        f"unix_socket_dir = {directory}\n"
        "listen_port = 6432\n"
        "listen_addr =\n"
        "auth_type = any\n"
    )
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(directory, NOBODY, NOBODY)
    command = server_command(program, str(config), as_nobody=is_root)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + 30
    while not (directory / ".s.PGSQL.6432").exists():
        assert process.poll() is None, (directory / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.02)
    yield f"postgresql:///postgres?user=postgres&port=6432&host={quote(str(directory), safe='')}"
    process.terminate()
    process.wait()
    shutil.rmtree(directory)


class TestPgBouncer(UpdateContract, OwnershipContract, CancellationContract):
    """What holds a session, or ends badly, by a pooler that changes the connection each time."""

    @pytest.fixture(name="store")
    def _store(self, make_store: MakeStore, bouncer: str) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store(bouncer)
        return store

    async def test_many_sessions_share_few_connections(
        self, make_store: MakeStore, bouncer: str
    ) -> None:
        """Saves, reads and updates of several stores at once need no connection of their own."""
        stores = [make_store(bouncer, max_connections=8) for _ in range(3)]

        async def live(store: Any, session_id: str) -> None:
            for number in range(5):
                data = CheckpointData(session_id=session_id, iteration=number)
                await store.save(data)
                assert await store.load(session_id) == data
                assert await store.update(session_id, lambda session: session.load()) == data

        await asyncio.gather(
            *(
                live(store, f"{name}-{number}")
                for name, store in enumerate(stores)
                for number in range(8)
            )
        )
        assert len([name async for name in stores[0].sessions()]) == 24

    async def test_no_statement_is_left_prepared(self, make_store: MakeStore, bouncer: str) -> None:
        """A store notices the pooler by itself; what it prepared would be in others' way."""
        await _live(make_store(bouncer))
        assert await _prepared_behind(bouncer) == 0

    async def test_an_address_that_becomes_a_pooler(
        self, make_store: MakeStore, server: PostgresServer, bouncer: str, tmp_path: Path
    ) -> None:
        """New connections are looked at, too: nothing is prepared in those of the pooler."""
        place = tmp_path / ".s.PGSQL.5432"
        await asyncio.to_thread(place.symlink_to, server.socket_path)
        store = make_store(f"postgresql:///postgres?user=postgres&host={quote(str(tmp_path))}")
        await _live(store)

        await asyncio.to_thread(place.unlink)
        host = parse_qs(urlsplit(bouncer).query)["host"][0]
        await asyncio.to_thread(place.symlink_to, f"{host}/.s.PGSQL.6432")
        killer = await asyncpg.connect(server.dsn())
        await killer.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'aiocheckpoint'"
        )
        await killer.close()
        await _live(store)

        assert await _prepared_behind(bouncer) == 0


async def _live(store: Any) -> None:
    """Save, read and update a session a few times, at once with others."""

    async def live(session_id: str) -> None:
        for number in range(3):
            data = CheckpointData(session_id=session_id, iteration=number)
            await store.save(data)
            assert await store.update(session_id, lambda session: session.load()) == data

    await asyncio.gather(*(live(f"s-{number}") for number in range(6)))


async def _prepared_behind(bouncer: str) -> int:
    """Return how many prepared statements there are in all connections of the pooler."""
    async with contextlib.AsyncExitStack() as stack:
        found = 0
        for _ in range(_SERVER_CONNECTIONS):
            asking = await asyncpg.connect(bouncer, statement_cache_size=0)
            stack.push_async_callback(asking.close)
            await stack.enter_async_context(asking.transaction())  # and so on another one each
            found += await asking.fetchval("select count(*) from pg_prepared_statements")
        return found
