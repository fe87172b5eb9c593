"""The sessions keep what every adapter promises."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

pytest.importorskip("agents", reason="needs the extra openai-agents: .ci/adapter openai-agents")

from aiocheckpoint.adapters.openai_agents import Session, SessionRecord
from tests.adapters.contract import AdapterContract


class Sessions(AsyncExitStack):
    """A session object for each id, all of them closed at the end."""

    def __init__(self, storage: Any) -> None:
        super().__init__()
        self._storage = storage
        self._opened: dict[str, Session] = {}

    async def of(self, session: str) -> Session:
        if session not in self._opened:
            self._opened[session] = await self.enter_async_context(Session(session, self._storage))
        return self._opened[session]


class TestContract(AdapterContract):
    record_type = SessionRecord

    def opened(self, storage: Any) -> Sessions:
        return Sessions(storage)

    async def add(self, adapter: Sessions, session: str, text: str) -> None:
        await (await adapter.of(session)).add_items([{"role": "user", "content": text}])

    async def texts(self, adapter: Sessions, session: str) -> list[str]:
        items: list[Any] = await (await adapter.of(session)).get_items()
        return [item["content"] for item in items]
