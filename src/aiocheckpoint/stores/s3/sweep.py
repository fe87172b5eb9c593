"""Removing what nothing refers to any more, beside others who read and write."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from aiocheckpoint.errors import CheckpointError, ErasureIncompleteError
from aiocheckpoint.models import CheckpointId, SessionId
from aiocheckpoint.stores.s3.bucket import Bucket, Listed, Object
from aiocheckpoint.stores.s3.commits import emptied, encode_commit
from aiocheckpoint.stores.s3.knowledge import TRUSTED_FOR, Knowledge
from aiocheckpoint.stores.s3.layout import Layout
from aiocheckpoint.stores.s3.state import NOTHING_GONE, Gone

# Whoever writes under a number has not seen it used, no longer ago than it trusts what it saw; and
# a request is refused when it was signed a quarter of an hour ago. After that, nobody can use the
# number of an object again, and the object may go. A younger one keeps its place, without content.
SETTLED_AFTER = TRUSTED_FOR + timedelta(hours=1)

_SWEPT_EVERY = 64
_GOLDEN_RATIO = 0x9E3779B1  # of 2**32, as an odd number
_LOOKED_AT_ONE_BY_ONE = 16

_logger = logging.getLogger("aiocheckpoint")


class Sweeper:
    """
    Removes what is gone, at once or in the background.

    Args:
        bucket: where it is.
        layout: its keys.
    """

    def __init__(self, bucket: Bucket, layout: Layout) -> None:
        self._bucket = bucket
        self._layout = layout
        self._tasks: set[asyncio.Task[None]] = set()

    async def finished(self) -> None:
        """Wait for what was begun in the background."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def start(self, session_id: SessionId, work: Coroutine[Any, Any, object]) -> None:
        """Do something in the background."""
        task = asyncio.ensure_future(self._quietly(session_id, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, session_id: SessionId, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except CheckpointError as error:
            _logger.warning("left something behind of session %r: %s", session_id, error)

    def drop_blobs(self, session_id: SessionId, blobs: Mapping[str, str]) -> None:
        """Remove blobs that no commit names, and none will, in the background."""
        if blobs:
            self.start(session_id, self._bucket.delete(self._keys(session_id, blobs)))

    def _keys(self, session_id: SessionId, blobs: Mapping[str, str]) -> list[str]:
        return [self._layout.blob(session_id, *blob) for blob in blobs.items()]

    async def clean(self, knowledge: Knowledge, gone: Gone, *, at_once: bool) -> None:
        """
        Remove what a commit has left behind.

        Args:
            knowledge: of the session.
            gone: what is gone with the commit.
            at_once: whether no byte of it may stay, and none of what an earlier call has left;
                else the commits stay for a while.

        Raises:
            ErasureIncompleteError: bytes stay that were not to.
        """
        session_id = knowledge.session_id
        if knowledge.is_index_behind:
            self.start(session_id, knowledge.extend_index())
        if at_once:
            await self._erase_or_tell(knowledge, gone)
            return
        self.drop_blobs(session_id, gone.blobs)
        if any(_is_swept_after(entry.number) for entry in gone.entries):
            self.start(session_id, self.sweep(knowledge))

    async def _erase_or_tell(self, knowledge: Knowledge, gone: Gone) -> None:
        earlier = knowledge.unerased
        gone = Gone((*earlier.entries, *gone.entries), {**earlier.blobs, **gone.blobs})
        try:
            await self._erase(knowledge, gone)
        except CheckpointError as error:
            knowledge.unerased = gone
            places = self._places(knowledge, gone)
            raise ErasureIncompleteError(knowledge.session_id, places, str(error)) from error
        knowledge.unerased = NOTHING_GONE

    def _places(self, knowledge: Knowledge, gone: Gone) -> tuple[str, ...]:
        layout, session_id = self._layout, knowledge.session_id
        if knowledge.session.is_empty:
            parts = (layout.session, layout.blobs_of, layout.index, layout.owners)
            return tuple(f"{layout.location(part(session_id))}*" for part in parts)
        commits = (layout.commit(session_id, entry.number) for entry in gone.entries)
        keys = dict.fromkeys((*commits, *self._keys(session_id, gone.blobs)))
        return tuple(map(layout.location, keys)) or (layout.location(layout.session(session_id)),)

    async def _erase(self, knowledge: Knowledge, gone: Gone) -> None:
        await self._bucket.delete(self._keys(knowledge.session_id, gone.blobs))
        if knowledge.session.is_empty:
            await self._erase_session(knowledge)
            return
        numbers = {entry.number for entry in gone.entries}
        if len(numbers) > _LOOKED_AT_ONE_BY_ONE:
            numbers -= await self.sweep(knowledge)
        await self._bucket.gather(self._erase_commit(knowledge, number) for number in numbers)

    async def _erase_session(self, knowledge: Knowledge) -> None:
        """
        Remove all of an empty session but its last commit, and what has to keep its number.

        That is more than has gone with that commit: what retention has dropped may be there still.
        """
        layout, session = self._layout, knowledge.session
        session_id, end = session.session_id, min(session.floor, session.number)
        numbers: list[int] = []
        removed: list[str] = []
        async for item in self._bucket.list_all(layout.session(session_id)):
            number = layout.number(item.key)
            if number is None or number >= end:
                continue
            if is_settled(item):
                removed.append(item.key)
            else:
                numbers.append(number)
        alive = session.token + 1 if session.owner is None else session.owner.token
        async for item in self._bucket.list_all(layout.owners(session_id)):
            token = item.key.rpartition("/")[2]  # of any number of digits
            if token.isdecimal() and int(token) < alive:
                removed.append(item.key)
        listed = self._bucket.list_all(layout.may_be_empty(session_id))
        first_kept = layout.may_be_empty(session_id, session.number)
        removed += [item.key async for item in listed if item.key < first_kept]
        listed = self._bucket.list_all(layout.blobs_of(session_id))
        # A younger one may be of a save on its way.
        removed += [item.key async for item in listed if is_settled(item)]
        await self._bucket.gather(self._erase_commit(knowledge, number) for number in numbers)
        await self._bucket.delete(removed)
        await knowledge.drop_index()

    async def sweep(self, knowledge: Knowledge) -> set[int]:
        """
        Remove the commits that hold no checkpoint, but for those that have to stay.

        Returns:
            which it has removed.
        """
        layout, session = self._layout, knowledge.session
        ranges = await knowledge.index.ranges()
        newest = session.number  # it always stays
        prefix = layout.session(session.session_id)
        removed: dict[int, str] = {}
        async for item in self._bucket.list_all(prefix):
            number = layout.number(item.key)
            if number is None or number >= newest or not is_settled(item):
                continue
            is_told = number < session.floor or any(
                part.first < number <= part.last for part in ranges
            )
            if is_told and session.entries is not None and not session.entries.alive_in(number):
                removed[number] = item.key
        await self._bucket.delete(removed.values())
        return {*removed}

    async def _erase_commit(self, knowledge: Knowledge, number: int) -> None:
        """Overwrite what nothing refers to any more of a commit, or remove it."""
        key = self._layout.commit(knowledge.session_id, number)
        alive = await self._alive(knowledge, number)
        while True:
            found = await self._bucket.get(key)
            if found is None:
                return
            is_old = found.age >= SETTLED_AFTER
            if is_old and number < min(knowledge.session.floor, knowledge.session.number):
                await self._bucket.delete([key])
                return
            header = knowledge.decoded(number, found)
            if knowledge.session.is_empty and number <= knowledge.session.number:
                blobs = dict.fromkeys(header.blobs, header.write_id)
                await self._bucket.delete(self._keys(knowledge.session_id, blobs))
            erased = _erased(knowledge, number, found, alive)
            if erased != found.data:
                await self._bucket.put(key, erased)
            if not alive:
                return
            # Another client may have done the same for more of them, a moment before this put.
            await knowledge.refresh()
            before, alive = alive, await self._alive(knowledge, number)
            if before == alive:
                return

    async def _alive(self, knowledge: Knowledge, number: int) -> frozenset[CheckpointId]:
        return (await knowledge.entries()).alive_in(number)


def is_settled(item: Listed) -> bool:
    """Tell whether nobody can use the number of an object again, or name the blob."""
    return item.age is not None and item.age >= SETTLED_AFTER


def _is_swept_after(number: int) -> bool:
    """
    Tell whether a session is swept when what a commit held is gone: after one commit of 64.

    By its number, for a process may end before it has counted to 64. The multiples of the golden
    ratio are spread in such a way that an application that replaces every second one, or every
    tenth, meets as many of them.
    """
    return number * _GOLDEN_RATIO % 2**32 < 2**32 // _SWEPT_EVERY


def _erased(
    knowledge: Knowledge, number: int, found: Object, alive: frozenset[CheckpointId]
) -> bytes:
    header = knowledge.decoded(number, found)
    if not header.is_damaged:
        return emptied(found.data, header, alive)
    # Nothing else of it is known, but for that nobody asks any more.
    header = msgspec.structs.replace(
        header, puts=(), write_id=secrets.token_hex(8), saved_at=knowledge.bucket.clock.now()
    )
    return encode_commit(header, ())[1]
