"""A mark in a bucket, by which another store knows that it is a client of the same place."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiocheckpoint.errors import StoreUnavailableError
from aiocheckpoint.stores.s3.home import Home

if TYPE_CHECKING:
    from aiocheckpoint.stores.s3.work import Work


@asynccontextmanager
async def marked(home: Home[Work[Any]]) -> AsyncIterator[str]:
    """
    Leave a mark while the block runs; where it cannot be deleted then, it stays, and means nothing.

    Args:
        home: of the store.
    """
    mark = secrets.token_hex(16)
    try:
        await home.make(lambda work, _: work.put_mark(mark))
        yield mark
    finally:
        with contextlib.suppress(StoreUnavailableError):
            await home.make(lambda work, _: work.delete_mark(mark))
