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

from aiocheckpoint.testing.contract import BlobStoreContract, CheckpointStoreContract, LargeValue
from aiocheckpoint.testing.faults import Call, Fault, FaultyFiles
from aiocheckpoint.testing.memory import MemoryStore

__all__ = (
    "BlobStoreContract",
    "Call",
    "CheckpointStoreContract",
    "Fault",
    "FaultyFiles",
    "LargeValue",
    "MemoryStore",
)
