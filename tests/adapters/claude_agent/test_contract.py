"""The store keeps what every adapter promises."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from tests.adapters.contract import AdapterContract


class TestContract(AdapterContract):
    record_type = ClaudeRecord

    def opened(self, storage: Any) -> SessionStore:
        return SessionStore(storage)

    async def add(self, adapter: SessionStore, session: str, text: str) -> None:
        key: Any = {"project_key": "shop", "session_id": session}
        entry: Any = {"type": "user", "message": {"role": "user", "content": text}}
        await adapter.append(key, [entry])

    async def listed(self, adapter: SessionStore) -> list[str]:
        return [found["session_id"] for found in await adapter.list_sessions("shop")]

    async def texts(self, adapter: SessionStore, session: str) -> list[str]:
        entries: Any = await adapter.load({"project_key": "shop", "session_id": session})
        return [entry["message"]["content"] for entry in entries or []]
