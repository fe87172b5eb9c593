"""What a deleted session leaves in a bucket, and how the rest is removed."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import CheckpointData, ErasureIncompleteError, blob_digest
from aiocheckpoint.kit import encode_id
from aiocheckpoint.testing import LargeValue
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = pytest.mark.servers

_PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "s3.md"
_LONGER_THAN_SETTLED = timedelta(hours=2, minutes=1)


def _texts(fake: FakeS3) -> bytes:
    return b"".join(stored.data for stored in fake.objects.values())


async def _filled(make_store: MakeStore, session_id: str, **options: int) -> None:
    """Save until there are parts of an index, and what retention has dropped; let an owner die."""
    store = make_store(record_type=LargeValue, **options)
    digest = blob_digest(b"content")
    data = LargeValue(session_id=session_id, note="content", blob_digests=(digest,))
    for number in range(70):
        data = data.next(checkpoint_id=f"order-{number}")
        await store.save(data, blobs={digest: b"content"})
    await store.aclose()


async def test_nothing_is_left_that_nobody_needs(fake: FakeS3, make_store: MakeStore) -> None:
    """No content, though retention has dropped it before; after two hours only the last commit."""
    await _filled(make_store, "ann", max_checkpoints=3)
    store = make_store()
    async with store.own("ann"):
        for token in ("1", "42", "5"):  # of owners that have died
            fake.write(f"prefix/owners/ann/{token}", b"")
    await store.save(CheckpointData(session_id="bob", checkpoint_id="b", messages=["bob's"]))
    assert fake.keys("/index/ann/")
    assert await store.delete_session("ann")
    assert b"content" not in _texts(fake)
    assert fake.keys("/index/ann/") == fake.keys("/owners/ann/") == fake.keys("/blobs/ann/") == []
    fake.age(_LONGER_THAN_SETTLED)
    assert not await make_store().delete_session("ann")
    left = fake.keys("ann")
    assert [re.sub("[0-9]+", "N", key) for key in left] == [
        "prefix/sessions/ann!N",
        "prefix/sessions/ann/N",
    ]
    assert b"order-" not in _texts(fake)
    assert [session async for session in make_store().sessions()] == ["bob"]
    assert await store.load("ann") is None
    await store.save(CheckpointData(session_id="ann", checkpoint_id="new"))
    assert await make_store().ids("ann") == ("new",)
    assert await make_store().check() == ()


async def _saved(store: Any, checkpoint_id: str, content: bytes) -> None:
    digest = blob_digest(content)
    record = LargeValue(
        session_id="ann", checkpoint_id=checkpoint_id, note="n", blob_digests=(digest,)
    )
    await store.save(record, blobs={digest: content})


async def test_no_blob_stays_that_was_stored_twice(fake: FakeS3, make_store: MakeStore) -> None:
    """Two clients that save one new blob at a time leave it once, and none after the delete."""
    one, two = make_store(record_type=LargeValue), make_store(record_type=LargeValue)
    for store in (one, two):
        await store.ids("ann")
    await asyncio.gather(_saved(one, "a", b"content"), _saved(two, "b", b"content"))
    await one.aclose()
    await two.aclose()
    assert len(fake.keys("/blobs/")) == 1
    assert await make_store().delete_session("ann")
    assert fake.keys("/blobs/") == []


async def test_a_blob_that_could_not_be_removed_goes_with_its_session(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """What replacing an id should have removed, by a process that died, goes with the session."""
    store = make_store(record_type=LargeValue)
    await _saved(store, "a", b"first")
    fake.fail("before", "delete", times=1000, status=500, key="/blobs/")
    await _saved(store, "a", b"second")
    await store.aclose()
    fake.faults.clear()
    assert len(fake.keys("/blobs/")) == 2
    assert await make_store().delete_session("ann")
    assert fake.keys("/blobs/") == []


async def _staged_delete(session: Any) -> None:
    session.delete("a")


async def _owned_delete(store: Any) -> None:
    async with store.own("ann") as owner:
        await owner.delete_many(["a"])


_DELETES: dict[str, Callable[[Any], Awaitable[object]]] = {
    "delete": lambda store: store.delete("ann", "a"),
    "delete_many": lambda store: store.delete_many("ann", ["a", "other"]),
    "delete_session": lambda store: store.delete_session("ann"),
    "update": lambda store: store.update("ann", _staged_delete),
    "owner": _owned_delete,
}


@pytest.mark.parametrize("refused", [("delete", "/blobs/"), ("put", "/sessions/ann/")])
@pytest.mark.parametrize("delete", _DELETES.values(), ids=_DELETES)
@pytest.mark.some(5)
async def test_what_is_deleted_and_not_erased_is_told(
    fake: FakeS3,
    make_store: MakeStore,
    delete: Callable[[Any], Awaitable[object]],
    refused: tuple[str, str],
) -> None:
    """Nobody is told "done" while bytes stay: the same call again erases them, and then says so."""
    operation, key = refused
    store = make_store(record_type=LargeValue)
    await _saved(store, "a", b"content")
    await _saved(store, "b", b"kept")
    if delete is _DELETES["owner"]:
        async with store.own("ann"):
            pass
    fault = fake.fail("before", operation, times=1000, status=403, key=key)
    for _ in range(2):
        with pytest.raises(ErasureIncompleteError, match="again") as told:
            await delete(store)
        assert told.value.session_id == "ann"
        assert all(place.startswith("s3://bucket/prefix/") for place in told.value.locations)
        assert await store.load("ann", "a") is None
    assert b"content" in _texts(fake) or b'"id":"a"' in _texts(fake)
    fake.faults.remove(fault)
    await delete(store)
    assert b"content" not in _texts(fake)
    assert b'"checkpoint_id":"a"' not in _texts(fake)
    if delete is not _DELETES["delete_session"]:
        assert await make_store(record_type=LargeValue).ids("ann") == ("b",)
    assert await make_store(record_type=LargeValue).check() == ()


async def test_a_session_that_cannot_be_listed_is_told(
    fake: FakeS3, make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What is to be erased is found by a LIST: without one it is deleted, and not called erased."""
    store = make_store(record_type=LargeValue)
    await _saved(store, "a", b"content")
    await store.ids("ann")
    fault = fake.fail("before", "list", times=1000, status=403)
    with pytest.raises(ErasureIncompleteError):
        await store.delete_session("ann")
    assert caplog.records == []  # errors of a call are raised, not logged
    fake.faults.remove(fault)
    assert await store.load("ann") is None
    assert not await store.delete_session("ann")
    assert b"content" not in _texts(fake)


