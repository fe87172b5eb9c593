"""A plugin for the framework's own tests: our storage and manager in the place of its own."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import strands.session
import strands.session.snapshot_session_manager
import strands.storage
import strands.storage.in_memory_storage
import strands.storage.local_file_storage
import strands.vended_memory_stores.file_memory_store

from aiocheckpoint.adapters.strands import Storage, StoredValue
from aiocheckpoint.adapters.strands.agents import SharingManager
from aiocheckpoint.testing import MemoryStore

_ROOT = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, _ROOT, ignore_errors=True)


class InMemoryStorage(Storage):
    """Made as the framework's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(MemoryStore(StoredValue))


class LocalFileStorage(Storage):
    """Made as the framework's; beside the directories that the tests remove under it."""

    def __init__(self, base_dir: str = "./.strands/", **options: Any) -> None:
        super().__init__(_ROOT / hashlib.sha256(str(base_dir).encode()).hexdigest())


# The framework has imported its own by now: the tests alone, which are imported later, get ours.
for _class in (InMemoryStorage, LocalFileStorage):
    setattr(strands.storage, _class.__name__, _class)
strands.storage.in_memory_storage.InMemoryStorage = InMemoryStorage  # type: ignore[assignment,misc]
strands.storage.local_file_storage.LocalFileStorage = LocalFileStorage  # type: ignore[assignment,misc]
# What our manager does of its own, on any storage.
strands.session.SnapshotSessionManager = SharingManager  # type: ignore[misc]
strands.session.snapshot_session_manager.SnapshotSessionManager = SharingManager  # type: ignore[misc]
