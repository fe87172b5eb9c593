"""Sessions of many commits are looked up by few requests, whatever has become of them."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from aiocheckpoint import CheckpointData, blob_digest
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import LargeValue
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3, Stored

pytestmark = pytest.mark.servers

Store = S3Store[CheckpointData]


async def _saved(store: Store, count: int, first: int = 0) -> list[str]:
    ids = [f"cp-{number:05}" for number in range(first, first + count)]
    for checkpoint_id in ids:
        await store.save(CheckpointData(session_id="s", checkpoint_id=checkpoint_id))
    return ids


async def test_a_session_of_many_commits_is_looked_up_by_few_requests(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """Whoever comes later reads 32, 256, ... commits at once."""
    store: Store = make_store()
    ids = await _saved(store, 600)
    await store.aclose()
    assert [key.rpartition("/")[2] for key in fake.keys("index/")] == [
        "0-000000000016",
        "0-000000000017",
        "1-000000000000",
        "1-000000000001",
    ]
    fake.count()
    other: Store = make_store()
    assert await other.ids("s") == (*reversed(ids),)
    counted = fake.count()
    assert counted["list"] == 2
    assert counted["get"] <= 1 + 4 + 600 % 32
    assert await other.load("s", ids[3]) is not None
    assert fake.count() == {"list": 1, "get": 1}


@pytest.mark.parametrize("is_gone", [False, True])
async def test_an_index_that_is_damaged_or_missing_is_not_needed(
    make_store: MakeStore, fake: FakeS3, is_gone: bool
) -> None:
    """The commits are read instead, and whoever commits next writes it again."""
    store: Store = make_store()
    ids = await _saved(store, 70)
    await store.aclose()
    for key in fake.keys("index/"):
        if is_gone:
            del fake.objects[key]
        else:
            fake.objects[key] = Stored(b"?" + fake.objects[key].data, fake.objects[key].modified_at)
    other: Store = make_store()
    assert await other.ids("s") == (*reversed(ids),)
    more = await _saved(other, 1, 70)
    await other.aclose()
    fake.count()
    third: Store = make_store()
    assert await third.ids("s") == (*more, *reversed(ids))
    assert fake.count()["get"] < 15


async def test_any_history_is_looked_up_as_it_is(make_store: MakeStore, fake: FakeS3) -> None:
    """Saves, replacements, deletes, emptied sessions, sweeps, for clients that come later."""
    dice = random.Random(7)
    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    model: dict[str, bytes] = {}
    for step in range(240):
        key = f"{dice.randrange(40)}"
        match dice.randrange(100):
            case number if number < 75:
                content = b"%d" % dice.randrange(20)
                digest = blob_digest(content)
                record = LargeValue(session_id="s", checkpoint_id=key, blob_digests=(digest,))
                await store.save(record, blobs={digest: content})
                model.pop(key, None)
                model[key] = content
            case number if number < 98:
                assert await store.delete("s", key) == (key in model)
                model.pop(key, None)
            case _:
                assert await store.delete_session("s") == bool(model)
                model.clear()
        if step % 60 == 59:
            fake.age(timedelta(hours=1))
            other: S3Store[LargeValue] = make_store(record_type=LargeValue)
            listed = [meta.checkpoint_id for meta in await other.list("s")]
            assert listed == [*reversed(model)]
            wanted = [blob_digest(content) for content in model.values()]
            assert {*(await other.load_blobs("s", wanted)).values()} == {*model.values()}
            assert await other.check() == ()
            if dice.randrange(2):
                store = other
    assert len(fake.keys("blobs/")) == len({*model.values()})


async def test_what_retention_drops_goes_though_old_blobs_stay(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """A blob of the first commit that is still named does not keep the commits after it."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue, max_checkpoints=2)
    digest = blob_digest(b"history")
    blobs = {digest: b"history"}
    for step in range(300):
        record = LargeValue(session_id="s", checkpoint_id=f"{step}", blob_digests=(digest,))
        await store.save(record, blobs=blobs if not step else {})
        if step % 100 == 99:
            fake.age(timedelta(days=1))
    await store.aclose()
    assert len(fake.keys("sessions/s/")) < 150
    other: S3Store[LargeValue] = make_store(record_type=LargeValue)
    assert await other.ids("s") == ("299", "298")
    assert await other.load_blobs("s", [digest]) == blobs
    assert await other.check() == ()
