"""What each call costs, in requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from benchmarks.scaling import Measured, Use

from aiocheckpoint import (
    CheckpointData,
    CheckpointError,
    RawRecord,
    Transaction,
    blob_digest,
    copy_store,
)
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import LargeValue, MemoryStore
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("whole_probe")]


def _data(iteration: int = 0, **fields: object) -> CheckpointData:
    return CheckpointData(session_id="s", iteration=iteration, **fields)  # type: ignore[arg-type]


@pytest.fixture(name="store")
async def _store(make_store: MakeStore, fake: FakeS3) -> S3Store[CheckpointData]:
    """A store that has saved three checkpoints of one session."""
    store: S3Store[CheckpointData] = make_store()
    for iteration in range(3):
        await store.save(_data(iteration, checkpoint_id=f"cp-{iteration}"))
    fake.count()
    return store


async def test_a_save_is_one_request(store: S3Store[CheckpointData], fake: FakeS3) -> None:
    """A create, also where it expects something, and where it replaces one."""
    await store.save(_data(3))
    assert fake.count() == {"create": 1}
    await store.save(_data(5, checkpoint_id="cp-5"))
    await store.save(_data(6), expected="cp-5")
    await store.save(_data(7, checkpoint_id="cp-0"))
    assert fake.count() == {"create": 3}


async def test_a_save_is_sent_at_once_unless_it_is_large(
    make_store: MakeStore, fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server is asked whether it wants a megabyte, which takes a message there and back."""
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "shop")
    store: S3Store[CheckpointData] = make_store()
    for size, expects in ((3, None), (1 << 20, "100-continue"), (3, None)):
        await store.save(_data(messages=["x" * size]))
        assert fake.headers.get("Expect") == expects
        assert "aiobotocore/" in fake.headers["User-Agent"]
        assert " app/shop " in fake.headers["User-Agent"]


async def test_the_first_save_of_a_session_finds_out_where_it_stands(
    make_store: MakeStore, fake: FakeS3, store: S3Store[CheckpointData]
) -> None:
    """A LIST, and a GET if there is something; the first of a store also probes the server."""
    other: S3Store[CheckpointData] = make_store()
    await other.save(CheckpointData(session_id="new"))
    assert fake.count() == {"create": 10, "get": 1, "delete": 1, "list": 1}
    await other.save(_data(3))
    assert fake.count() == {"list": 1, "get": 1, "create": 1}


