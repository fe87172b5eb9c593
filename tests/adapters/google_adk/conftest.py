"""The stores that the tests of the adapter run on; imports the adapter where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import BlobStore, open_store
from aiocheckpoint.testing import MemoryStore
from tests.adapters.apart import ApartStore


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
