"""`open_store` and `copy_store` with a bucket, and nothing but its URL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from aiocheckpoint import (
    CheckpointData,
    DurabilityUnknownError,
    InvalidArgumentError,
    MissingStoreError,
    RawRecord,
    ReplacedStoreError,
    blob_digest,
    copy_store,
    open_store,
)
from aiocheckpoint.testing import LargeValue, MemoryStore
from tests.stores.calls import CALLS, Call
from tests.stores.locations import begun_only_by_another
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3
from tests.stores.test_copying import copied_by_command, filled, raw, state

pytestmark = pytest.mark.servers


async def test_a_url_is_enough(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and endpoint are the environment's; handles share, and the last one closes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    data = CheckpointData(session_id="s")
    one, two = (open_store("s3://bucket/prefix") for _ in range(2))
    await one.save(data)
    assert await two.load("s") == data
    await one.aclose()
    assert await two.ids("s") == (data.checkpoint_id,)
    await two.aclose()


@pytest.mark.parametrize(
    ("environment", "given", "region"),
    [
        ({"AWS_REGION": "eu-west-3"}, None, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, None, "eu-west-3"),
        ({"AWS_REGION": "eu-west-3"}, "eu-west-1", "eu-west-1"),
    ],
)
async def test_a_region_is_found_where_tools_of_aws_find_it(
    environment: dict[str, str],
    given: str | None,
    region: str,
    fake: FakeS3,
    make_store: MakeStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By either name of the environment, the command line's first, unless it is given."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not await make_store(region_name=given).exists()
    assert f"/{region}/s3/" in fake.headers["Authorization"]


async def test_there_and_back_nothing_has_changed(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions of several types with blobs pass through a bucket as they are."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    source, back = raw(await filled()), MemoryStore(RawRecord)
    async with open_store("s3://bucket/copy", record_type=RawRecord) as bucket:
        totals = await copy_store(source, bucket)
        assert (totals.checkpoints, totals.skipped) == (15, 0)
        assert (await copy_store(source, bucket)).skipped == 15
        await copy_store(bucket, back)
    assert await state(back) == await state(source)


async def test_the_command_copies_there_and_back(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a directory to a bucket and back, verified; the bucket to itself is refused."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    await copied_by_command("s3://bucket/by-command", tmp_path)


async def test_one_that_must_exist_is_not_begun(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call names the place, and makes nothing, until somebody else has begun."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    url = "s3://bucket/must-exist"
    await begun_only_by_another(url, url)


def _let_pass(fake: FakeS3, time: timedelta) -> None:
    now = fake.clock
    fake.clock = lambda: now() + time


_CALLS: dict[str, Call] = {
    **CALLS,
    "save another": lambda store: store.save(CheckpointData(session_id="t")),
}


async def test_one_that_is_emptied_under_a_store_at_work_is_not_begun_again(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """What finds nothing looks, and is refused, and so is every call then; until it is back."""
    data = CheckpointData(session_id="s")
    await make_store().save(data)
    stores = {call: make_store(must_exist=True) for call in _CALLS}  # so each call is a first one
    for store in stores.values():
        await store.save(data.next())
        assert await store.load("t") is None  # which is known from now on
    before = dict(fake.objects)
    fake.objects.clear()
    for call, store in stores.items():
        for again in (_CALLS[call], _CALLS[call], lambda store: store.save(data.next())):
            with pytest.raises(MissingStoreError):
                await again(store)
        assert await store.exists() is False, call
    assert fake.keys() == []
    fake.objects.update(before)
    for count, store in enumerate(stores.values(), 2 + len(stores)):
        await store.save(data.next())
        assert len(await store.list("s")) == count


async def test_one_that_is_begun_anew_by_another_is_not_gone_on_with(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """It is told from the one that was seen, by every call, until that is back; so it stays."""
    data = CheckpointData(session_id="s", checkpoint_id="x")
    await make_store().save(data)
    stores = {call: make_store(must_exist=True) for call in _CALLS}  # so each call is a first one
    for store in stores.values():
        await store.save(data.next())
        assert await store.load("s") is not None
    before = dict(fake.objects)
    fake.objects.clear()
    await make_store().save(CheckpointData(session_id="elsewhere"))
    await make_store().save(CheckpointData(session_id="s", checkpoint_id="y"))
    begun = fake.keys()
    fake.age(timedelta(minutes=-5))
    _let_pass(fake, timedelta(minutes=10))
    for call, store in stores.items():
        for again in (_CALLS[call], _CALLS[call], lambda store: store.save(data.next())):
            with pytest.raises(ReplacedStoreError):
                await again(store)
        assert await store.exists() is False, call
    assert fake.keys() == begun
    fake.objects.clear()
    fake.objects.update(before)
    for count, store in enumerate(stores.values(), 2 + len(stores)):
        await store.save(data.next())
        assert len(await store.list("s")) == count


async def test_one_that_others_have_gone_on_with_is_no_other(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """Also where nothing is left of what was there when it was looked at last."""
    other, store = make_store(max_checkpoints=1), make_store(must_exist=True)
    await other.save(CheckpointData(session_id="s"))
    assert await store.load("s") is not None
    _let_pass(fake, timedelta(minutes=30))
    for number in range(200):
        await other.save(CheckpointData(session_id="s", iteration=number))
    _let_pass(fake, timedelta(minutes=5))
    assert await store.load("t") is None
    newest = await store.load("s")
    assert newest is not None
    assert newest.iteration == 199
    await store.save(CheckpointData(session_id="s", iteration=200))
    await other.delete_session("s")
    _let_pass(fake, timedelta(minutes=5))
    assert await store.load("t") is None
    assert await store.load("s") is None
    await store.save(CheckpointData(session_id="s"))


async def test_one_that_is_found_emptied_is_not_taken_for_the_next(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """Also by who knew of no session in it."""
    await make_store().save(CheckpointData(session_id="s"))
    store = make_store(must_exist=True)
    assert await store.load("t") is None
    fake.objects.clear()
    with pytest.raises(MissingStoreError):
        await store.load("t")
    await make_store().save(CheckpointData(session_id="t"))
    _let_pass(fake, timedelta(minutes=5))
    with pytest.raises(ReplacedStoreError):
        await store.load("t")
    async with make_store(must_exist=True) as later:
        assert await later.load("t") is not None


async def test_saves_at_once_take_no_other_of_them_for_the_store(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """Each sees what the others have just put into the emptied place, and none is acknowledged."""
    names = [f"s{number}" for number in range(20)]
    first = make_store(record_type=LargeValue)
    await asyncio.gather(*(first.save(LargeValue(session_id=name)) for name in names))
    stores = [make_store(must_exist=True, record_type=LargeValue) for _ in range(2)]
    await asyncio.gather(*(store.load(name) for store in stores for name in names))
    fake.objects.clear()
    content = b"a large value"
    digests = (blob_digest(content),)
    saves = [
        stores[number % 2].save(
            LargeValue(session_id=name, blob_digests=digests), blobs={digests[0]: content}
        )
        for number, name in enumerate(names)
    ]
    errors = await asyncio.gather(*saves, return_exceptions=True)
    assert {type(error) for error in errors} == {MissingStoreError}
    for store in stores:
        await store.aclose()
    assert fake.keys() == []


async def test_who_misses_one_commit_alone_is_not_refused(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """What else is there shows that the store is; and so does whatever cannot be looked at."""
    store = make_store(must_exist=True)
    await make_store().save(CheckpointData(session_id="other"))
    await store.save(CheckpointData(session_id="s", checkpoint_id="a"))
    fake.age(timedelta(minutes=2))
    for key in fake.keys("/sessions/s/"):
        del fake.objects[key]
    await store.save(CheckpointData(session_id="s", checkpoint_id="b"))
    fault = fake.fail("before", "head", times=1000, status=403)
    await store.save(CheckpointData(session_id="s", checkpoint_id="c"))
    fake.faults.remove(fault)
    newest = await make_store().load("s")
    assert newest is not None
    assert newest.checkpoint_id == "c"


@pytest.mark.parametrize("operation", ["list", "delete"])
async def test_what_can_neither_be_told_nor_taken_back_is_unknown(
    fake: FakeS3, make_store: MakeStore, operation: str
) -> None:
    """A save into an emptied place says that nothing is stored only where that is so."""
    await make_store().save(CheckpointData(session_id="s"))
    store = make_store(must_exist=True)
    await store.save(CheckpointData(session_id="s"))
    fake.objects.clear()
    fault = fake.fail("before", operation, times=1000, status=403)
    with pytest.raises(DurabilityUnknownError):
        await store.save(CheckpointData(session_id="s", checkpoint_id="a"))
    fake.faults.remove(fault)
    assert len(fake.keys()) == 1


async def test_that_a_store_must_exist_costs_one_look(fake: FakeS3, make_store: MakeStore) -> None:
    """And one more for a session that is not there; for those that are a HEAD beside each save."""
    data = CheckpointData(session_id="s")
    for must_exist, lists in ((False, (1, 0, 1, 1)), (True, (1 + 1, 0, 1, 1 + 1))):
        store = make_store(must_exist=must_exist)
        calls = (
            store.save(data),
            store.save(data.next()),
            store.load("s"),
            store.save(CheckpointData(session_id=f"t{must_exist}")),
        )
        counted = []
        for call in calls:
            before = fake.count()["list"]
            await call
            counted.append(fake.count()["list"] - before)
        assert tuple(counted) == lists
        fake.asked.clear()
        await store.save(data.next())
        assert fake.count() == ({"create": 1, "head": 1} if must_exist else {"create": 1})


def test_a_parameter_is_refused_by_its_name() -> None:
    """A bucket's URL has none; the error says where an endpoint goes, and repeats no secret."""
    with pytest.raises(InvalidArgumentError) as refused:
        open_store("s3://bucket/prefix?endpoint_url=http://geheim&region=x")
    assert refused.value.name == "location"
    assert "?endpoint_url=...&region=..." in str(refused.value)
    assert "AWS_ENDPOINT_URL" in str(refused.value)
    assert "geheim" not in str(refused.value)
