"""For tests: the contract of a `CheckpointStore`, a store in memory, and a disk that fails.

```python
import pytest
from aiocheckpoint.testing import CheckpointStoreContract, MemoryStore


class TestMyStore(CheckpointStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
```
"""

from aiocheckpoint.testing.contract import (
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
from aiocheckpoint.testing.faults import Call, Fault, FaultyFiles
from aiocheckpoint.testing.memory import MemoryStore

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
    "Call",
    "CancellationContract",
    "CheckpointStoreContract",
    "DamageContract",
    "DurabilityContract",
    "Fault",
    "FaultyFiles",
    "LargeValue",
    "LimitContract",
    "MemoryStore",
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
