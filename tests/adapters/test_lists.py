"""What the lists of all adapters are made of, beside what cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointData,
    CheckpointError,
    JournalCorruptError,
    StoreUnavailableError,
)
from aiocheckpoint.adapters._lists import finished, newest_of, of_unknown
from aiocheckpoint.testing import MemoryStore

_NAMES = [f"{number:03}" for number in range(150)]


class Refusing(MemoryStore[CheckpointData]):
    """A store that refuses to load some sessions, as a directory with damaged files does."""

    def __init__(self, refused: dict[str, CheckpointError]) -> None:
        super().__init__(CheckpointData)
        self.refused = refused
        self.calls = 0

    async def load_newest(self, session_ids: Iterable[str], /) -> dict[str, CheckpointData]:
        """Count the call, and refuse it as soon as one of the sessions is refused."""
        self.calls += 1
        wanted = [*session_ids]
        for session_id in wanted:
            if session_id in self.refused:
                raise self.refused[session_id]
        return await super().load_newest(wanted)


async def _filled(refused: dict[str, CheckpointError]) -> Refusing:
    store = Refusing(refused)
    for name in _NAMES:
        await store.save(CheckpointData(session_id=name))
    return store


async def test_one_of_many_costs_few_calls() -> None:
    """150 sessions are one load; with a damaged one among them some 16, and it alone is lacking."""
    store = await _filled({})
    assert len((await newest_of(store, _NAMES))[0]) == 150
    assert store.calls == 1

    error = CheckpointCorruptError("x", "damaged")
    store = await _filled({"077": error})
    found, refused = await newest_of(store, _NAMES)
    assert [*found] == [name for name in _NAMES if name != "077"]
    assert refused == {"077": error}
    assert store.calls <= 17


async def test_what_is_wrong_with_all_is_raised() -> None:
    """A server that is away is no session that cannot be read."""
    store = await _filled({"077": StoreUnavailableError("x", "load", "away")})
    with pytest.raises(StoreUnavailableError):
        await newest_of(store, _NAMES)


def test_all_that_is_refused_is_told_with_the_list() -> None:
    """The first is raised, with all others and the list; what a journal held has no name."""
    errors = [CheckpointCorruptError("x", "damaged"), JournalCorruptError("y", "s")]
    assert finished([1], [], of_unknown(errors[:1])) == [1]
    with pytest.raises(JournalCorruptError) as one:
        finished([1], [], of_unknown(errors))
    assert one.value.listed == [1]
    with pytest.raises(CheckpointCorruptError) as both:
        finished([2], errors[:1], errors[1:])
    assert (both.value.listed, both.value.others) == ([2], (errors[1],))
