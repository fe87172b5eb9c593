"""A plugin for the framework's own tests: ours in the place of its `SQLiteFlowPersistence`."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from crewai_core.paths import db_storage_path

from aiocheckpoint.adapters.crewai import FlowPersistence

_ROOT = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)


class SwappedPersistence(FlowPersistence):
    """Made as a `SQLiteFlowPersistence` is."""

    persistence_type: str = "SwappedPersistence"

    def __init__(self, db_path: str | None = None, /, **fields: Any) -> None:
        # Beside the directories that the tests remove as soon as they have saved: files follow.
        name = db_path or str(Path(db_storage_path()) / "flow_states.db")
        storage = str(_ROOT / hashlib.sha256(name.encode()).hexdigest())
        super().__init__(**{"storage": storage, **fields})


@pytest.fixture(autouse=True)
def _swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put ours in the place of theirs wherever a test takes it from."""
    for name in ("crewai.flow.persistence", "crewai.flow.persistence.sqlite"):  # ours imports both
        monkeypatch.setattr(sys.modules[name], "SQLiteFlowPersistence", SwappedPersistence)
    if hasattr(request.module, "SQLiteFlowPersistence"):
        monkeypatch.setattr(request.module, "SQLiteFlowPersistence", SwappedPersistence)
