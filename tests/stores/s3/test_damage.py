"""What is damaged in the bucket is raised, listed, found and put aside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointData,
    CheckpointTooLargeError,
    LostIdError,
    MissingBlobError,
    RawRecord,
    blob_digest,
    copy_store,
)
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import LargeValue, MemoryStore
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3, Stored

pytestmark = pytest.mark.servers

Store = S3Store[CheckpointData]


@pytest.fixture(name="store")
async def _store(make_store: MakeStore) -> Store:
    store: Store = make_store()
    for number in range(3):
        await store.save(
            CheckpointData(session_id="s", checkpoint_id=f"cp-{number}", trigger=f"step {number}")
        )
    return store


def _damage(fake: FakeS3, number: int, old: bytes, new: bytes) -> None:
    key = f"prefix/sessions/s/{999_999_999_999 - number}"
    stored = fake.objects[key]
    assert old in stored.data
    fake.objects[key] = Stored(stored.data.replace(old, new), stored.modified_at)


async def test_a_damaged_document_is_raised_and_put_aside(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """Nothing older is handed out; afterwards the newest intact one is the newest."""
    _damage(fake, 3, b'"trigger":"step 2"}\n', b'"trigger":"step X"}\n')
    for reader in (store, make_store()):
        with pytest.raises(CheckpointCorruptError) as raised:
            await reader.load("s")
        assert raised.value.newest_valid_id == "cp-1"
        assert not await reader.verify("s", "cp-2")
        assert [meta.checkpoint_id for meta in await reader.list("s")] == ["cp-2", "cp-1", "cp-0"]
        (finding,) = await reader.check()
        assert (finding.kind, finding.session_id) == ("damaged", "s")
        assert finding.location == (await reader.list("s"))[0].location
        (unfinished,) = [m async for m in reader.unfinished(final_triggers=["step 2"])]
        assert unfinished.problem is not None
    report = await store.recover("s")
    assert report.newest_valid_id == "cp-1"
    (place,) = report.quarantined
    assert b"step X" in fake.objects[place.removeprefix("s3://bucket/")].data
    assert await store.check() == ()
    newest = await make_store().load("s")
    assert newest is not None
    assert newest.checkpoint_id == "cp-1"


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_commit_that_cannot_be_read_is_a_damaged_checkpoint(
    store: Store, fake: FakeS3, make_store: MakeStore, is_gone: bool
) -> None:
    """It is listed and raised, what may not be there any more too; saving goes on behind it."""
    if is_gone:
        del fake.objects["prefix/sessions/s/999999999997"]
    else:
        _damage(fake, 2, b'"number":2', b'"number":7')
    other: Store = make_store()
    listed = await other.list("s")
    assert [meta.checkpoint_id for meta in listed] == ["cp-2", "commit-2", "cp-0"]
    assert [meta.problem is None for meta in listed] == [True, False, False]
    for key in ("commit-2", "cp-0"):
        with pytest.raises(CheckpointCorruptError):
            await other.load("s", key)
        with pytest.raises(CheckpointCorruptError):
            await other.load_many("s", [key])
        assert not await other.verify("s", key)
    with pytest.raises(CheckpointCorruptError):
        await other.copy_session("s", "copy")
    assert await other.load_many("s", ["cp-2"]) == (await other.load("s"),)
    (finding,) = await other.check()
    assert finding.kind == "damaged"
    await other.save(CheckpointData(session_id="s", checkpoint_id="cp-3"), expected="cp-2")
    report = await other.recover("s")
    assert len(report.quarantined) == (0 if is_gone else 1)
    assert await other.check() == await make_store().check() == ()
    for reader in (other, make_store()):
        assert await reader.ids("s") == ("cp-3", "cp-2", "cp-0")
        assert len(await reader.load_many("s", ["cp-3", "cp-2", "cp-0"])) == 3


async def test_a_commit_that_cannot_be_read_is_not_deleted_before_older_ones(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """What it may have deleted or replaced would come back: that is told, and what to do."""
    _damage(fake, 2, b'"number":2', b'"number":7')
    other: Store = make_store()
    for delete in (other.delete("s", "commit-2"), other.delete_many("s", ["cp-2", "commit-2"])):
        with pytest.raises(CheckpointCorruptError, match="recover") as told:
            await delete
        assert (told.value.session_id, told.value.checkpoint_id) == ("s", "commit-2")
    assert await other.ids("s") == ("cp-2", "cp-0", "commit-2")
    assert await other.delete_many("s", ["commit-2", "cp-0"]) == 2
    for reader in (other, make_store()):
        assert await reader.ids("s") == ("cp-2",)
        assert await reader.check() == ()
    _damage(fake, 3, b'"number":3', b'"number":8')
    last: Store = make_store()
    assert await last.delete("s", "commit-3")
    assert await make_store().list("s") == ()


@pytest.mark.parametrize("way", ["replaced", "deleted"])
async def test_nothing_that_is_gone_is_handed_out_again(
    make_store: MakeStore, fake: FakeS3, way: str
) -> None:
    """Where the commit that removed or replaced a checkpoint cannot be read, the old one raises."""
    store: Store = make_store()
    await store.save(CheckpointData(session_id="s", checkpoint_id="first"))
    await store.save(CheckpointData(session_id="s", checkpoint_id="a", trigger="old"))
    if way == "deleted":
        held = dict(fake.objects)
        await store.delete("s", "a")
        fake.objects |= held  # the process was killed before it had overwritten it
    else:
        await store.save(CheckpointData(session_id="s", checkpoint_id="a", trigger="new"))
    await store.save(CheckpointData(session_id="s", checkpoint_id="b"))
    _damage(fake, 3, b'{"sha256"', b'{"sha257"')
    other: Store = make_store()
    with pytest.raises(CheckpointCorruptError) as told:
        await other.load("s", "a")
    assert "may have deleted or replaced it" in str(told.value)
    assert {m.checkpoint_id: m.problem is None for m in await other.list("s")} == {
        "b": True, "commit-3": False, "a": False, "first": False,
    }  # fmt: skip
    assert (await other.load("s")) == (await other.load("s", "b"))
    assert [finding.kind for finding in await other.check()] == ["damaged"]
    await other.save(CheckpointData(session_id="s", checkpoint_id="a", trigger="anew"))
    anew = await other.load("s", "a")
    assert anew is not None
    assert anew.trigger == "anew"


async def test_recover_names_what_may_have_come_back(make_store: MakeStore, fake: FakeS3) -> None:
    """All that was saved before a commit nobody can read any more, once; nothing saved after it."""
    store: Store = make_store()
    for key, trigger in (("first", ""), ("a", "old"), ("a", "new"), ("b", "")):
        await store.save(CheckpointData(session_id="s", checkpoint_id=key, trigger=trigger))
    _damage(fake, 3, b'{"sha256"', b'{"sha257"')
    other: Store = make_store()
    report = await other.recover("s")
    assert (report.uncertain_ids, report.newest_valid_id) == (("first", "a"), "b")
    came_back = await other.load("s", "a")
    assert came_back is not None
    assert came_back.trigger == "old"
    await other.delete("s", "a")
    assert (await other.recover("s")).uncertain_ids == ()
    assert await make_store().ids("s") == ("first", "b")


async def test_a_newest_commit_that_cannot_be_read_is_raised(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """By whoever did not make it; the next save has all that was before, and its times."""
    _damage(fake, 3, b'{"sha256"', b'{"sha257"')
    other: Store = make_store()
    with pytest.raises(CheckpointCorruptError) as raised:
        await other.load("s")
    assert raised.value.newest_valid_id == "cp-1"
    assert (await other.recover("s")).newest_valid_id == "cp-1"
    await other.save(CheckpointData(session_id="s", checkpoint_id="cp-4"), expected="cp-1")
    for reader in (store, other, make_store()):
        assert await reader.ids("s") == ("cp-4", "cp-1", "cp-0")
        times = [meta.saved_at for meta in await reader.list("s")]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("is_indexed", [False, True])
@pytest.mark.some(1)
async def test_a_delete_whose_commit_cannot_be_read_gives_nothing_back(
    store: Store, fake: FakeS3, make_store: MakeStore, is_indexed: bool
) -> None:
    """What it has deleted was overwritten; where the index tells of it, it is listed and raises."""
    more = [f"more-{number}" for number in range(40 if is_indexed else 0)]
    for key in more:
        await store.save(CheckpointData(session_id="s", checkpoint_id=key))
    await store.delete("s", "cp-1")
    await store.save(CheckpointData(session_id="s", checkpoint_id="cp-4"))
    await store.aclose()
    assert bool(fake.keys("/index/")) is is_indexed
    _damage(fake, 4 + len(more), b'{"sha256"', b'{"sha257"')
    other: Store = make_store()
    if "cp-1" in await other.ids("s"):
        assert is_indexed
        with pytest.raises(CheckpointCorruptError):
            await other.load("s", "cp-1")
    else:
        assert await other.load("s", "cp-1") is None
    assert (await other.recover("s")).newest_valid_id == "cp-4"
    left = ("cp-4", "cp-2", "cp-0")
    assert await make_store().ids("s") == (*sorted(more, reverse=True), *left)
    assert await make_store().check() == ()


async def test_blobs_that_are_damaged_missing_or_left_are_found(
    make_store: MakeStore, fake: FakeS3
) -> None:
    """What refers to them is put aside; what nobody names goes, once nobody can name it."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    for content in (b"1", b"2", b"3"):
        digest = blob_digest(content)
        key = content.decode()
        record = LargeValue(session_id="s", checkpoint_id=key, blob_digests=(digest,))
        await store.save(record, blobs={digest: content})
    keys = {key: fake.objects[key].data for key in fake.keys("blobs/")}
    (one,) = [key for key, data in keys.items() if data == b"1"]
    (two,) = [key for key, data in keys.items() if data == b"2"]
    fake.objects[one] = Stored(b"?", fake.objects[one].modified_at)
    del fake.objects[two]
    left = f"prefix/blobs/s/{blob_digest(b'4')}-0123"
    fake.objects[left] = Stored(b"4", fake.objects[one].modified_at)
    with pytest.raises(CheckpointCorruptError):
        await store.load_blobs("s", [blob_digest(b"1")])
    with pytest.raises(MissingBlobError):
        await store.load_blobs("s", [blob_digest(b"2")])
    assert [finding.kind for finding in await store.check()] == ["damaged", "missing-blob"]
    fake.age(timedelta(days=1))
    kinds = [finding.kind for finding in await store.check()]
    assert kinds == ["damaged", "missing-blob", "unused-blob"]
    report = await store.recover("s")
    assert (len(report.quarantined), report.newest_valid_id) == (2, "3")
    assert await store.check() == ()
    assert len(fake.keys("blobs/")) == 1


