"""A session store of the Claude Agent SDK in any store of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, cast

import claude_agent_sdk
from claude_agent_sdk import (
    SessionKey,
    SessionListSubkeysKey,
    SessionStoreEntry,
    SessionStoreListEntry,
    SessionSummaryEntry,
)

from aiocheckpoint import (
    Transaction,
    UnsupportedOperationError,
    exact,
)
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.claude_agent.records import (
    ClaudeRecord,
    Place,
    SessionStart,
    Transcript,
    prefix,
)
from aiocheckpoint.adapters.claude_agent.transcript import (
    Given,
    Known,
    OpenTranscript,
    entries_of,
    removed,
)

_KNOWN_TRANSCRIPTS = 64


class SessionStore(InStorage[ClaudeRecord], claude_agent_sdk.SessionStore):
    """
    Transcripts of the Claude Agent SDK that survive the process, the machine, a power cut.

    ```py
    options = ClaudeAgentOptions(session_store=SessionStore("state/"), resume=session_id)
    ```

    Any number of stores, tasks, event loops, threads and processes may use one storage, and one
    session of it; stores that are given the same path or URL share one store of checkpoints.

    **Durability**: when a call returns, what it changed is durable, as the store promises.

    **Order**: appends take effect in the order of the calls, also when they are called at once.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError` or `MissingBlobError`. It is never taken for a
    session that is empty, or shorter.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `ClaudeRecord`, which
            stays open.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(self, storage: Storage[ClaudeRecord]) -> None:
        super().__init__(storage, ClaudeRecord)
        self._known = lru_cache(_KNOWN_TRANSCRIPTS)(_known_of)

    # One transcript

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """
        Add entries, all or none, but for those whose `uuid` is there already.

        Args:
            key: of a session, or with a `subpath` of a subagent of it.
            entries: dicts of JSON values, and of what else `exact` keeps; they may be changed as
                soon as this was called.

        Raises:
            InvalidArgumentError: the key or an entry is not of this form.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointCorruptError: what is stored is damaged; nothing was added.
            CheckpointError: what `update` of the store raises.

        Cost: one update, of what is added. The first append to what others have added reads it,
            for its uuids; a `load` by this object has done so.
        """
        place, given = Place.of(key), Given.of(entries)
        self._require_open()
        if not given.entries:
            return
        known = self._known(place)
        await self._store.update(
            place.name, lambda session: OpenTranscript(place, session, known).append(given)
        )

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """
        Return all entries, in the order in which they were added; None when there never were any.

        Args:
            key: as of `append`.

        Raises:
            InvalidArgumentError: the key is none.
            CheckpointCorruptError: what is stored is damaged, or a part of it is gone.
            CheckpointError: what `read` of the store raises.

        Cost: one read.
        """
        place = Place.of(key)
        self._require_open()
        work = partial(entries_of, self._known(place))
        return await read_steadily(self._store, place.name, work)

    async def delete(self, key: SessionKey) -> None:
        """
        Remove a session with its subagents, or one subagent; there may be none.

        One commit. Where the store has none over several sessions, as a bucket, the session is
        removed last, so that what an error has left can be deleted by the same call.

        Args:
            key: as of `append`.

        Raises:
            InvalidArgumentError: the key is none.
            CheckpointError: what `update_many` of the store raises.
        """
        place = Place.of(key)
        self._require_open()
        if place.subpath is not None:
            await self._store.delete_session(place.name)
            return
        names = [*(found.name for found in await self._subagents(place)), place.name]

        async def remove(sessions: Mapping[str, Transaction[ClaudeRecord]]) -> None:
            for session in sessions.values():
                session.delete_session()

        try:
            await self._store.update_many(names, remove)
        except UnsupportedOperationError:
            for name in names:
                await self._store.delete_session(name)

    # Lists

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """
        Return the sessions of a project, and when they were appended to.

        Raises:
            CheckpointCorruptError: the newest state of one is damaged, or gone.
            CheckpointError: what `load_newest` of the store raises.

        Cost: a list of the names, and one read of a small record of each.
        """
        found = await self._transcripts(project_key)
        return [
            {"session_id": place.session_id, "mtime": head.mtime} for place, head in found.items()
        ]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """
        Return what the framework shows of the sessions of a project, without reading them.

        Raises:
            CheckpointError: as `list_sessions`.

        Cost: as `list_sessions`.
        """
        found = await self._transcripts(project_key)
        return [
            {
                "session_id": place.session_id,
                "mtime": head.mtime,
                "data": exact.from_json(head.summary),
            }
            for place, head in found.items()
        ]

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """
        Return the subpaths of a session.

        Raises:
            InvalidArgumentError: the key is none.
            CheckpointError: what `sessions` of the store raises.
        """
        place = Place.of(cast("Mapping[str, Any]", key))
        self._require_open()
        subagents = await self._subagents(place)
        return [found.subpath for found in subagents if found.subpath is not None]

    async def _transcripts(self, project_key: str) -> dict[Place, Transcript]:
        self._require_open()
        places = {
            place.name: place
            for place in await self._places(prefix(project_key))
            if place.subpath is None
        }
        records = await self._store.load_newest(places)
        found: dict[Place, Transcript] = {}
        for name, record in records.items():
            if isinstance(record, SessionStart):
                raise removed(name)
            if isinstance(record, Transcript):
                found[places[name]] = record
        return found

    async def _subagents(self, place: Place) -> list[Place]:
        return await self._places(prefix(place.project_key, place.session_id))

    async def _places(self, begin: str) -> list[Place]:
        names = [name async for name in self._store.sessions(prefix=begin)]
        return [place for name in names if (place := Place.named(name)) is not None]


def _known_of(place: Place) -> Known:  # noqa: ARG001 - what it is remembered by
    return Known()
