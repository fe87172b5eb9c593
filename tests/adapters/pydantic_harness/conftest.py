"""The stores that the tests of the adapter run on; imports the adapter where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import BlobStore, open_store
from aiocheckpoint.testing import MemoryStore

_STORAGES = ["directory", "url", "open store", "memory"]
_OF_THE_FRAMEWORK = ["its own in memory", "its own in files", "its own in SQLite"]


async def _storages(root: Path, kind: str) -> AsyncIterator[Any]:
    from aiocheckpoint.adapters.pydantic_harness import HarnessRecord

    match kind:
        case "directory":
            yield root
        case "url":
            yield root.as_uri()
        case "open store":
            store: BlobStore[Any] = open_store(root, record_type=HarnessRecord)
            async with store:
                yield store
        case _:
            yield MemoryStore(HarnessRecord)


@pytest.fixture(name="storage", params=_STORAGES)
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async for storage in _storages(root, request.param):
        yield storage


@pytest.fixture(name="make_store", params=[*_OF_THE_FRAMEWORK, *_STORAGES])
async def _make_store(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Yield what makes ours, or one of the framework's own, which have to do the same."""
    from pydantic_ai_harness.step_persistence import (
        FileStepStore,
        InMemoryStepStore,
        SqliteStepStore,
    )

    from aiocheckpoint.adapters.pydantic_harness import StepStore

    made: list[StepStore] = []

    def make(keep: int | None = None) -> Any:
        match request.param:
            case "its own in memory":
                return InMemoryStepStore(max_snapshots_per_run=keep)
            case "its own in files":
                return FileStepStore(root, max_snapshots_per_run=keep)
            case "its own in SQLite":
                root.mkdir(exist_ok=True)
                return SqliteStepStore(database=root / "steps.db", max_snapshots_per_run=keep)
            case _:
                made.append(StepStore(storage, max_snapshots_per_run=keep))
                return made[-1]

    async for found in _storages(root, request.param):
        storage = found
        yield make
        for store in made:
            await store.aclose()
