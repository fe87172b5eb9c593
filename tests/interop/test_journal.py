"""What Rust sees of a writer whose files follow its saves, and what that writer sees of Rust."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from tests.conftest import MakeWriter
from tests.interop.comparison import comparable, document_of
from tests.interop.driver import Rust
from tests.on_disk import on_disk

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("no_flushing")]

Writer = AsyncCheckpointWriter[CheckpointData]


@pytest.fixture(name="writer")
def _writer(make_writer: MakeWriter) -> Writer:
    """Acknowledges from the journal, and writes files when it is told to."""
    return make_writer(durability="journal")


def _checkpoint(checkpoint_id: str, session_id: str = "s", **fields: Any) -> CheckpointData:
    return CheckpointData(session_id=session_id, checkpoint_id=checkpoint_id, **fields)


async def _ids(writer: Writer) -> list[str]:
    return [meta.checkpoint_id for meta in await writer.list("s")]


async def _ids_of_rust(rust: Rust, root: Path, session_id: str = "s") -> set[str]:
    return {meta["checkpoint_id"] for meta in await rust.listing(root, session_id)}


async def _newest_of_rust(rust: Rust, root: Path) -> str | None:
    found = await rust.load(root, "s")
    return None if found is None else found["checkpoint_id"]


class TestRustAfterAFlush:
    async def test_sees_every_save(self, writer: Writer, root: Path, rust: Rust) -> None:
        """After a flush Rust loads each checkpoint of each session, and the newest as we do."""
        saved = [
            _checkpoint(f"step-{number}", f"session-{number % 5}", resume_hint=f"hint {number}")
            for number in range(100)
        ]
        for data in saved:
            await writer.save(data)
        assert await _ids_of_rust(rust, root, "session-0") == set()

        await on_disk(writer)

        for data in saved:
            found = await rust.load(root, data.session_id, data.checkpoint_id)
            assert found is not None
            assert comparable(found) == comparable(document_of(data))
        for newest in saved[-5:]:
            found = await rust.load(root, newest.session_id)
            assert found is not None
            assert found["checkpoint_id"] == newest.checkpoint_id

    async def test_sees_no_replaced_and_no_deleted_one(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """What was replaced or deleted, before or after its file was written, is gone for Rust."""
        for checkpoint_id in ("a", "b", "c"):
            await writer.save(_checkpoint(checkpoint_id))
        await on_disk(writer)
        for checkpoint_id in ("d", "e"):
            await writer.save(_checkpoint(checkpoint_id))
        await writer.delete("s", "b")
        await writer.delete("s", "e")
        await writer.save(_checkpoint("a", resume_hint="again"))

        await on_disk(writer)

        assert await _ids_of_rust(rust, root) == {"a", "c", "d"}
        assert await _newest_of_rust(rust, root) == "a"
        loaded = await rust.load(root, "s", "a")
        assert loaded is not None
        assert loaded["resume_hint"] == "again"

    async def test_sees_a_dropped_session_no_more(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """After a flush a deleted session is gone for Rust as well."""
        await writer.save(_checkpoint("a"))
        await on_disk(writer)
        await writer.delete_session("s")

        await on_disk(writer)

        assert await _ids_of_rust(rust, root) == set()
        assert not await asyncio.to_thread((root / "s").exists)


class TestRemovalsByRust:
    async def test_of_what_is_flushed_count(
        self, make_writer: MakeWriter, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """What Rust removes after a flush is gone for us, and does not come back."""
        for checkpoint_id in ("a", "b"):
            await writer.save(_checkpoint(checkpoint_id))
        await on_disk(writer)

        assert await rust.delete(root, "s", "a")

        for reader in (writer, make_writer()):
            assert await reader.load("s", "a") is None
            assert await _ids(reader) == ["b"]
        await writer.save(_checkpoint("c"))
        await on_disk(writer)
        assert await _ids(make_writer()) == ["c", "b"]
        assert await _ids_of_rust(rust, root) == {"b", "c"}

    async def test_id_can_be_saved_again(self, writer: Writer, root: Path, rust: Rust) -> None:
        """An id that Rust removed is saved anew as any other."""
        await writer.save(_checkpoint("a"))
        await on_disk(writer)
        assert await rust.delete(root, "s", "a")

        await writer.save(_checkpoint("a", resume_hint="again"))
        await on_disk(writer)

        loaded = await rust.load(root, "s", "a")
        assert loaded is not None
        assert loaded["resume_hint"] == "again"


class TestSavesByRust:
    async def test_stand_where_they_belong_among_ours(
        self, make_writer: MakeWriter, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """Saves of both sides in turn keep their order, before our files are written and after."""
        expected: list[str] = []
        for number in range(5):
            await writer.save(_checkpoint(f"ours-{number}"))
            await rust.save(root, document_of(_checkpoint(f"theirs-{number}")))
            expected = [f"theirs-{number}", f"ours-{number}", *expected]
            assert await _ids(writer) == expected

        await on_disk(writer)

        assert await _ids(writer) == await _ids(make_writer()) == expected
        assert await _ids_of_rust(rust, root) == set(expected)
        newest = await writer.load("s")
        assert newest is not None
        assert newest.checkpoint_id == await _newest_of_rust(rust, root) == "theirs-4"

    async def test_are_deleted_by_us_before_anything_is_flushed(
        self, writer: Writer, root: Path, rust: Rust
    ) -> None:
        """What Rust saved beside our unwritten files can be deleted at once."""
        await writer.save(_checkpoint("ours"))
        await rust.save(root, document_of(_checkpoint("theirs")))

        assert await writer.delete("s", "theirs")

        assert await _ids(writer) == ["ours"]
        await on_disk(writer)
        assert await _ids_of_rust(rust, root) == {"ours"}
