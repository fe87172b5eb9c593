"""Savers with one fault each, which only some runs show, beside LangGraph's own saver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from aiocheckpoint import SessionId
from aiocheckpoint.adapters.langgraph import CheckpointSaver, listing, records, removal
from aiocheckpoint.adapters.langgraph.pruning import DeltaNeeds
from aiocheckpoint.adapters.langgraph.reading import Entry
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from aiocheckpoint.adapters.langgraph.removal import Removal
from tests.langgraph import logical_time, places
from tests.langgraph.differences import DifferenceError
from tests.langgraph.random_graphs import Add, Ask, Chain, Fan, Sub
from tests.langgraph.random_runs import Script, Step, compare, scripts

pytestmark = pytest.mark.blocking  # each script has a loop of its own

Patch = pytest.MonkeyPatch


def _needs_before_starts(patch: Patch) -> None:
    """What the start of a memory's next run is rebuilt from is not kept, though the start is."""
    resumed, needed = Removal._resumed, Removal._needed
    starts: set[str] = set()

    async def told_to_others(self: Any, session_id: SessionId, entries: Any) -> set[str]:
        starts.clear()
        starts.update(await resumed(self, session_id, entries))
        return {*starts}

    async def without_starts(self: Any, session_id: SessionId, keep: Any) -> set[str]:
        return await needed(self, session_id, {*keep} - starts)

    patch.setattr(Removal, "_resumed", told_to_others)
    patch.setattr(Removal, "_needed", without_starts)


def _travel_is_no_choice(patch: Patch) -> None:
    """That LangGraph has looked for where a memory begins anew is not noted."""

    async def matching(self: Any, config: Any, before: Any, refused: Any) -> list[Entry]:
        return await listing.matching(self._store, config, before, refused)

    patch.setattr(CheckpointSaver, "_matching", matching)


class _WithoutParents:
    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load_many(self, *args: Any) -> Sequence[ThreadRecord]:
        found: Sequence[ThreadRecord] = await self._store.load_many(*args)
        for record in found:
            record.parent = None
        return found


def _forks_start_at_themselves(patch: Patch) -> None:
    """Where a memory begins in a run from a fork, before the parent of that, is not kept."""
    resumed = Removal._resumed

    async def without_parents(self: Any, session_id: SessionId, entries: Any) -> set[str]:
        removal: Any = Removal(_WithoutParents(self._store), self._watches)  # type: ignore[arg-type]
        return await resumed(removal, session_id, entries)

    patch.setattr(Removal, "_resumed", without_parents)


def _nothing_is_resumed(patch: Patch) -> None:
    """Where runs from kept checkpoints take up a memory is removed."""

    async def resumed(*_: Any) -> set[str]:
        return set()

    patch.setattr(Removal, "_resumed", resumed)


def _nothing_is_rebuilt(patch: Patch) -> None:
    """What delta channels of kept checkpoints are rebuilt from is removed."""
    patch.setattr(DeltaNeeds, "next_ancestor", None)


def _writes_are_reversed(patch: Patch) -> None:
    """Writes of tasks side by side come in the wrong order."""
    merged, whole = records.merged_writes, records.writes_in
    patch.setattr(records, "merged_writes", lambda found: merged(found)[::-1])
    patch.setattr(records, "writes_in", lambda *given: whole(*given)[::-1])


def _what_is_around_counts(patch: Patch) -> None:
    """What a task within a memory stored goes with the checkpoint around the memory."""

    def parents(record: ThreadRecord) -> dict[SessionId, str]:
        return {
            records.session_of(record.thread_id, namespace): records.key_of(checkpoint)
            for namespace, checkpoint in records.followed(record).items()
            if removal._OF_A_TASK.search(record.checkpoint_ns)
        }

    patch.setattr(removal, "_parents", parents)


def _memory(*nodes: Any, snapshots: int | None = None) -> Chain:
    """Return a graph around one with a memory."""
    inner = Chain(tuple((node,) for node in nodes), (None, snapshots, None))
    return Chain(((Sub(inner, has_memory=True),),))


_TURN = Step("turn")
_GO_ON_BEFORE_THE_MEMORY = Step("go on", at=2)

MUTANTS: Sequence[tuple[Callable[[Patch], None], Script]] = (
    (
        _needs_before_starts,
        Script(
            _memory(Add((1,)), Add(), snapshots=2),
            (_TURN, _TURN, Step("prune", number=2), _GO_ON_BEFORE_THE_MEMORY),
        ),
    ),
    (
        _travel_is_no_choice,
        Script(_memory(Add()), (_TURN, Step("turn", by=1), _GO_ON_BEFORE_THE_MEMORY)),
    ),
    (
        _forks_start_at_themselves,
        Script(
            _memory(Add()),
            (_TURN, _TURN, _TURN, Step("update", at=6), Step("prune"), Step("go on", at=0)),
        ),
    ),
    (
        _nothing_is_resumed,
        Script(_memory(Add()), (_TURN, _TURN, Step("prune", number=2), _GO_ON_BEFORE_THE_MEMORY)),
    ),
    (
        _nothing_is_rebuilt,
        Script(Chain(((Add((1,)),),), (None, 4, None)), (_TURN, Step("prune"))),
    ),
    (_writes_are_reversed, Script(Chain(((Fan(),),), (None, 4, None)), (_TURN,))),
    (
        _what_is_around_counts,
        Script(
            Chain(((Add(),), *_memory(Sub(Chain(((Ask(),),)))).groups)),
            (_TURN, Step("turn", halts=True), Step("prune")),
        ),
    ),
)
each_mutant = pytest.mark.parametrize(
    ("mutate", "script"), MUTANTS, ids=[mutate.__name__.strip("_") for mutate, _ in MUTANTS]
)


@pytest.fixture(autouse=True, scope="module")
def _logical_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        logical_time.install(patch)
        yield


@each_mutant
@pytest.mark.some(3)
@pytest.mark.few(1)
def test_mutant_is_noticed(
    mutate: Callable[[Patch], None], script: Script, monkeypatch: Patch
) -> None:
    """A saver with this fault differs in these steps, and the one without it does not."""
    asyncio.run(compare(script, places.memory()))
    mutate(monkeypatch)
    with pytest.raises(DifferenceError):
        asyncio.run(compare(script, places.memory()))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@each_mutant
def test_random_runs_notice_it(
    mutate: Callable[[Patch], None], script: Script, monkeypatch: Patch
) -> None:
    """Random runs come across it by themselves."""

    @settings(max_examples=5000, phases=[Phase.generate], report_multiple_bugs=False)
    @given(script=scripts(pruning=True, delta_channels=2))
    def compare_random(script: Script) -> None:
        asyncio.run(compare(script, places.memory()))

    mutate(monkeypatch)
    with pytest.raises(DifferenceError):
        compare_random()
