"""`open_store` and `copy_store` with a database, and nothing but its URL."""

from __future__ import annotations

from aiocheckpoint import CheckpointData, RawRecord, copy_store, open_store
from aiocheckpoint.testing import MemoryStore
from tests.stores.postgres.conftest import MakeStore
from tests.stores.postgres.server import PostgresServer
from tests.stores.test_copying import filled, raw, state


async def test_a_url_is_enough(server: PostgresServer) -> None:
    """Handles of one URL share, and the last one closes."""
    data = CheckpointData(session_id="of a URL")
    one, two = (open_store(server.dsn()) for _ in range(2))
    await one.save(data)
    assert await two.load(data.session_id) == data
    await one.aclose()
    assert await two.delete_session(data.session_id)
    await two.aclose()


async def test_there_and_back_nothing_has_changed(make_store: MakeStore) -> None:
    """Sessions of several types with blobs pass through a database as they are."""
    source, back = raw(await filled()), MemoryStore(RawRecord)
    database = make_store(record_type=RawRecord)
    totals = await copy_store(source, database)
    assert (totals.checkpoints, totals.skipped) == (15, 0)
    assert (await copy_store(source, database)).skipped == 15
    await copy_store(database, back)
    assert await state(back) == await state(source)
