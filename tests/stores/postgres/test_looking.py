"""Whoever only reads makes nothing, registers nothing, and needs no more than to read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import (
    BlobNode,
    BlobRecord,
    InvalidArgumentError,
    MissingBlobError,
    UnsuitableStoreError,
    blob_digest,
)
from aiocheckpoint.cli import main
from aiocheckpoint.kit import LookAhead
from aiocheckpoint.stores.postgres.schema import VERSION, schema_sql
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_LEAF = b"leaf" * 1000
_NODE = BlobNode([blob_digest(_LEAF)])
_BLOBS = {blob_digest(_LEAF): _LEAF, blob_digest(_NODE): _NODE}
_STATE = BlobRecord(session_id="s", checkpoint_id="1", blob_digests=(blob_digest(_NODE),))


async def _all(values: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in values]


async def _ahead(reader: Any) -> Any:
    await reader.look_ahead(LookAhead("1", "1", 1, 1))
    return await reader.load_many(["1"])


async def _each(reader: Any) -> Any:
    return await reader.load(), await reader.saved_ids(limit=1), await reader.list(limit=1)


_READS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "load": lambda store: store.load("s"),
    "load by id": lambda store: store.load("s", "1"),
    "load_many": lambda store: store.load_many("s", ["1"]),
    "list": lambda store: store.list("s"),
    "list before": lambda store: store.list("s", before="2", limit=1),
    "ids": lambda store: store.ids("s"),
    "read": lambda store: store.read("s", _each),
    "look_ahead": lambda store: store.read("s", _ahead),
    "sessions": lambda store: _all(store.sessions()),
    "load_newest": lambda store: store.load_newest(["s"]),
    "unfinished": lambda store: _all(store.unfinished(final_triggers=["done"])),
    "verify": lambda store: store.verify("s", "1"),
    "check": lambda store: store.check(),
    "exists": lambda store: store.exists(),
}
_CHANGES: list[Callable[[Any], Awaitable[Any]]] = [
    lambda store: store.save(_STATE),
    lambda store: store.delete("s", "1"),
    lambda store: store.update("s", _each),
    lambda store: store.recover("s"),
]


async def _delete_all(session: Any) -> None:
    session.delete("1")
    session.delete_session()


async def _each_of_many(sessions: Any) -> None:
    for session in sessions.values():
        assert await session.list() == ()


async def _none_of(store: Any) -> bool:
    deletes = [store.delete_session(f"s{number}") for number in range(20)]
    return any(await asyncio.gather(*deletes))


_EMPTY_CHANGES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "delete": lambda store: store.delete("s", "1"),
    "delete_many": lambda store: store.delete_many("s", ["1", "2"]),
    "delete_session": lambda store: store.delete_session("s"),
    "copy_session": lambda store: store.copy_session("s", "t"),
    "update": lambda store: store.update("s", lambda session: session.load()),
    "update of nothing": lambda store: store.update("s", _delete_all),
    "update_many": lambda store: store.update_many(["s", "t"], _each_of_many),
    "many at once": _none_of,
}
_FOUND_NOTHING: list[Any] = [None, (), [], {}, False, (None, (), ())]


@pytest.fixture(name="admin")
async def _admin(server: PostgresServer) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(server.dsn())
    yield connection
    await connection.close()


async def _reader(admin: Any, schema: str) -> str:
    """Make a role that may look, and nothing else."""
    role = f"reader_of_{schema}"
    await admin.execute(
        f"create role {role} login;"
        f"grant usage on schema {schema} to {role};"
        f"grant select on all tables in schema {schema} to {role}"
    )
    return role


async def _has_schema(admin: Any, schema: str) -> bool:
    return bool(await admin.fetchval("select to_regnamespace($1) is not null", schema))


class TestWithoutASchema:
    @pytest.mark.parametrize("name", _READS)
    async def test_a_read_finds_nothing_and_makes_nothing(
        self, make_store: MakeStore, admin: Any, schema: str, name: str
    ) -> None:
        """A schema that is not there, as one that is mistyped, is an empty store."""
        assert await _READS[name](make_store()) in _FOUND_NOTHING
        assert not await _has_schema(admin, schema)

    async def test_nothing_is_recovered_and_nothing_made(
        self, make_store: MakeStore, admin: Any, schema: str
    ) -> None:
        """Nor does `recover` make what is not there."""
        report = await make_store().recover("s")
        assert (report.newest_valid_id, report.quarantined) == (None, ())
        assert not await _has_schema(admin, schema)

    async def test_what_was_never_saved_is_missing(
        self, make_store: MakeStore, admin: Any, schema: str
    ) -> None:
        """A blob that is asked for by its digest is missing, as in an empty store."""
        with pytest.raises(MissingBlobError):
            await make_store().load_blobs("s", [blob_digest(_LEAF)])
        assert not await _has_schema(admin, schema)

    @pytest.mark.parametrize(
        "verb", [("sessions",), ("list", "s"), ("show", "s"), ("verify",), ("recover", "s")]
    )
    def test_a_verb_makes_none(
        self, server: PostgresServer, schema: str, verb: tuple[str, ...]
    ) -> None:
        """Nor does the command line."""
        main([verb[0], server.dsn(schema=schema), *verb[1:]])

        async def is_there() -> bool:
            admin = await asyncpg.connect(server.dsn())
            try:
                return await _has_schema(admin, schema)
            finally:
                await admin.close()

        assert not asyncio.run(is_there())

    @pytest.mark.parametrize("name", _EMPTY_CHANGES)
    async def test_a_change_of_nothing_makes_nothing(
        self, make_store: MakeStore, admin: Any, schema: str, name: str
    ) -> None:
        """What finds nothing to change says so, also to a role that may make no schema."""
        assert not await _EMPTY_CHANGES[name](make_store())
        assert not await _has_schema(admin, schema)

    async def test_the_first_update_reads_and_stores_once(
        self, make_store: MakeStore, admin: Any, schema: str
    ) -> None:
        """An update makes the schema when its work has something to store, and calls that once."""
        calls: list[object] = []

        async def work(session: Any) -> str:
            calls.append(await session.load())
            assert not await _has_schema(admin, schema)
            return str(session.save(_STATE, blobs=_BLOBS))

        store = make_store(record_type=BlobRecord)
        assert await store.update("s", work) == "1"
        assert calls == [None]
        assert await store.load("s") == _STATE

    @pytest.mark.parametrize("session_id", ["s", "t"])
    async def test_a_first_update_that_is_overtaken(
        self, make_store: MakeStore, session_id: str
    ) -> None:
        """Its work is called again where others have filled its session since, and only there."""
        store, other = make_store(record_type=BlobRecord), make_store(record_type=BlobRecord)
        found: list[object] = []

        async def work(session: Any) -> None:
            if not found:
                await other.save(BlobRecord(session_id=session_id, checkpoint_id="0"))
            found.append(tuple(meta.checkpoint_id for meta in await session.list()))
            session.save(_STATE, blobs=_BLOBS)

        await store.update("s", work)
        assert found == ([(), ("0",)] if session_id == "s" else [()])
        assert set(await store.ids("s")) == {"1", *(["0"] if session_id == "s" else [])}

    async def test_first_updates_of_many(self, make_store: MakeStore) -> None:
        """Of stores that update one session at once where nothing is, none loses the others'."""
        stores = [make_store(record_type=BlobRecord) for _ in range(4)]

        async def add(session: Any) -> None:
            number = len(await session.ids())
            session.save(BlobRecord(session_id="s", checkpoint_id=str(number)))

        await asyncio.gather(*[store.update("s", add) for store in stores for _ in range(2)])
        assert await stores[0].ids("s") == tuple(str(number) for number in range(7, -1, -1))

    async def test_the_first_change_makes_it(self, make_store: MakeStore) -> None:
        """Stores that have read before make it, or find that another one has."""
        stores = [make_store(record_type=BlobRecord) for _ in range(3)]
        assert await asyncio.gather(*[store.load("s") for store in stores]) == [None] * 3
        await asyncio.gather(*[store.save(_STATE, blobs=_BLOBS) for store in stores[:2]])
        assert await stores[2].load("s") == _STATE


