"""However a store ends, its connections do, and nobody is warned of what is nobody's fault."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import CheckpointData
from aiocheckpoint.stores.postgres import PostgresStore
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_GUARD_SECONDS = 60


@pytest.mark.blocking
async def test_a_store_that_is_dropped_leaves_nothing(own_server: Any) -> None:
    """Dropped on a loop that goes on it gives its connections back, and the loop hears nothing."""
    server = own_server()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    store: PostgresStore[CheckpointData] = PostgresStore(server.dsn())
    await store.save(CheckpointData(session_id="s"))
    client = await asyncpg.connect(server.dsn())  # one: of others an end may be seen late, too
    query = "select count(*) - 1 from pg_stat_activity where backend_type = 'client backend'"
    assert await client.fetchval(query) > 0

    del store

    async with asyncio.timeout(_GUARD_SECONDS):
        while await client.fetchval(query):
            pass
    await client.close()
    assert told == []


@pytest.mark.blocking
@pytest.mark.parametrize("end", ["await store.aclose()", "pass", "globals().update(store=store)"])
@pytest.mark.some(1)
def test_an_interpreter_ends_in_peace(server: PostgresServer, end: str) -> None:
    """With a store that was closed, dropped at the last moment, or kept."""
    program = f"""
        import asyncio
        from aiocheckpoint import CheckpointData
        from aiocheckpoint.stores.postgres import PostgresStore

        async def main():
            store = PostgresStore({server.dsn()!r}, schema="ending")
            saves = (store.save(CheckpointData(session_id=str(n))) for n in range(10))
            await asyncio.gather(*saves)
            {end}

        asyncio.run(main())
    """
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.blocking
def test_a_forked_process_is_refused_by_name_or_works(server: PostgresServer) -> None:
    """A store that was used belongs to the parent; one that was not works in the child."""
    program = f"""
        import asyncio, os
        from aiocheckpoint import CheckpointData, WriterClosedError
        from aiocheckpoint.stores.postgres import PostgresStore

        used, unused = (PostgresStore({server.dsn()!r}, schema="forked") for _ in range(2))

        def in_child():
            async def main():
                try:
                    await used.load("parent")
                except WriterClosedError:
                    await unused.save(CheckpointData(session_id="child"))
                    await unused.aclose()
                    await used.aclose()
                    return 7
                return 1
            os._exit(asyncio.run(main()))

        async def parent():
            await used.save(CheckpointData(session_id="parent"))

        asyncio.run(parent())
        if not (child := os.fork()):
            in_child()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

        async def goes_on():
            found = [session async for session in used.sessions()]
            await used.aclose()
            return found

        assert asyncio.run(goes_on()) == ["child", "parent"]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=True)
