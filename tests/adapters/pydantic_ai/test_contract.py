"""The store keeps what every adapter promises."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from pydantic_ai import Conversation, ModelRequest

from aiocheckpoint.adapters.pydantic_ai import ConversationStore, ConversationStoreRecord
from tests.adapters.contract import AdapterContract


class TestContract(AdapterContract):
    record_type = ConversationStoreRecord

    def opened(self, storage: Any) -> ConversationStore:
        return ConversationStore(storage)

    async def add(self, adapter: ConversationStore, session: str, text: str) -> None:
        loaded = await adapter.load(session) or Conversation(conversation_id=session)
        loaded.messages.append(ModelRequest.user_text_prompt(text))
        await adapter.save(loaded)

    async def listed(self, adapter: ConversationStore) -> list[str]:
        with pytest.raises(LookupError):
            await adapter.read_entry("what nobody has")
        return [found.conversation_id for found in await adapter.read_records()]

    async def texts(self, adapter: ConversationStore, session: str) -> list[str]:
        loaded: Any = await adapter.load(session)
        return [] if loaded is None else [found.parts[0].content for found in loaded.messages]
