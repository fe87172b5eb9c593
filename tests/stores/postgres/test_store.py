"""What the store in PostgreSQL promises beyond the contract of all stores."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointData,
    CheckpointRecord,
    InvalidArgumentError,
    MissingBlobError,
    NestedCallError,
    SessionChangedError,
    StoreBusyError,
    StoreUnavailableError,
    UnsuitableStoreError,
    UnsupportedOperationError,
)
from aiocheckpoint.kit import blob_digest
from aiocheckpoint.store import Transaction
from aiocheckpoint.stores.postgres import PostgresStore, schema_sql
from aiocheckpoint.testing import LargeValue
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.damage import lose_pieces
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers


def _step(session_id: str, number: int, **fields: Any) -> CheckpointData:
    fields.setdefault("checkpoint_id", f"{number:04}")
    return CheckpointData(session_id=session_id, iteration=number, **fields)


class TestMaking:
    def test_a_store_is_made_without_a_server(self) -> None:
        """Making one does no I/O, and its text has no password."""
        store = PostgresStore("postgresql://app:secret@nowhere.invalid:1/agents")
        assert repr(store) == (
            "<PostgresStore postgresql://nowhere.invalid:1/agents?schema=aiocheckpoint open>"
        )

    @pytest.mark.parametrize(
        "wrong",
        [
            {"dsn_or_pool": "mysql://app:secret@host/x"},
            {"dsn_or_pool": 7},
            {"schema": "a b"},
            {"schema": ""},
            {"max_connections": 3},
            {"max_checkpoints": 0},
            {"lock_timeout_seconds": -1},
            {"server_timeout_seconds": "1"},
            {"statement_cache_size": -1},
            {"max_bytes": 0},
        ],
        ids=str,
    )
    def test_what_is_out_of_range_is_refused(self, wrong: dict[str, Any]) -> None:
        """Each wrong argument has a named error, which repeats no password."""
        arguments = {"dsn_or_pool": "postgresql://host/x", **wrong}
        with pytest.raises(InvalidArgumentError) as refused:
            PostgresStore(arguments.pop("dsn_or_pool"), **arguments)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.load("s"),
            lambda store: store.save(_step("s", 0)),
            lambda store: store.update("s", lambda it: it.saved_ids()),
            lambda store: store.update_many(["s", "t"], lambda them: them["s"].saved_ids()),
            lambda store: store.own("s").__aenter__(),
        ],
        ids=["load", "save", "update", "update_many", "own"],
    )
    async def test_no_server_is_a_named_error_at_once(
        self, tmp_path: Any, call: Callable[[Any], Awaitable[object]]
    ) -> None:
        """A first call that reaches nobody says so without waiting, and without the password."""
        async with PostgresStore(f"postgresql://app:secret@/x?host={tmp_path}") as store:
            async with asyncio.timeout(10):
                with pytest.raises(StoreUnavailableError) as refused:
                    await call(store)
        assert "secret" not in str(refused.value)


class TestSchema:
    async def test_many_may_make_it_at_once(self, make_store: MakeStore) -> None:
        """Of stores that meet no schema, each makes it or finds it."""
        stores = [make_store() for _ in range(8)]
        ids = await asyncio.gather(
            *(store.save(_step("s", number)) for number, store in enumerate(stores))
        )
        assert sorted(ids) == sorted(await stores[0].ids("s"))

    async def test_a_newer_one_is_refused(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """A schema of a later version of the library is left alone."""
        await make_store().save(_step("s", 1))
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"insert into {schema}.schema_version values (99)")
        await connection.close()
        with pytest.raises(UnsuitableStoreError, match="version 99"):
            await make_store().load("s")

    async def test_one_that_lacks_a_part_is_a_named_error(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """Where somebody has dropped a table, it is said what is wrong and what helps."""
        await make_store().save(_step("s", 1))
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"drop table {schema}.blob cascade")
        await connection.close()
        with pytest.raises(UnsuitableStoreError, match=r"not complete: .* restore it"):
            await make_store().load_blobs("s", [blob_digest(b"x")])

    async def test_a_role_that_may_only_use_it_suffices(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """With the printed SQL and the documented grants a role needs no right to make anything."""
        role = f"user_of_{schema}"
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"create role {role} login")
        store = make_store(server.dsn(user=role))
        with pytest.raises(UnsuitableStoreError, match="permission denied"):
            await store.save(_step("s", 1))
        await connection.execute(await asyncio.to_thread(schema_sql, schema))
        with pytest.raises(UnsuitableStoreError, match="permission denied") as refused:
            await store.save(_step("s", 1))
        grants = re.findall(r"grant .*? to ROLE", str(refused.value))
        assert len(grants) == 3
        assert f"schema_sql({schema!r})" in str(refused.value)
        for grant in grants:
            await connection.execute(grant.replace("ROLE", role))
        await connection.close()
        await store.save(_step("s", 1))
        async with store.own("s") as owner:
            await owner.save(_step("s", 2))
        assert await store.recover("s")
        assert await store.delete_session("s")


class TestIdsAndMetas:
    async def test_ids_of_any_length_are_told_apart_and_in_order(
        self, make_store: MakeStore
    ) -> None:
        """Ids that begin with the same thousands of characters are different ids."""
        store = make_store()
        letters = random.Random(1)
        begin = "".join(letters.choices("abcdefghij", k=4000))
        names = [begin, begin + "a", begin + "b", begin[:999], begin[:1000], begin[:1001]]
        for number, name in enumerate(names):
            await store.save(_step("s", number, checkpoint_id=name))
            await store.save(_step(name, number))
        assert await store.ids("s") == tuple(sorted(names, reverse=True))
        assert await store.ids("s", prefix=begin + "a") == (begin + "a",)
        assert await store.ids("s", before=begin, limit=1) == (begin[:1001],)
        assert [n async for n in store.sessions(prefix=begin[:1001])] == [
            begin[:1001], begin, begin + "a", begin + "b",
        ]  # fmt: skip
        for number, name in enumerate(names):
            loaded = await store.load("s", name)
            assert loaded.iteration == number
            assert await store.delete("s", name)
            assert (await store.load(name)).iteration == number

    async def test_times_and_numbers_of_any_size_are_listed(self, make_store: MakeStore) -> None:
        """What the columns of the database cannot hold is listed all the same."""

        class Odd(CheckpointRecord):
            iteration: int
            trigger: str = "\0"

        store = make_store(record_type=Odd)
        first = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
        last = datetime.max.replace(tzinfo=timezone(-timedelta(hours=14)))
        records = [
            Odd(session_id="s", iteration=2**64 - 1),
            Odd(session_id="s", iteration=1, created_at=first),
            Odd(session_id="s", iteration=-(2**63), created_at=last),
            Odd(session_id="s", iteration=3, created_at=datetime(1, 1, 1, tzinfo=UTC)),
        ]
        for record in records:
            await store.save(record)
        metas = await store.list("s")
        assert [(m.iteration, m.created_at, m.trigger) for m in reversed(metas)] == [
            (record.iteration, record.created_at, "\0") for record in records
        ]

    async def test_a_location_is_a_url_without_credentials(
        self, make_store: MakeStore, server: PostgresServer
    ) -> None:
        """It leads to the database, the schema, the session and the checkpoint."""
        store = make_store(server.dsn(password="secret"))
        await store.save(_step("a/b", 1))
        (meta,) = await store.list("a/b")
        assert meta.path is None
        directory = quote(str(server.directory), safe="")
        assert meta.location.startswith(f"postgresql://{directory}/postgres?schema=")
        assert meta.location.endswith("#~a%2fb/0001")
        assert "secret" not in meta.location


class TestRetention:
    async def test_the_newest_are_kept(self, make_store: MakeStore) -> None:
        """Of saves in one call of gather and of later ones only so many stay, and their blobs."""
        store = make_store(record_type=LargeValue, max_checkpoints=2)
        blobs = [bytes([number]) for number in range(6)]
        await asyncio.gather(
            *(
                store.save(
                    LargeValue(
                        session_id="s", checkpoint_id=str(number), blob_digests=(blob_digest(blob),)
                    ),
                    blobs={blob_digest(blob): blob},
                )
                for number, blob in enumerate(blobs)
            )
        )
        assert await store.ids("s") == ("5", "4")
        assert len(await store.load_blobs("s", map(blob_digest, blobs[4:]))) == 2
        with pytest.raises(MissingBlobError):
            await store.load_blobs("s", [blob_digest(blobs[3])])
        assert await store.check() == ()

    async def test_a_job_of_the_database_removes_what_is_old(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """`remove_older` keeps the newest of each session, so many; wrong arguments are refused."""
        store = make_store()
        for session_id, number in itertools.product("ab", range(4)):
            await store.save(_step(session_id, number))
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(
            f"update {schema}.checkpoint set saved_at = saved_at - interval '9 days'"
            " where session_key = (select min(session_key) from "
            f"{schema}.session) and seq < 4"
        )
        remove = f"select {schema}.remove_older(interval '7 days', p_keep => 2)"
        assert await connection.fetchval(remove) == 2
        assert await connection.fetchval(remove) == 0
        for wrong in (
            "'0', -1", "'0', null", "'-1 day'", "null", "'0', 1, 0", "'0', 1, -1", "'0', 1, null"
        ):  # fmt: skip
            with pytest.raises(asyncpg.InvalidParameterValueError, match="must not be negative"):
                await connection.fetchval(f"select {schema}.remove_older({wrong})")
        await connection.close()
        assert await store.ids("a") == ("0003", "0002")
        assert len(await store.ids("b")) == 4


class TestUpdate:
    async def test_two_clients_lose_no_count(self, make_store: MakeStore) -> None:
        """Updates of one session by several stores and tasks are made one after the other."""
        stores = [make_store(), make_store()]

        async def count(session: Transaction[CheckpointData]) -> int:
            data = await session.load() or _step("s", 0)
            session.save(data.next(iteration=data.iteration + 1))
            return data.iteration + 1

        counts = await asyncio.gather(
            *(store.update("s", count) for store in stores for _ in range(15))
        )
        assert sorted(counts) == list(range(1, 31))
        assert (await stores[0].load("s")).iteration == 30

    async def test_all_that_is_staged_is_stored_or_nothing(self, make_store: MakeStore) -> None:
        """A work that raises, or stages one thing that is refused, changes nothing."""
        store = make_store(record_type=LargeValue)
        await store.save(LargeValue(session_id="s", checkpoint_id="a"))

        async def fail(session: Transaction[LargeValue]) -> None:
            session.delete("a")
            session.save(LargeValue(session_id="s", checkpoint_id="b"))
            raise KeyError("b")

        async def name_nothing(session: Transaction[LargeValue]) -> None:
            session.delete_session()
            session.save(LargeValue(session_id="s", checkpoint_id="b"))
            session.save(LargeValue(session_id="s", blob_digests=(blob_digest(b"x"),)))

        with pytest.raises(KeyError):
            await store.update("s", fail)
        with pytest.raises(MissingBlobError):
            await store.update("s", name_nothing)
        assert await store.ids("s") == ("a",)

        async def replace(session: Transaction[LargeValue]) -> str:
            session.delete_session()
            first = LargeValue(session_id="s", checkpoint_id="b", blob_digests=(blob_digest(b"x"),))
            session.save(first, blobs={blob_digest(b"x"): b"x"})
            session.save(LargeValue(session_id="s", checkpoint_id="c"))
            session.delete("c")
            return "done"

        assert await store.update("s", replace) == "done"
        assert await store.ids("s") == ("b",)
        assert await store.check() == ()

    async def test_changes_called_meanwhile_wait(self, make_store: MakeStore) -> None:
        """A save that is called during an update is made after it; a read does not wait."""
        store = make_store()
        await store.save(_step("s", 1))
        has_begun, may_end = asyncio.Event(), asyncio.Event()

        async def work(session: Transaction[CheckpointData]) -> None:
            session.save(_step("s", 2))
            has_begun.set()
            await may_end.wait()

        updating = asyncio.create_task(store.update("s", work))
        await has_begun.wait()
        saving = asyncio.create_task(store.save(_step("s", 3)))
        assert (await store.load("s")).iteration == 1
        await store.save(_step("other", 1))
        assert not saving.done()
        may_end.set()
        await asyncio.gather(updating, saving)
        assert [meta.iteration for meta in await store.list("s")] == [3, 2, 1]

    async def test_a_change_within_work_is_refused(self, make_store: MakeStore) -> None:
        """But by the transaction it would wait for itself; reads go on."""
        store = make_store()
        await store.save(_step("t", 7))

        async def work(session: Transaction[CheckpointData]) -> int:
            session.save(_step("s", 2))
            loaded: CheckpointData = await store.load("t")
            for change in (store.save(_step("s", 1)), store.delete("t", "0007")):
                with pytest.raises(NestedCallError):
                    await change
            return loaded.iteration

        assert await store.update("s", work) == 7
        assert await store.ids("s") == ("0002",)
        assert await store.ids("t") == ("0007",)

    async def test_a_cancelled_update_changes_nothing(self, make_store: MakeStore) -> None:
        """One that is cancelled in `work` is rolled back, and the session is free."""
        store = make_store()
        has_begun = asyncio.Event()

        async def work(session: Transaction[CheckpointData]) -> None:
            session.save(_step("s", 1))
            has_begun.set()
            await asyncio.Event().wait()

        updating = asyncio.create_task(store.update("s", work))
        await has_begun.wait()
        updating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await updating
        await store.save(_step("s", 2), expected=None)
        assert await store.ids("s") == ("0002",)

    async def test_several_sessions_change_in_one_commit(self, make_store: MakeStore) -> None:
        """Transfers between sessions in both directions keep the sum, and end."""
        stores = [make_store(), make_store()]
        for name in "ab":
            await stores[0].save(_step(name, 100))

        async def move(sessions: Any, source: str, target: str) -> None:
            for name, change in ((source, -1), (target, 1)):
                data = await sessions[name].load()
                sessions[name].save(data.next(iteration=data.iteration + change))

        async def transfer(store: Any, source: str, target: str) -> None:
            await store.update_many(
                (source, target), lambda sessions: move(sessions, source, target)
            )

        await asyncio.gather(
            *(
                transfer(store, *pair)
                for store in stores
                for pair in ("ab", "ba", "ab")
                for _ in range(4)
            )
        )
        newest = await stores[0].load_newest(("b", "a", "c"))
        assert [(name, data.iteration) for name, data in newest.items()] == [("b", 108), ("a", 92)]


class TestOthers:
    async def test_a_session_that_somebody_holds_holds_up_no_other(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """Saves of other sessions go on; those of the session come when it is free, in order."""
        store = make_store()
        await store.save(_step("held", 0))
        holder = await asyncpg.connect(server.dsn())
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(f"select from {schema}.session for update")
        waiting = [asyncio.create_task(store.save(_step("held", number))) for number in (1, 2, 3)]
        await asyncio.gather(*(store.save(_step(f"free-{number}", 1)) for number in range(20)))
        assert not any(task.done() for task in waiting)
        await transaction.rollback()
        await asyncio.gather(*waiting)
        await holder.close()
        assert [meta.iteration for meta in await store.list("held")] == [3, 2, 1, 0]

    async def test_a_session_that_somebody_makes_holds_up_no_other(
        self, make_store: MakeStore
    ) -> None:
        """Nobody sees it yet: saves to it come when it is there, others go on."""
        one, two = make_store(), make_store()
        await asyncio.gather(*(store.save(_step("known", 0)) for store in (one, two)))
        has_begun, may_end = asyncio.Event(), asyncio.Event()

        async def work(session: Transaction[CheckpointData]) -> None:
            session.save(_step("new", 0))
            has_begun.set()
            await may_end.wait()

        making = asyncio.create_task(one.update("new", work))
        await has_begun.wait()
        waiting = asyncio.create_task(two.save(_step("new", 1)))
        others = [two.save(_step(f"other-{number}", 0)) for number in range(20)]
        async with asyncio.timeout(5):
            await asyncio.gather(*others)
        assert not waiting.done()
        may_end.set()
        await asyncio.gather(making, waiting)
        assert await two.ids("new") == ("0001", "0000")

    async def test_a_session_held_for_too_long_is_a_named_error(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """After `lock_timeout_seconds` a save and an update say so, and changed nothing."""
        store = make_store(lock_timeout_seconds=0.3)
        await store.save(_step("held", 0))
        holder = await asyncpg.connect(server.dsn())
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(f"select from {schema}.session for update")
        with pytest.raises(StoreBusyError):
            await store.save(_step("held", 1))

        async def work(session: Transaction[CheckpointData]) -> None:
            session.save(_step("held", 2))

        with pytest.raises(StoreBusyError):
            await store.update("held", work)
        await transaction.rollback()
        await holder.close()
        assert await store.ids("held") == ("0000",)

    async def test_conditions_hold_between_clients(self, make_store: MakeStore) -> None:
        """Of two stores that expect the same newest, one is refused and told the other's."""
        one, two = make_store(), make_store()
        await one.save(_step("s", 0))
        answers = await asyncio.gather(
            one.save(_step("s", 1), expected="0000"),
            two.save(_step("s", 2), expected="0000"),
            return_exceptions=True,
        )
        (stored,) = [answer for answer in answers if isinstance(answer, str)]
        (refused,) = [answer for answer in answers if isinstance(answer, SessionChangedError)]
        assert refused.newest_id == stored
        assert await two.ids("s") == (stored, "0000")


