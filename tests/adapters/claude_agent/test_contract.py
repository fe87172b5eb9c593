"""The store keeps what every adapter promises."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract
from tests.adapters.lists import Told


class TestContract(AdapterContract):
    record_type = ClaudeRecord

    def opened(self, storage: Any) -> SessionStore:
        return SessionStore(storage)

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        key: Any = {"project_key": "shop", "session_id": session}
        odd: Any
        for odd in (None, 5, "key", ["key"], {"a": 1}, {**key, "subpath": None}):
            yield partial(adapter.append, odd, [])
            yield partial(adapter.load, odd)
            yield partial(adapter.delete, odd)
            yield partial(adapter.list_subkeys, odd)
        for odd in (None, 5, "text", [5], {"type": "user"}, [{"type": object()}], [{5: object()}]):
            yield partial(adapter.append, key, odd)
        for odd in (None, 5, ["shop"], "\ud800"):
            yield partial(adapter.list_sessions, odd)
            yield partial(adapter.list_session_summaries, odd)

    async def add(self, adapter: SessionStore, session: str, text: str) -> None:
        key: Any = {"project_key": "shop", "session_id": session}
        entry: Any = {"type": "user", "message": {"role": "user", "content": text}}
        await adapter.append(key, [entry])

    async def remove(self, adapter: SessionStore, session: str) -> None:
        await adapter.delete({"project_key": "shop", "session_id": session})

    async def listed(self, adapter: SessionStore) -> list[str]:
        return [found["session_id"] for found in await adapter.list_sessions("shop")]

    async def list_all(self, adapter: SessionStore) -> Any:
        return await adapter.list_sessions("shop")

    def told_by(self, listed: Any) -> Told:
        return {found["session_id"]: found.get("problem") for found in listed}

    async def texts(self, adapter: SessionStore, session: str) -> list[str]:
        entries: Any = await adapter.load({"project_key": "shop", "session_id": session})
        return [entry["message"]["content"] for entry in entries or []]
