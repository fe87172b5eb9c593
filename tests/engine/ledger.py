"""What may be seen, by the log alone: what was acknowledged is there, what was refused is not."""

from __future__ import annotations

from collections.abc import Callable

from aiocheckpoint import CheckpointError, DurabilityUnknownError
from tests.engine.files import KilledError
from tests.engine.process import Process, Seen, outcome

Effect = Callable[[Seen], Seen]


def saved(checkpoint_id: str, serial: int = 0, max_checkpoints: int | None = None) -> Effect:
    """Return what a save does to a session."""

    def effect(seen: Seen) -> Seen:
        others = tuple(known for known in seen if known[0] != checkpoint_id)
        return (*others, (checkpoint_id, serial))[-(max_checkpoints or 1 << 30) :]

    return effect


def deleted(*checkpoint_ids: str) -> Effect:
    """Return what a delete does to a session."""
    return lambda seen: tuple(known for known in seen if known[0] not in checkpoint_ids)


def dropped(seen: Seen) -> Seen:
    """Return what is left of a session that is removed."""
    return ()


class Ledger:
    """
    The states that each session may be in, now and after a power cut.

    Attributes:
        live: what every process may see.
        cut: what may be seen after a power cut.
    """

    def __init__(self) -> None:
        self.live: dict[str, set[Seen]] = {}
        self.cut: dict[str, set[Seen]] = {}
        self._under_way: tuple[str, Effect] | None = None

    def copy(self) -> Ledger:
        """Return another that may go on on its own."""
        copy = Ledger()
        copy._under_way = self._under_way
        copy.live = {name: set(states) for name, states in self.live.items()}
        copy.cut = {name: set(states) for name, states in self.cut.items()}
        return copy

    def run(
        self, session: str, effect: Effect, work: Callable[[], object], *, is_durable: bool = True
    ) -> BaseException | None:
        """Do some work that changes a session, and note what its outcome promises."""
        self._know(session)
        self._under_way = session, effect
        error = outcome(work)
        self._under_way = None
        after = {effect(state) for state in self.live[session]}
        match error:
            case None:
                self.live[session] = after
                self.cut[session] |= after
                if is_durable:
                    self.synced()
            case KilledError() | DurabilityUnknownError():
                self.live[session] |= after
                self.cut[session] |= after
            case CheckpointError():
                pass
            case _:
                raise error
        return error

    def save(
        self, process: Process, session: str, checkpoint_id: str, serial: int = 0
    ) -> BaseException | None:
        """Let a process save."""
        return self.run(
            session,
            saved(checkpoint_id, serial),
            lambda: process.save(session, checkpoint_id, serial),
        )

    def _know(self, session: str) -> None:
        self.live.setdefault(session, {()})
        self.cut.setdefault(session, {()})

    def synced(self) -> None:
        """Note that the log is durable up to its end."""
        self.cut = {name: set(states) for name, states in self.live.items()}

    def power_cut(self) -> None:
        """Note that the power was cut, perhaps amid a change."""
        if self._under_way is not None:
            session, effect = self._under_way
            self.cut[session] |= {effect(state) for state in self.live[session]}
            self._under_way = None
        self.live = {name: set(states) for name, states in self.cut.items()}

    def check(self, *processes: Process, in_short: bool = False) -> None:
        """See that all processes see one of the states, and the same; from now on no other is."""
        for session in self.live:
            views = [process.seen(session, in_short=in_short) for process in processes]
            assert len(set(views)) <= 1, f"they do not agree on {session}: {views}"
            if views:
                self._require(session, views[0])

    def _require(self, session: str, seen: Seen) -> None:
        allowed = self.live[session]
        assert seen in allowed, f"{session} is {seen}, and may be {sorted(allowed)}"
        self.live[session] = {seen}
