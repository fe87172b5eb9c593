"""A session as it will be after the changes that are planned."""

from __future__ import annotations

import sys
from collections import Counter
from typing import NamedTuple

from aiocheckpoint._disk.known_blobs import KnownBlobs
from aiocheckpoint._engine.bodies import Session
from aiocheckpoint._format.names import FileName
from aiocheckpoint.models import CheckpointId


class Limits(NamedTuple):
    """
    The bounds a writer keeps.

    Attributes:
        max_backups: backups kept in a session.
        max_checkpoints: checkpoints kept in a session, None for all.
        max_bytes: of one file.
        max_file_bytes: of one file, as the system has it.
    """

    max_backups: int
    max_checkpoints: int | None
    max_bytes: int
    max_file_bytes: int = sys.maxsize

    @property
    def least_bytes(self) -> int:
        """The smaller of the two bounds of a file."""
        return min(self.max_bytes, self.max_file_bytes)


class SessionPlan:
    """
    A session as it will be after what is planned.

    Attributes:
        session: as it is.
        added: files that will be there, oldest first, with their ids.
        removed: names of files that will not.
        new_blobs: digests of blobs that will be there.
        gone_blobs: digests of blobs that will not.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.added: dict[FileName, CheckpointId] = {}
        self.removed: set[str] = set()
        self.new_blobs: set[str] = set()
        self.gone_blobs: set[str] = set()
        self._digests: dict[str, tuple[str, ...]] = {}
        self._last = session.known.last_stamped

    @property
    def last_stamped(self) -> FileName | None:
        """The file that the next is named after."""
        return self._last

    @property
    def newest(self) -> FileName | None:
        """The file that will be the newest."""
        for name in reversed(self.added):
            if name.text not in self.removed:
                return name
        if not self.removed:
            return self.session.known.newest
        found = self.session.known.newest_first()
        return next((name for name in found if name.text not in self.removed), None)

    def candidates(self, checkpoint_id: CheckpointId) -> list[FileName]:
        """Return the files that may hold an id."""
        found = self.session.known.candidates(checkpoint_id)
        if not self.added and not self.removed:
            return found
        if self.removed:
            found = [name for name in found if name.text not in self.removed]
        return found + [
            name
            for name, added in self.added.items()
            if added == checkpoint_id and name.text not in self.removed
        ]

    def remaining(self) -> list[FileName]:
        """Return all files that will be there, oldest first."""
        found = [*self.session.known.newest_first()[::-1], *self.added]
        return [name for name in found if name.text not in self.removed]

    def surplus(self, max_kept: int) -> list[FileName]:
        """Return the files to remove so that the newest `max_kept` stay."""
        count = len(self.session.known.names) + len(self.added) - len(self.removed)
        return [] if count <= max_kept else self.remaining()[: count - max_kept]

    def add(self, name: FileName, checkpoint_id: CheckpointId, digests: tuple[str, ...]) -> None:
        """Plan a file."""
        self.added[name] = checkpoint_id
        self._last = name
        self._digests[name.text] = digests

    def knows_users(self) -> bool:
        """Tell whether it is known of every file which blobs it refers to."""
        known = self.session.known.blobs or KnownBlobs()
        return all(name.text in known.of_file or name in self.added for name in self.remaining())

    def unused_blobs(self) -> tuple[bytes, ...]:
        """Return the blobs that nothing refers to after all that is planned."""
        known = self.session.known.blobs or KnownBlobs()
        users = Counter(known.users)
        for digests in self._digests.values():
            users.update(digests)
        freed = set(known.unused)
        for text in self.removed:
            digests = known.of_file.get(text) or self._digests.get(text, ())
            users.subtract(digests)
            freed.update(digests)
        return tuple(bytes.fromhex(d) for d in sorted(freed) if users[d] <= 0)
