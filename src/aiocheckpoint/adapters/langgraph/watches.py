"""What a saver was shown of its threads, to notice when another one goes on with them; pure."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TypeVar

from aiocheckpoint import CheckpointId, SessionId

KeyT = TypeVar("KeyT")

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
        seen: keys of checkpoints it has tried to store, or was shown as the newest.
        chain: what it goes on behind, all of which it knows; None where it has to look first.
        storing: keys of checkpoints on their way.
        chosen: keys of checkpoints that were asked for by id, or by what came after: whoever
            goes on from one of them forks on purpose. None where nothing was before.
        absent: keys of checkpoints that were asked for by id and were not there: whoever goes on
            from one of them has begun from nothing.
        last: keys of the checkpoint that it has tried to store last, and of that one's parent.
        latest: key of the one made last of all it has tried to store; of a graph within a node that
            of the thread's checkpoint which it ran after.
        children: sessions in which graphs within tasks have stored, by the key of the checkpoint
            that the tasks follow.
    """

    def __init__(self) -> None:
        self.seen: OrderedDict[str, None] = OrderedDict()
        self.chain: Chain | None = None
        self.storing: set[str] = set()
        self.chosen: OrderedDict[str | None, None] = OrderedDict()
        self.absent: OrderedDict[str, None] = OrderedDict()
        self.last: tuple[str | None, ...] = ()
        self.latest = ""
        self.children: dict[str, set[SessionId]] = {}

    def choose(self, key: str | None) -> None:
        """Note that a checkpoint was asked for; None where there was none before another one."""
        _remember(self.chosen, key)

    def miss(self, key: str) -> None:
        """Note that a checkpoint was asked for by its id and was not there."""
        _remember(self.absent, key)

    def look(self, key: str | None, last_id: CheckpointId | None) -> None:
        """
        Note what somebody was shown as the newest.

        Args:
            key: of the newest checkpoint; None when there is none.
            last_id: the record that was the last before that was looked for.
        """
        if self.chain is None or self.chain.last_id != last_id:
            self.chain = Chain(last_id)
        if key is None:
            self.chosen.pop(None, None)  # who goes on from here begins, and does not fork
        else:
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
        """Note that a checkpoint may be there."""
        _remember(self.seen, key)

    def knows(self, key: str) -> bool:
        """Tell whether a checkpoint is this saver's, or was shown to it as the newest."""
        return key in self.seen or key in self.storing


def _remember(keys: OrderedDict[KeyT, None], key: KeyT) -> None:
    keys[key] = None
    keys.move_to_end(key)
    while len(keys) > _REMEMBERED_KEYS:
        keys.popitem(last=False)


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
