"""A plugin for the framework's own tests: our session in the place of its `SQLiteSession`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint.adapters.openai_agents import Session, SessionRecord
from aiocheckpoint.testing import MemoryStore


class SwappedSession(Session):
    """Made and closed as a `SQLiteSession` is."""

    def __init__(
        self, session_id: str, db_path: str | Path = ":memory:", session_settings: Any = None
    ) -> None:
        in_memory = str(db_path) == ":memory:"
        storage: Any = MemoryStore(SessionRecord) if in_memory else f"{db_path}.checkpoints"
        super().__init__(session_id, storage, session_settings=session_settings)

    def close(self) -> None:
        """Close, which the tests do from within a loop."""
        thread = threading.Thread(target=lambda: asyncio.run(self.aclose()))
        thread.start()
        thread.join()


@pytest.fixture(autouse=True)
def _swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put ours in the place of theirs wherever a module of tests has imported it."""
    if hasattr(request.module, "SQLiteSession"):
        monkeypatch.setattr(request.module, "SQLiteSession", SwappedSession)