class TestLoopsAndPools:
    async def test_a_pool_of_the_applications_is_used_and_left_open(
        self, make_store: MakeStore, server: PostgresServer
    ) -> None:
        """The store takes its connections from it, and does not close it."""
        async with asyncpg.create_pool(server.dsn(), min_size=0, max_size=4) as pool:
            store = make_store(pool)
            await asyncio.gather(*(store.save(_step(f"s{n}", n)) for n in range(20)))
            (meta,) = await store.list("s1")
            assert meta.location.startswith("postgresql:///postgres?schema=test_")
            await store.aclose()
            assert await pool.fetchval("select 1") == 1

    async def test_a_pool_serves_one_loop(
        self, make_store: MakeStore, server: PostgresServer
    ) -> None:
        """A call from another loop is a named error."""
        async with asyncpg.create_pool(server.dsn(), min_size=0, max_size=4) as pool:
            store = make_store(pool)
            await store.save(_step("s", 1))
            with pytest.raises(UnsupportedOperationError):
                await asyncio.to_thread(lambda: asyncio.run(store.load("s")))
            await store.aclose()

    async def test_a_url_serves_many_loops(self, make_store: MakeStore) -> None:
        """Loops in other threads, one after the other, use the store as the first one does."""
        store = make_store()
        await store.save(_step("s", 1))

        async def save_and_load(number: int) -> int:
            await store.save(_step("s", number))
            loaded: CheckpointData = await store.load("s")
            return loaded.iteration

        for number in (2, 3):
            assert await asyncio.to_thread(asyncio.run, save_and_load(number)) == number
        assert (await store.load("s")).iteration == 3


