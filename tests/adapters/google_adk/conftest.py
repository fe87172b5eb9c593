"""The stores that the tests of the adapter run on; imports the adapter where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import BlobStore, Transaction, UnsupportedOperationError, open_store
from aiocheckpoint.testing import MemoryStore


class ApartStore(MemoryStore[Any]):
    """A store that commits one session at a time, as a bucket does."""

    async def update_many(
        self,
        session_ids: Iterable[str],
        work: Callable[[Mapping[str, Transaction[Any]]], Awaitable[Any]],
        /,
    ) -> Any:
        """Refuse."""
        raise UnsupportedOperationError("update_many", "this store", "for the test")


@pytest.fixture(name="storage", params=["directory", "url", "open store", "memory", "apart"])
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    from aiocheckpoint.adapters.google_adk import AdkRecord

    match request.param:
        case "directory":
            yield root
        case "url":
            yield root.as_uri()
        case "open store":
            store: BlobStore[Any] = open_store(root, record_type=AdkRecord)
            async with store:
                yield store
        case "memory":
            yield MemoryStore(AdkRecord)
        case _:
            yield ApartStore(AdkRecord)


@pytest.fixture(name="service")
async def _service(storage: Any) -> AsyncIterator[Any]:
    from aiocheckpoint.adapters.google_adk import SessionService

    async with SessionService(storage) as service:
        yield service
