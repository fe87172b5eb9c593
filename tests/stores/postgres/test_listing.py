"""What a listing tells of bodies that it does not read."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import asyncpg
import pytest

from aiocheckpoint import CheckpointData, CheckpointMeta, CheckpointTooLargeError
from aiocheckpoint.store import Transaction
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.damage import lose_pieces
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers

_SIZES = (300, 511, 512, 1_023, 1_024, 1_025, 65_791, 65_792, 70_000, 131_072, 131_073, 400_000)
_FIRST_TIME = datetime(1, 1, 1, tzinfo=UTC)  # which the columns cannot hold


def _of_bytes(size_bytes: int) -> CheckpointData:
    """Return a checkpoint whose document is about as large, of text that packs well."""
    return CheckpointData(
        session_id="s", checkpoint_id=f"{size_bytes:06}", resume_hint="ab" * (size_bytes // 2)
    )


@pytest.mark.parametrize("compressed", [True, False])
async def test_the_size_is_told_to_the_byte(make_store: MakeStore, compressed: bool) -> None:
    """However a body is stored, `list` names what `load` refuses, and nothing else."""
    owner = make_store(compressed=compressed)
    for size in _SIZES:
        await owner.save(_of_bytes(size))
    narrow = make_store(max_bytes=1)
    for meta in await narrow.list("s"):
        with pytest.raises(CheckpointTooLargeError) as told:
            await narrow.load("s", meta.checkpoint_id)
        assert meta.problem == str(told.value)
        for limit, is_problem in (
            (told.value.size_bytes, False),
            (told.value.size_bytes - 1, True),
        ):
            store = make_store(max_bytes=limit)
            (found,) = [m for m in await store.list("s") if m.checkpoint_id == meta.checkpoint_id]
            assert (found.problem is not None) is is_problem
            assert (found.trigger, found.checksum) == (meta.trigger, meta.checksum)
            await store.aclose()


async def _listed(session: Transaction[CheckpointData]) -> tuple[CheckpointMeta, ...]:
    return await session.list()


async def test_what_the_server_cannot_read_spoils_no_listing(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """It is listed with its problem, and so is all else, within an update, too."""
    store = make_store()
    for size in (100_000, 200_000, 300):
        data = _of_bytes(size)
        data.created_at = _FIRST_TIME if size == 100_000 else data.created_at
        data.resume_hint = Random(size).randbytes(size // 2).hex()  # which stays large
        await store.save(data)
    await lose_pieces(server.dsn(), schema)
    for found in (await store.list("s"), await store.update("s", _listed)):
        assert [meta.checkpoint_id for meta in found] == ["000300", "200000", "100000"]
        assert [meta.problem is None for meta in found] == [True, False, False]
    assert await store.ids("s") == ("200000", "100000", "000300")
    assert len(await store.list("s", before="000300")) == 2
    assert await store.delete("s", "100000")
    assert await store.delete_many("s", ["200000", "100000"]) == 1
    assert await store.ids("s") == ("000300",)
    assert await store.check() == ()


async def test_a_body_that_is_gone_is_a_problem(
    make_store: MakeStore, server: PostgresServer, schema: str
) -> None:
    """A row whose body somebody has deleted is listed, with what `load` will raise about."""
    store = make_store()
    for size in (300, 400):
        await store.save(_of_bytes(size))
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f"delete from {schema}.body where seq = 2")
    await connection.close()
    assert [meta.problem is None for meta in await store.list("s")] == [False, True]
    (newest,) = [meta async for meta in store.unfinished(final_triggers=[""])]
    assert newest.problem is not None
