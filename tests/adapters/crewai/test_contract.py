"""The persistence keeps what every adapter promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("crewai", reason="needs the extra crewai: .ci/adapter crewai")

from aiocheckpoint import open_store
from aiocheckpoint.adapters.crewai import FlowPersistence, FlowRecord
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract


class TestContract(AdapterContract):
    """It is synchronous; a thread calls it, as threads of CrewAI do."""

    record_type = FlowRecord

    def stored_as(self, odd: Any) -> list[Any]:
        return self.through_json(odd)  # as its own store

    def opened(self, storage: Any) -> FlowPersistence:
        return FlowPersistence(storage)

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        def call(name: str, *arguments: Any) -> OddCall:
            return partial(asyncio.to_thread, getattr(adapter, name), *arguments)

        for odd in (None, 5, ["s"], "\ud800"):
            yield call("save_state", odd, "add", {})
            yield call("load_state", odd)
            yield call("save_pending_feedback", odd, None, {})
            yield call("load_pending_feedback", odd)
            yield call("clear_pending_feedback", odd)
        yield from (call("save_state", session, odd, {}) for odd in (None, 5, ["a"], "\ud800"))
        yield from (call("save_state", session, "add", odd) for odd in (None, 5, "text", ["a"]))
        yield from (call("save_pending_feedback", session, odd, {}) for odd in (None, 5, {"a": 1}))

    async def add(self, adapter: FlowPersistence, session: str, text: str) -> None:
        def save() -> None:
            state = adapter.load_state(session) or {"id": session, "texts": []}
            adapter.save_state(session, "add", state | {"texts": [*state["texts"], text]})

        await _to_its_end(save)

    async def give_up(self, root: Path, session: str) -> None:
        async with open_store(root) as store:
            await store.delete_session(f"crewai.{session}")

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
