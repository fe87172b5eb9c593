"""What becomes of calls when requests fail, connections break and servers go."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from aiocheckpoint import (
    CheckpointData,
    DurabilityUnknownError,
    StorageFullError,
    StoreBusyError,
    StoreUnavailableError,
    Transaction,
    UnsuitableStoreError,
    blob_digest,
)
from aiocheckpoint.stores.s3 import S3Store
from aiocheckpoint.testing import LargeValue
from tests.clocks import HOUR_SECONDS, Clock
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("whole_probe")]

Store = S3Store[CheckpointData]


def _data(iteration: int = 0, session_id: str = "s") -> CheckpointData:
    return CheckpointData(
        session_id=session_id, iteration=iteration, checkpoint_id=f"cp-{iteration}"
    )


@pytest.fixture(name="store")
async def _store(make_store: MakeStore) -> Store:
    store: Store = make_store()
    await store.save(_data())
    return store


@pytest.mark.parametrize("kind", ["before", "after", "cut", "lost"])
async def test_a_request_that_fails_once_is_made_again(
    store: Store, fake: FakeS3, kind: str
) -> None:
    """Of a create that took place and whose answer was lost, the second one is no conflict."""
    fake.fail(kind, "create")
    await store.save(_data(1), expected="cp-0")
    fake.fail(kind, "list")
    fake.fail(kind, "get")
    assert await store.load("s") == await store.load("s", "cp-1")
    assert await store.ids("s") == ("cp-1", "cp-0")
    fake.fail(kind, "create")
    assert await store.delete("s", "cp-1")
    assert len(fake.keys("sessions/s/")) == 3


_MADE_AND_ANSWERED_OTHERWISE = [
    pytest.param("twice", 412, "", id="sent-twice"),
    pytest.param("lost", 0, "", id="no-answer"),
    *(
        pytest.param("after", status, code, id=code)
        for status, code in [
            (503, "SlowDown"), (503, "ServiceUnavailable"), (500, "InternalError"),
            (429, "TooManyRequests"), (408, "RequestTimeout"), (409, "ConditionalRequestConflict"),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "code"), _MADE_AND_ANSWERED_OTHERWISE)
async def test_a_commit_is_not_in_its_own_way(
    make_store: MakeStore, fake: FakeS3, kind: str, status: int, code: str
) -> None:
    """
    A create that took place, of which a proxy tells otherwise, is one save, with its blobs.

    As where it has sent the request twice, and tells of the second.
    """
    store = make_store(record_type=LargeValue)
    contents = [bytes([number]) * 100 for number in range(3)]
    digests = [blob_digest(content) for content in contents]

    def large(number: int) -> LargeValue:
        return LargeValue(
            session_id="s", checkpoint_id=f"cp-{number}", blob_digests=(digests[number],)
        )

    async def work(session: Transaction[LargeValue]) -> int:
        number = len(await session.ids())
        session.save(large(number), blobs={digests[number]: contents[number]})
        return number

    await store.save(large(0), blobs={digests[0]: contents[0]})
    fake.fail(kind, "create", status=status, code=code)
    await store.save(large(1), blobs={digests[1]: contents[1]}, expected="cp-0")
    fake.fail(kind, "create", status=status, code=code)
    assert await store.update("s", work) == 2
    await store.aclose()
    other = make_store(record_type=LargeValue)
    assert await other.ids("s") == ("cp-2", "cp-1", "cp-0")
    assert [*(await other.load_blobs("s", digests)).values()] == contents
    assert await other.check() == ()


async def test_a_commit_of_which_nobody_can_tell(store: Store, fake: FakeS3) -> None:
    """Where one is in the way and nobody answers whose, the caller is told just that."""
    fake.fail("twice", "create")
    gone = fake.fail("before", "list", times=1_000)
    with pytest.raises(DurabilityUnknownError):
        await store.save(_data(1), expected="cp-0")
    gone.times = 0
    assert await store.ids("s") == ("cp-1", "cp-0")


async def test_an_error_that_comes_after_the_status_is_one(store: Store, fake: FakeS3) -> None:
    """A server that has begun to answer with 200 may fail yet: nobody knows whether it is there."""
    fake.fail(
        "page", "create", code="<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"
    )
    await store.save(_data(1), expected="cp-0")
    assert await store.ids("s") == ("cp-1", "cp-0")


@pytest.mark.parametrize("kind", ["before", "cut"])
async def test_a_create_that_never_succeeds_is_not_acknowledged(
    store: Store, fake: FakeS3, kind: str
) -> None:
    """It may have taken place somewhere, so nobody knows; and here it has not."""
    fault = fake.fail(kind, "create", times=1_000)
    with pytest.raises(DurabilityUnknownError):
        await store.save(_data(1))
    fault.times = 0
    assert await store.ids("s") == ("cp-0",)
    await store.save(_data(2), expected="cp-0")


async def test_a_create_whose_answers_are_all_lost_is_found_again(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """Nobody was told, and it is there, once, for every client; saving goes on behind it."""
    fake.fail("lost", "create", times=1_000).key = "999999999997"
    await store.save(_data(1))
    assert await store.ids("s") == await make_store().ids("s") == ("cp-1", "cp-0")


async def test_a_server_that_refuses_connections_changes_nothing(
    store: Store, fake: FakeS3
) -> None:
    """The error says so, and calls succeed when it is there again."""
    await asyncio.to_thread(fake.go_down)
    with pytest.raises(StoreUnavailableError):
        await store.save(_data(1))
    with pytest.raises(StoreUnavailableError):
        await store.load("s")
    await asyncio.to_thread(fake.come_up)
    assert await store.ids("s") == ("cp-0",)
    await store.save(_data(1), expected="cp-0")


async def test_a_server_without_the_bucket_says_so(store: Store, fake: FakeS3) -> None:
    """A missing permission is an error at once; so is what the server does not know."""
    fake.fail("before", "list", status=403, times=1)
    with pytest.raises(StoreUnavailableError, match="Injected"):
        await store.load("s")
    fake.fail("before", "create", status=501, times=1)
    with pytest.raises(UnsuitableStoreError):
        await store.save(_data(1))


@pytest.mark.parametrize("status", [403, 507])
async def test_a_server_without_room_says_so(store: Store, fake: FakeS3, status: int) -> None:
    """A save is refused at once, by name, and nothing was changed; deletes go on."""
    full = fake.fail("before", "create", status=status, times=1_000, code="QuotaExceeded")
    for _ in range(2):
        with pytest.raises(StorageFullError):
            await store.save(_data(1))
    full.times = 0
    assert await store.ids("s") == ("cp-0",)
    assert await store.delete("s", "cp-0")
    await store.save(_data(1), expected=None)


async def test_a_lost_answer_and_then_no_room_is_unknown(store: Store, fake: FakeS3) -> None:
    """Where the first try may have been made, nobody is told that nothing was changed."""
    fake.fail("before", "create", status=500, times=1)
    fake.fail("before", "create", status=507, times=1_000)
    with pytest.raises(DurabilityUnknownError):
        await store.save(_data(1))


async def test_a_slow_server_is_asked_again(fake: FakeS3, make_store: MakeStore) -> None:
    """What it does after the time of a request is no second save, and no conflict."""
    store: Store = make_store(request_timeout_seconds=0.5)
    await store.save(_data())
    slow = fake.fail("slow", "create")
    saving = asyncio.create_task(store.save(_data(1), expected="cp-0"))
    await asyncio.to_thread(slow.reached.wait)
    await saving
    slow.released.set()
    await store.save(_data(2), expected="cp-1")
    assert await make_store().ids("s") == ("cp-2", "cp-1", "cp-0")
    assert len(fake.keys("sessions/s/")) == 3


@pytest.mark.parametrize("exclusive", [False, "slowly"])
async def test_a_server_that_lets_several_create_is_refused(
    fake: FakeS3, make_store: MakeStore, exclusive: bool | str
) -> None:
    """Also one that does so only when they come together; nothing was stored."""
    fake.exclusive = exclusive
    store: Store = make_store()
    assert await store.load("s") is None
    with pytest.raises(UnsuitableStoreError, match="several"):
        await store.save(_data())
    assert fake.keys() == []


async def test_versions_are_named_where_creates_do_not_exclude_in_their_bucket(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """The error says what to do about the bucket, which may be well without them."""
    fake.exclusive, fake.keeps_versions = False, True
    with pytest.raises(UnsuitableStoreError, match=r"keeps versions.*suspend"):
        await make_store().save(_data())


async def test_versions_that_are_switched_on_at_work_lose_nothing(
    fake: FakeS3, make_store: MakeStore, store: Store
) -> None:
    """Where creates cease to exclude, no save is acknowledged, and what was there is there."""
    other: Store = make_store()
    await other.save(_data(1))  # which `store` has not seen
    fake.exclusive, fake.keeps_versions = False, True
    for client in (store, other, store):
        with pytest.raises(UnsuitableStoreError, match="keeps versions"):
            await client.save(_data(2))
    assert await make_store().ids("s") == ("cp-1", "cp-0")
    assert len(fake.keys("sessions/s/")) == 2
    fake.exclusive, fake.keeps_versions = True, False
    await store.save(_data(3), expected="cp-1")
    assert await other.ids("s") == ("cp-3", "cp-1", "cp-0")


async def test_versions_that_are_switched_on_cost_one_more_probe(
    fake: FakeS3, store: Store
) -> None:
    """Where creates exclude with them, too, work goes on, and nothing is probed a third time."""
    fake.keeps_versions = True
    fake.count()
    await store.save(_data(1), expected="cp-0")
    assert fake.count()["create"] == 10
    await store.save(_data(2), expected="cp-1")
    assert fake.count() == {"create": 1}


async def test_a_commit_that_cannot_be_taken_back_is_unknown(fake: FakeS3, store: Store) -> None:
    """Nobody is told that nothing was changed; the version that has to go is named."""
    fake.exclusive, fake.keeps_versions = False, True
    fault = fake.fail("before", "delete", key="sessions/s/", status=403, times=1_000)
    with pytest.raises(DurabilityUnknownError, match="version version-0 is to be removed"):
        await store.save(_data(1))
    fault.times = 0


async def test_a_cancelled_save_has_an_outcome_when_it_ends(store: Store, fake: FakeS3) -> None:
    """What is under way is waited for; what waits is withdrawn."""
    slow = fake.fail("slow", "create")
    under_way = asyncio.create_task(store.save(_data(1)))
    await asyncio.to_thread(slow.reached.wait)
    waiting = asyncio.create_task(store.save(_data(2)))
    await asyncio.sleep(0.05)
    for task in (under_way, waiting):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert not under_way.done()
    slow.released.set()
    with contextlib.suppress(asyncio.CancelledError):
        await under_way
    assert under_way.cancelled()
    assert await store.ids("s") == ("cp-1", "cp-0")


async def test_a_save_that_is_late_is_not_stored_behind_others(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """A slow create meets the one that was faster, and is tried again behind it."""
    slow = fake.fail("slow", "create")
    late = asyncio.create_task(store.save(_data(1)))
    await asyncio.to_thread(slow.reached.wait)
    other: Store = make_store()
    await other.save(_data(2))
    slow.released.set()
    await late
    assert [meta.checkpoint_id for meta in await other.list("s")] == ["cp-1", "cp-2", "cp-0"]


async def test_a_number_is_not_used_again_after_a_delete(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """A slow writer cannot bring back a session that was deleted while its create was under way."""
    slow = fake.fail("slow", "create")
    late = asyncio.create_task(store.save(_data(1), expected="cp-0"))
    await asyncio.to_thread(slow.reached.wait)
    other: Store = make_store()
    assert await other.delete_session("s")
    slow.released.set()
    with pytest.raises(Exception, match="has changed: its newest checkpoint is None"):
        await late
    assert await other.load("s") is None


async def test_an_erased_commit_is_known_by_its_writer(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """The answer to a create was lost, others have deleted it since: it is not made again."""
    lost = fake.fail("lost", "create")
    slow = fake.fail("slow", "create")
    saving = asyncio.create_task(store.save(_data(1)))
    await asyncio.to_thread(slow.reached.wait)
    assert lost.times == 0
    other: Store = make_store()
    assert await other.delete("s", "cp-1")
    slow.released.set()
    await saving
    assert await other.ids("s") == await store.ids("s") == ("cp-0",)


async def test_what_a_delete_leaves_is_not_readable(
    store: Store, fake: FakeS3, make_store: MakeStore
) -> None:
    """No byte of a deleted document or blob is left, of several in one commit neither."""
    secrets = [f"secret-{number}" for number in range(4)]
    saves = [
        store.save(CheckpointData(session_id="s", checkpoint_id=text[-1], messages=[text]))
        for text in secrets
    ]
    await asyncio.gather(*saves)
    large: S3Store[LargeValue] = make_store(record_type=LargeValue)
    digest = blob_digest(b"secret-5")
    record = LargeValue(session_id="t", checkpoint_id="t", note="secret-6", blob_digests=(digest,))
    await large.save(record, blobs={digest: b"secret-5"})
    assert await store.delete_many("s", ["0", "1"]) == 2
    assert await large.delete("t", "t")
    left = b"".join(stored.data for stored in fake.objects.values())
    found = [text for text in (*secrets, "secret-5", "secret-6") if f'["{text}"]'.encode() in left]
    assert found == secrets[2:]
    assert b"secret-5" not in left
    assert b"secret-6" not in left
    assert len(await store.load_many("s", [*"0123"])) == 2
    assert await store.delete_session("s")
    assert b"secret" not in b"".join(stored.data for stored in fake.objects.values())


async def test_what_was_deleted_and_saved_again_at_once_is_not_readable(
    store: Store, fake: FakeS3
) -> None:
    """No byte of what an id held is left where an update deletes it and saves it anew."""
    data = CheckpointData(session_id="s", checkpoint_id="1", messages=["secret"])
    await store.save(data)

    async def redact(session: Transaction[CheckpointData]) -> None:
        session.delete("1")
        session.save(CheckpointData(session_id="s", checkpoint_id="1", messages=["none"]))

    await store.update("s", redact)
    assert b"secret" not in b"".join(stored.data for stored in fake.objects.values())


async def test_clocks_that_are_apart_do_not_matter(fake: FakeS3, make_store: MakeStore) -> None:
    """`saved_at` goes by the server's clock, and never back when that is set."""
    now = fake.clock
    fake.clock = lambda: now() + timedelta(days=400)
    store: Store = make_store()
    for iteration in range(2):
        await store.save(_data(iteration))
    fake.clock = lambda: now() - timedelta(days=400)
    await store.save(_data(2))
    newest, second, first = [meta.saved_at for meta in await store.list("s")]
    assert abs(first - now() - timedelta(days=400)) < timedelta(minutes=1)
    assert first < second < newest < second + timedelta(minutes=1)


