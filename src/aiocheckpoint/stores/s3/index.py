"""
The index of a session: what 32, 256, 2,048, ... commits came to, for those who come later.

A part is a pure function of commits that do not change any more, so that any client may write it at
any time. A client that looks a session up reads the parts that cover it, the longest ones, and the
commits behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.s3.bucket import Bucket
from aiocheckpoint.stores.s3.commits import Header, Piece, decode_piece, encode_piece, merged
from aiocheckpoint.stores.s3.layout import RANGES_IN_ONE, SHORTEST_RANGE, Layout, Range

_HIGHEST_LEVEL = 6


class Cover(NamedTuple):
    """
    What tells of a range of commits.

    Attributes:
        ranges: of the index.
        numbers: the commits that they leave out.
    """

    ranges: tuple[Range, ...]
    numbers: tuple[int, ...]


def cover(ranges: Iterable[Range], floor: int, last: int) -> Cover:
    """
    Return what tells of the commits from a floor to the last, with as few objects as possible.

    Args:
        ranges: that there are.
        floor: the first commit that matters.
        last: the last one.
    """
    chosen: list[Range] = []
    numbers: list[int] = []
    known = [part for part in ranges if part.last <= last]
    done = floor - 1
    while done < last:
        fitting = [part for part in known if part.first <= done < part.last]
        if fitting:
            chosen.append(max(fitting, key=lambda part: part.last))
            done = chosen[-1].last
        else:
            done += 1
            numbers.append(done)
    return Cover(tuple(chosen), tuple(numbers))


class Index:
    """
    The index of one session.

    Args:
        bucket: where it is.
        layout: its keys.
        session_id: the session.
        header: reads the header of a commit.
    """

    def __init__(
        self,
        bucket: Bucket,
        layout: Layout,
        session_id: SessionId,
        header: Callable[[int], Coroutine[Any, Any, Header]],
    ) -> None:
        self._bucket = bucket
        self._layout = layout
        self._session_id = session_id
        self._header = header

    async def ranges(self) -> list[Range]:
        """Return which ranges there are."""
        prefix = self._layout.index(self._session_id)
        keys = [item.key async for item in self._bucket.list_all(prefix)]
        parts = [self._layout.range_of_key(self._session_id, key) for key in keys]
        return [part for part in parts if part is not None]

    async def piece(self, part: Range) -> Piece | None:
        """Return what a range of commits came to; None where that is not there, or damaged."""
        found = await self._bucket.get(part.key)
        return None if found is None else decode_piece(found.data)

    async def extend(self, last: int, floor: int) -> None:
        """
        Write the range that ends with a commit, and the longer ones that end with it, too.

        Args:
            last: the number of the commit.
            floor: no checkpoint and no blob stands in a commit below.
        """
        level, position = 0, last // SHORTEST_RANGE - 1
        piece = await self._from_commits(self._range(level, position), floor)
        shorter: list[Range] = []
        while piece is not None:
            await self._bucket.put(self._range(level, position).key, encode_piece(piece))
            await self._bucket.delete([part.key for part in shorter])
            if (position + 1) % RANGES_IN_ONE or level == _HIGHEST_LEVEL:
                return
            first = position + 1 - RANGES_IN_ONE
            shorter = [self._range(level, each) for each in range(first, position + 1)]
            piece = await self._from_ranges(shorter, floor)
            level, position = level + 1, position // RANGES_IN_ONE

    def _range(self, level: int, position: int) -> Range:
        return self._layout.range(self._session_id, level, position)

    async def _from_commits(self, part: Range, floor: int) -> Piece | None:
        """Return what commits came to; None where one cannot be read."""
        numbers = range(max(part.first + 1, floor), part.last + 1)
        headers = await self._bucket.gather(map(self._header, numbers))
        if any(header.is_damaged for header in headers):
            return None
        return merged(header.piece for header in headers)

    async def _from_ranges(self, parts: list[Range], floor: int) -> Piece | None:
        """Return what ranges came to; None where one is not known."""
        needed = [part for part in parts if part.last >= floor]
        pieces = await self._bucket.gather(map(self.piece, needed))
        known = [piece for piece in pieces if piece is not None]
        return merged(known) if len(known) == len(pieces) else None
