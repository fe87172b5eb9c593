"""What a saver knows of its threads, to notice when another one goes on with them; pure."""

from __future__ import annotations

import os
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections import OrderedDict
from typing import TypeVar

from aiocheckpoint import CheckpointId, SessionId
from aiocheckpoint.adapters.langgraph.arguments import Run

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

    Args:
        keeps_shown: whether what is shown as the newest counts as the saver's own from then on.

    Attributes:
        own: keys of checkpoints it has tried to store.
        chain: what it goes on behind, all of which it knows; None where it has to look first.
        storing: keys of checkpoints on their way, each with the loop that stores it.
        chosen: keys of checkpoints that were asked for by id, or by what came after: whoever
            goes on from one of them forks on purpose. None where nothing was before.
        absent: keys of checkpoints that were asked for by id and were not there: whoever goes on
            from one of them has begun from nothing.
        last: keys of the checkpoint that it has tried to store last, and of that one's parent.
        heads: keys of the checkpoints from which may go on who is no run that is known: the one put
            last, and what somebody was shown as the newest since. None until somebody was.
        runner: the run that has begun last, if nobody else has put anything since.
        origin: the run that has asked for a checkpoint by its id last, and the key of that.
        turns: how often it has begun to store a checkpoint, or has ended.
        latest: key of the one made last of all it has tried to store; of a graph within a node that
            of the thread's checkpoint which it ran after.
        children: sessions in which graphs within tasks have stored, by the key of the checkpoint
            that the tasks follow.
    """

    def __init__(self, *, keeps_shown: bool = False) -> None:
        self._keeps_shown = keeps_shown
        self.own: OrderedDict[str, None] = OrderedDict()
        self.chain: Chain | None = None
        self.storing: dict[str, AbstractEventLoop] = {}
        self.chosen: OrderedDict[str | None, None] = OrderedDict()
        self.absent: OrderedDict[str, None] = OrderedDict()
        self.last: tuple[str | None, ...] = ()
        self.heads: set[str | None] | None = None
        self.runner: Run | None = None
        self.origin: tuple[Run, str] | None = None
        self.turns = 0
        self.latest = ""
        self.children: dict[str, set[SessionId]] = {}
        self._mutex = threading.Lock()

    def choose(self, key: str | None) -> None:
        """Note that a checkpoint was asked for; None where there was none before another one."""
        _remember(self.chosen, key)

    def miss(self, key: str) -> None:
        """Note that a checkpoint was asked for by its id and was not there."""
        _remember(self.absent, key)

    def enter(self, run: Run | None, key: str | None) -> int:
        """
        Note that somebody is about to look: a run begins, and that before it is over.

        Args:
            run: which; None for whoever does not run.
            key: of the checkpoint that is asked for; None for the newest.

        Returns:
            the turns by then.
        """
        with self._mutex:
            if run is not None:
                # What is on its way may be the newest by the time of the run's first checkpoint.
                self.runner = None if self._is_storing() else run
            if run is not None and key is not None:
                self.origin = run, key
            return self.turns

    def may_fork(self, parent: str | None, run: Run | None) -> bool:
        """Tell whether what follows a checkpoint may hide what others have stored, on purpose."""
        if run is None:
            return parent in self.chosen
        return self.origin == (run, parent)

    def take(
        self,
        key: str,
        parent: str | None,
        run: Run | None,
        *,
        is_free: bool,
        made: str | None = None,
    ) -> bool:
        """
        Begin to store a checkpoint, unless another run of this saver has come between.

        Args:
            key: of the checkpoint.
            parent: of the one that it follows; None where it begins.
            run: who puts it.
            is_free: whether it may hide what others have put.
            made: key of the thread's checkpoint after which a graph within a node has made it.

        Returns:
            whether it is so; then `leave` ends it.
        """
        with self._mutex:
            if not is_free and not self._is_in_turn(parent, run):
                return False
            if self.heads is not None:
                self.heads = {key}
            self.runner = run
            self.last = key, parent
            self.latest = max(self.latest, made or "")
            self.storing[key] = get_running_loop()
            self.turns += 1
            return True

    def _is_in_turn(self, parent: str | None, run: Run | None) -> bool:
        if run is not None and self.runner is not None:
            return run == self.runner
        return self.heads is None or parent in self.heads

    def has_begun_another(self, run: Run | None) -> bool:
        """Tell whether a run is over, that of a graph within a node among it."""
        return (
            run is not None and self.runner is not None and run.control is not self.runner.control
        )

    def leave(self, key: str) -> None:
        """Note that a checkpoint is there, or may be; where it is not it cannot be the newest."""
        with self._mutex:
            self.storing.pop(key, None)
            self.turns += 1
            _remember(self.own, key)

    def _is_storing(self) -> bool:
        return any(not loop.is_closed() for loop in self.storing.values())

    def origin_of(self, run: Run | None) -> str | None:
        """Return the key of the checkpoint that a run has asked for by its id."""
        return self.origin[1] if self.origin is not None and self.origin[0] == run else None

    def look(self, key: str | None, last_id: CheckpointId | None, turns: int) -> None:
        """
        Note what somebody was shown as the newest.

        Args:
            key: of the newest checkpoint; None when there is none.
            last_id: the record that was the last before that was looked for.
            turns: of the watch before that.
        """
        with self._mutex:
            is_newest = turns == self.turns and not self._is_storing()
            self.heads = {*self.last[:1], key} if is_newest else set(self.last[:1])
            if self._keeps_shown and key is not None:
                _remember(self.own, key)
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

    def drop(self, chain: Chain | None) -> None:
        """Note that something else came between."""
        if self.chain is chain:
            self.chain = None

    def has_stored(self, key: str | None) -> bool:
        """Tell whether a checkpoint is this saver's."""
        return key in self.own or key in self.storing


def _remember(keys: OrderedDict[KeyT, None], key: KeyT) -> None:
    keys[key] = None
    keys.move_to_end(key)
    while len(keys) > _REMEMBERED_KEYS:
        keys.popitem(last=False)


class Watches:
    """
    The watches of the sessions used last, over all loops and threads.

    Args:
        keep_shown: whether what is shown as the newest counts as the saver's own from then on.
    """

    def __init__(self, *, keep_shown: bool = False) -> None:
        self._keep_shown = keep_shown
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._of_runs: OrderedDict[SessionId, Watch] = OrderedDict()
        self._others: OrderedDict[SessionId, Watch] = OrderedDict()

    def find(self, session_id: SessionId) -> Watch | None:
        """Return what is known of a session; None when this saver never looked at it."""
        if self._pid != os.getpid():  # what the parent of this process was doing it does not do
            self._begin()
        return self._of_runs.get(session_id) or self._others.get(session_id)

    def of(self, session_id: SessionId, *, is_run: bool = False) -> Watch:
        """
        Return what is known of a session, from now on.

        Args:
            session_id: which.
            is_run: whether a thread's own run asks: whoever only looks at others makes none of
                these forgotten, nor do the graphs within nodes.
        """
        self.find(session_id)  # so that what is known is this process's
        with self._mutex:
            watch = self._of_runs.get(session_id) or self._others.get(session_id)
            watch = watch or Watch(keeps_shown=self._keep_shown)
            is_run = is_run or session_id in self._of_runs
            remembered = self._of_runs if is_run else self._others
            remembered[session_id] = watch
            remembered.move_to_end(session_id)
            if is_run:
                self._others.pop(session_id, None)
            while len(remembered) > _REMEMBERED_SESSIONS:
                remembered.popitem(last=False)
            return watch
