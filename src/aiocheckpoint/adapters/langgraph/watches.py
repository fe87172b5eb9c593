"""What a saver knows of its threads, to notice when another one goes on with them; pure."""

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
        newest: key of the newest checkpoint; None where there was none.
        is_own: whether that is the saver's.
        room: so many checkpoints may be stored before somebody has to count them.
    """

    __slots__ = ("is_own", "last_id", "newest", "room")

    def __init__(
        self, last_id: CheckpointId | None, newest: str | None, *, is_own: bool = False
    ) -> None:
        self.last_id = last_id
        self.newest = newest
        self.is_own = is_own
        self.room = 0

    def admits(self, parent: str | None) -> bool:
        """
        Tell whether what follows a checkpoint, or none, hides nobody else's.

        That the saver was shown the newest tells nothing: it may have been to somebody else than
        whoever goes on from an older one.
        """
        return self.is_own or parent == self.newest


class Watch:
    """
    What a saver knows of a session.

    Attributes:
        own: keys of checkpoints it has tried to store.
        chain: what it goes on behind, all of which it knows; None where it has to look first.
        storing: keys of checkpoints on their way.
        chosen: keys of checkpoints that were asked for by id, or by what came after: whoever
            goes on from one of them forks on purpose. None where nothing was before.
        absent: keys of checkpoints that were asked for by id and were not there: whoever goes on
            from one of them has begun from nothing.
        last: keys of the checkpoint that it has tried to store last, and of that one's parent.
        heads: keys of the checkpoints from which a run may go on: the one put last, and what
            somebody was shown as the newest since. None until somebody was: only runs begin so.
        takes: how many checkpoints it has tried to store.
        latest: key of the one made last of all it has tried to store; of a graph within a node that
            of the thread's checkpoint which it ran after.
        children: sessions in which graphs within tasks have stored, by the key of the checkpoint
            that the tasks follow.
    """

    def __init__(self) -> None:
        self.own: OrderedDict[str, None] = OrderedDict()
        self.chain: Chain | None = None
        self.storing: set[str] = set()
        self.chosen: OrderedDict[str | None, None] = OrderedDict()
        self.absent: OrderedDict[str, None] = OrderedDict()
        self.last: tuple[str | None, ...] = ()
        self.heads: set[str | None] | None = None
        self.takes = 0
        self.latest = ""
        self.children: dict[str, set[SessionId]] = {}
        self._mutex = threading.Lock()

    def choose(self, key: str | None) -> None:
        """Note that a checkpoint was asked for; None where there was none before another one."""
        _remember(self.chosen, key)

    def miss(self, key: str) -> None:
        """Note that a checkpoint was asked for by its id and was not there."""
        _remember(self.absent, key)

    def take(self, key: str, parent: str | None, *, may_fork: bool) -> bool:
        """
        Go on from a checkpoint, so that no other run of this saver does.

        Args:
            key: of the checkpoint that follows.
            parent: of the one that it follows; None where it begins.
            may_fork: whether it may hide what other runs have put.

        Returns:
            whether it may be put; not where another run has gone on.
        """
        with self._mutex:
            heads = self.heads
            if heads is not None:
                if not (may_fork or parent in heads or key in heads):
                    return False
                self.heads = {key}
            self.last = key, parent
            self.takes += 1
            return True

    def look(self, key: str | None, last_id: CheckpointId | None, takes: int) -> None:
        """
        Note what somebody was shown as the newest.

        Args:
            key: of the newest checkpoint; None when there is none.
            last_id: the record that was the last before that was looked for.
            takes: how many checkpoints had been taken by then.
        """
        with self._mutex:
            is_newest = key in self.last[:1] or (takes == self.takes and not self.storing)
            heads = self.heads or set(self.last[:1])
            self.heads = heads | {key} if is_newest else heads - {key}
        if self.chain is None or self.chain.last_id != last_id:
            self.chain = Chain(last_id, key, is_own=self.has_stored(key))
        if key is None:
            self.chosen.pop(None, None)  # who goes on from here begins, and does not fork

    def begin(self, last_id: CheckpointId | None, newest: str | None, parent: str | None) -> Chain:
        """Return the chain that somebody has begun meanwhile, if it will do, or one."""
        if self.chain is None or not self.chain.admits(parent):
            # Where there is no other one nothing is hidden.
            own = newest is None or self.has_stored(newest)
            self.chain = Chain(last_id, newest, is_own=own)
        return self.chain

    def leave(self, chain: Chain | None) -> None:
        """Note that something else came between."""
        if self.chain is chain:
            self.chain = None

    def note_stored(self, key: str) -> None:
        """Note that a checkpoint may be there, as the saver has tried to store it."""
        _remember(self.own, key)

    def has_stored(self, key: str | None) -> bool:
        """Tell whether a checkpoint is this saver's."""
        return key in self.own or key in self.storing


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
