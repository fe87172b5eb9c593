"""All parts of the contract, and the shapes of the fixtures that they ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiocheckpoint import BlobStore, CheckpointData, CheckpointStore
from aiocheckpoint.testing import (
    AcrossDamageContract,
    AcrossSessionsContract,
    BlobDamageContract,
    BlobDurabilityContract,
    BlobRefusalContract,
    BlobRetentionContract,
    BlobSharingContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DamageContract,
    DurabilityContract,
    LargeValue,
    LimitContract,
    OwnershipContract,
    ReadContract,
    RecordTypeContract,
    RefusalContract,
    RetentionContract,
    SharedOwnershipContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
    WaitingContract,
)

Store = CheckpointStore[CheckpointData]
Blobs = BlobStore[LargeValue]
Damage = Callable[[str, str], Awaitable[None]]
Reopen = Callable[[Any], Awaitable[Any]]
Open = Callable[..., BlobStore[Any]]
"""Opens one more client of a storage; takes the type of its records and the options of a store."""


class WholeContract(
    AcrossDamageContract,
    AcrossSessionsContract,
    BlobDamageContract,
    BlobDurabilityContract,
    BlobRefusalContract,
    BlobRetentionContract,
    BlobSharingContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DamageContract,
    DurabilityContract,
    LimitContract,
    OwnershipContract,
    ReadContract,
    RecordTypeContract,
    RefusalContract,
    RetentionContract,
    SharedOwnershipContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
    WaitingContract,
):
    """
    All parts.

    A subclass gives the fixtures `reopen`, `damage` and `damage_blob`, and `opened`, an `Open`.
    """

    @pytest.fixture(name="store")
    def _store(self, opened: Open) -> Store:
        return opened()

    @pytest.fixture(name="other")
    def _other(self, opened: Open) -> Store:
        return opened()

    @pytest.fixture(name="narrow_store")
    def _narrow_store(self, opened: Open) -> Store:
        return opened(max_bytes=10_000)

    @pytest.fixture(name="foreign_store")
    def _foreign_store(self, opened: Open) -> Blobs:
        return opened(LargeValue)

    @pytest.fixture(name="bounded_store")
    def _bounded_store(self, opened: Open) -> Store:
        return opened(max_checkpoints=3)

    @pytest.fixture(name="hasty_store")
    def _hasty_store(self, opened: Open) -> Store:
        return opened(lock_timeout_seconds=0.5)

    @pytest.fixture(name="blob_store")
    def _blob_store(self, opened: Open) -> Blobs:
        return opened(LargeValue)

    @pytest.fixture(name="other_blob_store")
    def _other_blob_store(self, opened: Open) -> Blobs:
        return opened(LargeValue)

    @pytest.fixture(name="bounded_blob_store")
    def _bounded_blob_store(self, opened: Open) -> Blobs:
        return opened(LargeValue, max_checkpoints=3)
