"""The store keeps what every adapter promises."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from pydantic_ai import Conversation, ModelRequest
from pydantic_ai.conversation_store import ConversationRecord

from aiocheckpoint import open_store
from aiocheckpoint.adapters.pydantic_ai import ConversationStore, ConversationStoreRecord
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract
from tests.adapters.lists import Told


class TestContract(AdapterContract):
    record_type = ConversationStoreRecord

    def opened(self, storage: Any) -> ConversationStore:
        return ConversationStore(storage)

    def stored_as(self, odd: Any) -> list[Any]:
        return [odd.decode() if isinstance(odd, bytes) else odd]  # as pydantic reads it

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        odd: Any
        for odd in (None, 5, ["s"], "\ud800"):
            yield partial(adapter.read_record, odd)
            yield partial(adapter.delete_record, odd, expected_revision="r")
            yield partial(adapter.read_entry, odd)
        yield from (partial(adapter.read_records, limit=odd) for odd in (-1, "2", 2.5, True))
        yield from (partial(adapter.read_records, scope=odd) for odd in (5, ["s"]))
        yield from (partial(adapter.read_history, "e", limit=odd) for odd in (-1, "2", 2.5, True))
        yield from (partial(adapter.read_history, odd) for odd in (5, ["s"]))
        write = partial(adapter.write_record, expected_revision=None)
        record: Any = _record_of("another")
        for odd in (None, 5, {"a": 1}, "text"):
            yield partial(write, odd)
            yield partial(write, record, new_entries=odd)
        yield partial(write, record, new_entries=[5])

    async def add(self, adapter: ConversationStore, session: str, text: str) -> None:
        loaded = await adapter.load(session) or Conversation(conversation_id=session)
        request: Any = ModelRequest.user_text_prompt("")
        request.parts[0].content = text
        loaded.messages.append(request)
        await adapter.save(loaded)

    async def give_up(self, root: Path, session: str) -> None:
        async with open_store(root) as store:
            await store.recover(f"pydantic_ai.{session}")

    async def listed(self, adapter: ConversationStore) -> list[str]:
        with pytest.raises(LookupError):
            await adapter.read_entry("what nobody has")
        return [found.conversation_id for found in await adapter.read_records()]

    async def list_all(self, adapter: ConversationStore) -> Any:
        return await adapter.list_conversations()

    def told_by(self, listed: Any) -> Told:
        return {it.conversation_id: getattr(it, "problem", None) for it in listed}

    async def texts(self, adapter: ConversationStore, session: str) -> list[str]:
        loaded: Any = await adapter.load(session)
        return [] if loaded is None else [found.parts[0].content for found in loaded.messages]


def _record_of(conversation_id: str) -> ConversationRecord:
    return ConversationRecord(conversation_id=conversation_id, head_id=None)
