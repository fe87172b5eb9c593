"""Whether a store that must exist is there, and is the one that was seen there before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from aiocheckpoint.errors import MissingStoreError, ReplacedStoreError
from aiocheckpoint.stores.s3.bucket import Bucket, Listed
from aiocheckpoint.stores.s3.layout import Layout

OLDER_THAN_ATTEMPTS = timedelta(minutes=1)
"""What was stored later may be of others who are about to find out that a store has gone, too."""


_TO_A_SECOND = timedelta(seconds=2)  # are the dates of two answers


class _Missed(NamedTuple):
    """A commit that has gone with its store, and when it was there, by the server's clock."""

    key: str | None
    seen_at: datetime


class Presence:
    """
    A store under a prefix: whether anything was ever stored, and is there still.

    Nothing says which store it is. But the last commit of a session stays, so that where one is
    missed that was seen, and nothing is older than when it was, all of the store has gone.

    Args:
        bucket: where it is.
        layout: its keys.
        must_exist: whether anything is refused; else none of the looks is made.
        forget: called when it has gone: what was known is known of no other.

    Attributes:
        must_exist: as given.
    """

    def __init__(
        self, bucket: Bucket, layout: Layout, forget: Callable[[], None], *, must_exist: bool
    ) -> None:
        self.must_exist = must_exist
        self._bucket = bucket
        self._layout = layout
        self._forget = forget
        self._missed: _Missed | None = None

    @property
    def has_gone(self) -> bool:
        """Whether the store has gone, as far as is known."""
        return self._missed is not None

    async def is_store(self) -> bool:
        """Tell whether anything was ever stored: the last commit of a session stays, also empty."""
        for prefix in (self._layout.sessions, self._layout.blobs):  # a crash may leave a blob alone
            if await self._bucket.first(prefix, limit=1):
                return True
        return False

    async def require(self, *, was_there: bool) -> None:
        """
        Look whether there is a store where there must be one, for who knows of nothing in it.

        Args:
            was_there: whether there was one, so that one which is begun from now on is another.

        Raises:
            MissingStoreError: there is none.
            ReplacedStoreError: the one that has gone is not back, and another one was begun.
        """
        if not self.must_exist:
            return
        if self._missed is not None:
            if not await self._is_back(self._missed):
                error = await self._error(self._missed)
                if error is not None:
                    raise error
            self._missed = None
        elif not await self.is_store():
            if was_there:
                self._lose(_Missed(None, self._bucket.clock.now()))
            raise MissingStoreError(self._layout.url)

    async def require_same(self, key: str, seen_at: datetime) -> None:
        """
        Look whether the store is there still, for who misses a commit.

        Args:
            key: of the commit.
            seen_at: when that was there, by the server's clock.

        Raises:
            MissingStoreError: it has gone.
            ReplacedStoreError: the same, and another one was begun.
        """
        error = await self.gone(key, seen_at) if self.must_exist else None
        if error is not None:
            raise error

    async def gone(self, key: str, seen_at: datetime) -> MissingStoreError | None:
        """Return what to raise where all that was there with a commit has gone, or None."""
        missed = self._missed or _Missed(key, seen_at)
        if self.has_gone and await self._is_back(missed):
            return None
        error = await self._error(missed)
        if error is not None:
            self._lose(missed)
        return error

    def _lose(self, missed: _Missed) -> None:
        self._missed = missed
        self._forget()

    async def _is_back(self, missed: _Missed) -> bool:
        age = None if missed.key is None else await self._bucket.age(missed.key)
        return age is not None and age + _TO_A_SECOND >= self._since(missed)

    def _since(self, missed: _Missed) -> timedelta:
        return self._bucket.clock.now() - missed.seen_at

    async def _error(self, missed: _Missed) -> MissingStoreError | None:
        is_begun_anew = False
        async for item in self._all():
            age = item.age or timedelta()
            if age >= OLDER_THAN_ATTEMPTS:
                if age >= self._since(missed) + _TO_A_SECOND:
                    return None
                is_begun_anew = True
        kind = ReplacedStoreError if is_begun_anew else MissingStoreError
        return kind(self._layout.url)

    async def _all(self) -> AsyncIterator[Listed]:
        for prefix in (self._layout.sessions, self._layout.blobs):
            async for item in self._bucket.list_all(prefix):
                yield item
