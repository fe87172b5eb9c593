"""A mark in a bucket, by which another store knows that it is a client of the same place."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiocheckpoint.errors import StoreUnavailableError
from aiocheckpoint.stores.s3.home import Home

if TYPE_CHECKING:
    from aiocheckpoint.stores.s3.work import Work


@asynccontextmanager
async def marked(home: Home, work: Callable[[], Work[Any]]) -> AsyncIterator[str]:
    """
    Leave a mark while the block runs; where it cannot be deleted then, it stays, and means nothing.

    Args:
        home: of the store.
        work: gives what works in its thread; called there alone.
    """
    mark = secrets.token_hex(16)

    async def put() -> None:
        await work().put_mark(mark)

    async def delete() -> None:
        with contextlib.suppress(StoreUnavailableError):
            await work().delete_mark(mark)

    try:
        await home.change(put())
        yield mark
    finally:
        await home.change(delete())
