"""What a saver was shown of its threads, to notice when another one goes on with them; pure."""

from __future__ import annotations

import threading
from collections import OrderedDict

from aiocheckpoint import CheckpointId, SessionId
from aiocheckpoint.adapters.langgraph import records

_REMEMBERED_SESSIONS = 4096
_REMEMBERED_KEYS = 64


class Chain:
    """
    Records that one saver stores one behind the other, with nobody else's between them.

    Saves take effect in the order of the calls, so each may expect the one before it to be the
    newest, long before that one is stored. The first that finds something else ends the chain.

    Attributes:
        last_id: the record stored or seen last; None where there was none.
        room: so many checkpoints may be stored before somebody has to count them.
    """

    __slots__ = ("last_id", "room")

    def __init__(self, last_id: CheckpointId | None) -> None:
        self.last_id = last_id
        self.room = 0


class Watch:
    """
    What a saver knows of a session.

    Attributes:
        newest: the greatest key it has stored or was shown as the newest.
        chain: what it goes on behind, all of which it knows; None where it has to look first.
        storing: keys of checkpoints on their way, and of some that may or may not be there.
        chosen: keys of checkpoints that were asked for by id: whoever goes on from one of
            them forks on purpose.
    """

    def __init__(self) -> None:
        self.newest = ""
        self.chain: Chain | None = None
        self.storing: set[str] = set()
        self.chosen: OrderedDict[str, None] = OrderedDict()

    def choose(self, key: str) -> None:
        """Note that a checkpoint was asked for by its id."""
        self.chosen[key] = None
        while len(self.chosen) > _REMEMBERED_KEYS:
            self.chosen.popitem(last=False)

    def look(self, key: str | None, last_id: CheckpointId | None) -> None:
        """
        Note what somebody was shown as the newest.

        Args:
            key: of the newest checkpoint; None when there is none.
            last_id: the record that was the last before that was looked for.
        """
        if self.chain is None or self.chain.last_id != last_id:
            self.chain = Chain(last_id)
        if key is not None:
            self.see(key)

    def begin(self, last_id: CheckpointId | None) -> Chain:
        """Return the chain that somebody has begun meanwhile, or one behind a record."""
        if self.chain is None:
            self.chain = Chain(last_id)
        return self.chain

    def leave(self, chain: Chain | None) -> None:
        """Note that something else came between."""
        if self.chain is chain:
            self.chain = None

    def see(self, key: str) -> None:
        """Note that a checkpoint is there; one whose key does not sort does not count."""
        if records.tells_checkpoint(key):
            self.newest = max(self.newest, key)
        self.storing.discard(key)
        if len(self.storing) > _REMEMBERED_KEYS:
            self.storing.difference_update([k for k in self.storing.copy() if k <= self.newest])

    def knows(self, key: str) -> bool:
        """Tell whether a checkpoint is this saver's, or one before which it was shown another."""
        return key <= self.newest or key in self.storing


class Watches:
    """The watches of the sessions used last, over all loops and threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._watches: OrderedDict[SessionId, Watch] = OrderedDict()

    def find(self, session_id: SessionId) -> Watch | None:
        """Return what is known of a session; None when this saver never looked at it."""
        return self._watches.get(session_id)

    def of(self, session_id: SessionId) -> Watch:
        """Return what is known of a session, from now on."""
        with self._mutex:
            watch = self._watches.get(session_id)
            if watch is None:
                watch = self._watches[session_id] = Watch()
            self._watches.move_to_end(session_id)
            while len(self._watches) > _REMEMBERED_SESSIONS:
                self._watches.popitem(last=False)
            return watch
