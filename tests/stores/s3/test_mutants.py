"""Stores without one rule each lose something, and these tests see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from aiocheckpoint import CheckpointData, CheckpointError, OwnershipLostError, blob_digest
from aiocheckpoint.stores.s3.knowledge import Knowledge
from aiocheckpoint.stores.s3.layout import Layout
from aiocheckpoint.stores.s3.state import Staged
from aiocheckpoint.testing import LargeValue
from tests.stores.s3.conftest import MakeStore
from tests.stores.s3.fake_s3 import FakeS3

Scenario = Callable[[MakeStore, FakeS3], Awaitable[None]]
Break = Callable[[pytest.MonkeyPatch], None]


def _data(key: str) -> CheckpointData:
    return CheckpointData(session_id="s", checkpoint_id=key)


async def _lost_answer(make_store: MakeStore, fake: FakeS3) -> None:
    """A create whose answer was lost is one save, not two, and no conflict."""
    store = make_store()
    await store.save(_data("a"))
    fake.fail("lost", "create")
    await store.save(_data("b"))
    assert len(fake.keys("sessions/s/")) == 2


async def _no_write_ids(*_: object) -> str:
    return "somebody's"


async def _late_writer(make_store: MakeStore, fake: FakeS3) -> None:
    """What a client is told is stored is there, though it knew less than others have done."""
    late, other = make_store(), make_store()
    await late.save(_data("a"))
    for key in "bcd":
        await other.save(_data(key))
    await other.delete_session("s")
    await late.save(_data("e"))
    assert await other.ids("s") == ("e",)


async def _former_owner(make_store: MakeStore, fake: FakeS3) -> None:
    """A former owner's write is refused."""
    first, second = make_store(lease_seconds=1_000), make_store()
    async with first.own("s") as lost:
        now = fake.clock
        fake.clock = lambda: now() + timedelta(seconds=1_100)
        async with second.own("s"):
            with pytest.raises(OwnershipLostError):
                await lost.save(_data("a"))


async def _blob_put_anew(make_store: MakeStore, fake: FakeS3) -> None:
    """A save has its blob, though another client removes the last one of its content meanwhile."""
    digest = blob_digest(b"x")
    one, other = (make_store(record_type=LargeValue) for _ in range(2))

    def large(key: str) -> LargeValue:
        return LargeValue(session_id="s", checkpoint_id=key, blob_digests=(digest,))

    await one.save(large("a"), blobs={digest: b"x"})
    slow = fake.fail("slow", "delete", key="blobs/")
    deleting = asyncio.create_task(one.delete("s", "a"))
    await asyncio.to_thread(slow.reached.wait)
    await other.save(large("b"), blobs={digest: b"x"})
    slow.released.set()
    await deleting
    assert await other.load_blobs("s", [digest]) == {digest: b"x"}


_MUTANTS: dict[str, tuple[Scenario, Break]] = {
    "does not know its own commits": (
        _lost_answer,
        lambda patch: patch.setattr(Knowledge, "write_id", _no_write_ids),
    ),
    "removes young commits": (
        _late_writer,
        lambda patch: patch.setattr(
            "aiocheckpoint.stores.s3.sweep.SETTLED_AFTER", timedelta(seconds=-5)
        ),
    ),
    "asks nobody whether he owns": (
        _former_owner,
        lambda patch: patch.setattr(Staged, "require_owner", lambda *_: None),
    ),
    "names blobs by their content alone": (
        _blob_put_anew,
        lambda patch: patch.setattr(Layout, "blob", _blob_by_digest),
    ),
}


def _blob_by_digest(layout: Layout, session_id: str, digest: str, suffix: str) -> str:
    return f"{layout.blobs_of(session_id)}{digest}-"


@pytest.mark.parametrize("name", _MUTANTS)
async def test_a_rule_that_is_kept_holds(make_store: MakeStore, fake: FakeS3, name: str) -> None:
    """As the store is, nothing is lost."""
    scenario, _ = _MUTANTS[name]
    await scenario(make_store, fake)


@pytest.mark.parametrize("name", _MUTANTS)
async def test_a_rule_that_is_broken_shows(
    make_store: MakeStore, fake: FakeS3, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it something is lost, and the same test says so."""
    scenario, broken = _MUTANTS[name]
    broken(monkeypatch)
    with pytest.raises((AssertionError, CheckpointError, pytest.fail.Exception)):
        await scenario(make_store, fake)
