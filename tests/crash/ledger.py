"""What a process that is about to die has begun and acknowledged, kept by another process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.crash import oracle
from tests.crash.oracle import Call, CopySession, Save, Seen, Version


class Ledger:
    """
    What each session may hold, over any number of crashes.

    Calls of different tasks are about different sessions.

    Attributes:
        acknowledged: how many calls were.
        saved: all versions that were ever handed over.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.saved: set[Version] = set()
        self._possible: dict[str, list[Seen]] = {}
        self._pending: dict[int, Call] = {}

    def began(self, task: int, call: Call) -> None:
        """Note that a call of a task begins."""
        assert task not in self._pending
        self._pending[task] = call
        if isinstance(call, Save):
            self.saved.add(call.version)

    def returned(self, task: int) -> None:
        """Note that the call of a task has returned."""
        self.acknowledged += 1
        call = self._pending.pop(task)
        self._possible[call.session_id] = _distinct(
            oracle.outcomes(store, call)[-1] for store in self._stores(call)
        )

    def crashed(self) -> None:
        """Note that each call under way may have had its effect, in part or as a whole."""
        for call in self._pending.values():
            self._possible[call.session_id] = _distinct(
                state
                for store in self._stores(call)
                for state in (store[call.session_id], *oracle.outcomes(store, call))
            )
        self._pending.clear()

    def _stores(self, call: Call) -> Iterable[oracle.Store]:
        """Return every store that is possible, as far as a call can tell them apart."""
        for state in self._of(call.session_id):
            if isinstance(call, CopySession):
                for source in self._of(call.source_id):
                    yield {call.session_id: state, call.source_id: source}
            else:
                yield {call.session_id: state}

    def _of(self, session_id: str) -> Sequence[Seen]:
        return self._possible.get(session_id, [()])

    @property
    def allowed(self) -> Mapping[str, Sequence[Seen]]:
        """What may be seen."""
        return self._possible

    def saw(self, views: Mapping[str, Seen]) -> None:
        """Note what was found: from now on it may not change by itself."""
        self._possible = {session_id: [seen] for session_id, seen in views.items()}


def _distinct(states: Iterable[Seen]) -> list[Seen]:
    return list(dict.fromkeys(states))
