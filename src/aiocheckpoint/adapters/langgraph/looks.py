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
from aiocheckpoint.adapters.langgraph.pruning import rebuilt, versions
from aiocheckpoint.adapters.langgraph.reading import Group
from aiocheckpoint.adapters.langgraph.records import ThreadRecord

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

_REMEMBERED = 16_384  # runs that looked or wrote last, and ids of theirs
_REMEMBERED_OF_OTHERS = 1024  # ids: an update is over soon, and each names all pending writes


class Look(NamedTuple):
    """
    What the id of a checkpoint tells of whoever hands it in.

    Attributes:
        session_id: where the checkpoint is; empty where the id tells nothing.
        writer: what the ids of what they write begin with, behind the checkpoint's.
        made_of: of which writes a checkpoint is made that they put after it; UNSET for all.
        is_newest: whether they had asked for the newest.
        copied: of a checkpoint of these versions alone `made_of` tells; None for any.
    """

    session_id: SessionId = ""
    writer: str = records.NOBODY
    made_of: list[str] | UnsetType = UNSET
    is_newest: bool = False
    copied: dict[str, object] | None = None

    def made_of_after(self, state: ThreadRecord) -> list[str] | UnsetType:
        """Return of which writes a checkpoint is made that is put after it; UNSET for all."""
        is_told = self.copied is None or self.copied == versions(state)
        return self.made_of if is_told and rebuilt(state) else UNSET


class Looks:
    """
    What was shown to whom.

    Two who go on from the same checkpoint both write behind it, and one of them is refused, or
    ends before its own checkpoint is there. The other's is rebuilt from what it was made of alone.

    LangGraph hands back the very ids that it was given, in whatever task or thread, and those that
    it has made for a run. So each look gives out an id of its own: an equal text that is another
    object. Any other object, as of an id that was read from JSON, tells nothing: what is written
    after it counts for everybody, and what is put after it is made of all. So does one that
    another run was given, or whoever does not run, as that of a config that a client still holds.
    """

    def __init__(self) -> None:
        self._writers: _Recent[Run, str] = _Recent(_REMEMBERED)
        # Apart, since pages that look make no run forgotten. The text keeps the key its own.
        self._of_runs: _Recent[int, tuple[str, Look]] = _Recent(_REMEMBERED)
        self._of_others: _Recent[int, tuple[str, Look]] = _Recent(_REMEMBERED_OF_OTHERS)

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
        known = self._of_others if run is None else self._of_runs
        _, look = known.recall(id(place.checkpoint)) or ("", Look())
        if look.session_id != place.session_id:
            look = Look()
        if run is None:
            return look
        # It writes as one, also after a checkpoint that is not put yet, or not remembered.
        writer = self._writers.recall(run) or records.NOBODY
        return look if look.writer == writer else Look(writer=writer)

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
        known = self._of_others if run is None else self._of_runs
        checkpoint, parent = _given_out(state.checkpoint, look, known), state.parent
        if run is None and parent is not None:  # a copy may be put beside it, by `aupdate_state`
            beside = Look(state.session_id, made_of=state.made_of, copied=versions(state))
            parent = _given_out(parent, beside, known)
        return group._replace(state=replace(state, checkpoint=checkpoint, parent=parent))


class _Recent(OrderedDict[KeyT, ValueT]):
    """So much of what was used last."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def remember(self, key: KeyT, value: ValueT) -> None:
        self[key] = value
        while len(self) > self._limit:
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
