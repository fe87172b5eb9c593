"""What goes wrong between a store and its server loses and doubles nothing."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import (
    CheckpointData,
    CheckpointError,
    CheckpointId,
    DurabilityUnknownError,
    StorageFullError,
    StoreUnavailableError,
    UnsuitableStoreError,
    WriterClosedError,
    blob_digest,
)
from aiocheckpoint.store import Transaction
from aiocheckpoint.testing import LargeValue
from tests.directories import make_open_directory
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.load import require_nothing_lost
from tests.stores.postgres.proxy import Proxy, nothing
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_MARK = b"to be cut here"


def _step(number: int, session_id: str = "s", **fields: Any) -> CheckpointData:
    return CheckpointData(
        session_id=session_id, checkpoint_id=f"{number:04}", iteration=number, **fields
    )


@pytest.fixture(name="proxy")
async def _proxy(server: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy(server) as proxy:
        yield proxy


@pytest.fixture(name="query")
async def _query(server: PostgresServer) -> AsyncIterator[Callable[..., Any]]:
    connection = await asyncpg.connect(server.dsn())
    yield connection.fetchval
    await connection.close()


@pytest.fixture(name="role")
async def _role(
    make_store: MakeStore, query: Callable[..., Any], schema: str
) -> AsyncIterator[str]:
    """Make the schema, and a role that may use it and log in, for the time of a test."""
    await make_store().save(_step(1))
    await query(f"create role {schema} login")
    for what in (
        f"usage on schema {schema}",
        f"select, insert, update, delete on all tables in schema {schema}",
        f"usage on all sequences in schema {schema}",
    ):
        await query(f"grant {what} to {schema}")
    yield schema
    await query(f"drop owned by {schema}")
    await query(f"drop role {schema}")


class TestCutConnections:
    @pytest.mark.parametrize("is_passed_on", [True, False])
    async def test_a_save_is_made_once(
        self,
        make_store: MakeStore,
        proxy: Proxy,
        query: Callable[..., Any],
        schema: str,
        is_passed_on: bool,
    ) -> None:
        """A save returns as usual, whether the server got it before the cut or not."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        before = proxy.connections
        proxy.on(_MARK, nothing, is_passed_on=is_passed_on)
        await store.save(_step(2, messages=[_MARK.decode()]), expected="0001")
        assert await store.ids("s") == ("0002", "0001")
        assert await query(f"select last_seq from {schema}.session") == 2
        assert proxy.connections == before + 1

    async def test_what_was_deleted_meanwhile_stays_deleted(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """A save that was made, and whose answer was lost, is not made again after a delete."""
        store, other = make_store(proxy.dsn()), make_store()
        await store.save(_step(1))

        async def delete() -> None:
            assert await other.delete("s", "0002")

        proxy.on(_MARK, delete, is_passed_on=True)
        await store.save(_step(2, messages=[_MARK.decode()]))
        assert await store.ids("s") == ("0001",)

    async def test_of_those_that_share_a_commit_each_has_its_own_answer(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """Refusals and counts come back as they were, from a commit whose answer was lost."""
        store = make_store(proxy.dsn())
        await asyncio.gather(*(store.save(_step(1, session_id=name)) for name in "abc"))
        proxy.on(_MARK, nothing, is_passed_on=True)
        answers = await asyncio.gather(
            store.save(_step(2, session_id="a", messages=[_MARK.decode()])),
            store.save(_step(2, session_id="b"), expected="0007"),
            store.delete_many("c", ["0001", "0002"]),
            return_exceptions=True,
        )
        assert answers[0] == "0002"
        assert str(answers[1]).startswith("session 'b' has changed: its newest checkpoint is '0001")
        assert answers[2] == 1

    @pytest.mark.parametrize("needle", [_MARK, b"COMMIT;"])
    @pytest.mark.parametrize("is_passed_on", [True, False])
    async def test_an_update_is_made_once(
        self,
        make_store: MakeStore,
        proxy: Proxy,
        query: Callable[..., Any],
        schema: str,
        needle: bytes,
        is_passed_on: bool,
    ) -> None:
        """Work is called again where its commit did not come to be, and only there."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        calls = 0

        async def work(session: Transaction[CheckpointData]) -> int:
            nonlocal calls
            calls += 1
            data = await session.load()
            assert data is not None
            session.save(_step(data.iteration + 1, messages=[_MARK.decode()]))
            return data.iteration + 1

        proxy.on(needle, nothing, is_passed_on=is_passed_on)
        assert await store.update("s", work) == 2
        assert calls == (1 if needle == b"COMMIT;" and is_passed_on else 2)
        assert await store.ids("s") == ("0002", "0001")
        assert await query(f"select last_seq from {schema}.session") == 2

    async def test_what_was_given_up_is_so_however_often_it_is_asked_for(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """The answer that a commit was never made may be lost, too, and is the same again."""
        await make_store().save(_step(1))
        for _ in range(3):
            assert await query(f"select {schema}.outcomes(7, 1, 1000)") is None

    async def test_an_update_whose_reads_are_cut_is_begun_again(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """Also where `work` makes another error of it; its own errors pass."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        calls = 0

        async def work(session: Transaction[CheckpointData]) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                proxy.cut()
            try:
                assert await session.load() is not None
            except CheckpointError as error:
                raise KeyError from error
            return calls

        async def time_out(session: Transaction[CheckpointData]) -> None:
            raise TimeoutError

        assert await store.update("s", work) == 2
        with pytest.raises(TimeoutError):
            await store.update("s", time_out)

    async def test_reads_go_on(self, make_store: MakeStore, proxy: Proxy) -> None:
        """A read whose connection was cut is made on another one."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        for _ in range(3):
            proxy.cut()
            assert (await store.load("s")).iteration == 1

    async def test_what_is_deleted_beside_a_copy_is_no_damage(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """A blob that went with its checkpoint is not told as missing, and all else is copied."""
        store = make_store(proxy.dsn(), record_type=LargeValue)
        other = make_store(record_type=LargeValue)
        for key in ("a", "b"):
            digest = blob_digest(key.encode())
            record = LargeValue(session_id="s", checkpoint_id=key, blob_digests=(digest,))
            await other.save(record, blobs={digest: key.encode()})

        async def delete() -> None:
            await other.delete("s", "a")

        proxy.on(bytes.fromhex(blob_digest(b"a")), delete, is_passed_on=False)
        assert await store.copy_session("s", "copy") == 1
        assert await store.ids("copy") == ("b",)
        assert await store.load_blobs("copy", [digest]) == {digest: b"b"}

    async def test_what_is_replaced_beside_a_copy_is_copied(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """As it was before or after; what is saved meanwhile is left out."""
        store = make_store(proxy.dsn(), record_type=LargeValue)
        other = make_store(record_type=LargeValue)

        async def save(key: str, blob: bytes) -> None:
            digest = blob_digest(blob)
            record = LargeValue(session_id="s", checkpoint_id=key, blob_digests=(digest,))
            await other.save(record, blobs={digest: blob})

        async def change() -> None:
            await save("a", b"again")
            await save("c", b"c")

        for key in ("a", "b"):
            await save(key, key.encode())
        proxy.on(bytes.fromhex(blob_digest(b"a")), change, is_passed_on=False)
        assert await store.copy_session("s", "copy") == 2
        assert [meta.checkpoint_id for meta in await store.list("copy")] == ["a", "b"]
        digests = [blob_digest(b"again"), blob_digest(b"b")]
        assert set(await store.load_blobs("copy", digests)) == set(digests)

    async def test_a_copy_does_not_follow_who_saves(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """What is saved while the last one is copied is left out."""
        store = make_store(proxy.dsn(), record_type=LargeValue)
        digest = blob_digest(b"a")
        record = LargeValue(session_id="s", checkpoint_id="a", blob_digests=(digest,))
        other = make_store(record_type=LargeValue)
        await other.save(record, blobs={digest: b"a"})

        async def save() -> None:
            await other.save(LargeValue(session_id="s", checkpoint_id="later"))

        proxy.on(bytes.fromhex(digest), save, is_passed_on=False)
        assert await store.copy_session("s", "copy") == 1
        assert await store.ids("copy") == ("a",)

    async def test_nobody_can_be_asked(
        self, make_store: MakeStore, proxy: Proxy, server: PostgresServer
    ) -> None:
        """A save whose outcome cannot be known says so; one never sent, and a read, too."""
        await make_store().save(_step(1))
        store = make_store(proxy.dsn(), server_timeout_seconds=2)
        await store.load("s")

        async def go_down() -> None:
            proxy.is_down = True

        proxy.on(_MARK, go_down, is_passed_on=True)
        with pytest.raises(DurabilityUnknownError):
            await store.save(_step(2, messages=[_MARK.decode()]))
        never_sent = [store.save(_step(3)), store.load("s")]
        errors = await asyncio.gather(*never_sent, return_exceptions=True)
        assert [type(error) for error in errors] == [StoreUnavailableError] * 2
        proxy.is_down = False
        assert await make_store().ids("s") == ("0002", "0001")
        await store.save(_step(4))

    @pytest.mark.parametrize("is_passed_on", [True, False])
    @pytest.mark.parametrize("is_update", [True, False])
    async def test_a_server_that_lets_nobody_in_is_waited_for(
        self,
        make_store: MakeStore,
        proxy: Proxy,
        query: Callable[..., Any],
        role: str,
        is_passed_on: bool,
        is_update: bool,
    ) -> None:
        """While nobody knows what came of a commit, a refusal to log in ends no wait for that."""
        store = make_store(proxy.dsn(role))
        await store.save(_step(1))
        tried_at = proxy.connections

        async def shut_out() -> None:
            await query(f"alter role {role} nologin")

        async def let_in() -> None:
            while proxy.connections < tried_at + 3:
                await asyncio.sleep(0.01)
            await query(f"alter role {role} login")

        async def work(session: Transaction[CheckpointData]) -> CheckpointId:
            return session.save(data)

        needle = b"COMMIT;" if is_update else _MARK
        proxy.on(needle, shut_out, is_passed_on=is_passed_on)
        data = _step(2, messages=[_MARK.decode()])
        saving = store.update("s", work) if is_update else store.save(data, expected="0001")
        saved, _ = await asyncio.gather(saving, let_in())
        assert saved == "0002"
        assert [meta.iteration for meta in await store.list("s")] == [2, 1]

    @pytest.mark.parametrize("is_update", [True, False])
    async def test_after_that_time_it_is_unknown(
        self,
        make_store: MakeStore,
        proxy: Proxy,
        query: Callable[..., Any],
        role: str,
        is_update: bool,
    ) -> None:
        """Never "nothing was changed" of a commit that may have been made, also of an update."""
        store = make_store(proxy.dsn(role), server_timeout_seconds=1)
        await store.save(_step(1))

        async def shut_out() -> None:
            await query(f"alter role {role} nologin")

        async def work(session: Transaction[CheckpointData]) -> CheckpointId:
            return session.save(data)

        proxy.on(b"COMMIT;" if is_update else _MARK, shut_out, is_passed_on=True)
        data = _step(2, messages=[_MARK.decode()])
        tried_at = proxy.connections
        with pytest.raises(DurabilityUnknownError, match="log in"):
            await (store.update("s", work) if is_update else store.save(data))
        assert proxy.connections > tried_at + 2
        assert await make_store().ids("s") == ("0002", "0001")
        with pytest.raises(StoreUnavailableError):  # at once, for this one was never begun
            await store.save(_step(3))

    async def test_what_is_refused_when_it_is_tried_again_was_not_made(
        self, make_store: MakeStore, proxy: Proxy, query: Callable[..., Any], role: str, schema: str
    ) -> None:
        """The server is asked whether the first one was made: where it says no, that is told."""
        store = make_store(proxy.dsn(role))
        await store.save(_step(1))

        async def take_away() -> None:
            await query(f"revoke insert on {schema}.checkpoint from {role}")

        proxy.on(_MARK, take_away, is_passed_on=False)
        with pytest.raises(UnsuitableStoreError):
            await store.save(_step(2, messages=[_MARK.decode()]))
        assert await store.ids("s") == ("0001",)
        await query(f"grant insert on {schema}.checkpoint to {role}")
        await store.save(_step(2))
        assert await store.ids("s") == ("0002", "0001")

    async def test_cut_at_any_moment(self, make_store: MakeStore, proxy: Proxy) -> None:
        """Under cuts at random moments all saves of all sessions return, once and in order."""
        store = make_store(proxy.dsn(), server_timeout_seconds=300)
        await store.load("s")
        moments = random.Random(7)

        async def live(session_id: str) -> None:
            for number in range(25):
                expected = f"{number - 1:04}" if number else None
                await store.save(_step(number, session_id=session_id), expected=expected)
                if moments.random() < 0.3:
                    loop.call_later(moments.uniform(0, 0.01), proxy.cut)

        loop = asyncio.get_running_loop()
        names = [f"session-{number}" for number in range(6)]
        await asyncio.gather(*map(live, names))
        assert proxy.connections > 2  # how many cuts one repeats depends on the machine
        for name in names:
            assert [meta.iteration for meta in await store.list(name)] == [*range(24, -1, -1)]


class TestSlowServer:
    async def test_saves_share_what_takes_long(
        self, make_store: MakeStore, proxy: Proxy, query: Callable[..., Any], schema: str
    ) -> None:
        """However long a message takes, many sessions save in a few of them."""
        store = make_store(proxy.dsn())
        await store.save(_step(0))
        proxy.delay_seconds = 0.02
        names = [f"session-{number}" for number in range(100)]
        await asyncio.gather(*(store.save(_step(1, session_id=name)) for name in names))
        assert len([name async for name in store.sessions(prefix="session-")]) == 100
        assert await query(f"select sum(batch) from {schema}.writer") <= 4

    async def test_a_cancelled_save_waits_for_its_end(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """One that is under way ends when its outcome is known, and that does not change."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        sent, may_end = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            sent.set()
            await may_end.wait()

        proxy.on(_MARK, hold, is_passed_on=True)
        saving = asyncio.create_task(store.save(_step(2, messages=[_MARK.decode()])))
        await sent.wait()
        for _ in range(3):
            saving.cancel()
            await asyncio.sleep(0.01)
        assert not saving.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert await store.ids("s") == ("0002", "0001")

    async def test_a_save_that_waits_is_withdrawn(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """One that has not begun is cancelled at once, and never made."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        sent, may_end = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            sent.set()
            await may_end.wait()

        proxy.on(_MARK, hold, is_passed_on=True)
        first = asyncio.create_task(store.save(_step(2, messages=[_MARK.decode()])))
        await sent.wait()
        second = asyncio.create_task(store.save(_step(3)))
        third = asyncio.create_task(store.save(_step(4)))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        may_end.set()
        await asyncio.gather(first, third)
        assert await store.ids("s") == ("0004", "0002", "0001")


class TestServer:
    async def test_killed_under_load_and_started_again(
        self, own_server: Callable[..., PostgresServer]
    ) -> None:
        """Saves wait for it and go on; all that were acknowledged are there, each once."""
        await _under_load(own_server, kills=1)

    @pytest.mark.campaign
    async def test_killed_again_and_again(self, own_server: Callable[..., PostgresServer]) -> None:
        """The same, many times."""
        await _under_load(own_server, kills=12)

    async def test_backends_terminated_under_load(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """An administrator who ends all connections disturbs no save."""
        store = make_store()
        await store.load("s")

        async def live(session_id: str) -> None:
            for number in range(20):
                await store.save(_step(number, session_id=session_id))

        lives = asyncio.gather(*(live(name) for name in "abcd"))
        for _ in range(5):
            await query(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where application_name = 'aiocheckpoint'"
            )
            await asyncio.sleep(0.02)
        await lives
        for name in "abcd":
            assert [meta.iteration for meta in await store.list(name)] == [*range(19, -1, -1)]

    async def test_one_that_answers_nothing(self, make_store: MakeStore, proxy: Proxy) -> None:
        """Calls end after `server_timeout_seconds`, and go on when it answers again."""
        await make_store().save(_step(1))
        store = make_store(proxy.dsn(), server_timeout_seconds=2)
        await store.load("s")
        proxy.may_pass.clear()
        calls = [store.load("s"), store.save(_step(2))]
        read, saved = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(read, StoreUnavailableError)
        assert isinstance(saved, (DurabilityUnknownError, StoreUnavailableError))
        proxy.may_pass.set()
        await store.save(_step(3))
        assert (await store.ids("s"))[0] == "0003"
        metas = await store.list("s")
        assert len({meta.checkpoint_id for meta in metas}) == len(metas)

    async def test_one_that_answers_nothing_holds_up_no_close(
        self, make_store: MakeStore, proxy: Proxy
    ) -> None:
        """A store whose server does not answer its goodbye closes all the same."""
        store = make_store(proxy.dsn())
        await store.save(_step(1))
        proxy.may_pass.clear()
        async with asyncio.timeout(20):  # any other call waits for 30
            await store.aclose()
        proxy.may_pass.set()

    async def test_one_that_takes_no_changes(
        self, own_server: Callable[..., PostgresServer]
    ) -> None:
        """It is named; a store that was connected before waits for a primary first."""
        from aiocheckpoint.stores.postgres import PostgresStore

        server = await asyncio.to_thread(own_server)
        async with PostgresStore(server.dsn()) as store:
            await store.save(_step(1))
        async with PostgresStore(server.dsn(), server_timeout_seconds=2) as store:
            await store.load("s")
            admin = await asyncpg.connect(server.dsn())
            await admin.execute("alter database postgres set default_transaction_read_only = on")
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'aiocheckpoint'"
            )
            assert await store.ids("s") == ("0001",)
            with pytest.raises(UnsuitableStoreError, match="takes no changes"):
                await store.save(_step(2))
            await admin.execute("set default_transaction_read_only = off")
            await admin.execute("alter database postgres reset default_transaction_read_only")
            await admin.close()
            await store.save(_step(3))
            assert await store.ids("s") == ("0003", "0001")

    async def test_one_that_is_away_for_another_loop(
        self, own_server: Callable[..., PostgresServer]
    ) -> None:
        """A store that was connected waits for its server on a loop that never was, too."""
        from aiocheckpoint.stores.postgres import PostgresStore

        server = await asyncio.to_thread(own_server)
        async with PostgresStore(server.dsn(), server_timeout_seconds=60) as store:
            await store.save(_step(1))
            await asyncio.to_thread(server.kill)
            calls = [asyncio.to_thread(asyncio.run, store.ids("s")) for _ in range(3)]
            *found, _ = await asyncio.gather(*calls, asyncio.to_thread(server.start))
            assert found == [("0001",)] * 3

    async def test_closing_while_another_loop_waits_for_it(
        self, own_server: Callable[..., PostgresServer]
    ) -> None:
        """`aclose` ends when the call does, whose loop ends with it, and raises nothing."""
        from aiocheckpoint.stores.postgres import PostgresStore

        server = await asyncio.to_thread(own_server)
        store = PostgresStore(server.dsn(), server_timeout_seconds=1)
        await store.save(_step(1))
        await asyncio.to_thread(server.kill)
        loop, has_begun = asyncio.get_running_loop(), asyncio.Event()

        async def call() -> None:
            loop.call_soon_threadsafe(has_begun.set)
            await store.ids("s")

        waiting = asyncio.ensure_future(asyncio.to_thread(asyncio.run, call()))
        await has_begun.wait()
        await store.aclose()
        with pytest.raises((StoreUnavailableError, WriterClosedError)):
            await waiting

    async def test_one_that_is_away_for_an_update(
        self, own_server: Callable[..., PostgresServer]
    ) -> None:
        """An update waits as long as any other call, however short others may hold a session."""
        from aiocheckpoint.stores.postgres import PostgresStore

        server = await asyncio.to_thread(own_server)
        async with PostgresStore(server.dsn(), lock_timeout_seconds=0.001) as store:
            await store.save(_step(1))
            await asyncio.to_thread(server.kill)
            _, ids = await asyncio.gather(
                asyncio.to_thread(server.start), store.update("s", lambda it: it.saved_ids())
            )
            assert ids == ("0001",)

    async def test_a_server_with_other_settings(
        self, own_server: Callable[..., PostgresServer]
    ) -> None:
        """What hides the commits of others is refused; what puts off a sync is overruled."""
        from aiocheckpoint.stores.postgres import PostgresStore

        server = await asyncio.to_thread(own_server, synchronous_commit="off")
        async with PostgresStore(server.dsn()) as store:
            await store.save(_step(1))
        admin = await asyncpg.connect(server.dsn())
        before = await admin.fetchval("select pg_current_wal_flush_lsn()::text")
        async with PostgresStore(server.dsn()) as store:
            await store.save(_step(2))
            assert await admin.fetchval(f"select pg_current_wal_flush_lsn() > '{before}'::pg_lsn")
        await admin.execute(
            "alter database postgres set default_transaction_isolation = 'repeatable read'"
        )
        await admin.close()
        async with PostgresStore(server.dsn()) as store:
            with pytest.raises(UnsuitableStoreError, match="repeatable read"):
                await store.load("s")


async def _under_load(own_server: Callable[..., PostgresServer], kills: int) -> None:
    from aiocheckpoint.stores.postgres import PostgresStore

    server = await asyncio.to_thread(own_server)

    async def start_again() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async with PostgresStore(server.dsn(), server_timeout_seconds=60) as store:
        await require_nothing_lost(store, [start_again] * kills)


@pytest.fixture(name="small_disk")
def _small_disk() -> Iterator[Path]:
    """A directory of 6 MB, of the server's user."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    path = make_open_directory("small-disk-")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,uid=65534,gid=65534,mode=700", "none", str(path)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        path.rmdir()
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=False)
    shutil.rmtree(path, ignore_errors=True)


async def test_a_full_disk(
    make_store: MakeStore, server: PostgresServer, schema: str, small_disk: Path
) -> None:
    """A save for which there is no room is refused alone and by name; with room, saves go on."""
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f"create tablespace {schema} location '{small_disk}'")
    store = make_store(server.dsn(default_tablespace=schema))
    noise = random.Random(1)
    stored = 0
    try:
        while stored < 200:
            try:
                await store.save(_step(stored, messages=[noise.randbytes(50_000).hex()]))
            except StorageFullError:
                break
            stored += 1
        assert 0 < stored < 200
        assert (await store.load("s")).iteration == stored - 1
        large = _step(900, session_id="t", messages=[noise.randbytes(100_000).hex()])
        answers: tuple[Any, Any] = await asyncio.gather(
            store.delete("s", "0000"), store.save(large), return_exceptions=True
        )
        assert answers[0] is True
        assert isinstance(answers[1], StorageFullError)
        await asyncio.to_thread(
            subprocess.run, ["mount", "-o", "remount,size=64m", str(small_disk)], check=True
        )
        await store.save(_step(901))
        assert len(await store.list("s")) == stored
        assert await store.check() == ()
    finally:
        await store.aclose()
        await connection.execute(f"drop schema {schema} cascade")
        await connection.execute(f"drop tablespace {schema}")
        await connection.close()
