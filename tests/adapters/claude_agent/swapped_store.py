"""A plugin for the framework's own tests: our store in the place of its `InMemorySessionStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import claude_agent_sdk
import pytest

from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from aiocheckpoint.testing import MemoryStore

ResultT = TypeVar("ResultT")


class SwappedStore(SessionStore):
    """Made as an `InMemorySessionStore` is, with what the tests look into it by."""

    def __init__(self) -> None:
        self._memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
        super().__init__(self._memory)

    def get_entries(self, key: Any) -> list[Any]:
        """Return the entries of a key, none for one that is not there."""
        return _result(self.load(key)) or []

    @property
    def size(self) -> int:
        """How many sessions there are, without subagents."""
        return sum(name.count('","') == 1 for name in _result(self._names()))

    def clear(self) -> None:
        """Remove everything."""

        async def remove() -> None:
            for name in await self._names():
                await self._memory.delete_session(name)

        _result(remove())

    async def _names(self) -> list[str]:
        return [name async for name in self._memory.sessions()]


def _result(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run it to its end, which the tests do from within a loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


# The modules of the tests import it from here.
claude_agent_sdk.InMemorySessionStore = SwappedStore  # type: ignore[assignment, misc]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the runs on trio: a store of checkpoints is for asyncio."""
    on_trio = [item for item in items if "[trio" in item.name]
    items[:] = [item for item in items if item not in on_trio]
    config.hook.pytest_deselected(items=on_trio)
