"""A process that lists a session for long keeps entries of the journal that others have flushed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData
from aiocheckpoint._disk import free_slots
from aiocheckpoint._disk.files import Directory
from aiocheckpoint.testing import FaultyFiles
from tests.conftest import MakeWriter
from tests.faults import Hold

_SLOT_BYTES = 16 * 1024


class SlowListing(FaultyFiles):
    """A disk on which the listing of a session takes long, once armed."""

    def __init__(self) -> None:
        super().__init__()
        self.hold: Hold | None = None

    def scan(self, directory: Directory) -> list[str]:
        """List it, and wait."""
        found = super().scan(directory)
        if self.hold is not None and "/big/" in directory.path:
            self.hold()
        return found


def _record(session_id: str, checkpoint_id: str, text: str = "") -> CheckpointData:
    return CheckpointData(
        session_id=session_id, checkpoint_id=checkpoint_id, resume_hint=f"{text:.<2000}"
    )


@pytest.mark.damages_store
@pytest.mark.parametrize("removes", [False, True], ids=["kept", "removed-by-hand"])
async def test_what_others_have_flushed_is_not_written_again(
    make_writer: MakeWriter, root: Path, monkeypatch: pytest.MonkeyPatch, *, removes: bool
) -> None:
    """Their files stay as they are, though their places in the journal hold something else now."""
    monkeypatch.setattr(free_slots, "FIRST_SLOT_BYTES", _SLOT_BYTES)
    files = SlowListing()
    one, other = make_writer(files=files), make_writer()
    await other.save(_record("big", "0"))
    await one.save(_record("t", "0"))
    await one.flush()
    files.hold = hold = Hold()
    listing = asyncio.create_task(one.list("big"))
    await asyncio.to_thread(hold.wait_arrived)

    async def follow(record: CheckpointData) -> None:
        await other.save(record)
        assert await one.load("t", "0") is not None

    await follow(_record("s", "x", "its own"))
    for _ in range(2):  # in the end the journal has other entries in the place of the first
        for number in range(40):
            await follow(_record("q", str(number), "of another session"))
        await other.flush()
        assert await one.load("t", "0") is not None
    (path,) = await asyncio.to_thread(lambda: [*(root / "s" / "checkpoints").glob("cp_*_x.json")])
    if removes:
        await asyncio.to_thread(path.unlink)
    await one.save(_record("t", "1"))
    await one.flush()

    for writer in (one, other, make_writer()):
        found = await writer.load("s", "x")
        assert (found is None) is removes
        assert found is None or found.resume_hint.startswith("its own")
    assert await asyncio.to_thread(path.exists) is not removes
    hold.release()
    assert [meta.checkpoint_id for meta in await listing] == ["0"]
