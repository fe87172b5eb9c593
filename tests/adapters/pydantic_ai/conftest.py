"""The stores that the tests of the adapter run on; imports the adapter where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import BlobStore, open_store
from aiocheckpoint.testing import MemoryStore
from tests.adapters.apart import ApartStore

_STORAGES = ["directory", "url", "open store", "memory", "apart"]


async def _storages(root: Path, kind: str) -> AsyncIterator[Any]:
    from aiocheckpoint.adapters.pydantic_ai import ConversationStoreRecord

    match kind:
        case "directory":
            yield root
        case "url":
            yield root.as_uri()
        case "open store":
            store: BlobStore[Any] = open_store(root, record_type=ConversationStoreRecord)
            async with store:
                yield store
        case "memory":
            yield MemoryStore(ConversationStoreRecord)
        case _:
            yield ApartStore(ConversationStoreRecord)


@pytest.fixture(name="storage", params=_STORAGES)
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async for storage in _storages(root, request.param):
        yield storage


@pytest.fixture(name="store")
async def _store(storage: Any) -> AsyncIterator[Any]:
    from aiocheckpoint.adapters.pydantic_ai import ConversationStore

    async with ConversationStore(storage) as store:
        yield store


@pytest.fixture(name="any_store", params=["the framework's own", *_STORAGES])
async def _any_store(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Yield ours, and the framework's store in memory, which has to do the same."""
    from pydantic_ai.conversation_store import InMemoryConversationStore

    from aiocheckpoint.adapters.pydantic_ai import ConversationStore

    if request.param == "the framework's own":
        yield InMemoryConversationStore()
        return
    async for storage in _storages(root, request.param):
        async with ConversationStore(storage) as store:
            yield store
