"""Any calls in any order, on a real server, against the plainest model of a store."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import settings

from aiocheckpoint import CheckpointData, CheckpointStore
from aiocheckpoint.stores.postgres import PostgresStore, packing
from aiocheckpoint.testing.machine import StoreMachine
from tests.some_cases import examples
from tests.stores.postgres.server import PostgresServer

pytestmark = pytest.mark.servers


class PostgresMachine(StoreMachine):
    """The store, opened again amid the calls."""

    dsn: ClassVar[str]
    number: ClassVar[int] = 0

    def __init__(self) -> None:
        type(self).number += 1
        self._schema = f"machine_{self.number}"
        super().__init__()

    async def connect(self) -> CheckpointStore[CheckpointData]:
        """Return a store on the schema of this run."""
        return PostgresStore(self.dsn, schema=self._schema, server_timeout_seconds=300)


@pytest.mark.blocking
class TestAnyOrder(PostgresMachine.TestCase):  # type: ignore[misc, valid-type]
    """It answers as the model does."""

    settings: Any = settings(max_examples=examples(3, 6), stateful_step_count=20)

    @pytest.fixture(autouse=True)
    def _server(self, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packing, "_LEAST_BYTES", 0)  # its records are small
        PostgresMachine.dsn = server.dsn()
