"""`recover` looks without the lock: what others change before it has it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import RecoveryReport, blob_digest
from aiocheckpoint.testing import FaultyFiles
from tests.conftest import MakeWriter
from tests.faults import Hold
from tests.promises.places import on_disk
from tests.promises.records import Note, note
from tests.trees import checkpoint_files

pytestmark = pytest.mark.damages_store


class LockLater(FaultyFiles):
    """File operations that wait before the lock of commits is taken, once armed."""

    def __init__(self) -> None:
        super().__init__()
        self.hold: Hold | None = None

    def try_lock_file(self, descriptor: int, path: str, *, shared: bool = False) -> bool:
        """Wait, and lock."""
        if self.hold is not None and path.endswith("turn"):
            self.hold()
        return super().try_lock_file(descriptor, path, shared=shared)


Beside = Callable[[Callable[[], Awaitable[object]]], Awaitable[RecoveryReport]]


@pytest.fixture(name="recover_beside")
def _recover_beside(make_writer: MakeWriter) -> Beside:
    """Recover session `s`; a change is made when that has looked and not begun to commit."""

    async def recover_beside(change: Callable[[], Awaitable[object]]) -> RecoveryReport:
        files = LockLater()
        writer = make_writer(record_type=Note, files=files)
        await writer.save(note("another", "0"))
        await writer.flush()
        files.hold = hold = Hold()
        recovery = asyncio.create_task(writer.recover("s"))
        await asyncio.to_thread(hold.wait_arrived)
        await change()
        hold.release()
        return await recovery

    return recover_beside


async def _damaged(make_writer: MakeWriter, root: Path) -> Any:
    """Return a writer of a session with a damaged checkpoint `x` that has an intact backup."""
    writer = make_writer(record_type=Note)
    await writer.save(note("s", "x", text="first"))
    await writer.save(note("s", "y"))
    await on_disk(writer)

    def damage() -> None:
        (path, _) = checkpoint_files(root, "s")
        path.unlink()
        path.write_bytes(b"damaged")

    await asyncio.to_thread(damage)
    return writer


async def test_what_is_deleted_meanwhile_stays_deleted(
    make_writer: MakeWriter, recover_beside: Beside, root: Path
) -> None:
    """A session that is deleted after the look is neither restored nor kept."""
    writer = await _damaged(make_writer, root)

    report = await recover_beside(lambda: writer.delete_session("s"))

    assert report.quarantined == ()
    assert await writer.load("s") is None
    assert [session async for session in writer.sessions()] == ["another"]


async def test_what_nothing_has_changed_is_restored(
    make_writer: MakeWriter, recover_beside: Beside, root: Path
) -> None:
    """Changes of other sessions are in nobody's way."""
    writer = await _damaged(make_writer, root)

    report = await recover_beside(lambda: writer.save(note("another", "1")))

    assert len(report.quarantined) == 1
    assert (await writer.load("s", "x")).text == "first"


async def test_what_is_saved_anew_meanwhile_is_not_restored_beside(
    make_writer: MakeWriter, recover_beside: Beside, root: Path
) -> None:
    """An id that is saved again after the look stands for what was saved last, and for one."""
    writer = await _damaged(make_writer, root)

    await recover_beside(lambda: writer.save(note("s", "x", text="second")))

    assert [meta.checkpoint_id for meta in await writer.list("s")] == ["x", "y"]
    found = await writer.load("s", "x")
    assert found is not None
    assert found.text == "second"


async def test_what_was_saved_anew_before_is_not_restored_beside(
    make_writer: MakeWriter, root: Path
) -> None:
    """An id that was saved again since it was damaged is restored from no backup."""
    await _damaged(make_writer, root)
    writer = make_writer(record_type=Note)  # which does not know what the damaged file held
    await writer.save(note("s", "x", text="second"))

    report = await writer.recover("s")

    assert len(report.quarantined) == 1
    assert [meta.checkpoint_id for meta in await writer.list("s")] == ["x", "y"]
    found = await writer.load("s", "x")
    assert found is not None
    assert found.text == "second"


async def test_a_blob_that_is_used_meanwhile_stays(
    make_writer: MakeWriter, recover_beside: Beside, root: Path
) -> None:
    """A blob that nothing referred to at the look stays when a record does since."""
    writer = make_writer(record_type=Note)
    await writer.save(note("s", "x", b"used"), blobs={blob_digest(b"used"): b"used"})
    await on_disk(writer)
    digest = blob_digest(b"unused")
    place = root / "s" / "blobs"
    await asyncio.to_thread(place.joinpath(digest).write_bytes, b"unused")
    later = note("s", "y", b"unused")

    report = await recover_beside(lambda: writer.save(later, blobs={digest: b"unused"}))

    assert report.quarantined == ()
    assert await writer.load_blobs("s", [digest]) == {digest: b"unused"}


async def test_a_damaged_blob_goes_whatever_has_changed(
    make_writer: MakeWriter, recover_beside: Beside, root: Path
) -> None:
    """Damage of a blob is none the less for what was saved since."""
    writer = make_writer(record_type=Note)
    digest = blob_digest(b"used")
    await writer.save(note("s", "x", b"used"), blobs={digest: b"used"})
    await on_disk(writer)
    await asyncio.to_thread((root / "s" / "blobs" / digest).write_bytes, b"torn")

    report = await recover_beside(lambda: writer.save(note("s", "y")))

    assert len(report.quarantined) == 2
    assert await writer.ids("s") == ("y",)
    assert (await writer.recover("s")).quarantined == ()


async def test_what_was_deleted_before_is_not_kept(make_writer: MakeWriter, root: Path) -> None:
    """A checkpoint that is deleted, and not removed yet, goes to no quarantine."""
    writer = make_writer(record_type=Note)
    digest = blob_digest(b"its own")
    await writer.save(note("s", "x", b"its own", text="SECRET"), blobs={digest: b"its own"})
    await writer.save(note("s", "y"))
    await writer.flush()
    await writer.delete("s", "x")

    report = await writer.recover("s")
    await writer.flush()

    assert report.quarantined == ()
    assert not await asyncio.to_thread(
        lambda: [p for p in root.rglob("*") if p.is_file() and b"SECRET" in p.read_bytes()]
    )
