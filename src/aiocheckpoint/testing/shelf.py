"""What stores in memory keep, and how it changes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from aiocheckpoint.errors import MissingBlobError, OwnershipLostError, SessionChangedError
from aiocheckpoint.kit import (
    EncodedRecord,
    StagedDelete,
    StagedSave,
    encode_id,
    reachable_blobs,
)
from aiocheckpoint.models import ANY_NEWEST, CheckpointId, Expected, SessionId, utc_now

Changes = Sequence[StagedSave | StagedDelete]


def location_of(session_id: SessionId, name: str) -> str:
    """Return where a checkpoint, or a blob, is."""
    return f"memory:///{encode_id(session_id, 'session id')}/{encode_id(name, 'checkpoint id')}"


class Stored(NamedTuple):
    """
    One checkpoint as it is kept.

    Attributes:
        body: its sealed document.
        digests: the blobs that it names.
        saved_at: when, by the clock of the store.
    """

    body: bytes
    digests: tuple[str, ...]
    saved_at: datetime


class Session(NamedTuple):
    """
    A session as it is kept; a change makes a new one.

    Attributes:
        checkpoints: the one saved first first.
        blobs: by their digests.
    """

    checkpoints: Mapping[CheckpointId, Stored] = {}
    blobs: Mapping[str, bytes] = {}

    @property
    def newest_id(self) -> CheckpointId | None:
        """The one saved last; None for an empty session."""
        return next(reversed(tuple(self.checkpoints)), None)


class Shelf:
    """
    What stores keep that are clients of each other.

    Attributes:
        sessions: by their ids.
        quarantine: what recoveries have put aside, by where it is now.
        tokens: of the last owner of each session.
        owned: of the present owner of each session.
        marks: that are left at the moment.
        mutex: held while something changes.
    """

    def __init__(self) -> None:
        self.sessions: dict[SessionId, Session] = {}
        self.quarantine: dict[str, bytes] = {}
        self.tokens: dict[SessionId, int] = {}
        self.owned: dict[SessionId, int] = {}
        self.marks: set[str] = set()
        self.mutex = threading.Lock()
        self._last_saved_at = datetime.min.replace(tzinfo=UTC)

    def session(self, session_id: SessionId) -> Session:
        """Return what there is of a session."""
        return self.sessions.get(session_id, Session())

    @property
    def was_changed(self) -> bool:
        """Whether anything was ever stored, or owned."""
        return bool(self.sessions or self.tokens)

    def snapshot(self, session_ids: Iterable[SessionId]) -> Shelf:
        """Return what there is of sessions at this moment, which does not change any more."""
        seen = Shelf()
        with self.mutex:
            seen.sessions = {key: self.sessions[key] for key in session_ids if key in self.sessions}
        return seen

    def commit(
        self,
        staged: Mapping[SessionId, Changes],
        expected: Expected = ANY_NEWEST,
        owner: tuple[SessionId, int] | None = None,
        max_checkpoints: int | None = None,
        seen: Shelf | None = None,
    ) -> dict[SessionId, Session]:
        """
        Make changes, all or none, and return what the sessions are by then.

        Args:
            staged: the changes of each session, in their order.
            expected: what the newest has to be.
            owner: a session and the token of whoever has to own it.
            max_checkpoints: how many to keep, the newest.
            seen: a snapshot that still has to be so of the sessions; None for whatever there is.

        Raises:
            OwnershipLostError: somebody else owns the session.
            SessionChangedError: the newest is another one, or the session is not as it was seen.
            MissingBlobError: a record leads to a blob that is neither given nor there.
        """
        with self.mutex:
            if owner is not None and self.owned.get(owner[0]) != owner[1]:
                raise OwnershipLostError(*owner)
            changed: dict[SessionId, Session] = {}
            for session_id, changes in staged.items():
                session = self.session(session_id)
                is_seen = seen is None or self._is_as_in(seen, session_id)
                if not is_seen or (expected is not ANY_NEWEST and session.newest_id != expected):
                    raise SessionChangedError(session_id, session.newest_id)
                changed[session_id] = self._changed(session, changes, max_checkpoints)
            for session_id, session in changed.items():
                if session.checkpoints or session_id in self.sessions:
                    self.sessions[session_id] = session
            return changed

    def _is_as_in(self, seen: Shelf, session_id: SessionId) -> bool:
        return self.sessions.get(session_id) is seen.sessions.get(session_id)

    def _changed(self, session: Session, changes: Changes, max_checkpoints: int | None) -> Session:
        checkpoints, blobs = {**session.checkpoints}, {**session.blobs}
        for change in changes:
            if isinstance(change, StagedSave):
                self._enter(change.record, checkpoints, blobs)
            elif change.checkpoint_ids is None:
                checkpoints.clear()
            else:
                for checkpoint_id in change.checkpoint_ids:
                    checkpoints.pop(checkpoint_id, None)
        is_saved_to = any(isinstance(change, StagedSave) for change in changes)
        if max_checkpoints is not None and is_saved_to:
            for oldest in [*checkpoints][:-max_checkpoints]:
                del checkpoints[oldest]
        named = {digest for stored in checkpoints.values() for digest in stored.digests}
        used = {*reachable_blobs(named, blobs)}
        return Session(checkpoints, {key: data for key, data in blobs.items() if key in used})

    def _enter(
        self,
        record: EncodedRecord,
        checkpoints: dict[CheckpointId, Stored],
        blobs: dict[str, bytes],
    ) -> None:
        blobs.update(record.blobs)
        for digest in reachable_blobs(record.blob_digests, blobs):
            if digest not in blobs:
                raise MissingBlobError(location_of(record.session_id, digest), digest, "save")
        checkpoints.pop(record.checkpoint_id, None)  # a dict keeps the place of a key that it has
        saved_at = max(utc_now(), self._last_saved_at + timedelta.resolution)
        self._last_saved_at = saved_at
        checkpoints[record.checkpoint_id] = Stored(record.body, record.blob_digests, saved_at)

    # Owners

    def own(self, session_id: SessionId) -> int | None:
        """Give a session to a new owner, and return the token; None while it has one."""
        with self.mutex:
            if session_id in self.owned:
                return None
            token = max(self.tokens.get(session_id, 0) + 1, int(utc_now().timestamp() * 1000))
            self.owned[session_id] = self.tokens[session_id] = token
            return token

    def disown(self, session_id: SessionId) -> None:
        """Take a session from its owner."""
        with self.mutex:
            self.owned.pop(session_id, None)

    # Damage

    def put_aside(self, session_id: SessionId, doomed: Iterable[CheckpointId]) -> tuple[str, ...]:
        """Move checkpoints to the quarantine, and return where they are."""
        moved: list[str] = []
        for checkpoint_id in doomed:
            place = f"{location_of(session_id, checkpoint_id)}?aside={len(self.quarantine)}"
            self.quarantine[place] = self.sessions[session_id].checkpoints[checkpoint_id].body
            moved.append(place)
        self.commit({session_id: [StagedDelete(tuple(doomed))]})
        return tuple(moved)

    def damage(self, session_id: SessionId, name: str) -> None:
        """Flip a bit of a checkpoint, or of a blob, as a bad sector would."""
        with self.mutex:
            session = self.sessions[session_id]
            checkpoints, blobs = {**session.checkpoints}, {**session.blobs}
            if name in blobs:
                blobs[name] = flipped(blobs[name])
            else:
                stored = checkpoints[name]
                checkpoints[name] = stored._replace(body=flipped(stored.body))
            self.sessions[session_id] = Session(checkpoints, blobs)


def flipped(data: bytes) -> bytes:
    """Return bytes of which one, in the middle, is another; of none, one."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"x"
