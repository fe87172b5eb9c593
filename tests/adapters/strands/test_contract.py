"""The storage keeps what every adapter promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from aiocheckpoint.adapters.strands import Storage, StoredValue
from tests.adapters.contract import AdapterContract


class TestContract(AdapterContract):
    record_type = StoredValue

    def opened(self, storage: Any) -> Storage:
        return Storage(storage)

    async def add(self, adapter: Storage, session: str, text: str) -> None:
        texts = [*await self.texts(adapter, session), text]
        await adapter.write(session, json.dumps(texts).encode())

    async def listed(self, adapter: Storage) -> list[str]:
        return await adapter.list()

    async def texts(self, adapter: Storage, session: str) -> list[str]:
        data = await adapter.read(session)
        found: list[str] = json.loads(data) if data is not None else []
        return found
