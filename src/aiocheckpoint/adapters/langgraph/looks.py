"""What somebody was shown, and goes on from: the ids that they hand back tell."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from aiocheckpoint import SessionId
from aiocheckpoint.adapters.langgraph import records
from aiocheckpoint.adapters.langgraph.arguments import Place, Run
from aiocheckpoint.adapters.langgraph.reading import Group

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

_REMEMBERED = 16_384  # runs that looked or wrote last, ids of theirs, and ids of others


class Look(NamedTuple):
    """
    What the id of a checkpoint tells of whoever hands it in.

    Attributes:
        session_id: where the checkpoint is; empty where the id tells nothing.
        writer: what the ids of what they write begin with, behind the checkpoint's.
        made_of: of which writes a checkpoint is made that they put after it; UNSET for all.
        is_newest: whether they had asked for the newest.
    """

    session_id: SessionId = ""
    writer: str = records.NOBODY
    made_of: list[str] | UnsetType = UNSET
    is_newest: bool = False


class Looks:
    """
    What was shown to whom.

    Two who go on from the same checkpoint both write behind it, and one of them is refused, or
    ends before its own checkpoint is there. The other's is rebuilt from what it was made of alone.

    LangGraph hands back the very ids that it was given, in whatever task or thread, and those that
    it has made for a run. So each look gives out an id of its own: an equal text that is another
    object. Any other object, as of an id that was read from JSON, tells nothing: what is written
    after it counts for everybody, and what is put after it is made of all.
    """

    def __init__(self) -> None:
        self._writers: _Recent[Run, str] = _Recent()
        # Apart, since pages that look make no run forgotten. The text keeps the key its own.
        self._of_runs: _Recent[int, tuple[str, Look]] = _Recent()
        self._of_others: _Recent[int, tuple[str, Look]] = _Recent()

    def to(self, run: Run) -> Callable[[Group], Group]:
        """Return what shows checkpoints to a run, also where there is none to be shown."""
        self._begin(run)
        return partial(self.shown, run=run)

    def _begin(self, run: Run) -> str:
        """Know a run from now on, and return what the ids of what it writes begin with."""
        writer = self._writers.recall(run) or records.new_writer()
        self._writers.remember(run, writer)
        return writer

    def of(self, place: Place, run: Run | None) -> Look:
        """Return what the id that somebody hands in tells of them."""
        key = id(place.checkpoint)
        _, look = self._of_runs.recall(key) or self._of_others.recall(key) or ("", Look())
        if look.session_id == place.session_id:
            return look
        # Of a run's own checkpoint that is not put yet, or one that is not remembered.
        writer = None if run is None else self._writers.recall(run)
        return Look(writer=writer or records.NOBODY)

    def put(self, session_id: SessionId, checkpoint: str, run: Run | None, look: Look) -> None:
        """Note that a run goes on from a checkpoint that it puts, by the id that it has made."""
        if run is not None and look.writer != records.NOBODY:
            look = Look(session_id, look.writer, [look.writer])
            self._of_runs.remember(id(checkpoint), (checkpoint, look))

    def shown(self, group: Group, run: Run | None, *, is_newest: bool = False) -> Group:
        """
        Return a checkpoint with ids that tell that it was shown.

        Args:
            group: the checkpoint, and the writes after it.
            run: to whom; None for whoever does not run.
            is_newest: whether the newest was asked for.
        """
        writer = records.new_writer() if run is None else self._begin(run)
        state = group.state
        if state is None:
            return group
        names = [records.name_in(record.checkpoint_id) for record in group.pending]
        look = Look(state.session_id, writer, [writer, *names], is_newest)
        beside = Look(state.session_id, made_of=state.made_of)  # of a copy, as by `aupdate_state`
        known = self._of_others if run is None else self._of_runs
        checkpoint = _given_out(state.checkpoint, look, known)
        parent = None if state.parent is None else _given_out(state.parent, beside, known)
        return group._replace(state=replace(state, checkpoint=checkpoint, parent=parent))


class _Recent(OrderedDict[KeyT, ValueT]):
    """What was used last."""

    def remember(self, key: KeyT, value: ValueT) -> None:
        self[key] = value
        while len(self) > _REMEMBERED:
            self.popitem(last=False)

    def recall(self, key: KeyT) -> ValueT | None:
        with contextlib.suppress(KeyError):  # it is not remembered
            self.move_to_end(key)
        return self.get(key)


def _given_out(checkpoint: str, look: Look, known: _Recent[int, tuple[str, Look]]) -> str:
    """Return an id as an object of its own, which tells of a look; one letter has but one."""
    given = f"{checkpoint} "[:-1]
    if given is not checkpoint:
        known.remember(id(given), (given, look))
    return given
