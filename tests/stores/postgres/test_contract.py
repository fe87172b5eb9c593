"""The store in PostgreSQL keeps the contract of all stores."""

from __future__ import annotations

import pytest

from aiocheckpoint import BlobStore, CheckpointData, CheckpointStore
from aiocheckpoint.testing import BlobStoreContract, CheckpointStoreContract, LargeValue
from tests.stores.postgres.conftest import MakeStore


class TestPostgres(CheckpointStoreContract):
    """The store, by a URL."""

    @pytest.fixture(name="store")
    def _store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store()
        return store


class TestPostgresOfBlobs(BlobStoreContract):
    """The store, storing blobs."""

    @pytest.fixture(name="blob_store")
    def _blob_store(self, make_store: MakeStore) -> BlobStore[LargeValue]:
        store: BlobStore[LargeValue] = make_store(record_type=LargeValue)
        return store
