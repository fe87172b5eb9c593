"""Reads of what a store in memory keeps, of arguments that were checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic

from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTooLargeError,
    FormatVersionError,
    MissingBlobError,
)
from aiocheckpoint.kit import RecordKit, RecordT, reachable_blobs, sorted_ids
from aiocheckpoint.models import CheckpointId, CheckpointMeta, Finding, FindingKind, SessionId
from aiocheckpoint.testing.shelf import Session, Shelf, Stored, location_of

_KINDS: dict[FindingKind, type[CheckpointError]] = {
    "misplaced": CheckpointMismatchError,
    "missing-blob": MissingBlobError,
    "other-version": FormatVersionError,
    "damaged": CheckpointCorruptError,
    "unreadable": CheckpointError,
}


class ShelfReads(Generic[RecordT]):
    """
    What a store, or a transaction of it, reads.

    Args:
        shelf: where it is.
        kit: of the store.
    """

    def __init__(self, shelf: Shelf, kit: RecordKit[RecordT]) -> None:
        self._shelf = shelf
        self._kit = kit

    def load(self, session_id: SessionId, checkpoint_id: CheckpointId | None) -> RecordT | None:
        """Return a checkpoint, for None the newest."""
        session = self._shelf.session(session_id)
        key = session.newest_id if checkpoint_id is None else checkpoint_id
        if key is None or key not in session.checkpoints:
            return None
        return self._loaded(session_id, key, session.checkpoints[key])

    def _decode(
        self, session_id: SessionId, checkpoint_id: CheckpointId, stored: Stored
    ) -> RecordT:
        location = location_of(session_id, checkpoint_id)
        return self._kit.decode(stored.body, location, session_id, checkpoint_id)

    def _loaded(
        self, session_id: SessionId, checkpoint_id: CheckpointId, stored: Stored
    ) -> RecordT:
        try:
            return self._decode(session_id, checkpoint_id, stored)
        except CheckpointCorruptError as error:
            session = self._shelf.session(session_id)
            error.newest_valid_id = self._newest_intact_id(session_id, session)
            raise

    def _newest_intact_id(self, session_id: SessionId, session: Session) -> CheckpointId | None:
        bad = {finding.location for finding in self.findings(session_id, session)}
        intact = [key for key in session.checkpoints if location_of(session_id, key) not in bad]
        return intact[-1] if intact else None

    def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId]
    ) -> tuple[RecordT, ...]:
        """Return those of the checkpoints that are there, saved first first."""
        wanted = {*checkpoint_ids}
        return tuple(
            self._loaded(session_id, key, stored)
            for key, stored in self._shelf.session(session_id).checkpoints.items()
            if key in wanted
        )

    def list(
        self, session_id: SessionId, before: CheckpointId | None, limit: int | None
    ) -> tuple[CheckpointMeta, ...]:
        """Return what there is, saved last first."""
        keys = [*reversed(tuple(self._shelf.session(session_id).checkpoints))]
        if before is not None:
            keys = keys[keys.index(before) + 1 :] if before in keys else []
        return tuple(self.meta(session_id, key) for key in keys[:limit])

    def meta(self, session_id: SessionId, checkpoint_id: CheckpointId) -> CheckpointMeta:
        """Return what a listing tells of a checkpoint."""
        stored = self._shelf.session(session_id).checkpoints[checkpoint_id]
        location = location_of(session_id, checkpoint_id)
        return self._kit.entry(stored.body, location, stored.saved_at, session_id, checkpoint_id)

    def ids(
        self,
        session_id: SessionId,
        prefix: str,
        before: CheckpointId | None,
        limit: int | None,
    ) -> tuple[CheckpointId, ...]:
        """Return ids, the greatest first."""
        found = [
            key
            for key in sorted_ids(self._shelf.session(session_id).checkpoints)
            if key.startswith(prefix) and (before is None or key < before)
        ]
        return tuple(found[:limit])

    def load_blobs(self, session_id: SessionId, digests: Iterable[str]) -> dict[str, bytes]:
        """Return blobs by their digests, verified."""
        blobs = self._shelf.session(session_id).blobs
        try:
            return {key: self._blob(session_id, blobs, key) for key in dict.fromkeys(digests)}
        except CheckpointCorruptError as error:
            error.session_id = session_id
            raise

    def _blob(self, session_id: SessionId, blobs: Mapping[str, bytes], digest: str) -> bytes:
        location = location_of(session_id, digest)
        if digest not in blobs:
            raise MissingBlobError(location, digest)
        return self._kit.blob(blobs[digest], digest, location)

    def findings(self, session_id: SessionId, session: Session) -> Iterator[Finding]:
        """Yield what is wrong with the checkpoints of a session, at most one thing of each."""
        for key, error in self._problems(session_id, session):
            yield Finding(
                kind=next(kind for kind, errors in _KINDS.items() if isinstance(error, errors)),
                location=location_of(session_id, key),
                detail=str(error),
                session_id=session_id,
            )

    def _problems(
        self, session_id: SessionId, session: Session
    ) -> Iterator[tuple[CheckpointId, CheckpointError]]:
        for key, stored in session.checkpoints.items():
            try:
                self._require_intact(session_id, session, key, stored)
            except CheckpointError as error:
                yield key, error

    def recoverable(self, session_id: SessionId, session: Session) -> tuple[CheckpointId, ...]:
        """
        Return which checkpoints a recovery puts aside.

        Raises:
            CheckpointTooLargeError: nobody can tell whether one over `max_bytes` is damaged.
            FormatVersionError: the newest that would be left is of another format version.
        """
        problems = dict(self._problems(session_id, session))
        for error in problems.values():
            if isinstance(error, CheckpointTooLargeError):
                raise error
        aside = [key for key, e in problems.items() if isinstance(e, CheckpointCorruptError)]
        left = [key for key in session.checkpoints if key not in aside]
        if left and left[-1] in problems:
            raise problems[left[-1]]
        return tuple(aside)

    def _require_intact(
        self, session_id: SessionId, session: Session, key: CheckpointId, stored: Stored
    ) -> None:
        with contextlib.suppress(CheckpointDecodeError):  # of another type, and no damage
            self._decode(session_id, key, stored)
        for digest in reachable_blobs(stored.digests, session.blobs):
            self._blob(session_id, session.blobs, digest)