class TestOfARoleThatMayOnlyRead:
    async def test_everything_is_read_and_nothing_changed(
        self, make_store: MakeStore, server: PostgresServer, admin: Any, schema: str
    ) -> None:
        """Each read answers as for a role that may write; a change is refused by name."""
        writer = make_store(record_type=BlobRecord)
        await writer.save(_STATE, blobs=_BLOBS)
        await writer.save(BlobRecord(session_id="s", checkpoint_id="2"))
        reader = make_store(server.dsn(user=await _reader(admin, schema)), record_type=BlobRecord)
        before = await admin.fetch(f"select * from {schema}.writer")
        for name, read in _READS.items():
            found = await read(reader)
            assert found == await read(writer), name
            assert found not in _FOUND_NOTHING or name == "check"
        assert await reader.load_blobs("s", _BLOBS) == _BLOBS
        assert await admin.fetch(f"select * from {schema}.writer") == before
        for change in _CHANGES:
            with pytest.raises(UnsuitableStoreError, match="permission denied"):
                await change(reader)
        assert await reader.load("s", "1") == _STATE

    async def test_an_older_schema_is_a_named_error(
        self, make_store: MakeStore, server: PostgresServer, admin: Any, schema: str
    ) -> None:
        """It lacks what reads ask for; they go on once a role that may has run what it says."""
        writer = make_store(record_type=BlobRecord)
        await writer.save(_STATE, blobs=_BLOBS)
        await admin.execute(f"delete from {schema}.schema_version where version = {VERSION}")
        reader_role = await _reader(admin, schema)
        of_settings = server.dsn(user=reader_role, options="-c statement_timeout=60000")
        for source in (of_settings, server.dsn(user=reader_role)):  # a right is no parameter
            reader = make_store(source, record_type=BlobRecord)
            with pytest.raises(UnsuitableStoreError, match="permission denied") as told:
                await reader.load("s")
        assert f"has version {VERSION - 1}, this library needs {VERSION}," in str(told.value)
        called = re.findall(r"schema_sql\((.*?), since=(\d+)\)", str(told.value))
        assert called == [(repr(schema), str(VERSION - 1))]
        sql = await asyncio.to_thread(schema_sql, schema, since=int(called[0][1]))
        async with admin.transaction():
            await admin.execute(sql)
        assert await reader.load("s") == _STATE

    async def test_an_older_schema_stays_where_nobody_is_to_change_it(
        self, make_store: MakeStore, server: PostgresServer, admin: Any, schema: str
    ) -> None:
        """With `migrate=no`, and for verbs that look, the older release can still be started."""
        await make_store(record_type=BlobRecord).save(_STATE, blobs=_BLOBS)
        versions = f"select array_agg(version order by version) from {schema}.schema_version"
        newest = await admin.fetchval(versions)
        await admin.execute(f"delete from {schema}.schema_version where version = {VERSION}")
        told = f"this library needs {VERSION}, and was told not to bring it up to date"
        careful = make_store(server.dsn(migrate="no"), record_type=BlobRecord)
        for call in (careful.load("s"), careful.save(_STATE, blobs=_BLOBS)):
            with pytest.raises(UnsuitableStoreError, match=told):
                await call
        url = server.dsn(schema=schema)
        for verb in (("sessions",), ("list", "s"), ("show", "s"), ("verify",)):
            assert await asyncio.to_thread(main, [verb[0], url, *verb[1:]]) == 2
        assert await admin.fetchval(versions) == newest[:-1]
        assert await make_store(record_type=BlobRecord).load("s") == _STATE
        assert await admin.fetchval(versions) == newest
        with pytest.raises(InvalidArgumentError, match="migrate=yes or migrate=no"):
            make_store(server.dsn(migrate="maybe"))

    async def test_a_connection_that_takes_no_changes_reads(
        self, make_store: MakeStore, server: PostgresServer, admin: Any, schema: str
    ) -> None:
        """A role whose transactions are read-only reads; its save is refused, and does not wait."""
        await make_store(record_type=BlobRecord).save(_STATE, blobs=_BLOBS)
        role = await _reader(admin, schema)
        await admin.execute(f"alter role {role} set default_transaction_read_only = on")
        reader = make_store(
            server.dsn(user=role), record_type=BlobRecord, server_timeout_seconds=3600
        )
        assert await reader.load("s") == _STATE
        with pytest.raises(UnsuitableStoreError):
            async with asyncio.timeout(60):
                await reader.save(_STATE)
