"""Whoever writes files leaves the interpreter to others, but where somebody waits for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiocheckpoint._disk.files import LocalFiles
from tests.conftest import MakeWriter
from tests.promises.places import plain_ids, wait_until
from tests.promises.records import record

pytestmark = pytest.mark.blocking


class _PausingFiles(LocalFiles):
    """Counts how often a thread leaves the interpreter to others."""

    def __init__(self) -> None:
        self.pauses = 0

    def pause(self, seconds: float) -> None:
        self.pauses += 1


async def test_who_writes_files_makes_way(make_writer: MakeWriter, root: Path) -> None:
    """Before each of few files the interpreter is left to others, where nobody waits."""
    files = _PausingFiles()
    writer = make_writer(files=files)
    for session_id in ("a", "b", "c"):
        await writer.save(record(session_id, "x"))
    await asyncio.to_thread(
        wait_until, lambda: all(plain_ids(root, s) == ["x"] for s in "abc"), "the files"
    )
    assert files.pauses >= 3


@pytest.mark.usefixtures("no_flushing")
async def test_who_writes_files_hurries(make_writer: MakeWriter) -> None:
    """No moment is given away while somebody waits for files."""
    files = _PausingFiles()
    writer = make_writer(files=files)
    for session_id in ("a", "b", "c"):
        await writer.save(record(session_id, "x"))
    await writer.flush()
    assert files.pauses == 0
