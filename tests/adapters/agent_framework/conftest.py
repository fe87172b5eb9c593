"""The stores that the tests of the adapter run on; imports the adapter where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint.testing import MemoryStore


@pytest.fixture(name="place", params=["directory", "memory"])
def _place(root: Path, request: pytest.FixtureRequest) -> Any:
    from aiocheckpoint.adapters.agent_framework import StoredCheckpoint

    return root if request.param == "directory" else MemoryStore(StoredCheckpoint)


@pytest.fixture(name="storage")
async def _storage(place: Any) -> AsyncIterator[Any]:
    from aiocheckpoint.adapters.agent_framework import CheckpointStorage

    async with CheckpointStorage(place) as storage:
        yield storage
