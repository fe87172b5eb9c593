"""All parts of the contract, and the shapes of the fixtures that they ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiocheckpoint import BlobStore, CheckpointData, CheckpointStore
from aiocheckpoint.testing import (
    AcrossDamageContract,
    AcrossSessionsContract,
    BlobDamageContract,
    BlobDurabilityContract,
    BlobSharingContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DamageContract,
    DurabilityContract,
    LargeValue,
    OwnershipContract,
    ReadContract,
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


class WholeContract(
    AcrossDamageContract,
    AcrossSessionsContract,
    BlobDamageContract,
    BlobDurabilityContract,
    BlobSharingContract,
    BlobStoreContract,
    BlobUpdateContract,
    CancellationContract,
    CheckpointStoreContract,
    DamageContract,
    DurabilityContract,
    OwnershipContract,
    ReadContract,
    RetentionContract,
    SharedOwnershipContract,
    SharedUpdateContract,
    SharingContract,
    UpdateContract,
    WaitingContract,
):
    """All parts; a subclass gives the fixtures."""
