"""A store that commits one session at a time, as a bucket does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiocheckpoint import Transaction, UnsupportedOperationError
from aiocheckpoint.testing import MemoryStore


class ApartStore(MemoryStore[Any]):
    """In memory, and without `update_many`."""

    async def update_many(
        self,
        session_ids: Iterable[str],
        work: Callable[[Mapping[str, Transaction[Any]]], Awaitable[Any]],
        /,
    ) -> Any:
        """Refuse."""
        raise UnsupportedOperationError("update_many", "this store", "for the test")
