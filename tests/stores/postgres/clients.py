"""The stores that parts of the contract ask for, as clients of one schema."""

from __future__ import annotations

import pytest

from aiocheckpoint import CheckpointData, CheckpointStore
from aiocheckpoint.testing import LargeValue
from tests.stores.postgres.conftest import MakeStore


class Clients:
    """The fixtures of a class of tests; a part of the contract is beside it."""

    @pytest.fixture(name="store")
    def _store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store()
        return store

    @pytest.fixture(name="other")
    def _other(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store()
        return store

    @pytest.fixture(name="narrow_store")
    def _narrow_store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store(max_bytes=10_000)
        return store

    @pytest.fixture(name="foreign_store")
    def _foreign_store(self, make_store: MakeStore) -> CheckpointStore[LargeValue]:
        store: CheckpointStore[LargeValue] = make_store(record_type=LargeValue)
        return store

    @pytest.fixture(name="bounded_store")
    def _bounded_store(self, make_store: MakeStore) -> CheckpointStore[CheckpointData]:
        store: CheckpointStore[CheckpointData] = make_store(max_checkpoints=3)
        return store
