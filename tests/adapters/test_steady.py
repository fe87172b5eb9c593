"""Reads of adapters beside others who change the session between two of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aiocheckpoint import (
    BlobStore,
    CheckpointCorruptError,
    MissingBlobError,
    SessionReader,
    StorageError,
)
from aiocheckpoint.adapters import _steady
from aiocheckpoint.adapters._steady import find_steadily, read_steadily
from aiocheckpoint.portal import Portal
from aiocheckpoint.testing import MemoryStore
from tests.conftest import MakeWriter
from tests.promises.records import Note, by_digest, note


@pytest.mark.parametrize("steadily", [read_steadily, find_steadily], ids=["read", "find"])
async def test_what_others_replaced_meanwhile_is_read_anew(
    make_writer: MakeWriter, steadily: Callable[..., Awaitable[object]]
) -> None:
    """A blob that went with the record that named it is no damage: the new record is read."""
    writer, other = make_writer(record_type=Note), make_writer(record_type=Note)
    await other.save(note("s", "a", b"old"), blobs=by_digest(b"old"))
    await other.flush()
    seen: list[Note] = []

    async def work(session: SessionReader[Note]) -> dict[str, bytes]:
        head = await session.load("a")
        assert head is not None
        if not seen:
            with Portal() as portal:
                portal.run(other.save(note("s", "a", b"new"), blobs=by_digest(b"new")))
                portal.run(other.flush())
        seen.append(head)
        return await session.load_blobs(head.blob_digests)

    assert await steadily(writer, "s", work) == by_digest(b"new")
    assert len(seen) == 2


@pytest.mark.parametrize("error", [MissingBlobError("x", "x"), CheckpointCorruptError("x", "bad")])
async def test_damage_is_told(make_writer: MakeWriter, error: CheckpointCorruptError) -> None:
    """Where nobody has changed anything, what is missing stays missing, and is raised."""
    writer = make_writer(record_type=Note)
    await writer.save(note("s", "a", b"old"), blobs=by_digest(b"old"))
    calls: list[None] = []

    async def work(session: SessionReader[Note]) -> None:
        await session.load("a")
        calls.append(None)
        raise error

    with pytest.raises(CheckpointCorruptError) as raised:
        await read_steadily(writer, "s", work)
    assert raised.value is error
    assert len(calls) == 2


async def test_damage_is_told_beside_others_who_never_pause(
    make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that changes at each look is not read for ever: what is missing is raised."""
    monkeypatch.setattr(_steady, "_MOST_TRIES", 4)
    writer, other = make_writer(record_type=Note), make_writer(record_type=Note)
    await writer.save(note("s", "a", b"old"), blobs=by_digest(b"old"))
    calls: list[None] = []

    async def work(session: SessionReader[Note]) -> None:
        calls.append(None)
        with Portal() as portal:
            portal.run(other.save(note("s", f"b{len(calls)}")))
        await session.load_blobs(by_digest(b"never given"))

    with pytest.raises(MissingBlobError):
        await read_steadily(writer, "s", work)
    assert len(calls) == 4


@pytest.mark.parametrize("is_directory", [True, False])
async def test_any_store_is_searched(make_writer: MakeWriter, *, is_directory: bool) -> None:
    """What one of several sessions has is found, whether the store can search or not."""
    store: BlobStore[Note] = make_writer(record_type=Note) if is_directory else MemoryStore(Note)
    for session_id in ("a1", "a2", "a3", "b"):
        await store.save(note(session_id, "other"))
    await store.save(note("a2", "wanted"))

    async def work(session: SessionReader[Note]) -> tuple[str, Note] | None:
        found = await session.load("wanted")
        return None if found is None else (session.session_id, found)

    assert await find_steadily(store, "a", work) == ("a2", note("a2", "wanted"))
    assert await find_steadily(store, "b", work) is None
    await store.aclose()


@pytest.mark.damages_store
@pytest.mark.blocking
async def test_a_search_goes_on_beside_what_nobody_can_look_into(
    make_writer: MakeWriter, root: Path
) -> None:
    """What another session has is found; what is found nowhere may be where nobody can look."""
    writer = make_writer(record_type=Note)
    for session_id in ("a1", "a2", "a3"):
        await writer.save(note(session_id, f"of {session_id}"))
    await writer.aclose()
    (root / "a2").rename(root.parent / "elsewhere")
    (root / "a2").symlink_to(root.parent / "elsewhere")
    writer = make_writer(record_type=Note)

    async def search(checkpoint_id: str) -> Note | None:
        return await find_steadily(writer, "a", lambda session: session.load(checkpoint_id))

    assert await search("of a1") == note("a1", "of a1")
    assert await search("of a3") == note("a3", "of a3")
    with pytest.raises(StorageError):
        await search("of a2")
