"""What readers and later clients see of commits whose documents somebody is erasing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from aiocheckpoint import CheckpointData, Transaction, blob_digest
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import LargeValue
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = pytest.mark.servers

Store = S3Store[CheckpointData]
_COMMIT = "sessions/s/{:012d}"


def _data(checkpoint_id: str) -> CheckpointData:
    return CheckpointData(session_id="s", checkpoint_id=checkpoint_id, messages=[checkpoint_id])


def _replacing(old: str, new: str) -> Callable[[Transaction[CheckpointData]], Awaitable[None]]:
    async def work(session: Transaction[CheckpointData]) -> None:
        session.delete(old)
        session.save(_data(new))

    return work


async def _newest(store: Store) -> set[str]:
    found = await store.load("s")
    return set() if found is None else {found.checkpoint_id}


async def _listed(store: Store) -> set[str]:
    return {meta.checkpoint_id for meta in await store.list("s")}


async def _ids(store: Store) -> set[str]:
    return {*await store.ids("s")}


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    ("read", "before", "after"),
    [(_newest, {"b"}, {"c"}), (_listed, {"a", "b"}, {"a", "c"}), (_ids, {"a", "b"}, {"a", "c"})],
)
@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.some(4)
async def test_a_reader_sees_what_was_before_or_after(
    make_store: MakeStore,
    fake: FakeS3,
    read: Any,
    before: set[str],
    after: set[str],
    is_known: bool,
    is_alone: bool,
) -> None:
    """Never what is left of a commit that is erased between its LIST and its GET."""
    writer: Store = make_store()
    reader: Store = make_store()
    if is_known:
        await writer.save(_data("a"))
        await read(reader)
    if is_alone:
        if not is_known:
            await writer.save(_data("a"))
        await writer.save(_data("b"))
    else:
        await asyncio.gather(writer.save(_data("a")), writer.save(_data("b")))
    number = len(fake.keys("sessions/s/"))
    slow = fake.fail("slow", "get", key=_COMMIT.format(10**12 - 1 - number))
    reading = asyncio.create_task(read(reader))
    await asyncio.to_thread(slow.reached.wait)
    await writer.update("s", _replacing("b", "c"))
    slow.released.set()
    assert await reading in (before, after)
    assert await read(reader) == after


def _naming(digest: str, checkpoint_id: str) -> LargeValue:
    return LargeValue(session_id="s", checkpoint_id=checkpoint_id, blob_digests=(digest,))


async def _replace(store: S3Store[LargeValue], old: str, new: LargeValue) -> None:
    async def work(session: Transaction[LargeValue]) -> None:
        session.delete(old)
        session.save(new)

    await store.update("s", work)


async def test_a_page_that_goes_on_is_known_to_who_looks_up_meanwhile(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """The checkpoint that it came with is replaced by one that names it, and erased."""
    page = b"page"
    digest = blob_digest(page)
    writer: S3Store[LargeValue] = make_store(record_type=LargeValue)
    reader: S3Store[LargeValue] = make_store(record_type=LargeValue)
    await writer.save(_naming(digest, "a"), blobs={digest: page})
    await writer.save(LargeValue(session_id="s", checkpoint_id="b"))
    await reader.load("s")
    slow = fake.fail("slow", "get", key=_COMMIT.format(10**12 - 2))
    listing = asyncio.create_task(reader.ids("s"))
    await asyncio.to_thread(slow.reached.wait)
    await _replace(writer, "a", _naming(digest, "c"))
    slow.released.set()
    assert await listing in (("b", "a"), ("c", "b"))
    assert await reader.load_blobs("s", [digest]) == {digest: page}
    await reader.save(_naming(digest, "d"))
    assert await reader.load_blobs("s", [digest]) == {digest: page}


async def test_a_page_that_goes_on_is_known_by_an_index_that_comes_late(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """A process may end before it has written a part of it; the next one finds commits erased."""
    page = b"page"
    digest = blob_digest(page)

    async def replace(first: int, end: int) -> None:
        store: S3Store[LargeValue] = make_store(record_type=LargeValue)
        for number in range(first, end):
            await _replace(store, f"{number - 1}", _naming(digest, f"{number}"))
        await store.aclose()

    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    await store.save(_naming(digest, "0"), blobs={digest: page})
    fake.fail("before", "put", key="index/", status=403, times=2)
    await replace(1, 33)
    await replace(33, 35)
    assert not fake.keys("index/")
    await replace(35, 37)
    assert fake.keys("index/")
    other: S3Store[LargeValue] = make_store(record_type=LargeValue)
    assert await other.load_blobs("s", [digest]) == {digest: page}
    fake.age(timedelta(days=1))
    await other.recover("s")
    assert await other.load_blobs("s", [digest]) == {digest: page}


async def test_what_is_deleted_beside_a_copy_is_no_damage(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """A blob that went with its checkpoint is not told as missing, and all else is copied."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    other: S3Store[LargeValue] = make_store(record_type=LargeValue)
    for key in ("a", "b"):
        digest = blob_digest(key.encode())
        await store.save(_naming(digest, key), blobs={digest: key.encode()})
    slow = fake.fail("slow", "get", key=f"blobs/s/{blob_digest(b'a')}")
    copying = asyncio.create_task(store.copy_session("s", "copy"))
    await asyncio.to_thread(slow.reached.wait)
    await other.delete("s", "a")
    slow.released.set()
    assert await copying == 1
    assert await store.ids("copy") == ("b",)
    assert await store.load_blobs("copy", [digest]) == {digest: b"b"}


async def test_what_is_replaced_beside_a_copy_is_copied(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """As it was before or after: an id that is there all along is in the copy."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    other: S3Store[LargeValue] = make_store(record_type=LargeValue)
    before, after = blob_digest(b"before"), blob_digest(b"after")
    await store.save(_naming(before, "a"), blobs={before: b"before"})
    slow = fake.fail("slow", "get", key=f"blobs/s/{before}")
    copying = asyncio.create_task(store.copy_session("s", "copy"))
    await asyncio.to_thread(slow.reached.wait)

    async def replace(session: Transaction[LargeValue]) -> None:
        session.delete("a")
        session.save(_naming(after, "a"), blobs={after: b"after"})
        session.save(_naming(after, "later"), blobs={})

    await other.update("s", replace)
    slow.released.set()
    assert await copying == 1
    assert await store.ids("copy") == ("a",)
    copied = await store.load("copy")
    assert copied is not None
    assert set(await store.load_blobs("copy", copied.blob_digests)) == set(copied.blob_digests)
