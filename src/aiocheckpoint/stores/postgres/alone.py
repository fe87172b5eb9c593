"""A save that has a commit to itself, as most have: it takes a shorter way through the server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from aiocheckpoint.models import SessionId
from aiocheckpoint.stores.postgres.changes import Change, Save, row_of, seq_of
from aiocheckpoint.stores.postgres.packing import Packed

SAVE_ONE = """
select aiocheckpoint.save_one(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16
)
"""
_MOST_SESSIONS = 1 << 14
_DECLINED = 16


class Alone:
    """
    Which saves go the shorter way, of one event loop: those to sessions that it has saved to.

    What it cannot make is declined there, for a message there and back, and goes the longer way; so
    do the next ones of the session, for some are always saved so.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[SessionId, int] = OrderedDict()  # to how many it is closed

    def arguments(
        self, changes: Sequence[Change], bodies: Sequence[Packed | None], known: AbstractSet[str]
    ) -> list[Any] | None:
        """
        Return what `save_one` is told of a save, from its fourth argument on; None: not that way.

        Args:
            changes: of one commit.
            bodies: what to store of each save.
            known: the digests of the blobs of the first session that are not sent.
        """
        change, body = changes[0], bodies[0]
        step = change.step
        if len(changes) > 1 or not isinstance(step, Save) or body is None:
            return None
        if step.expected is None or self._sessions.get(change.session_id) != 0:
            return None  # there is nothing yet, or nothing is known
        if not known >= step.record.blobs.keys():
            return None
        row = row_of(step, body)
        _, iteration, base_seq = row.numbers
        expected, checkpoint_id, trigger, checksum, content, sha256, chain = row.texts
        return [
            change.session_id.encode(), change.fence, expected, checkpoint_id, row.created_at,
            iteration, trigger, checksum, content, sha256, base_seq, chain,
            [*map(bytes.fromhex, step.record.blob_digests)] or None,
        ]  # fmt: skip

    def made(self, changes: Sequence[Change], outcomes: Sequence[bytes]) -> None:
        """Remember to which sessions was saved the longer way."""
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(change.step, Save) and seq_of(outcome) is not None:
                closed_to = self._sessions.get(change.session_id, 1)
                self._sessions[change.session_id] = max(0, closed_to - 1)
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def declined(self, session_id: SessionId) -> None:
        """Let the next saves of a session go the longer way."""
        self._sessions[session_id] = _DECLINED
