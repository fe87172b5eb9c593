"""Bodies are stored small, most against an earlier one, and none depends on what may go."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocheckpoint import CheckpointCorruptError, CheckpointData, CheckpointStore
from aiocheckpoint.kit import LookAhead, RecordKit
from aiocheckpoint.store import Transaction
from aiocheckpoint.stores.postgres import packing
from aiocheckpoint.stores.postgres.bodies import Bodies
from aiocheckpoint.stores.postgres.packing import Packed, Version, packed, unpacked, unpacked_bytes
from aiocheckpoint.stores.postgres.reads import Reads
from aiocheckpoint.stores.postgres.schema import VERSION
from aiocheckpoint.testing import (
    LimitContract,
    OwnershipContract,
    RetentionContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
)
from tests.stores.postgres.clients import Clients
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.damage import lose_pieces
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_NOISE = random.Random(5)
_WORDS = [_NOISE.randbytes(_NOISE.randint(1, 5)).hex() for _ in range(20_000)]
_MOST_PARTS = 16


def _text(length: int) -> str:
    return " ".join(_NOISE.choices(_WORDS, k=length // 7 + 1))[:length]


_TEXT = _text(3_000)


def _step(number: int, messages: list[Any], session_id: str = "s") -> CheckpointData:
    name = f"{number:04}"
    return CheckpointData(
        session_id=session_id, checkpoint_id=name, iteration=number, messages=messages
    )


def _chain(bodies: list[bytes]) -> list[tuple[Packed, list[bytes]]]:
    """Return bodies packed one after the other, and what has to be read for each."""
    found: list[tuple[Packed, list[bytes]]] = []
    version: Version | None = None
    for seq, body in enumerate(bodies, 1):
        one = packed(body, version)
        before = found[one.base.seq - 1][1] if one.base is not None else []
        found.append((one, [*before, one.content]))
        version = one.version(seq, body)
    return found


class TestPacking:
    @given(st.lists(st.binary(min_size=1, max_size=40).map(lambda piece: b"{" + piece * 60)))
    def test_comes_back_as_it_was(self, bodies: list[bytes]) -> None:
        """Any series of bodies, from what is stored of each."""
        for body, (_, parts) in zip(bodies, _chain(bodies), strict=True):
            assert unpacked(parts, "") == body

    def test_what_was_added_is_what_it_takes(self) -> None:
        """A body that grows takes little each time, however large, and never many for a load."""
        for size_bytes in (4_000, 100_000, 300_000, 3_000_000):
            text = _text(size_bytes)
            bodies = [f'{{"a":{n},"m":"{text}","z":{"x" * n}}}'.encode() for n in range(40)]
            chain = _chain(bodies)
            assert max(len(parts) for _, parts in chain) == _MOST_PARTS
            for (one, parts), body in zip(chain, bodies, strict=True):
                assert unpacked(parts, "") == body
                assert one.base is None or len(one.content) < 100 + size_bytes / 1000

    def test_of_small_bodies_fewer_are_behind_one(self) -> None:
        """A small body is found in fewer parts, and still takes little."""
        text = _text(3_000)
        bodies = [f'{{"a":{n},"m":"{text}"}}'.encode() for n in range(40)]
        chain = _chain(bodies)
        assert max(len(parts) for _, parts in chain) == 6
        assert sum(len(one.content) for one, _ in chain) < 40 * 3_000 / 4

    def test_what_is_unpacked_counts(self) -> None:
        """A small body behind a large one takes as long to read as that one: not on the loop."""
        text = _text(600_000)
        first, (_, parts) = _chain(
            [f'{{"a":"{text}"}}'.encode(), f'{{"b":"{text[:2000]}"}}'.encode()]
        )
        assert first[0].base is None
        assert len(parts) == 2
        assert unpacked_bytes(parts) > 600_000

    def test_what_shares_nothing_depends_on_nothing(self) -> None:
        """A body that is no smaller against another one is stored alone; a small one as it is."""
        chain = _chain([b'{"a":"%d %b"}' % (n, _text(5_000).encode()) for n in range(3)])
        assert [one.base for one, _ in chain] == [None] * 3
        assert packed(b'{"a":1}', None).content == b'{"a":1}'

    def test_large_bodies_are_behind_few(self) -> None:
        """Of bodies of many megabytes only few have to be unpacked for one."""
        body = b'{"a":"%b"}' % (b"x" * 20_000_000)
        chain = _chain([body] * 5)
        assert [len(parts) for _, parts in chain] == [1, 2, 3, 1, 2]

    def test_what_was_changed_is_named(self) -> None:
        """Contents that do not fit together are damage, whatever is wrong with them."""
        text = _text(5_000)
        first, second = (parts for _, parts in _chain([f'{{"{text}{n}"}}'.encode() for n in "ab"]))
        cut = [second[0], second[1][:-1]]
        for parts in ([], [second[1]], [first[0][:-9]], [b"\x28\xb5\x2f\xfd"], cut):
            with pytest.raises(CheckpointCorruptError):
                unpacked(parts, "there")


@pytest.fixture(name="small")
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small bodies be packed as well."""
    monkeypatch.setattr(packing, "_LEAST_BYTES", 0)


