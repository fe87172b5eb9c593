"""The persistence keeps what every adapter promises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("crewai", reason="needs the extra crewai: .ci/adapter crewai")

from aiocheckpoint.adapters.crewai import FlowPersistence, FlowRecord
from tests.adapters.contract import AdapterContract


class TestContract(AdapterContract):
    """It is synchronous; a thread calls it, as threads of CrewAI do."""

    record_type = FlowRecord

    def opened(self, storage: Any) -> FlowPersistence:
        return FlowPersistence(storage)

    async def add(self, adapter: FlowPersistence, session: str, text: str) -> None:
        def save() -> None:
            state = adapter.load_state(session) or {"id": session, "texts": []}
            adapter.save_state(session, "add", state | {"texts": [*state["texts"], text]})

        await _to_its_end(save)

    async def texts(self, adapter: FlowPersistence, session: str) -> list[str]:
        state = await asyncio.to_thread(adapter.load_state, session)
        return state["texts"] if state else []


async def _to_its_end(work: Any) -> None:
    """Run work in a thread; a cancelled call ends when the thread does."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
