"""Looking at everything there is, and putting aside what is damaged."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    FormatVersionError,
    LostIdError,
    MissingBlobError,
    StoreUnavailableError,
)
from aiocheckpoint.kit import RecordKit, decode_id, encode_id, find_session_id
from aiocheckpoint.models import CheckpointRecord, Finding, FindingKind, RecoveryReport, SessionId
from aiocheckpoint.stores.s3.changes import Change
from aiocheckpoint.stores.s3.commits import Entry, decode_commit
from aiocheckpoint.stores.s3.reads import Reads
from aiocheckpoint.stores.s3.sessions import Place, Sessions
from aiocheckpoint.stores.s3.state import Staged
from aiocheckpoint.stores.s3.sweep import is_settled

ItemT = TypeVar("ItemT")

_KINDS: dict[FindingKind, type[CheckpointError]] = {
    "misplaced": CheckpointMismatchError,
    "missing-blob": MissingBlobError,
    "other-version": FormatVersionError,
    "damaged": CheckpointCorruptError,
    "unreadable": CheckpointError,
}


class Health:
    """
    One session, looked at as a whole.

    Args:
        sessions: of the store.
        place: the session.
        kit: of the store.
    """

    def __init__(self, sessions: Sessions, place: Place, kit: RecordKit[Any]) -> None:
        self._sessions = sessions
        self._knowledge = place.knowledge
        self._changes = place.changes
        self._reads: Reads[Any] = Reads(place.knowledge, kit)

    async def problems(self) -> list[tuple[Entry, CheckpointError]]:
        """Return the checkpoints that cannot be read, the one saved first first."""
        await self._knowledge.refresh()
        entries = await self._knowledge.entries()
        bucket, looked_at = self._knowledge.bucket, [*entries]
        named = [(digest, blob.write_id) for digest, blob in entries.blobs.items()]
        errors = await bucket.gather(map(partial(_problem, self._reads.blob), named))
        bad = {digest: error for (digest, _), error in zip(named, errors, strict=True) if error}
        reached = {entry: [*entries.reached(entry.blobs)] for entry in looked_at if bad}
        own_errors = await bucket.gather(map(partial(_problem, self._reads.record), looked_at))
        problems: dict[Entry, CheckpointError] = {}
        for entry, own_error in zip(looked_at, own_errors, strict=True):
            of_blobs = (bad[digest] for digest in reached.get(entry, ()) if digest in bad)
            problem = own_error or next(of_blobs, None)
            if problem is not None:
                problems[entry] = problem
        if problems:  # what somebody has removed meanwhile is no damage
            await self._knowledge.refresh()
        left = {*await self._knowledge.entries()}
        return [(entry, error) for entry, error in problems.items() if entry in left]

    async def findings(self) -> list[Finding]:
        """Return what `check` tells of the session."""
        return [
            Finding(
                kind=next(kind for kind, errors in _KINDS.items() if isinstance(error, errors)),
                location=self._reads.location(entry),
                detail=str(error),
                session_id=self._knowledge.session_id,
            )
            for entry, error in await self.problems()
            if not entry.is_erased
        ]

    async def loose_blobs(self) -> list[str]:
        """Return the keys of blobs that no checkpoint names, and no save will name any more."""
        prefix = self._knowledge.layout.blobs_of(self._knowledge.session_id)
        listed = [item async for item in self._sessions.bucket.list_all(prefix)]
        return await self.not_named([item.key for item in listed if is_settled(item)])

    async def not_named(self, keys: list[str]) -> list[str]:
        """Return those of the keys that are of no blob which a checkpoint names."""
        if not keys:
            return []
        layout, session_id = self._knowledge.layout, self._knowledge.session_id
        await self._knowledge.refresh()
        blobs = (await self._knowledge.entries()).blobs
        named = {layout.blob(session_id, key, blob.write_id) for key, blob in blobs.items()}
        return [key for key in keys if key not in named]

    async def recover(self) -> RecoveryReport:
        """
        Put aside what is damaged, and remove what a crash has left.

        Raises:
            CheckpointTooLargeError: nobody can tell whether one over `max_bytes` is damaged.
            FormatVersionError: the newest that would be left is of another format version.
        """
        problems = await self.problems()
        entries = [*await self._knowledge.entries()]
        damaged = _recoverable(problems, entries)
        kept = [entry for entry in entries if entry not in damaged]
        uncertain = [entry.id for entry in kept if self._reads.doubt(entry) is not None]
        moved = [place for entry in damaged if (place := await self._put_aside(entry))]
        if damaged:
            await self._delete(damaged)
        await self._sessions.bucket.delete(await self.loose_blobs())
        newest = (await self._knowledge.refresh()).newest
        return RecoveryReport(
            session_id=self._knowledge.session_id,
            newest_valid_id=None if newest is None else newest.id,
            quarantined=tuple(moved),
            uncertain_ids=tuple(uncertain),
        )

    async def _put_aside(self, entry: Entry) -> str | None:
        """Copy what is there of a checkpoint; None where nothing is."""
        knowledge = self._knowledge
        layout, session_id = knowledge.layout, knowledge.session_id
        bucket = self._sessions.bucket
        if entry.is_erased:
            return None
        if entry.problem is None:
            data = await knowledge.body(entry)
        else:
            found = await bucket.get(layout.commit(session_id, entry.number))
            data = None if found is None else found.data
        if data is None:
            return None
        name = f"{entry.number:012d}-{encode_id(entry.id, 'checkpoint id')}"
        key = layout.quarantine(session_id, name)
        await bucket.put(key, data)
        return layout.location(key)

    async def _delete(self, damaged: list[Entry]) -> None:
        def stage(staged: Staged) -> int:
            return staged.drop(entry.id for entry in damaged if staged.holds(entry))

        await self._changes.put(Change(stage, needs_entries=True, erases=True)).done


async def _problem(
    read: Callable[[ItemT], Awaitable[object]], item: ItemT
) -> CheckpointError | None:
    """Return what is wrong with something that is read."""
    try:
        with contextlib.suppress(CheckpointDecodeError):  # of another type, and no damage
            await read(item)
    except StoreUnavailableError:
        raise
    except CheckpointError as error:
        return error
    return None


def _recoverable(
    problems: list[tuple[Entry, CheckpointError]], entries: list[Entry]
) -> list[Entry]:
    errors = dict(problems)
    for error in errors.values():
        if isinstance(error, CheckpointTooLargeError):
            raise error
    damaged = [entry for entry, e in problems if isinstance(e, CheckpointCorruptError)]
    left = [entry for entry in entries if entry not in damaged]
    if left and left[-1] in errors:
        raise errors[left[-1]]
    return damaged


async def session_ids(
    sessions: Sessions, prefix: str, refused: list[CheckpointError]
) -> AsyncIterator[SessionId]:
    """Yield the sessions that have checkpoints, whose ids begin so; append why others do not."""
    layout, bucket = sessions.layout, sessions.bucket
    for begin in layout.listings(prefix):
        doubtful: set[str] = set()
        async for item in bucket.list_all(begin, delimiter="/"):
            name = layout.session_name(item.key)
            if item.age is not None:
                doubtful.add(name)
                continue
            try:
                session_id = await _id_of(sessions, name, is_doubtful=name in doubtful)
            except (CheckpointCorruptError, FormatVersionError) as error:
                refused.append(error)
                continue
            if session_id is not None and session_id.startswith(prefix):
                yield session_id


async def _id_of(sessions: Sessions, name: str, *, is_doubtful: bool) -> SessionId | None:
    """Return the id behind a name; None of a session without checkpoints."""
    from_name = decode_id(name)
    if from_name is not None and not is_doubtful:
        return from_name
    session_id = await _read_id(sessions, name) if from_name is None else from_name
    if not is_doubtful or session_id is None:
        return session_id
    with sessions.using(session_id) as place:
        session = await place.knowledge.refresh()
        return None if session.newest is None else session_id


async def _read_id(sessions: Sessions, name: str) -> SessionId | None:
    """
    Return the id of a session whose name does not tell it, from any commit; None without one.

    Raises:
        LostIdError: none of them tells it.
        FormatVersionError: none that this version can read does.
    """
    layout, bucket = sessions.layout, sessions.bucket
    place = layout.commits_of_name(name)
    refused: CheckpointError | None = None
    async for item in bucket.list_all(place):
        found = await bucket.get(item.key)
        number = layout.number(item.key)
        if found is None or number is None:
            continue
        key = layout.location(item.key)
        try:
            header = decode_commit(found.data, key, None, number)
        except FormatVersionError as error:
            refused = error
        except CheckpointCorruptError as damage:
            proven = find_session_id(found.data, name)
            if proven is not None:
                return proven
            refused = refused or LostIdError(layout.location(place), key, damage.reason)
        else:
            if encode_id(header.session_id, "session id") == name:
                return header.session_id
            reason = f"it is a commit of session {header.session_id!r}"
            refused = refused or LostIdError(layout.location(place), key, reason)
    if refused is not None:
        raise refused
    return None


def lost(errors: Iterable[CheckpointError]) -> list[Finding]:
    """Return what `check` tells of sessions whose ids cannot be told."""
    return [
        Finding(kind="lost-id", location=error.location, detail=str(error))
        if isinstance(error, LostIdError)
        else Finding(kind="unreadable", location=str(error.args[0]), detail=str(error))
        for error in errors
    ]


async def unused_blobs(sessions: Sessions) -> list[Finding]:
    """Return what `check` tells of blobs that crashes have left."""
    layout, bucket = sessions.layout, sessions.bucket
    by_name: dict[str, list[str]] = {}
    async for item in bucket.list_all(layout.blobs):
        if is_settled(item):
            name = item.key.removeprefix(layout.blobs).partition("/")[0]
            by_name.setdefault(name, []).append(item.key)
    found: list[Finding] = []
    for name, keys in by_name.items():
        session_id: SessionId | None = None
        with contextlib.suppress(CheckpointError):
            session_id = await _id_of(sessions, name, is_doubtful=False)
        left = keys
        if session_id is not None:
            with sessions.using(session_id) as place:
                left = await Health(sessions, place, RecordKit(CheckpointRecord, 1)).not_named(keys)
        detail = "no checkpoint names it; a crash left it, and recover(session_id) removes it"
        found += [
            Finding(
                kind="unused-blob",
                location=layout.location(key),
                detail=detail,
                session_id=session_id,
            )
            for key in left
        ]
    return found
