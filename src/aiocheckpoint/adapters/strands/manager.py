"""Sessions of Strands Agents that tell when two agents write to one."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from typing import Any

from strands.types.exceptions import StorageError

from aiocheckpoint import CheckpointError, Transaction
from aiocheckpoint.adapters._storage import Storage as Location
from aiocheckpoint.adapters.strands.agents import SharingManager
from aiocheckpoint.adapters.strands.records import Place, StoredValue, value_at
from aiocheckpoint.adapters.strands.storage import Storage
from aiocheckpoint.kit import AsyncClosing


class SessionConflictError(CheckpointError, StorageError):
    """
    Another agent has written to the session meanwhile; nothing was changed.

    Attributes:
        key: what both have written to.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"another agent has written to {self.key!r} since this one read it; restore it by "
            "`restore_snapshot`, or make a new agent, and do the turn again"
        )


class SessionManager(AsyncClosing, SharingManager):
    """
    Keeps a session of Strands Agents: the framework's `SnapshotSessionManager` on any store.

    ```py
    async with SessionManager("support-42", "state/", save_latest_on="message") as sessions:
        agent = Agent(session_manager=sessions)
    ```

    Each agent has a manager of its own. Two that have one session at once, in one process or in
    several, are told: the one that writes later, without having read what the other wrote, gets
    `SessionConflictError`, and what the other wrote stays.

    **Durability**: when a call returns, what it changed is durable, as the store promises.

    **Damage** raises `CheckpointCorruptError`, when the agent is made. It is never a new session.

    Args:
        session_id: as the framework allows them, without slashes.
        storage: a directory, a URL of `open_store`, or an open store of `StoredValue`, which stays
            open.
        **options: of `SnapshotSessionManager`. By `save_latest_on="message"` a killed process loses
            no message; the framework's default saves at the end of each turn.

    Raises:
        CheckpointError: what `open_store` raises.
        ValueError: what `SnapshotSessionManager` raises.
    """

    def __init__(self, session_id: str, storage: Location[StoredValue], **options: Any) -> None:
        self._own = _OneAgent(storage)
        super().__init__(session_id, storage=self._own, **options)

    def _require_open(self) -> None:
        self._own._require_open()  # noqa: SLF001 - of this module

    async def delete_session(self) -> None:
        """
        Remove all that is kept of the session, in one commit, also where it is damaged.

        Raises:
            CheckpointError: what `delete_session` of the store raises.
        """
        await self._own.delete_session(f"session/{self.session_id}/")
        await super().delete_session()  # which finds the framework's stash alone

    async def aclose(self) -> None:
        """Let go of the storage; a store that was given open stays open."""
        await self._own.aclose()


class _OneAgent(Storage):
    """A storage that writes over what it read or wrote itself, and over nothing else."""

    def __init__(self, storage: Location[StoredValue]) -> None:
        super().__init__(storage)
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._read: dict[Place, str | None] = {}  # revisions

    async def read(self, key: str) -> bytes | None:
        found = await self._loaded(key)
        self._read[self._place(key)] = None if found is None else found[0].revision
        return None if found is None else found[1]

    async def delete(self, key: str) -> None:
        await super().delete(key)
        self._read[self._place(key)] = None

    async def delete_session(self, prefix: str) -> None:
        name = self._place(prefix).session_id
        await self._store.delete_session(name)
        self._read.update((place, None) for place in self._read if place.session_id == name)

    async def write(self, key: str, data: bytes) -> None:
        place, pieces = self._cut(key, data)
        value = pieces.into(value_at(place, f"{self._name}-{next(self._numbers)}"))

        async def save(blobs: Mapping[str, bytes]) -> None:
            async def replace(session: Transaction[StoredValue]) -> None:
                self._require_own(place, await session.load(place.checkpoint_id))
                session.save(value, blobs=blobs)

            await self._store.update(place.session_id, replace)

        await pieces.saved(save)
        self._documents.keep(place.session_id, pieces)
        self._read[place] = value.revision

    def _require_own(self, place: Place, stored: StoredValue | None) -> None:
        revision = None if stored is None else stored.revision
        # Writes of one agent may overlap: then the one before is known by its name alone.
        is_own = revision is not None and revision.startswith(self._name)
        if place in self._read and revision != self._read[place] and not is_own:
            raise SessionConflictError(place.key)
