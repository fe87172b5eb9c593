"""The storage keeps what every adapter promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from aiocheckpoint import open_store
from aiocheckpoint.adapters.strands import Storage, StoredValue
from aiocheckpoint.adapters.strands.records import place_of
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract
from tests.adapters.lists import Told


class TestContract(AdapterContract):
    record_type = StoredValue

    def stored_as(self, odd: Any) -> list[Any]:
        return self.through_json(odd)

    def opened(self, storage: Any) -> Storage:
        return Storage(storage)

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        async def scoped(odd: Any) -> Any:
            return adapter.namespace(odd)

        for odd in (None, 5, ["s"], b"s", "\ud800"):
            yield partial(adapter.write, odd, b"data")
            yield partial(adapter.read, odd)
            yield partial(adapter.delete, odd)
            yield partial(adapter.list, odd)
            yield partial(scoped, odd)
        yield from (partial(adapter.write, session, odd) for odd in (None, 5, "text", [5]))

    async def add(self, adapter: Storage, session: str, text: str) -> None:
        texts = [*await self.texts(adapter, session), *self.through_json(text)]
        await adapter.write(session, json.dumps(texts).encode())

    async def give_up(self, root: Path, session: str) -> None:
        async with open_store(root) as store:
            await store.recover(place_of(session).session_id)

    async def listed(self, adapter: Storage) -> list[str]:
        return await adapter.list()

    tells_problems = False

    async def list_all(self, adapter: Storage) -> Any:
        return await adapter.list("shop/")

    def told_by(self, listed: Any) -> Told:
        return dict.fromkeys(listed)

    async def texts(self, adapter: Storage, session: str) -> list[str]:
        data = await adapter.read(session)
        found: list[str] = json.loads(data) if data is not None else []
        return found
