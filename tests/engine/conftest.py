"""A disk, and a log whose slots hold a few frames only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocheckpoint._disk import free_slots
from tests.engine.disk import Disk

SLOT_BYTES = 32 << 10
_MEMORY = "/dev/shm"


@pytest.fixture(autouse=True)
def _small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_slots, "FIRST_SLOT_BYTES", SLOT_BYTES)


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a disk; in memory where that is possible, for it is filled thousands of times."""
    outer = tmp_path
    if os.access(_MEMORY, os.W_OK):
        outer = Path(tempfile.mkdtemp(dir=_MEMORY))
    disk = Disk(outer)
    yield disk
    disk.close()
    if outer != tmp_path:
        shutil.rmtree(outer)