async def test_credentials_that_are_missing_are_said(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, at the first call, and nothing of what there is of them."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with S3Store("s3://bucket", endpoint_url=fake.url) as store:
        with pytest.raises(StoreUnavailableError, match="credentials") as refused:
            await store.load("s")
    assert "tsecret" not in str(refused.value)


async def test_an_endpoint_may_stand_in_the_environment(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As AWS's own tools read it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    async with S3Store("s3://bucket") as store:
        await store.save(_data())
        assert fake.keys("sessions/s/") == ["sessions/s/999999999998"]


_NEXT = "999999999997"  # the number of the second commit of a session


def _large(checkpoint_id: str, *digests: str) -> LargeValue:
    return LargeValue(session_id="s", checkpoint_id=checkpoint_id, blob_digests=digests)


async def test_a_commit_that_nobody_can_look_at_is_unknown(
    fake: FakeS3, make_store: MakeStore
) -> None:
    """Its answer was lost, and it is there, whole: nobody takes its blobs away."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue)
    await store.save(_large("a"))
    digest = blob_digest(b"content")
    fake.fail("lost", "create", key=_NEXT)
    fault = fake.fail("before", "list", key="sessions/s/", status=403, times=1_000)
    with pytest.raises(DurabilityUnknownError):
        await store.save(_large("b", digest), blobs={digest: b"content"})
    fault.times = 0
    assert await store.ids("s") == ("b", "a")
    assert await store.load_blobs("s", [digest]) == {digest: b"content"}
    assert await make_store(record_type=LargeValue).load_blobs("s", [digest]) is not None


async def test_nothing_is_sent_again_unknown_to_who_counts(store: Store, fake: FakeS3) -> None:
    """A create was made, its connection cut, the next one refused: that is no "not stored"."""
    fake.fail("lost", "create", key=_NEXT)
    fake.fail("before", "create", key=_NEXT, status=403, times=1_000)
    await store.save(_data(1), expected="cp-0")
    assert await store.ids("s") == ("cp-1", "cp-0")


@pytest.mark.parametrize("is_made", [True, False])
async def test_a_create_that_is_still_being_made_is_waited_for(
    fake: FakeS3, make_store: MakeStore, is_made: bool
) -> None:
    """It meets itself, which S3 calls a conflict of two requests: that is no other's commit."""
    store: S3Store[LargeValue] = make_store(record_type=LargeValue, request_timeout_seconds=0.5)
    await store.save(_large("a"))
    digest = blob_digest(b"content")
    slow = fake.fail("slow" if is_made else "cut", "create", key=_NEXT)
    fake.fail("before", "create", key=_NEXT, status=409, code="ConditionalRequestConflict", times=3)

    async def save() -> None:
        await store.save(_large("b", digest), blobs={digest: b"content"}, expected="a")

    saving = asyncio.create_task(save())
    while fake.faults[-1].times > 1:
        await asyncio.sleep(0.01)
    slow.released.set()
    await saving
    assert await store.ids("s") == ("b", "a")
    assert len(fake.keys("sessions/s/")) == 2
    other: S3Store[LargeValue] = make_store(record_type=LargeValue)
    assert await other.load_blobs("s", [digest]) == {digest: b"content"}


@pytest.mark.parametrize("kind", ["before", "cut"])
async def test_a_server_that_fails_while_it_is_tried_changes_nothing(
    fake: FakeS3, make_store: MakeStore, kind: str
) -> None:
    """Nothing was to be stored yet: it is away, by name, and is tried again by the next save."""
    fault = fake.fail(kind, "create", key="probe/", times=1_000)
    store: Store = make_store()
    with pytest.raises(StoreUnavailableError):
        await store.save(_data())
    fault.times = 0
    await store.save(_data(), expected=None)


@pytest.mark.parametrize("page", ["<html>Log in, please.", "<html>Log in, please.</html>"])
async def test_what_a_proxy_answers_is_not_the_server(
    store: Store, fake: FakeS3, page: str
) -> None:
    """A page with status 200 is no empty session, no document, and no acknowledgement."""
    for operation in ("list", "get"):
        fake.fail("page", operation, code=page)
        assert await store.load("s") == await store.load("s", "cp-0")
        fault = fake.fail("page", operation, code=page, times=1_000)
        with pytest.raises(StoreUnavailableError):
            await store.load("s")
        with pytest.raises(StoreUnavailableError):
            await store.load("s", "cp-0")
        fault.times = 0
    fake.fail("page", "create", code=page)
    await store.save(_data(1))
    fault = fake.fail("page", "create", code=page, times=1_000)
    with pytest.raises(DurabilityUnknownError):
        await store.save(_data(2))
    fault.times = 0
    assert await store.ids("s") == ("cp-1", "cp-0")


@pytest.mark.parametrize("is_overtaken", [True, False])
async def test_a_save_that_slept_is_not_stored_where_nobody_looks(
    store: Store,
    fake: FakeS3,
    make_store: MakeStore,
    monkeypatch: pytest.MonkeyPatch,
    is_overtaken: bool,
) -> None:
    """A machine slept for hours within a create, and its number was used, and swept, meanwhile."""
    clock = Clock(monkeypatch)
    slow = fake.fail("slow", "create", key=_NEXT)
    late = asyncio.create_task(store.save(_data(1)))
    await asyncio.to_thread(slow.reached.wait)
    other: Store = make_store()
    for iteration in range(2, 5 if is_overtaken else 2):
        await other.save(_data(iteration))
    if is_overtaken:
        await other.delete_session("s")
        fake.age(timedelta(hours=3))
        await other.delete_session("s")
        assert not fake.keys(_NEXT)
    clock.move_on(3 * HOUR_SECONDS)
    slow.released.set()
    if is_overtaken:
        with pytest.raises((StoreBusyError, DurabilityUnknownError)):
            await late
    else:
        await late
    await store.save(_data(5))
    left = ("cp-5",) if is_overtaken else ("cp-5", "cp-1", "cp-0")
    assert await other.ids("s") == await make_store().ids("s") == left
    assert await make_store().check() == ()
