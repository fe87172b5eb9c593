"""Writers that nobody closes, after they have raised what they keep, and others get once more."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointData,
    CheckpointError,
    StorageError,
    StorageFullError,
)
from tests.concurrency.site import Site, document, join_dropped, pool_threads
from tests.faults import RefusingFiles
from tests.promises.damaging import MARK, change_text, marked_slot

pytestmark = pytest.mark.blocking


class _Broken(RefusingFiles):
    """A disk that refuses an operation on what is named so, or is another one, if told."""

    def __init__(self, operation: str = "", name: str = "") -> None:
        super().__init__(errno.EIO)
        self._operation, self._name = operation, name
        self.is_other = False

    def is_refused(self, operation: str, path: str) -> bool:
        return operation == self._operation and self._name in Path(path).name

    def status_of_path(self, path: str) -> Any:
        status = super().status_of_path(path)
        return status and status._replace(device=status.device + self.is_other)


RaiseSome = Callable[[Path], Coroutine[Any, Any, None]]


async def _twice(call: Callable[[], Awaitable[object]], error: type[CheckpointError]) -> None:
    for _ in range(2):
        with pytest.raises(error):
            await call()


async def _no_file_can_be_written(root: Path) -> None:
    writer = Site(root, files=_Broken("create", ".tmp_cp_")).writer()
    await writer.save(document("s", 0))
    await _twice(writer.flush, StorageError)
    await _twice(lambda: writer.save(document("s", 1)), StorageError)


async def _the_root_is_removed_then(root: Path) -> None:
    writer = Site(root, files=_Broken("create", ".tmp_cp_")).writer()
    await writer.save(document("s", 0))
    with pytest.raises(StorageError):
        await writer.flush()
    await asyncio.to_thread(shutil.rmtree, root)


async def _a_file_waited_for_cannot_be_written(root: Path) -> None:
    writer = Site(root, files=_Broken("create", ".tmp_cp_"), durability="file").writer()
    await _twice(lambda: writer.save(document("s", 0)), StorageError)


async def _another_disk_is_there(root: Path) -> None:
    files = _Broken()
    writer = Site(root, files=files).writer()
    await writer.save(document("s", 0))
    await writer.flush()
    await asyncio.to_thread(shutil.move, root, root.with_name("moved"))
    files.is_other = True
    await _twice(lambda: writer.save(document("s", 1)), StorageError)


async def _a_body_in_the_journal_is_damaged(root: Path) -> None:
    async with Site(root).writer() as first:
        await first.save(CheckpointData(session_id="s", messages=[MARK]))
        await first.save(document("behind", 0))  # or it might be the end of the journal
        await asyncio.to_thread(shutil.copytree, root, root.with_name("copy"), symlinks=True)
    await asyncio.to_thread(change_text, marked_slot(root.with_name("copy")))
    writer = Site(root.with_name("copy")).writer()
    await _twice(writer.flush, CheckpointCorruptError)
    await _twice(lambda: writer.load("s"), CheckpointCorruptError)


async def _the_journal_has_no_room(root: Path) -> None:
    files = _Broken("create", ".tmp_cp_")
    writer = Site(root, files=files, max_journal_bytes=1 << 20, lock_timeout_seconds=0.1).writer()
    large = [CheckpointData(session_id=f"s{n}", messages=["x" * 99_999]) for n in range(40)]
    outcomes = await asyncio.gather(*map(writer.save, large), return_exceptions=True)
    assert StorageFullError in map(type, outcomes)


@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
@pytest.mark.parametrize(
    "raise_some",
    [
        _no_file_can_be_written,
        _the_root_is_removed_then,
        _a_file_waited_for_cannot_be_written,
        _another_disk_is_there,
        _a_body_in_the_journal_is_damaged,
        _the_journal_has_no_room,
    ],
)
def test_dropped_writer_ends(root: Path, raise_some: RaiseSome) -> None:
    """No error that a writer raises, and tells again, keeps it when nobody has it any more."""
    threads = pool_threads()
    asyncio.run(raise_some(root))
    join_dropped(threads)
