"""A read of a thread is one question to the server, and is answered as without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from aiocheckpoint import BlobNode, BlobRecord, CheckpointCorruptError, blob_digest
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from aiocheckpoint.kit import LookAhead, LooksAhead
from aiocheckpoint.stores.postgres import changes
from tests.langgraph.promises import checkpoint, metadata
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_LEAVES = [bytes([n]) * 3000 for n in range(3)]
_NODE = BlobNode([blob_digest(leaf) for leaf in _LEAVES])
_BLOBS = {blob_digest(blob): blob for blob in (*_LEAVES, _NODE)}
_IDS = ("s1", "p1x", "s2", "p2b", "p2a", "p1y", "q")
_WHAT = LookAhead("s", "p", 1, 3)


class _Step(BlobRecord, kw_only=True):
    text: str = ""


async def _asked(reader: Any) -> dict[str, Any]:
    """Return what the work of a read may ask."""
    names = await reader.ids(prefix="p2")
    return {
        "last": await reader.saved_ids(limit=3),
        "one": await reader.saved_ids(limit=1),
        "more": await reader.saved_ids(limit=5),
        "all": await reader.saved_ids(),
        "states": await reader.saved_ids(prefix="s"),
        "newest state": await reader.saved_ids(prefix="s", limit=1),
        "family": names,
        "some": await reader.ids(prefix="p2", limit=1),
        "others": await reader.ids(prefix="p1"),
        "records": await reader.load_many(["s2", *names]),
        "one record": await reader.load_many(["p2a"]),
        "not there": await reader.load_many(["p2c", "s"]),
        "another": await reader.load_many(["s1", "s2"]),
        "blobs": await reader.load_blobs(_BLOBS),
        "newest": await reader.load(),
    }


def _ahead(what: LookAhead) -> Callable[[Any], Awaitable[dict[str, Any]]]:
    async def work(reader: Any) -> dict[str, Any]:
        assert isinstance(reader, LooksAhead)
        await reader.look_ahead(what)
        return await _asked(reader)

    return work


def _step(checkpoint_id: str, text: str = "") -> _Step:
    digests = (blob_digest(_NODE),) if checkpoint_id == "s2" else ()
    text = text or f"{checkpoint_id} " * 500
    return _Step(session_id="s", checkpoint_id=checkpoint_id, blob_digests=digests, text=text)


async def _filled(store: Any) -> None:
    for name in _IDS:
        step = _step(name)
        await store.save(step, blobs=_BLOBS if step.blob_digests else {})


@pytest.fixture(name="connection")
async def _connection(server: PostgresServer) -> Any:
    connection = await asyncpg.connect(server.dsn())
    yield connection
    await connection.close()


class TestLookAhead:
    @pytest.mark.parametrize(
        "what",
        [
            _WHAT,
            LookAhead("s2", "p2", 0, 0),
            LookAhead("s", "p", 1, 100),
            LookAhead("none", "p", 1, 1),
            LookAhead("none", "p2", 0, 1),
            LookAhead("", "", 0, 0),
        ],
    )
    async def test_changes_no_answer(self, make_store: MakeStore, what: LookAhead) -> None:
        """Whatever is looked for, by a store that has saved and by one that has not."""
        store = make_store(record_type=_Step)
        await _filled(store)
        for client in (store, make_store(record_type=_Step)):
            plain = await client.read("s", _asked)
            assert await client.read("s", _ahead(what)) == plain
        assert len(plain["family"]) == 2
        assert len(plain["blobs"]) == 4

    async def test_of_nothing(self, make_store: MakeStore) -> None:
        """A session that is not there has no ids and no records."""

        async def work(reader: Any) -> Any:
            await reader.look_ahead(_WHAT)
            return await reader.saved_ids(limit=3), await reader.load_many(["s1"])

        assert await make_store(record_type=_Step).read("s", work) == ((), ())

    async def test_sees_what_others_saved(self, make_store: MakeStore) -> None:
        """What this process remembers is not taken for what is there."""
        store, other = make_store(record_type=_Step), make_store(record_type=_Step)
        await _filled(store)
        await store.read("s", _ahead(_WHAT))
        await other.save(_step("s2", "changed " * 300), blobs=_BLOBS)
        await other.delete("s", "p2a")
        found = await store.read("s", _ahead(_WHAT))
        assert found["last"][0] == "s2"
        assert [record.text[:4] for record in found["records"]] == ["p2b ", "chan"]

    async def test_in_an_update(self, make_store: MakeStore) -> None:
        """A transaction looks ahead, too; what it stages is not seen."""
        store = make_store(record_type=_Step)
        await _filled(store)

        async def work(session: Any) -> Any:
            await session.look_ahead(_WHAT)
            session.save(_step("s3"))
            return await session.saved_ids(limit=1)

        assert await store.update("s", work) == ("q",)
        assert await store.ids("s", prefix="s") == ("s3", "s2", "s1")

    @pytest.mark.parametrize("seq", [3, 4, 5])
    async def test_finds_damage(
        self, make_store: MakeStore, connection: Any, schema: str, seq: int
    ) -> None:
        """A body that was changed is refused, also where the store remembers what it was."""
        store = make_store(record_type=_Step)
        await _filled(store)
        await connection.execute(
            f"update {schema}.body set content = set_byte(content, 20, 99) where seq = $1", seq
        )
        for client in (store, make_store(record_type=_Step)):
            with pytest.raises(CheckpointCorruptError):
                await client.read("s", _ahead(_WHAT))

    @pytest.mark.parametrize("change", ["content = '\\x00'", "digest = '\\x00'"])
    async def test_finds_damaged_blobs(
        self, make_store: MakeStore, connection: Any, schema: str, change: str
    ) -> None:
        """So is a blob, and one that is missing."""
        store = make_store(record_type=_Step)
        await _filled(store)
        digest = bytes.fromhex(blob_digest(_LEAVES[1]))
        await connection.execute(f"update {schema}.blob set {change} where digest = $1", digest)
        with pytest.raises(CheckpointCorruptError):
            await store.read("s", _ahead(_WHAT))


async def test_a_thread_is_read_by_one_statement(own_server: Callable[..., Any]) -> None:
    """`aget_tuple` asks the server once, with all writes and long values, also by an id."""
    server = await asyncio.to_thread(own_server, log_statement="all")
    config: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    values = {"messages": ["x" * 20_000]}
    async with CheckpointSaver(server.dsn()) as saver:
        stored = await saver.aput(config, checkpoint(values), metadata(), {})
        await saver.aput_writes(stored, [("messages", "y" * 9_000)], "task")
        for wanted in (config, stored):
            before = await asyncio.to_thread((server.directory / "log").read_text)
            found = await saver.aget_tuple(wanted)
            after = await asyncio.to_thread((server.directory / "log").read_text)
            assert found is not None
            assert found.checkpoint["channel_values"] == values
            assert found.pending_writes == [("task", "messages", "y" * 9_000)]
            assert after.count("LOG:  execute") - before.count("LOG:  execute") == 1


class TestBlobsThatAreThere:
    async def test_are_not_sent_again(self, make_store: MakeStore, server: PostgresServer) -> None:
        """A long value that grows is sent as what was added, whoever has it from where."""
        store = make_store(record_type=_Step)
        await _filled(store)
        sent = await _sent_bytes(store, lambda: store.save(_step("s2"), blobs=_BLOBS))
        assert sent < 2_000

    async def test_are_sent_again_when_they_are_gone(self, make_store: MakeStore) -> None:
        """What another client has removed meanwhile comes with the save that names it."""
        store, other = make_store(record_type=_Step), make_store(record_type=_Step)
        await _filled(store)
        await other.delete("s", "s2")
        again = [store.save(_step("s2"), blobs=_BLOBS), store.save(_step("z"), expected="s2")]
        assert await asyncio.gather(*again) == ["s2", "z"]
        assert await other.load_blobs("s", _BLOBS) == _BLOBS
        assert await other.check() == ()
        await other.delete_session("s")
        await store.save(_step("s2"), blobs=_BLOBS)
        assert await other.load_blobs("s", _BLOBS) == _BLOBS


async def _sent_bytes(store: Any, call: Callable[[], Awaitable[Any]]) -> int:
    sent = 0

    def counted(*given: Any) -> list[Any]:
        nonlocal sent
        told = changes.arguments(*given)
        sent += sum(len(it) for column in told for it in column if isinstance(it, bytes))
        return told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiocheckpoint.stores.postgres.commits.arguments", counted)
        await call()
    return sent