async def test_a_save_with_blobs_is_one_request_more_for_each(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """A blob that the session has is not put again."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    contents = [b"one", b"two"]
    await store.save(LargeValue(session_id="s"))
    fake.count()
    for number in range(1, 3):
        blobs = {blob_digest(content): content for content in contents[:number]}
        record = LargeValue(session_id="s", blob_digests=tuple(blobs))
        await store.save(record, blobs=blobs)
        assert fake.count() == {"put": 1, "create": 1}


async def test_the_newest_is_two_requests(
    make_store: MakeStore, fake: FakeS3, store: S3Store[CheckpointData]
) -> None:
    """A LIST and a GET, for whoever saved it and for others; of a large one, two GETs."""
    other: S3Store[CheckpointData] = make_store()
    for reader in (store, other, other):
        await reader.load("s")
        assert fake.count() == {"list": 1, "get": 1}
    await store.save(_data(3, messages=["x" * 100_000]))
    fake.count()
    await make_store().load("s")
    assert fake.count() == {"list": 1, "get": 2}


async def test_reads_of_what_is_known_are_one_list(
    store: S3Store[CheckpointData], fake: FakeS3
) -> None:
    """And a GET for each document."""
    await store.list("s")
    await store.ids("s")
    assert fake.count() == {"list": 2}
    await store.load("s", "cp-0")
    assert fake.count() == {"list": 1, "get": 1}
    await store.load_many("s", ["cp-0", "cp-1", "nobody"])
    assert fake.count() == {"list": 1, "get": 2}
    assert await store.verify("s", "cp-1")
    assert fake.count() == {"list": 1, "get": 1}


async def test_an_update_is_one_request_beyond_its_reads(
    store: S3Store[CheckpointData], fake: FakeS3
) -> None:
    """However many records it stages."""

    async def work(transaction: Transaction[CheckpointData]) -> None:
        newest = await transaction.load()
        assert newest is not None
        for _ in range(5):
            transaction.save(newest.next())

    await store.update("s", work)
    assert fake.count() == {"get": 1, "create": 1}


async def test_a_delete_overwrites_what_it_removes(
    store: S3Store[CheckpointData], fake: FakeS3
) -> None:
    """One create for all of them, a GET and a PUT for each object that held one."""
    assert await store.delete_many("s", ["cp-0", "cp-1"]) == 2
    assert fake.count() == {"create": 1, "get": 2, "put": 2}


async def test_a_copy_asks_for_blobs_only_where_there_are_any(
    store: S3Store[CheckpointData], make_store: MakeStore, fake: FakeS3
) -> None:
    """Of documents without any it takes a LIST or two a part, and none a checkpoint."""
    await store.aclose()
    async with MemoryStore(RawRecord) as source:
        writer = MemoryStore(beside=source)
        for iteration in range(100):
            await writer.save(CheckpointData(session_id="copied", iteration=iteration))
        fake.count()
        await copy_store(source, make_store(record_type=RawRecord))
    assert fake.count()["list"] < 20


async def test_sessions_are_listed_a_thousand_a_request(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """With one more for each that was emptied."""
    store: S3Store[CheckpointData] = make_store()
    await store.save(CheckpointData(session_id="gone"))
    await store.delete_session("gone")
    for number in range(1_200):
        key = f"prefix/sessions/other-{number}/999999999998"
        fake.objects[key] = fake.objects[fake.keys("gone/")[0]]
    fake.count()
    assert len([session_id async for session_id in store.sessions()]) == 1_200
    assert fake.count() == Counter(list=3)


async def test_the_newest_of_many_cost_two_requests_each(
    store: S3Store[CheckpointData], make_store: MakeStore, fake: FakeS3
) -> None:
    """Side by side."""
    for number in range(5):
        await store.save(CheckpointData(session_id=f"{number}"))
    fake.count()
    other: S3Store[CheckpointData] = make_store()
    assert len(await other.load_newest(map(str, range(6)))) == 5
    assert fake.count() == {"list": 6, "get": 5}


async def test_two_months_of_a_session_whose_processes_live_for_25_saves_each(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """They take what `benchmarks/scaling.py` reckons with, and what retention drops goes."""
    measured, use = Measured(), Use()
    for visit in range(2 * use.visits):
        if visit == use.visits:
            fake.count()
        store: S3Store[CheckpointData] = make_store(max_checkpoints=use.kept)
        await store.load("s")
        for _ in range(use.saves // use.visits):
            await store.save(_data())
        await store.aclose()
        fake.age(timedelta(days=7))
    asked = fake.count()
    asked.subtract(
        {"create": 9 * use.visits, "get": use.visits}
    )  # each store has probed the server
    assert asked["create"] + asked["put"] == measured.bucket_dear_a_save * use.saves
    assert asked["list"] == measured.bucket_dear_a_visit * use.visits
    assert asked["get"] == measured.bucket_gets_a_visit * use.visits
    assert len(fake.keys("/sessions/s/")) <= use.kept + 89  # no gap between two sweeps is longer


async def test_reads_change_nothing_in_the_bucket(
    make_store: MakeStore, fake: FakeS3, store: S3Store[CheckpointData]
) -> None:
    """A client that may only read is told everything; only its change is refused, by name."""
    for iteration in range(3, 70):
        await store.save(_data(iteration, checkpoint_id=f"cp-{iteration}"))
    await store.aclose()
    assert fake.keys("index")
    for key in fake.keys("index"):
        del fake.objects[key]  # a reader finds out itself, and leaves it to whoever may write
    before, _ = dict(fake.objects), fake.count()
    for operation in ("put", "create", "delete"):
        fake.fail("before", operation, times=1000, status=403, code="AccessDenied")
    reader: S3Store[CheckpointData] = make_store()
    assert await reader.load("nobody") is None
    newest = await reader.load("s")
    assert newest is not None
    assert newest == await reader.load("s", newest.checkpoint_id)
    assert len(await reader.list("s")) == len(await reader.ids("s")) == 70
    assert await reader.load_many("s", ["cp-0"])
    assert await reader.read("s", lambda it: it.load("cp-1"))
    assert [name async for name in reader.sessions()] == ["s"]
    assert await reader.load_newest(["s"])
    assert len([meta async for meta in reader.unfinished(final_triggers=["done"])]) == 1
    assert await reader.verify("s", "cp-1")
    assert await reader.check() == ()
    assert set(fake.count()) <= {"get", "list", "head"}
    with pytest.raises(CheckpointError, match="AccessDenied"):
        await reader.save(_data(70))
    await reader.aclose()
    assert fake.objects == before


async def test_what_is_remembered_is_bounded(
    make_store: MakeStore, fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checkpoints of all sessions: those used last are looked up no more, others again."""
    monkeypatch.setattr("aiocheckpoint.stores.s3.sessions._REMEMBERED_CHECKPOINTS", 80)
    writer: S3Store[CheckpointData] = make_store()
    for name in "abc":
        saves = [CheckpointData(session_id=name, checkpoint_id=f"{key}") for key in range(30)]
        await asyncio.gather(*(writer.save(data) for data in saves))
        await writer.save(CheckpointData(session_id=name, checkpoint_id="last"))
    store: S3Store[CheckpointData] = make_store()

    async def looked_up(name: str) -> bool:
        fake.count()
        assert len(await store.ids(name)) == 31
        return bool(fake.count()["get"])

    assert [await looked_up(name) for name in "abab"] == [True, True, False, False]
    assert [await looked_up(name) for name in "cbcba"] == [True, False, False, False, True]
    monkeypatch.setattr("aiocheckpoint.stores.s3.sessions._REMEMBERED_CHECKPOINTS", 10)
    assert [await looked_up(name) for name in "aabb"] == [False, False, True, False]