class TestDamage:
    @pytest.fixture(name="damaged")
    async def _damaged(self, make_store: MakeStore, server: PostgresServer, schema: str) -> Any:
        store = make_store()
        for number in range(4):
            await store.save(_step("s", number, trigger="done"))
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(
            f"update {schema}.body set content = overlay(content placing 'X'::bytea from 200)"
            " where seq in (2, 4)"
        )
        await connection.close()
        return store

    async def test_is_raised_listed_found_and_never_passed_over(self, damaged: Any) -> None:
        """Every read tells of it, and where the newest intact one is."""
        with pytest.raises(CheckpointCorruptError) as told:
            await damaged.load("s")
        assert told.value.newest_valid_id == "0002"
        with pytest.raises(CheckpointCorruptError):
            await damaged.load_many("s", ["0001"])
        assert len(await damaged.list("s")) == 4
        assert not await damaged.verify("s", "0003")
        assert await damaged.verify("s", "0002")
        assert [finding.kind for finding in await damaged.check()] == ["damaged", "damaged"]
        metas = [meta async for meta in damaged.unfinished(final_triggers=["done"])]
        assert [meta.checkpoint_id for meta in metas] == ["0003"]
        assert metas[0].problem

    async def test_is_put_aside(self, damaged: Any, server: PostgresServer, schema: str) -> None:
        """`recover` moves it to the quarantine, with its bytes, and the newest intact one is it."""
        report = await damaged.recover("s")
        assert report.newest_valid_id == "0002"
        assert len(report.quarantined) == 2
        assert (await damaged.load("s")).iteration == 2
        assert await damaged.check() == ()
        assert await damaged.recover("s") == type(report)(
            session_id="s", newest_valid_id="0002", quarantined=()
        )
        connection = await asyncpg.connect(server.dsn())
        kept = await connection.fetch(f"select checkpoint_id, content from {schema}.quarantine")
        await connection.close()
        assert [row["checkpoint_id"] for row in kept] == [b"0001", b"0003"]
        assert all(b"X" in row["content"] for row in kept)

    async def test_what_the_server_cannot_read_is_damage(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """A body whose pieces are gone from the disk is raised, found and put aside like others."""
        store = make_store()
        noise = random.Random(1).randbytes(20_000).hex()
        await store.save(_step("s", 1))
        await store.save(_step("s", 2, messages=[noise]))
        await lose_pieces(server.dsn(), schema)
        with pytest.raises(CheckpointCorruptError) as told:
            await store.load("s")
        assert told.value.newest_valid_id == "0001"
        assert [finding.kind for finding in await store.check()] == ["unreadable"]
        report = await store.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("0001", 1)
        assert (await store.load("s")).iteration == 1

    async def test_blobs_are_looked_after(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """A damaged and a missing blob are found, and put aside with what names them."""
        store = make_store(record_type=LargeValue)
        for number, blob in enumerate((b"one", b"two", b"three")):
            digest = blob_digest(blob)
            data = LargeValue(session_id="s", checkpoint_id=str(number), blob_digests=(digest,))
            await store.save(data, blobs={digest: blob})
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"update {schema}.blob set content = 'no' where content = 'two'")
        await connection.execute(f"delete from {schema}.blob where content = 'three'")
        await connection.close()
        kinds = {finding.kind for finding in await store.check()}
        assert kinds == {"damaged", "missing-blob"}
        report = await store.recover("s")
        assert report.newest_valid_id == "0"
        assert len(report.quarantined) == 3
        assert await store.check() == ()
        assert len(await store.load_blobs("s", [blob_digest(b"one")])) == 1