@pytest.mark.usefixtures("small")
@pytest.mark.some(20)
class TestPackedBodies(
    Clients,
    UpdateContract,
    OwnershipContract,
    RetentionContract,
    LimitContract,
    SharingContract,
    SharedUpdateContract,
):
    """The contract, with bodies packed whatever their size."""


@pytest.fixture(name="query")
async def _query(server: PostgresServer) -> AsyncIterator[Callable[..., Any]]:
    connection = await asyncpg.connect(server.dsn())
    yield connection.fetchval
    await connection.close()


class TestConversations:
    async def test_grow_cheaply_and_load_anywhere(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """Every checkpoint of a conversation is there for a new client, for less than one whole."""
        store = make_store()
        messages: list[Any] = [_text(8_000)]
        for number in range(40):
            messages = [*messages, f"message {number}"]
            await store.save(_step(number, messages))
            if number == 20:  # a process that takes it up goes on as cheaply
                store = make_store()
                assert (await store.load("s")).messages == messages
        other = make_store()
        for number in range(40):
            assert (await other.load("s", f"{number:04}")).messages == messages[: number + 2]
        taken = await query(f"select sum(octet_length(content)) from {schema}.body")
        assert taken < 4 * 5_500 + 40 * 200
        assert await other.check() == ()

    async def test_what_is_needed_stays_as_long_as_it_is(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """Deleted and dropped checkpoints leave what others need, and nothing in the end."""
        store = make_store(max_checkpoints=5)
        text = _text(3_000)
        for number in range(50):
            await store.save(_step(number, [text, number]))
        assert await query(f"select count(*) from {schema}.body") <= 5 + _MOST_PARTS
        ids = [f"{number:04}" for number in range(45, 50)]
        others = _NOISE.sample(ids, 4)
        for name in others:
            assert await store.delete("s", name)
            for left in await make_store().ids("s"):
                assert (await make_store().load("s", left)).messages == [text, int(left)]
        assert await store.check() == ()
        await store.delete_many("s", ids)
        assert await query(f"select count(*) from {schema}.body") == 0

    async def test_one_id_again_and_again(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """A checkpoint that is replaced needs its former contents for a while only."""
        store = make_store()
        text = _text(3_000)
        for number in range(40):
            await store.save(_step(7, [text, number]))
        assert (await make_store().load("s")).messages == [text, 39]
        assert await query(f"select count(*) from {schema}.body") <= _MOST_PARTS

    async def test_what_somebody_has_removed_is_needed_by_nothing(
        self, make_store: MakeStore
    ) -> None:
        """Saves and updates after a delete by another client are whole, also in its place."""
        one, two = make_store(), make_store()
        text = _text(3_000)

        async def append(session: Transaction[CheckpointData]) -> None:
            session.save(_step(3, [text, "three"]))

        changes: tuple[Callable[[], Any], ...] = (
            lambda: one.save(_step(3, [text, "three"])),
            lambda: one.update("s", append),
        )
        for change in changes:
            for number in range(3):
                await one.save(_step(number, [text, number]))
            await two.delete_session("s")
            for number in range(3):
                await two.save(_step(number, [_text(3_000), number]))
            await change()
            assert (await two.load("s")).messages == [text, "three"]
            assert await two.check() == ()
            await two.delete_session("s")

    async def test_what_a_failover_has_lost_is_needed_by_nothing(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """A place that was lost, and given to another body, is not taken for the one it was."""
        store = make_store()
        text = _text(3_000)
        for number in range(3):
            await store.save(_step(number, [text, number]))
        for table in ("checkpoint", "body"):
            await query(f"delete from {schema}.{table} where seq = 3")
        await query(f"update {schema}.session set last_seq = 2, checkpoints = 2")
        await make_store().save(_step(7, [_text(3_000)]))
        calls = [store.save(_step(8, [text, 8])), store.save(_step(9, [text, 9]))]
        await asyncio.gather(*calls)
        assert [meta.iteration for meta in await store.list("s")] == [9, 8, 7, 1, 0]
        assert (await make_store().load("s")).messages == [text, 9]
        assert await store.check() == ()

    async def test_of_more_in_one_commit_than_may_have_one_base(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """Those that are far behind what they could be packed against outlast it."""
        store = make_store()
        await store.save(_step(0, [_TEXT, 0]))
        await asyncio.gather(
            *(store.save(_step(number, [_TEXT, number])) for number in range(1, 90))
        )
        farthest = f"select max(seq - base_seq) from {schema}.body"
        assert await query(farthest) == 64
        await store.delete_many("s", [f"{number:04}" for number in range(80)])
        assert await store.check() == ()
        assert (await make_store().load("s")).messages == [_TEXT, 89]

    async def test_in_one_commit(self, make_store: MakeStore) -> None:
        """Saves and deletes of one session and others that share a commit keep their order."""
        store = make_store()
        text = _text(3_000)
        await store.save(_step(0, [text, 0]))
        await asyncio.gather(
            store.save(_step(1, [text, 1])),
            store.delete("s", "0000"),
            store.save(_step(2, [text, 2])),
            store.delete_session("s"),
            store.save(_step(3, [text, 3])),
            store.save(_step(4, [text, 4])),
            *(store.save(_step(number, [text * 9], f"t{number}")) for number in range(9)),
        )
        other = make_store()
        assert await other.ids("s") == ("0004", "0003")
        assert [data.messages[1] for data in await other.load_many("s", ["0003", "0004"])] == [3, 4]
        for number in range(9):
            assert (await other.load(f"t{number}")).messages == [text * 9]

    async def test_documents_that_sql_reads(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """Not compressed, they are JSON in the database; each store reads what the other saved."""
        plain, small = make_store(compressed=False), make_store()
        text = _text(3_000)
        for number, store in enumerate((small, plain, small, plain)):
            assert await store.load("s") is None or number
            await store.save(_step(number, [text, number]))
        bodies = f"select count(*) from {schema}.body where get_byte(content, 0) = 123"
        assert await query(bodies) == 2
        for store in (plain, small):
            for number in range(4):
                assert (await store.load("s", f"{number:04}")).messages == [text, number]
        assert (
            await query(
                f"select convert_from(content, 'UTF8')::json -> 'messages' ->> 1 from {schema}.body"
                " where seq = 4"
            )
            == "3"
        )


class TestUpdates:
    """Work that reads the newest is not given up because of what that was packed for."""

    @pytest.fixture(name="store")
    async def _store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store(lock_timeout_seconds=5.0)
        await store.save(_step(0, [_TEXT, 0]))
        return store

    async def test_after_many_were_deleted(self, store: CheckpointStore[CheckpointData]) -> None:
        """The newest may be far behind the last place that was given."""
        for number in range(1, 70):
            await store.save(_step(number, [_TEXT, number]))
        await store.delete_many("s", [f"{number:04}" for number in range(1, 70)])

        async def append(session: Transaction[CheckpointData]) -> None:
            newest = await session.load()
            assert newest is not None
            session.save(newest.next(checkpoint_id="next"))

        await store.update("s", append)
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["next", "0000"]

    async def test_of_more_than_may_have_one_base(
        self, store: CheckpointStore[CheckpointData]
    ) -> None:
        """Any number of saves is staged at once."""

        async def append(session: Transaction[CheckpointData]) -> None:
            await session.load()
            for number in range(1, 100):
                session.save(_step(number, [_TEXT, number]))

        await store.update("s", append)
        assert len(await store.ids("s")) == 100
        assert await store.check() == ()
        await store.delete_many("s", [f"{number:04}" for number in range(80)])
        assert await store.check() == ()

    async def test_that_replace_what_others_are_packed_against(
        self, store: CheckpointStore[CheckpointData], query: Callable[..., Any], schema: str
    ) -> None:
        """The one replaced is there until all of the commit are, so that work is called once."""
        calls = 0

        async def replace(session: Transaction[CheckpointData]) -> None:
            nonlocal calls
            calls += 1
            await session.load()
            session.save(_step(0, ["small"]))
            session.save(_step(1, [_TEXT, 1]))

        await store.update("s", replace)
        assert calls == 1
        assert await store.check() == ()
        await store.delete("s", "0001")
        assert await query(f"select count(*) from {schema}.body") == 1

    async def test_of_several_that_others_have_made_anew(
        self, store: CheckpointStore[CheckpointData], make_store: MakeStore
    ) -> None:
        """What was rolled back with them is remembered of none."""
        other = make_store()
        await store.save(_step(0, [_TEXT, 0], "t"))
        await other.delete_session("t")
        await other.save(_step(5, [_text(3_000)], "t"))

        async def append(sessions: Mapping[str, Transaction[CheckpointData]]) -> None:
            for session_id, session in sessions.items():
                session.save(_step(1, [_TEXT, 1], session_id))

        await store.update_many(["s", "t"], append)
        for session_id in ("s", "t"):
            loaded = await other.load(session_id)
            assert loaded is not None
            assert loaded.messages == [_TEXT, 1]


class TestDamage:
    async def test_of_what_others_need(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """It is raised for each that needs it, found, and put aside with all that it is made of."""
        store = make_store()
        text = _text(3_000)
        await store.save(_step(0, ["alone"]))
        for number in range(1, 5):
            await store.save(
                _step(number, [text, number]).next(trigger="done", checkpoint_id=f"{number}")
            )
        await query(f"update {schema}.body set content = set_byte(content, 900, 7) where seq = 2")
        other = make_store()
        with pytest.raises(CheckpointCorruptError) as told:
            await other.load("s")
        assert told.value.newest_valid_id == "0000"
        assert not await other.verify("s", "3")
        assert [finding.kind for finding in await other.check()] == ["damaged"] * 4
        metas = [meta async for meta in other.unfinished(final_triggers=["done"])]
        assert metas[0].problem
        with pytest.raises(CheckpointCorruptError):
            await store.load("s")
        await store.save(_step(6, [text, 6]))  # whoever was told does not go on from it
        assert (await other.load("s")).messages == [text, 6]
        report = await other.recover("s")
        assert (report.newest_valid_id, len(report.quarantined)) == ("0006", 4)
        assert await other.check() == ()
        assert await query(f"select count(*) from {schema}.body") == 2
        bases = f"select array_agg(coalesce(cardinality(bases), 0) order by seq) from {schema}."
        assert await query(bases + "quarantine") == [0, 1, 2, 3]

    async def test_of_what_needs_itself(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """No read of it goes on for ever, and nothing is packed against it."""
        store = make_store(server_timeout_seconds=20)
        for number in range(1, 3):
            await store.save(_step(number, [_TEXT, number]))
        await query(f"update {schema}.body set base_seq = seq where seq = 2")
        other = make_store(server_timeout_seconds=20)

        async def load_ahead(session: Any) -> tuple[CheckpointData, ...]:
            await session.look_ahead(LookAhead("0002", "0002", 0, 1))
            found: tuple[CheckpointData, ...] = await session.load_many(["0002"])
            return found

        with pytest.raises(CheckpointCorruptError):
            await other.load("s")
        with pytest.raises(CheckpointCorruptError):
            await other.read("s", load_ahead)
        assert "damaged" in [finding.kind for finding in await other.check()]
        await store.save(_step(3, [_TEXT, 3]))
        assert (await other.load("s")).messages == [_TEXT, 3]

    async def test_nothing_is_packed_against_it(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """A save by one who has not noticed that the newest is damaged depends on nothing."""
        store = make_store()
        text = _text(3_000)
        await store.save(_step(1, [text, 1]))
        await query(f"update {schema}.body set content = set_byte(content, 900, 7)")
        await store.save(_step(2, [text, 2]))
        assert (await make_store().load("s")).messages == [text, 2]

    async def test_nor_against_what_needs_it(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """However far behind the newest the damage is, the next save depends on nothing."""
        store = make_store()
        for number in range(1, 5):
            await store.save(_step(number, [_TEXT, number]))
        await query(f"update {schema}.body set content = set_byte(content, 900, 7) where seq = 1")
        await store.save(_step(5, [_TEXT, 5]))
        assert (await make_store().load("s")).messages == [_TEXT, 5]

    async def test_nor_against_what_does_not_lead_to_all_that_it_needs(
        self, make_store: MakeStore, query: Callable[..., Any], schema: str
    ) -> None:
        """Contents that are all intact do not do where one has forgotten which it needs."""
        store = make_store()
        for number in range(1, 5):
            await store.save(_step(number, [_TEXT, number]))
        await query(f"update {schema}.body set base_seq = null where seq = 3")
        await store.save(_step(5, [_TEXT, 5]))
        assert (await make_store().load("s")).messages == [_TEXT, 5]

    async def test_nor_against_what_the_server_cannot_read(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """A session can be saved to, and others with it, while its newest is lost."""
        store = make_store()
        text = _text(30_000)
        await store.save(_step(1, [text, 1]))
        await lose_pieces(server.dsn(), schema)
        with pytest.raises(CheckpointCorruptError):
            await make_store().load("s")
        await asyncio.gather(store.save(_step(2, [text, 2])), store.save(_step(1, ["a"], "other")))
        assert (await make_store().load("s")).messages == [text, 2]


async def test_a_page_has_each_body_once(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` of a session with large bodies brings one that many need one time, not with each."""
    store = make_store()
    text = _text(400_000)
    for number in range(12):
        await store.save(_step(number, [text, number]))
    answers: list[int] = []
    fetch = Reads.fetch

    async def counted(self: Any, query: str, *arguments: Any) -> Any:
        rows = await fetch(self, query, *arguments)
        answers.append(sum(_bytes_in(value) for row in rows for value in row.values()))
        return rows

    monkeypatch.setattr(Reads, "fetch", counted)
    assert await make_store().check() == ()
    assert 100_000 < max(answers) < 500_000


def _bytes_in(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_bytes_in, value))
    return len(value) if isinstance(value, bytes) else 0


async def _version_1(server: PostgresServer, schema: str) -> Any:
    """Make the tables of version 1, and return a connection to them."""
    directory = Path(packing.__file__).parent
    sql = await asyncio.to_thread((directory / "schema_1.sql").read_text)
    connection = await asyncpg.connect(server.dsn())
    sql = sql.replace("schema if not exists aiocheckpoint", f"schema {schema}")
    await connection.execute(sql.replace("aiocheckpoint.", f"{schema}."))
    return connection


async def _save_as_1(connection: Any, schema: str, number: int) -> None:
    """Store a checkpoint of the first session as version 1 did."""
    record = RecordKit(CheckpointData, 1 << 20).encode(_step(number, [_text(3_000)]), {})
    await connection.execute(
        f"insert into {schema}.checkpoint (session_key, seq, checkpoint_id, saved_at,"
        " created_at, iteration, trigger, checksum, body_sha256, body)"
        " values (1, $1, $2, now(), now(), $1, 'test', $3, sha256($4), $4)",
        number,
        record.checkpoint_id.encode(),
        bytes.fromhex(record.checksum),
        record.body,
    )


class TestMigration:
    async def test_what_version_1_has_stored_is_kept(
        self, make_store: MakeStore, server: PostgresServer, schema: str
    ) -> None:
        """Its tables become the newest at the first call, with all that is in them."""
        connection = await _version_1(server, schema)
        await connection.execute(
            f"insert into {schema}.session (session_id, last_seq, last_saved_at, checkpoints)"
            " values ('s', 3, now(), 3)"
        )
        for number in range(1, 4):
            await _save_as_1(connection, schema, number)
        stores = [make_store() for _ in range(3)]
        loaded = await asyncio.gather(*(store.load("s") for store in stores))
        assert [data.iteration for data in loaded] == [3, 3, 3]
        await stores[0].save(loaded[0].next(iteration=4, checkpoint_id="0004"))
        assert [meta.iteration for meta in await stores[1].list("s")] == [4, 3, 2, 1]
        assert await stores[2].check() == ()
        version = f"select array_agg(version order by version) from {schema}.schema_version"
        assert await connection.fetchval(version) == [*range(1, VERSION + 1)]
        await connection.close()

    async def test_what_version_1_still_saves_is_kept(
        self,
        make_store: MakeStore,
        server: PostgresServer,
        query: Callable[..., Any],
        schema: str,
    ) -> None:
        """The tables are changed when a change of an older client has ended, and have it."""
        connection = await _version_1(server, schema)
        await connection.execute(f"insert into {schema}.session (session_id) values ('s')")
        async with connection.transaction():
            await connection.execute(f"select from {schema}.session for update")
            await _save_as_1(connection, schema, 1)
            await connection.execute(f"update {schema}.session set last_seq = 1, checkpoints = 1")
            loading = asyncio.ensure_future(make_store().load("s"))
            while not await query("select count(*) from pg_locks where not granted"):
                await asyncio.sleep(0)
        loaded = await loading
        assert loaded.iteration == 1
        await connection.close()


async def test_what_lost_its_base_is_saved_in_the_order_of_the_calls(
    make_store: MakeStore,
) -> None:
    """A client packs against what another one has deleted; no later save of it comes before."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    one, other = make_store(), make_store()
    sessions = [f"s{number}" for number in range(8)]

    async def saved(session_id: str, number: int) -> None:
        await one.save(_step(number, [_TEXT], session_id))

    async def in_order(session_id: str) -> None:
        for number in range(2):
            await saved(session_id, number)
        await other.delete(session_id, "0001")
        first = asyncio.create_task(one.delete(session_id, "0000"))
        saves = [asyncio.create_task(saved(session_id, 2))]
        await first
        for number in range(3, 8):
            saves.append(asyncio.create_task(saved(session_id, number)))
            await asyncio.sleep(0)
        await asyncio.gather(*saves)

    await asyncio.gather(*map(in_order, sessions))
    for session_id in sessions:
        found = [meta.checkpoint_id for meta in await other.list(session_id)]
        assert found == [f"{number:04}" for number in range(7, 1, -1)]
    assert told == []


def test_small_bodies_of_many_sessions_take_no_memory() -> None:
    """Nothing is packed against them, and what is around one takes more than it does."""
    bodies = Bodies(compressed=True)
    tracemalloc.start()
    try:
        for number in range(20_000):
            body = b"%0100d" % number
            bodies.loaded(f"session-{number}", 1, [body], body)
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
