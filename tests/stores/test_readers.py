"""What one reader cannot take is no damage, in whatever store: nothing is emptied, moved or hidden.

It may be of another type, or too large for the limit of this reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiocheckpoint import (
    BlobRecord,
    BlobStore,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointRecord,
    CheckpointTooLargeError,
    blob_digest,
    open_store,
)
from aiocheckpoint.testing import MemoryStore
from tests.stores.locations import SERVERS, fake_bucket

pytestmark = pytest.mark.blocking  # the driver of PostgreSQL looks for password files

Open = Callable[..., BlobStore[Any]]


class Order(CheckpointRecord):
    """
    A record of an application.

    Attributes:
        total: has no default, so a file without it is of another type.
    """

    total: int


class Later(CheckpointRecord):
    """
    What it became later.

    Attributes:
        total: as before.
        note: is new, and has a default.
    """

    total: int
    note: str = ""


class LargeOrder(BlobRecord):
    """
    One with values outside of it.

    Attributes:
        total: as before.
    """

    total: int


class Other(CheckpointRecord):
    """
    A record that has fields of its own only, all with defaults.

    Attributes:
        name: nothing that an order has.
    """

    name: str = ""


@pytest.fixture(name="open_", params=["directory", "memory", *SERVERS])
def _open(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    if request.param == "memory":
        first = MemoryStore(CheckpointRecord)
        yield lambda record_type, **options: MemoryStore(record_type, beside=first, **options)
    elif request.param == "bucket":
        with fake_bucket(monkeypatch) as url:
            yield lambda record_type, **options: open_store(url, record_type=record_type, **options)
    elif request.param == "postgresql":
        dsn = request.getfixturevalue("postgres_url")
        yield lambda record_type, **options: open_store(dsn, record_type=record_type, **options)
    else:
        yield lambda record_type, **options: open_store(
            tmp_path, record_type=record_type, **options
        )


@pytest.mark.parametrize("record_type", [CheckpointData, Other])
@pytest.mark.some(4)
async def test_it_is_told_and_left_alone(open_: Open, record_type: type[CheckpointRecord]) -> None:
    """Each load raises that the type is to be mended; all else calls it intact, and it stays."""
    order = Order(session_id="s", checkpoint_id="first", total=5)
    async with open_(Order) as owner, open_(record_type) as store:
        await owner.save(order)
        for call in (
            store.load("s"),
            store.load("s", "first"),
            store.load_many("s", ["first"]),
            store.load_newest(["s"]),
        ):
            with pytest.raises(CheckpointDecodeError, match="mend the type") as refused:
                await call
            assert not isinstance(refused.value, CheckpointCorruptError)
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["first"]
        assert await store.ids("s") == ("first",)
        assert [session async for session in store.sessions()] == ["s"]
        assert await store.verify("s", "first") is True
        assert await store.check() == ()
        report = await store.recover("s")
        assert (report.newest_valid_id, report.quarantined) == ("first", ())
        assert await store.copy_session("s", "t") == 1  # who copies need not know the type
        assert await owner.load("t") == msgspec.structs.replace(order, session_id="t")
        assert await owner.load("s") == order


@pytest.mark.parametrize("record_type", [CheckpointRecord, Order, CheckpointData])
@pytest.mark.some
async def test_a_copy_loses_nothing(open_: Open, record_type: type[CheckpointRecord]) -> None:
    """Whoever knows fewer fields copies the others, and blobs that their type does not know of."""
    later = Later(session_id="s", checkpoint_id="later", total=5, note="mind the step")
    large = LargeOrder(
        session_id="s", checkpoint_id="large", total=6, blob_digests=(blob_digest(b"map"),)
    )
    async with open_(Later) as owner, open_(LargeOrder) as owner_of_large:
        await owner.save(later)
        await owner_of_large.save(large, blobs={blob_digest(b"map"): b"map"})
        async with open_(record_type) as store:
            assert await store.copy_session("s", "t") == 2
            assert await store.copy_session("t", "t") == 2
        assert await owner.load("t", "later") == msgspec.structs.replace(later, session_id="t")
        assert await owner_of_large.load("t") == msgspec.structs.replace(large, session_id="t")
        assert await owner_of_large.load_blobs("t", large.blob_digests) != {}
        assert await owner.check() == ()


async def test_a_field_with_a_default_may_be_missing(open_: Open) -> None:
    """A later version of the type loads what an earlier one saved; the base type loads any."""
    async with open_(Order) as earlier, open_(Later) as later, open_(CheckpointRecord) as base:
        await earlier.save(Order(session_id="s", checkpoint_id="first", total=5))
        found, plain = await later.load("s"), await base.load("s")
        assert found is not None
        assert (found.total, found.note) == (5, "")
        assert plain is not None
        assert plain.checkpoint_id == "first"


async def test_what_is_too_large_for_a_reader_is_not_hidden(open_: Open) -> None:
    """It is the newest still: listed, raised, named by `check`, not moved and not passed over."""
    small, large = (
        CheckpointData(session_id="s", checkpoint_id=key, messages=["x" * size])
        for key, size in (("small", 1), ("large", 300_000))
    )
    async with open_(CheckpointData) as owner, open_(CheckpointData, max_bytes=100_000) as store:
        await owner.save(small)
        await owner.save(large)
        for call in (
            store.load("s"),
            store.load("s", "large"),
            store.load_newest(["s"]),
            store.verify("s", "large"),
        ):
            with pytest.raises(CheckpointTooLargeError, match="max_bytes"):
                await call
        assert [meta.checkpoint_id for meta in await store.list("s")] == ["large", "small"]
        assert sorted(await store.ids("s")) == ["large", "small"]
        assert [session async for session in store.sessions()] == ["s"]
        assert [finding.kind for finding in await store.check()] == ["unreadable"]
        assert [await client.verify("s", "small") for client in (store, owner)] == [True, True]
        assert await owner.verify("s", "large")
        with pytest.raises(CheckpointTooLargeError):
            await store.recover("s")
        assert await store.load("s", "small") == small
        assert await owner.load("s") == large


async def test_a_bound_is_kept_where_its_store_saves(open_: Open) -> None:
    """A store with `max_checkpoints` takes nothing from sessions that it does not save to."""
    theirs = [CheckpointData(session_id="theirs", iteration=number) for number in range(4)]
    async with open_(CheckpointData) as owner:
        for data in theirs:
            await owner.save(data)
        async with open_(CheckpointData, max_checkpoints=2) as bounded:
            for number in range(3):
                await bounded.save(CheckpointData(session_id="mine", iteration=number))
            assert len(await bounded.list("mine")) == 2
            assert (await bounded.recover("theirs")).quarantined == ()
            assert not await bounded.delete("theirs", "nothing")
            await bounded.copy_session("theirs", "theirs")
            await bounded.read("theirs", lambda session: session.load())
            async with bounded.own("theirs"):
                assert await bounded.load("theirs") == theirs[-1]
            assert await bounded.check() == ()
        assert len(await owner.list("theirs")) == len(theirs)
