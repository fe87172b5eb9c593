"""The sessions keep what every adapter promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

pytest.importorskip("agents", reason="needs the extra openai-agents: .ci/adapter openai-agents")

from aiocheckpoint.adapters.openai_agents import Session, SessionRecord
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract


class Sessions(AsyncExitStack):
    """A session object for each id, all of them closed at the end."""

    def __init__(self, storage: Any) -> None:
        super().__init__()
        self._storage = storage
        self._opened: dict[str, Session] = {}

    async def of(self, session: str) -> Session:
        key = repr(session)
        if key not in self._opened:
            self._opened[key] = await self.enter_async_context(Session(session, self._storage))
        return self._opened[key]


class TestContract(AdapterContract):
    record_type = SessionRecord

    def opened(self, storage: Any) -> Sessions:
        return Sessions(storage)

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        async def call(name: str, odd: Any) -> Any:
            return await getattr(await adapter.of(session), name)(odd)

        yield from (partial(call, "get_items", odd) for odd in ("2", 2.5, True, [2]))
        yield from (partial(call, "add_items", odd) for odd in (None, 5, "text", b"text", {"a": 1}))
        yield from (partial(call, "save_run", odd) for odd in (None, "state", {"a": 1}))

    async def add(self, adapter: Sessions, session: str, text: str) -> None:
        await (await adapter.of(session)).add_items([{"role": "user", "content": text}])

    async def remove(self, adapter: Sessions, session: str) -> None:
        await (await adapter.of(session)).clear_session()

    async def texts(self, adapter: Sessions, session: str) -> list[str]:
        items: list[Any] = await (await adapter.of(session)).get_items()
        return [item["content"] for item in items]
