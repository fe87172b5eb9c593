"""The blobs that sessions have already, as far as one event loop was told; pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Set as AbstractSet

from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres.changes import Change, Delete, Save, is_repeatable, seq_of

_MOST_DIGESTS = 1 << 16  # 256 MB of pages of 4 KB
_NONE: frozenset[str] = frozenset()


class KnownBlobs:
    """
    What need not be sent again; that it is there still is for the server to tell.

    Somebody else may have removed it meanwhile: then the change is made again, with everything.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[SessionId, set[str]] = OrderedDict()
        self._count = 0

    def of(self, session_id: SessionId) -> AbstractSet[str]:
        """Return the digests of what a session had when it was last changed."""
        return self._digests.get(session_id, _NONE)

    def made(self, change: Change, outcome: bytes) -> None:
        """Note what a change has stored, or that something is gone."""
        if is_repeatable(change, outcome) or change.step == Delete(None):
            self.forget(change.session_id)
        elif isinstance(change.step, Save) and change.step.record.blobs and seq_of(outcome):
            known = self._digests.setdefault(change.session_id, set())
            self._digests.move_to_end(change.session_id)
            self._count -= len(known)
            known.update(change.step.record.blobs)
            self._count += len(known)
            while self._count > _MOST_DIGESTS:
                self.forget(next(iter(self._digests)))

    def forget(self, session_id: SessionId) -> None:
        """Send all of a session again: something of it is missing or damaged."""
        self._count -= len(self._digests.pop(session_id, _NONE))