async def test_another_store_erases_what_a_deleted_session_has_left(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """`delete_session` again, by whichever process, finds in the bucket what there is to erase."""
    store = make_store(record_type=LargeValue)
    for number in range(5):
        await _saved(store, f"{number}", f"content {number}".encode())
    fault = fake.fail("before", "delete", times=1000, status=403, key="/blobs/")
    with pytest.raises(ErasureIncompleteError):
        await store.delete_session("ann")
    await store.aclose()
    fake.faults.remove(fault)
    assert fake.keys("/blobs/ann/")
    assert not await make_store().delete_session("ann")
    assert fake.keys("/blobs/ann/") == []
    assert b"content" not in _texts(fake)


async def test_who_has_saved_is_not_told_of_what_stays(
    fake: FakeS3, make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """An error never means that something is saved: it is logged, and the next delete erases it."""
    store = make_store(record_type=LargeValue)
    await _saved(store, "a", b"content")

    async def redact(session: Any) -> str:
        session.delete("a")
        session.save(LargeValue(session_id="ann", checkpoint_id="a", note="removed"))
        return "redacted"

    fault = fake.fail("before", "delete", times=1000, status=403, key="/blobs/")
    assert await store.update("ann", redact) == "redacted"
    assert "not erased yet" in caplog.text
    assert fake.keys("/blobs/ann/")
    fake.faults.remove(fault)
    assert not await store.delete("ann", "unknown")
    assert fake.keys("/blobs/ann/") == []
    assert await store.ids("ann") == ("a",)
    assert b"content" not in _texts(fake)


async def test_the_commands_of_the_page_remove_all_of_a_session(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """And nothing of others, though their names begin alike; the session may begin anew."""
    kept = ["ann2", "an", "ann/1", "ann!1", "bob"]
    store = make_store()
    for session_id in ("ann", *kept):
        await store.save(CheckpointData(session_id=session_id, checkpoint_id="c"))
    await _filled(make_store, "ann")
    for part in ("index", "blobs", "owners", "quarantine"):
        fake.write(f"prefix/{part}/ann/left", b"")
        fake.write(f"prefix/{part}/ann2/left", b"")
    await store.delete_session("ann")
    await store.aclose()
    others = {key for key in fake.objects if "/ann/" not in key and "/ann!" not in key}
    page = await asyncio.to_thread(_PAGE.read_text, encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    shell = "aws() { printf '%s\\n' \"$@\" end; }\n" + commands.replace("\n  ", "\n")
    run = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", shell], capture_output=True, text=True, check=True
    )
    for call in run.stdout.split("\nend\n")[:-1]:
        words = call.split("\n")
        assert words[:3] == ["s3", "rm", "--recursive"]
        begin = words[3].replace("s3://bucket/checkpoints/", "prefix/")
        assert begin.endswith("/")  # or the command adds it
        pattern = words[7] if words[4:6] == ["--exclude", "*"] else "*"
        for key in [*fake.objects]:
            if key.startswith(begin) and fnmatchcase(key.removeprefix(begin), pattern):
                del fake.objects[key]
    assert {*fake.objects} == others
    assert encode_id("ann", "session id") == "ann"
    async with make_store() as later:
        assert {session async for session in later.sessions()} == {*kept}
        await later.save(CheckpointData(session_id="ann", checkpoint_id="new"))
        assert await later.ids("ann") == ("new",)