async def test_recover_moves_nothing_where_nobody_can_tell(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """What is over `max_bytes` may be intact: a client that may not read it leaves all as it is."""
    large = CheckpointData(session_id="s", checkpoint_id="cp-0", resume_hint="x" * 2000)
    await store.save(large)
    _damage(fake, 3, b'"trigger":"step 2"}\n', b'"trigger":"step X"}\n')
    before = dict(fake.objects)
    with pytest.raises(CheckpointTooLargeError):
        await make_store(max_bytes=1000).recover("s")
    assert fake.objects == before
    assert (await store.recover("s")).newest_valid_id == "cp-0"
    assert await make_store().ids("s") == ("cp-1", "cp-0")


async def test_a_session_whose_id_is_lost_hides_no_other(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """It is told after all others, and is a finding; whoever knows the id can recover it."""
    lost = ["x" * 300, "y" * 300]
    for session_id in lost:
        await store.save(CheckpointData(session_id=session_id, checkpoint_id="only"))
    keys = [key for key in fake.keys("sessions/") if "~sha256-" in key]
    for key in keys:
        fake.objects[key] = Stored(b"\0" * 10, fake.objects[key].modified_at)
    places = sorted(f"s3://bucket/{key.rpartition('/')[0]}/" for key in keys)
    for read in (store.sessions, lambda: store.unfinished(final_triggers=[])):
        found: list[object] = []
        with pytest.raises(LostIdError) as told:
            await _collect(read(), found)
        assert len(found) == 1
        assert [getattr(e, "location", "") for e in (told.value, *told.value.others)] == places
    findings = await store.check()
    assert {(f.kind, f.session_id) for f in findings} == {("lost-id", None)}
    assert [f.location for f in findings] == places
    other = make_store()
    for session_id in lost:
        assert len((await other.recover(session_id)).quarantined) == 1
    assert [session_id async for session_id in other.sessions()] == ["s"]
    assert await other.check() == ()


async def _collect(items: AsyncIterator[object], found: list[object]) -> None:
    async for item in items:
        found += [item]


async def test_a_damaged_commit_that_still_tells_the_id(store: Store, fake: FakeS3) -> None:
    """What is left of it names the session, whose damage is told as of any other."""
    await store.save(CheckpointData(session_id="x" * 300, checkpoint_id="only"))
    (key,) = (key for key in fake.keys("sessions/") if "~sha256-" in key)
    data = fake.objects[key].data.replace(b"only", b"0nly")
    fake.objects[key] = Stored(data, fake.objects[key].modified_at)
    assert {session_id async for session_id in store.sessions()} == {"s", "x" * 300}
    assert {finding.session_id for finding in await store.check()} == {"x" * 300}


async def test_a_copy_gives_again_what_the_bucket_has_lost(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """A blob that is gone there is stored anew by the checkpoint that leads to it, at once."""
    source, digest = MemoryStore(LargeValue), blob_digest(b"picture")
    for number in (1, 2):
        record = LargeValue(
            session_id="s", checkpoint_id=f"{number}", note="n", blob_digests=(digest,)
        )
        await source.save(record, blobs={digest: b"picture"})
        target = make_store(record_type=RawRecord)
        await copy_store(MemoryStore(RawRecord, beside=source), target)
        assert await target.load_blobs("s", [digest]) == {digest: b"picture"}
        await target.aclose()
        for key in fake.keys("/blobs/"):
            del fake.objects[key]
        between = LargeValue(session_id="s", checkpoint_id=f"{number} and more", note="n")
        await source.save(between)
