"""A disk, and a log whose slots hold a few frames only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocheckpoint._disk import free_slots
from aiocheckpoint._engine import check_journal
from tests.engine.disk import Disk

SLOT_BYTES = 32 << 10


@pytest.fixture(autouse=True)
def _small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_slots, "FIRST_SLOT_BYTES", SLOT_BYTES)


@pytest.fixture(autouse=True)
def _no_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody begins while a check gives somebody time to: all that happens is told here."""
    monkeypatch.setattr(check_journal, "_MOMENTS_SECONDS", 0.0)


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.close()
