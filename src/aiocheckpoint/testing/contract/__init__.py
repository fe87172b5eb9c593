"""The contract of a store, as tests that every implementation inherits, part by part."""

from aiocheckpoint.testing.contract.across import AcrossDamageContract, AcrossSessionsContract
from aiocheckpoint.testing.contract.basics import CheckpointStoreContract
from aiocheckpoint.testing.contract.blobs import BlobStoreContract, BlobUpdateContract
from aiocheckpoint.testing.contract.cancellation import CancellationContract
from aiocheckpoint.testing.contract.damage import BlobDamageContract, DamageContract
from aiocheckpoint.testing.contract.durability import BlobDurabilityContract, DurabilityContract
from aiocheckpoint.testing.contract.limits import LimitContract
from aiocheckpoint.testing.contract.ownership import OwnershipContract
from aiocheckpoint.testing.contract.reading import ReadContract
from aiocheckpoint.testing.contract.records import LargeValue
from aiocheckpoint.testing.contract.refusals import BlobRefusalContract, RefusalContract
from aiocheckpoint.testing.contract.retention import BlobRetentionContract, RetentionContract
from aiocheckpoint.testing.contract.shared_updates import SharedUpdateContract
from aiocheckpoint.testing.contract.sharing import (
    BlobSharingContract,
    SharedOwnershipContract,
    SharingContract,
)
from aiocheckpoint.testing.contract.types import RecordTypeContract
from aiocheckpoint.testing.contract.updates import UpdateContract
from aiocheckpoint.testing.contract.waiting import WaitingContract

__all__ = (
    "AcrossDamageContract",
    "AcrossSessionsContract",
    "BlobDamageContract",
    "BlobDurabilityContract",
    "BlobRefusalContract",
    "BlobRetentionContract",
    "BlobSharingContract",
    "BlobStoreContract",
    "BlobUpdateContract",
    "CancellationContract",
    "CheckpointStoreContract",
    "DamageContract",
    "DurabilityContract",
    "LargeValue",
    "LimitContract",
    "OwnershipContract",
    "ReadContract",
    "RecordTypeContract",
    "RefusalContract",
    "RetentionContract",
    "SharedOwnershipContract",
    "SharedUpdateContract",
    "SharingContract",
    "UpdateContract",
    "WaitingContract",
)
