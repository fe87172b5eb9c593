"""The store in a bucket keeps the contract of every store."""

from __future__ import annotations

import pytest

from aiocheckpoint import BlobStore, CheckpointData, CheckpointStore
from aiocheckpoint.testing import BlobStoreContract, CheckpointStoreContract, LargeValue
from tests.stores.s3.conftest import MakeStore


class TestS3Store(CheckpointStoreContract):
    """On the server that is made for it."""

    @pytest.fixture(name="store")
    def _store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        return make_store()


class TestS3StoreOfBlobs(BlobStoreContract):
    """The same, storing blobs."""

    @pytest.fixture(name="blob_store")
    def _blob_store(self, make_store: MakeStore) -> BlobStore[LargeValue]:
        return make_store(record_type=LargeValue)
