"""What a saver was shown of its threads, to notice when another one goes on with them; pure."""

from __future__ import annotations

import threading
from collections import OrderedDict

from aiocheckpoint import ANY_NEWEST, Expected, SessionId
from aiocheckpoint.adapters.langgraph import records

_REMEMBERED_SESSIONS = 4096
_REMEMBERED_READS = 64


class Watch:
    """
    What a saver knows of the newest checkpoint of a session.

    Attributes:
        newest: the greatest key it has stored or was shown as the newest.
        storing: keys of checkpoints on their way.
        last_id: the record it stored or saw last in the session; None for one without records,
            `ANY_NEWEST` where it does not know.
        chosen: keys of checkpoints that were asked for by id: whoever goes on from one of
            them forks on purpose.
    """

    def __init__(self) -> None:
        self.newest = ""
        self.last_id: Expected = ANY_NEWEST
        self.storing: set[str] = set()
        self.chosen: OrderedDict[str, None] = OrderedDict()

    @property
    def is_new(self) -> bool:
        """Whether this saver never looked at the session."""
        return not self.newest and not self.storing and not self.chosen

    def choose(self, key: str) -> None:
        """Note that a checkpoint was asked for by its id."""
        self.chosen[key] = None
        while len(self.chosen) > _REMEMBERED_READS:
            self.chosen.popitem(last=False)

    def see(self, key: str) -> None:
        """Note that a checkpoint is there; one whose key does not sort does not count."""
        if records.checkpoint_of(key) is not None:
            self.newest = max(self.newest, key)

    def settle(self, key: str) -> None:
        """Note that a checkpoint that was on its way is there, or may be."""
        if key in self.storing:
            self.see(key)
            self.storing.discard(key)


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
            watch = self._watches.setdefault(session_id, Watch())
            self._watches.move_to_end(session_id)
            while len(self._watches) > _REMEMBERED_SESSIONS:
                self._watches.popitem(last=False)
            return watch
