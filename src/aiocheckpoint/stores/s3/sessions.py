"""The sessions that a store works with: one place for each, forgotten when it is not used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.s3.arguments import Options
from aiocheckpoint.stores.s3.bucket import Bucket
from aiocheckpoint.stores.s3.changes import Changes
from aiocheckpoint.stores.s3.knowledge import Knowledge
from aiocheckpoint.stores.s3.layout import Layout
from aiocheckpoint.stores.s3.presence import Presence
from aiocheckpoint.stores.s3.probe import probe
from aiocheckpoint.stores.s3.sweep import Sweeper

_REMEMBERED = 1000
_REMEMBERED_CHECKPOINTS = 250_000  # of about a kilobyte


class Place:
    """
    A session: what is known of it, and its changes.

    Args:
        knowledge: of the session.
        changes: of the session.
        released: called when nobody holds it any more.

    Attributes:
        knowledge: as given.
        changes: as given.
        users: how many hold it.
        size: how many checkpoints were known when it was released last.
    """

    def __init__(
        self, knowledge: Knowledge, changes: Changes, released: Callable[[Place], None]
    ) -> None:
        self.knowledge = knowledge
        self.changes = changes
        self.users = 0
        self.size = 0
        self._released = released

    def release(self) -> None:
        """Let it be forgotten."""
        self.users -= 1
        if not self.users:
            self._released(self)


class Sessions:
    """
    A bucket that is open, and the sessions in it; on the loop of the home.

    Args:
        layout: where things stand.
        options: how to reach it.
        timeout_seconds: how long a change may wait for others.
    """

    def __init__(self, layout: Layout, options: Options, timeout_seconds: float) -> None:
        self.layout = layout
        self.bucket = Bucket(layout, options)
        self.sweeper = Sweeper(self.bucket, layout)
        self._timeout_seconds = timeout_seconds
        self._places: dict[SessionId, Place] = {}
        self._size = 0
        self._opening = asyncio.Lock()
        self._presence = Presence(
            self.bucket, layout, self._forget_all, must_exist=options.must_exist
        )
        self._is_started = self._is_open = False
        self._probing = asyncio.Lock()
        self._is_proven = self._is_proven_with_versions = False

    async def open(self) -> None:
        """
        Make the client, once, and look whether there is a store where there must be one.

        Raises:
            MissingStoreError: there is none.
        """
        if self._is_open:
            return
        async with self._opening:
            if not self._is_started:
                await self.bucket.start()
                self._is_started = True
            await self.require_store()
            self._is_open = True

    async def require_store(self) -> None:
        """
        Look whether there is a store where there must be one, for who knows of nothing in it.

        Raises:
            MissingStoreError: there is none, or another one.
        """
        places = reversed([*self._places.values()])  # the one used last tells of the latest time
        known = next((each.knowledge for each in places if each.knowledge.seen_at), None)
        if known is None or self._presence.has_gone or not self._presence.must_exist:
            await self._presence.require(was_there=self._is_open)
        else:
            await known.look()

    async def is_store(self) -> bool:
        """Tell whether anything was ever stored."""
        return await self._presence.is_store()

    def _forget_all(self) -> None:
        """Let each call look: what was known is of a store that has gone."""
        self._is_open = False
        for place in self._places.values():
            place.knowledge.lose()

    async def prove(self, *, with_versions: bool = False) -> None:
        """
        Probe the server, once, before the first change.

        Args:
            with_versions: whether the bucket is known to keep versions. One that did not when it
                was probed is probed again: its creates may have ceased to exclude one another.
        """
        await self.open()
        if self._needs_proof(with_versions):
            async with self._probing:
                if self._needs_proof(with_versions):
                    self._is_proven = False
                    self._is_proven_with_versions = await probe(self.bucket, self.layout)
                    self._is_proven = True

    def _needs_proof(self, with_versions: bool) -> bool:  # noqa: FBT001 - private
        return not self._is_proven or (with_versions and not self._is_proven_with_versions)

    async def aclose(self) -> None:
        """Finish what was begun, and close the connections."""
        for place in (*self._places.values(),):
            await place.changes.finished()
        await self.sweeper.finished()
        await self.bucket.aclose()

    def hold(self, session_id: SessionId) -> Place:
        """Return the place of a session, which is not forgotten until it is released."""
        place = self._places.pop(session_id, None)
        if place is None:
            knowledge = Knowledge(
                self.bucket, self.layout, session_id, self._presence, self.require_store
            )
            changes = Changes(knowledge, self.sweeper, self.prove, self._timeout_seconds)
            place = Place(knowledge, changes, self._released)
        self._places[session_id] = place  # now the one used last
        place.users += 1
        return place

    @contextlib.contextmanager
    def using(self, session_id: SessionId) -> Iterator[Place]:
        """Hold the place of a session for a block."""
        place = self.hold(session_id)
        try:
            yield place
        finally:
            place.release()

    def _released(self, place: Place) -> None:
        size = place.knowledge.size
        self._size += size - place.size
        place.size = size
        self._forget()

    def _forget(self) -> None:
        """Forget those that were not used for longest, but for the last one, to stay in bounds."""
        if not self._has_too_many():
            return
        for session_id, place in (*self._places.items(),)[:-1]:
            if not place.users and place.changes.is_idle:
                del self._places[session_id]
                self._size -= place.size
                if not self._has_too_many():
                    return

    def _has_too_many(self) -> bool:
        return len(self._places) > _REMEMBERED or self._size > _REMEMBERED_CHECKPOINTS
