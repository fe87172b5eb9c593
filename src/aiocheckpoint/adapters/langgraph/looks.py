"""What somebody was shown, and goes on from: of which writes their checkpoints are made."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import NamedTuple
from weakref import WeakKeyDictionary

from msgspec import UNSET, UnsetType

from aiocheckpoint import SessionId
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.arguments import Caller, Run
from aiocheckpoint.adapters.langgraph.pruning import rebuilt, versions
from aiocheckpoint.adapters.langgraph.records import ThreadRecord

_REMEMBERED_RUNS = 16_384  # that wrote or looked last; of others all writes count


class _Shown(NamedTuple):
    """
    A checkpoint that somebody was shown.

    Attributes:
        session_id: of which session; empty where there was none.
        checkpoint: LangGraph's id.
        parent: that of the one before it.
        made_of: of which writes it is made.
        pending: the records of writes after it, as `made_of` names them.
        is_newest: whether the newest was asked for.
        versions: of its channels, where who was shown it does not run.
    """

    session_id: SessionId = ""
    checkpoint: str | None = None
    parent: str | None = None
    made_of: list[str] | UnsetType = UNSET
    pending: tuple[str, ...] = ()
    is_newest: bool = False
    versions: Mapping[str, object] = MappingProxyType({})

    @property
    def place(self) -> tuple[SessionId, str | None]:
        """Where it is."""
        return self.session_id, self.checkpoint


class Look(NamedTuple):
    """
    What somebody was shown.

    Attributes:
        writer: what the ids of what they write begin with, behind the checkpoint's.
        is_run: whether they run.
        shown: the last two; none where it is not known. Of one that was asked for by its id
            LangGraph looks then whether it is the newest.
        wrote_after: the session and the checkpoint after which they have written last, since that.
    """

    writer: str
    is_run: bool
    shown: tuple[_Shown, ...] = ()
    wrote_after: tuple[SessionId, str] | None = None

    @property
    def last(self) -> _Shown:
        """What they were shown last."""
        return self.shown[-1] if self.shown else _Shown()

    def made_of(self, state: ThreadRecord) -> list[str] | UnsetType:
        """
        Return of which writes after its parent a checkpoint is made that they put.

        Returns:
            UNSET for all of them, and where nothing is rebuilt from them.
        """
        if not self.shown or state.parent is None or not rebuilt(state):
            return UNSET
        shown = [each for each in reversed(self.shown) if each.session_id == state.session_id]
        for each in shown:
            if each.parent == state.parent and each.versions == versions(state):
                return each.made_of  # of a copy beside it, as by `aupdate_state`
        for each in shown:
            if each.checkpoint == state.parent:
                is_whole = self.is_run or self._has_written_all(state, each)
                return [self.writer, *each.pending] if is_whole else UNSET
        return [self.writer] if self.is_run else UNSET

    def _has_written_all(self, state: ThreadRecord, parent: _Shown) -> bool:
        """
        Tell whether somebody who does not run has written what is new in a checkpoint.

        They may do only a part of it, as threads of a pool that take one call each.
        """
        if state.trigger == "loop":  # of a run that is not known
            return False
        new = versions(state)
        is_new = any(new[channel] != parent.versions.get(channel) for channel in rebuilt(state))
        return not is_new or self.wrote_after == (state.session_id, state.parent)

    def followed_by(self, shown: _Shown) -> Look:
        """Return the same when something else was shown."""
        last = self.last
        is_again = (shown.place, shown.parent) == (last.place, last.parent)
        if is_again and shown.is_newest and not last.is_newest:  # they go by the first look
            shown = shown._replace(pending=last.pending)
        return self._replace(shown=(*self.shown[-1:], shown), wrote_after=None)

    def was_of_newest(self, state: ThreadRecord) -> bool:
        """Tell whether a checkpoint follows what was shown last of all, as the newest."""
        return self.last.is_newest and self.last.place == (state.session_id, state.parent)


class Looks:
    """
    What runs were shown, and tasks and threads that do not run, as those of `aupdate_state`.

    Two who go on from the same checkpoint both write behind it, and one of them is refused, or
    ends before its own checkpoint is there. The other's is rebuilt from what it was made of alone.
    What was put by whoever was shown nothing, as a copy, or has not written it, is made of all.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._of_runs: OrderedDict[Caller, Look] = OrderedDict()
        self._of_others: WeakKeyDictionary[Caller, Look] = WeakKeyDictionary()

    def _beside(self, caller: Caller) -> MutableMapping[Caller, Look]:
        return self._of_runs if isinstance(caller, Run) else self._of_others

    def of(self, caller: Caller) -> Look:
        """Return what somebody was shown."""
        look = self._beside(caller).get(caller)
        if look is None:
            is_run = isinstance(caller, Run)
            look = Look(records.new_writer() if is_run else records.NOBODY, is_run)
        return look

    def wrote(self, caller: Caller, session_id: SessionId, checkpoint: str) -> str:
        """Note that somebody writes after a checkpoint, and return what the ids begin with."""
        look = self.of(caller)
        if look.is_run:
            with contextlib.suppress(KeyError):  # it is not remembered
                self._of_runs.move_to_end(caller)
            return look.writer
        place = session_id, checkpoint
        if place not in (each.place for each in look.shown):
            return records.NOBODY  # another one was, for whom they write
        self._of_others[caller] = look._replace(wrote_after=place)
        return look.writer

    def note(
        self,
        caller: Caller,
        state: ThreadRecord | None,
        pending: Iterable[ThreadRecord] = (),
        *,
        is_newest: bool = False,
    ) -> None:
        """
        Note what somebody was shown.

        Args:
            caller: who.
            state: the checkpoint; None where there was none.
            pending: the writes after it.
            is_newest: whether the newest was asked for.
        """
        if self._pid != os.getpid():  # what the parent of this process writes is not its own
            self._begin()
        shown = _Shown()
        if state is not None:
            writes = tuple(records.name_in(record.checkpoint_id) for record in pending)
            place = state.session_id, state.checkpoint, state.parent
            channels = {} if isinstance(caller, Run) else versions(state)
            shown = _Shown(*place, state.made_of, writes, is_newest, channels)
        beside = self._beside(caller)
        look = beside.pop(caller, None) or Look(records.new_writer(), isinstance(caller, Run))
        beside[caller] = look.followed_by(shown)
        while len(self._of_runs) > _REMEMBERED_RUNS:
            self._of_runs.popitem(last=False)
