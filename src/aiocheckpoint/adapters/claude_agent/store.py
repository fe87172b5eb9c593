"""A session store of the Claude Agent SDK in any store of checkpoints."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
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
    CheckpointError,
    SessionChangedError,
    SessionId,
    Transaction,
    UnsupportedOperationError,
    exact,
)
from aiocheckpoint.adapters._erasing import Erasing
from aiocheckpoint.adapters._lists import (
    finished,
    newest_of,
    of_unknown,
    saved_at,
    session_names,
)
from aiocheckpoint.adapters._steady import read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.claude_agent.known import Latest, Transcripts, transcripts_of
from aiocheckpoint.adapters.claude_agent.records import (
    ClaudeRecord,
    Place,
    SessionStart,
    Transcript,
    prefix,
)
from aiocheckpoint.adapters.claude_agent.transcript import (
    Appended,
    Given,
    append_in,
    entries_of,
    grown,
    removed,
)


class UnreadableSession(SessionStoreListEntry):
    """
    A session that `load` refuses, in a list; its `mtime` is when what is left of it was stored.

    Attributes:
        problem: what `load` says of it.
    """

    problem: str


class SessionStore(InStorage[ClaudeRecord], claude_agent_sdk.SessionStore):
    """
    Transcripts of the Claude Agent SDK that survive the process, the machine, a power cut.

    ```py
    options = ClaudeAgentOptions(session_store=SessionStore("state/"), resume=session_id)
    ```

    Any number of stores, tasks, event loops, threads and processes may use one storage, and one
    session of it; stores that are given the same path, URL or open store share it, and what is
    known of its transcripts.

    **Durability**: when a call returns, what it changed is durable, as the store promises.

    **Order**: appends take effect in the order of the calls, also when they are called at once, by
    whichever of the stores that share a storage.

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
        self._storage = storage
        self._process = os.getpid()
        self._known = transcripts_of(storage)
        self._erasing = Erasing()

    def _shared(self) -> Transcripts:
        """Return what this process, and none that it was forked from, knows of the transcripts."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._known = transcripts_of(self._storage)
        return self._known

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

        Cost: one save, of what is added and of some 15 KB of what was before. The first append, and
            the first after others have appended, is an update, which reads what they have added,
            for its uuids; a `load` by this process has done so. It is the first one again where the
            transcripts that were appended to since have hundreds of thousands of entries.
        """
        place, given = Place.of(key), Given.of(entries)
        self._require_open()
        if not given.entries:
            return
        transcripts = self._shared()
        known = transcripts.of(place)
        async with transcripts.turns.held(known.name):
            latest, known.latest = known.latest, None  # what fails leaves nothing
            appended = latest and await self._add(place, known.record_id, latest, given)
            if appended is None:
                appended = await self._store.update(
                    known.name, lambda session: append_in(session, place, known, given)
                )
            known.latest = appended.committed()

    async def _add(
        self, place: Place, record_id: str, latest: Latest, given: Given
    ) -> Appended | None:
        """
        Add entries to a transcript that is as this process left it, by one save.

        Returns:
            what was added; None when nothing was done: it is not so, or it has all of them, of
            which only a look can tell whether somebody has deleted them meanwhile.
        """
        new = given.without(latest.seen.uuids)
        if latest.head.checkpoint_id != record_id or not new.entries:
            return None
        done = grown(place, latest, record_id, new)
        try:
            await self._store.save(done.record, blobs=done.blobs, expected=record_id)
        except SessionChangedError:
            return None
        return done.appended

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
        work = partial(entries_of, self._shared().of(place))
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
            ErasureIncompleteError: in a bucket, all is deleted, and some not erased: call again.
            CheckpointError: what `update_many` of the store raises.
        """
        place = Place.of(key)
        self._require_open()
        async with self._shared().turns.held(place.name):
            await self._delete(place)

    async def _delete(self, place: Place) -> None:
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
            await self._erasing.delete(self._store, place.name, _each(names))

    # Lists

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """
        Return the sessions of a project, and when they were appended to.

        One that `load` refuses, as it is damaged, or something else has removed a record of it, is
        named as last, as an `UnreadableSession`.

        Raises:
            CheckpointError: nobody can tell the name of a session, or what a damaged part of the
                journal held; `listed` of the error has all others. Or something is wrong with all,
                as a server that is away.

        Cost: a list of the names, and one read of a small record of each.
        """
        found, damaged, nameless = await self._transcripts(project_key)
        listed: list[SessionStoreListEntry] = [
            {"session_id": place.session_id, "mtime": head.mtime} for place, head in found.items()
        ]
        for place, problem in damaged.items():
            time = await saved_at(self._store, place.name)
            if time is not None:
                entry: UnreadableSession = {
                    "session_id": place.session_id,
                    "mtime": int(time.timestamp() * 1000),
                    "problem": problem,
                }
                listed.append(entry)
        return finished(listed, nameless)

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """
        Return what the framework shows of the sessions of a project, without reading them.

        One that is damaged has none: the framework tries to load it, as `list_sessions` names it.

        Raises:
            CheckpointError: as `list_sessions`.

        Cost: as `list_sessions`.
        """
        found, _, nameless = await self._transcripts(project_key)
        listed: list[SessionSummaryEntry] = [
            {
                "session_id": place.session_id,
                "mtime": head.mtime,
                "data": exact.from_json(head.summary),
            }
            for place, head in found.items()
        ]
        return finished(listed, nameless)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """
        Return the subpaths of a session.

        Raises:
            InvalidArgumentError: the key is none.
            CheckpointError: what `sessions` of the store raises of a session whose name nobody can
                tell; `listed` of the error has all others.
        """
        place = Place.of(cast("Mapping[str, Any]", key))
        names, nameless = await session_names(self._opened.store, _subagents_of(place))
        subagents = _places(names)
        return finished([it.subpath for it in subagents if it.subpath is not None], nameless)

    async def _transcripts(
        self, project_key: str
    ) -> tuple[dict[Place, Transcript], dict[Place, str], list[CheckpointError]]:
        """Return the transcripts of a project, what is wrong with others, and with the list."""
        self._require_open()
        names, nameless = await session_names(self._store, prefix(project_key))
        places = {place.name: place for place in _places(names) if place.subpath is None}
        newest, refused = await newest_of(self._store, [*places])
        found: dict[Place, Transcript] = {}
        damaged: dict[Place, str] = {}
        for name, place in places.items():
            record = newest.get(name)
            if isinstance(record, Transcript):
                found[place] = record
            elif isinstance(record, SessionStart):
                damaged[place] = str(removed(name))
            elif name in refused:
                damaged[place] = str(refused[name])
        return found, damaged, [*nameless, *of_unknown(refused.values())]

    async def _subagents(self, place: Place) -> list[Place]:
        return _places([name async for name in self._store.sessions(prefix=_subagents_of(place))])


async def _each(names: Iterable[SessionId]) -> AsyncIterator[SessionId]:
    for name in names:
        yield name


def _subagents_of(place: Place) -> str:
    return prefix(place.project_key, place.session_id)


def _places(names: Iterable[str]) -> list[Place]:
    return [place for name in names if (place := Place.named(name)) is not None]
