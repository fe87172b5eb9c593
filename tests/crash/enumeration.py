"""Drive the library, then examine every state that a crash at any moment may have left."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from tests.crash import oracle
from tests.crash.checker import (
    Allowed,
    BrokenPromiseError,
    Options,
    Writer,
    go_on,
    opened,
    perform,
    read_after_crash,
    recover_after_crash,
    require,
    require_allowed,
    require_erased,
    require_plain_files_valid,
    scratch_directory,
)
from tests.crash.model import FULL, Caps, CrashState, Model, crash_states
from tests.crash.operations import Acknowledged, Began, Mark, Operation, Tree
from tests.crash.oracle import Call, Seen, Step, Version
from tests.crash.recorder import RecordingFiles
from tests.faults import Hold

SMALL_SLOT_BYTES = 64 * 1024
"""Room for a few frames, so that a few calls need another segment."""

_NEVER_SECONDS = 3600.0
_STAMPS = 1_767_323_045_000_000
_STAMPS_OF_A_LIFE = 1_000_000
Views: TypeAlias = frozenset[tuple[str, Seen]]
MakeFiles = Callable[..., RecordingFiles]


class Run(NamedTuple):
    """
    A run of the library.

    Attributes:
        start: what was durable on the disk before.
        store: what the library had acknowledged of it.
        steps: the calls made, in order, those together that were made at once.
        operations: what they did.
    """

    start: Tree
    store: oracle.Store
    steps: list[Step]
    operations: list[Operation]

    @property
    def calls(self) -> list[Call]:
        """The calls made, in order."""
        return [call for step in self.steps for call in step.calls]

    def tree_after(self, call: int) -> Tree:
        """Return what was there when a call had returned."""
        returned = position_of(Acknowledged, call, self.operations)
        return tree_after(self.start, self.operations[:returned])

    def beginning_of(self, call: int) -> int:
        """Return how many operations there were before a call."""
        return position_of(Began, call, self.operations)


def position_of(mark: type[Mark], call: int, operations: Sequence[Operation]) -> int:
    """Return where a mark of a call stands; marks of all kinds are equal, for they are tuples."""
    return next(
        position
        for position, operation in enumerate(operations)
        if isinstance(operation, mark) and operation.call == call
    )


def tree_after(start: Tree, operations: Sequence[Operation]) -> Tree:
    """Return what there is after some operations."""
    tree = start.copy()
    for operation in operations:
        tree.apply(operation)
    return tree


class _Seeded:
    """In the place of `secrets`: the same bytes in each run, and never twice in one."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)


@contextmanager
def _no_forced_switches() -> Iterator[None]:
    """Let each thread go on until it waits: what is submitted in a row is committed together."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_NEVER_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def _no_time() -> int:
    """Return the beginning of all time: what grows then does so without a clock."""
    return 0


@contextmanager
def same_each_time(life: int = 1, slot_bytes: int = SMALL_SLOT_BYTES) -> Iterator[None]:
    """
    Let runs that begin alike do the same, so that states in common are examined once.

    Nothing is applied before somebody waits for it, or says so.

    Args:
        life: of all names and times; another one for another process on the same root.
        slot_bytes: how large the first slot of the journal is.
    """
    stamps = itertools.count(_STAMPS + life * _STAMPS_OF_A_LIFE)
    with _no_forced_switches(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiocheckpoint._disk.files.secrets", _Seeded(life))
        patch.setattr("aiocheckpoint._disk.files._unguessable", itertools.count(life << 32))
        patch.setattr("aiocheckpoint._engine.plan.now_microseconds", stamps.__next__)
        patch.setattr("aiocheckpoint._engine.session_plan.now_microseconds", _no_time)
        patch.setattr("aiocheckpoint._disk.free_slots.FIRST_SLOT_BYTES", slot_bytes)
        patch.setattr("aiocheckpoint._disk.slots._CHUNK_BYTES", SMALL_SLOT_BYTES)
        patch.setattr("aiocheckpoint._engine.applier.ROUND_SECONDS", _NEVER_SECONDS)
        patch.setattr("aiocheckpoint._engine.applier._RETRY_SECONDS", (_NEVER_SECONDS,))
        patch.setattr("aiocheckpoint._engine.check_journal._MOMENTS_SECONDS", 0.0)
        yield


async def record(
    kinds: Sequence[str],
    options: Options,
    base: Sequence[str] = (),
    make_files: MakeFiles = RecordingFiles,
    slot_bytes: int = SMALL_SLOT_BYTES,
) -> Run:
    """
    Make calls one after the other and record what they do.

    Args:
        kinds: names of the calls.
        options: of the writer.
        base: names of calls made before, closed and durable.
        make_files: the recorder, or a mutant of it.
        slot_bytes: how large the first slot of the journal is.
    """
    limit = options.get("max_checkpoints")
    with scratch_directory() as outer:
        first = RecordingFiles(outer)
        earlier = list(oracle.steps(base, {}, 1, limit))
        with same_each_time(1, slot_bytes):
            async with opened(outer, first, options) as writer:
                await drive(writer, first, earlier)
        store: oracle.Store = {}
        for call in (call for step in earlier for call in step.calls):
            store = oracle.after(store, call, limit)
        files = make_files(outer, first.tree)
        steps = list(oracle.steps(kinds, store, len(base) + 1, limit))
        with same_each_time(2, slot_bytes):
            async with opened(outer, files, options) as writer:
                await drive(writer, files, steps)
    return Run(first.tree, store, steps, files.operations)


async def drive(writer: Writer, files: RecordingFiles, steps: Iterable[Step]) -> None:
    """Make calls, those of a step at once, and mark where they begin and return."""
    numbers = itertools.count()
    for step in steps:
        made = [(next(numbers), call) for call in step.calls]
        if step.moment:
            await _at_once(writer, files, step, made)
        else:
            await _make(writer, files, *made[0])


async def _at_once(
    writer: Writer, files: RecordingFiles, step: Step, made: Sequence[tuple[int, Call]]
) -> None:
    """Make the first call, and the others while it is held up at its moment."""
    held, next_commit = Hold(), Hold()
    files.at(step.moment, held)
    first = asyncio.ensure_future(_make(writer, files, *made[0]))
    arrived = asyncio.ensure_future(asyncio.to_thread(held.wait_arrived))
    await asyncio.wait([first, arrived], return_when=asyncio.FIRST_COMPLETED)
    held.arrived.set()
    if step.others_return:
        for one in made[1:]:
            await _make(writer, files, *one)
        held.release()
    else:
        others = [asyncio.ensure_future(_make(writer, files, *one)) for one in made[1:]]
        await asyncio.sleep(0)  # they wait now, and share the next commit
        files.at("lock turn", next_commit)
        held.release()
        await first
        next_commit.release()
        await asyncio.gather(*others)
    await asyncio.gather(first, arrived)


async def _make(writer: Writer, files: RecordingFiles, number: int, call: Call) -> None:
    files.began(number)
    await perform(writer, call)
    files.acknowledged(number)


class Moment(NamedTuple):
    """
    What was asked for and acknowledged at a moment of a run.

    Attributes:
        store: what is acknowledged.
        pending: the calls that have begun and have not returned.
        deleted: versions that must be nowhere once a flush has returned.
        erased: those of them that must be nowhere now.
    """

    store: oracle.Store
    pending: Sequence[Call] = ()
    deleted: frozenset[Version] = frozenset()
    erased: frozenset[Version] = frozenset()


def moment_at(run: Run, point: int, limit: int | None) -> Moment:
    """Return what was asked for and acknowledged at a point."""
    store = run.store
    begun: dict[int, Call] = {}
    done: set[int] = set()
    saved = {version for kept in store.values() for version in kept}
    deleted: frozenset[Version] = frozenset()
    erased: frozenset[Version] = frozenset()
    wanted: dict[int, frozenset[Version]] = {}
    for operation in run.operations[:point]:
        if isinstance(operation, Began):
            call = begun[operation.call] = run.calls[operation.call]
            wanted[operation.call] = deleted
            saved |= {*oracle.saved_by(call)}
        elif isinstance(operation, Acknowledged):
            call = begun.pop(operation.call)
            before = store
            store = oracle.after(store, call, limit)
            alive = {version for kept in store.values() for version in kept}
            if isinstance(call, oracle.REMOVALS) and store != before:
                unsure = {v for c in begun.values() for v in oracle.saved_by(c)}
                deleted = frozenset(saved - alive - unsure)
            elif isinstance(call, oracle.Flush):
                erased = wanted[operation.call]
            done.add(operation.call)
    return Moment(store, [*begun.values()], deleted, erased)


def allowed_at(run: Run, point: int, limit: int | None) -> Allowed:
    """Return what may be seen after a crash at a point."""
    moment = moment_at(run, point, limit)
    return oracle.allowed(moment.store, moment.pending, limit)


@dataclass
class Tally:
    """
    What a campaign has done.

    Attributes:
        sequences: sequences of calls driven.
        states: crash states enumerated, by model.
        distinct: those examined; an equal one of another sequence is examined once.
        nested: states after a second crash, inside the recovery from the first.
        violations: texts of the promises broken.
    """

    sequences: int = 0
    states: Counter[str] = field(default_factory=Counter)
    distinct: int = 0
    nested: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        by_model = ", ".join(f"{count} {model}" for model, count in sorted(self.states.items()))
        return (
            f"{self.sequences} sequences: {by_model} states, {self.distinct} distinct, "
            f"{self.nested} after a second crash, {len(self.violations)} violations"
        )


class Examined(NamedTuple):
    """
    What a crash leads to.

    Attributes:
        views: what is seen, each time it is looked at.
        recovered: what is there when everything acknowledged is in files; None if not looked at.
    """

    views: frozenset[Views]
    recovered: Tree | None


class Enumerator:
    """
    Examines crash states and remembers which it has seen.

    Args:
        options: of the writers.
        caps: how much to enumerate.
        nested_caps: likewise for second crashes; None for no second crashes.
        most_violations: give up after so many.
        looks_every: of so many states that a power cut may leave one is looked at.
        kills_every: likewise of those that a kill may leave.
        recovers_every: of so many states one is recovered from, and worked on in.
        nested_every: of so many of those one is crashed in a second time.
        slot_bytes: how large the first slot of the journal is.
    """

    def __init__(
        self,
        options: Options,
        caps: Caps = FULL,
        nested_caps: Caps | None = None,
        *,
        most_violations: int = 1,
        looks_every: int = 1,
        kills_every: int = 1,
        recovers_every: int = 1,
        nested_every: int = 1,
        slot_bytes: int = SMALL_SLOT_BYTES,
    ) -> None:
        self.tally = Tally()
        self._options = options
        self._limit = options.get("max_checkpoints")
        self._caps = caps
        self._nested_caps = nested_caps
        self._most_violations = most_violations
        self._looks_every = looks_every
        self._kills_every = kills_every
        self._recovers_every = recovers_every
        self._nested_every = nested_every
        self._slot_bytes = slot_bytes
        self._known: dict[int, Examined] = {}
        self._recovered: set[int] = set()

    async def run(self, kinds: Sequence[str], base: Sequence[str], models: Iterable[Model]) -> None:
        """Examine all states that a crash during or after the last call may leave."""
        made = await record(kinds, self._options, base, slot_bytes=self._slot_bytes)
        self.tally.sequences += 1
        first_point = 0
        if len(kinds) > 1:  # crashes in earlier calls belong to shorter sequences
            first_point = made.beginning_of(len(made.calls) - len(made.steps[-1].calls))
        name = f"{'/'.join(base) or 'empty'} + {'/'.join(kinds)}"
        await self.examine(name, made, first_point, models)

    async def examine(
        self,
        name: str,
        run: Run,
        first_point: int,
        models: Iterable[Model],
        moment: Moment | None = None,
    ) -> None:
        """
        Examine all states that a crash may leave from a point on.

        Args:
            name: of the run, for the text of a violation.
            run: what was done.
            first_point: from how many operations on.
            models: of the crashes.
            moment: what is acknowledged at all of these points, where the run does not tell.
        """
        for model in models:
            states = crash_states(model, run.start, run.operations, first_point, self._caps)
            step = self._kills_every if model == "killed" else self._looks_every
            for state in itertools.islice(states, 0, None, step):
                self.tally.states[model] += 1
                found = moment or moment_at(run, state.point, self._limit)
                await self._guarded(name, model, state, found)
                if self.is_done:
                    return

    @property
    def is_done(self) -> bool:
        """Whether enough violations were found."""
        return len(self.tally.violations) >= self._most_violations

    async def _guarded(self, name: str, model: Model, state: CrashState, moment: Moment) -> None:
        allowed = oracle.allowed(moment.store, moment.pending, self._limit)
        try:
            if model == "killed":
                require_plain_files_valid(state.tree)
            found = await self._examined(model, state.tree)
            for views in found.views:
                require_allowed(dict(views), allowed)
            if model != "posix":  # there a file may get what others held
                require_erased(state.tree, moment.erased)
                require_erased(found.recovered or Tree(), moment.deleted)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            kind = "" if isinstance(error, BrokenPromiseError) else f"{type(error).__name__}: "
            self.tally.violations.append(
                f"{name}: {model} crash after operation {state.point}: {kind}{error}"
            )

    async def _examined(self, model: Model, tree: Tree) -> Examined:
        """Return what a crash leads to, and a second one during the recovery from it."""
        count = self.tally.states.total()
        recovers = count % self._recovers_every == 0
        nests = self._nested_caps is not None and count % self._nested_every == 0
        key = hash((model, recovers, nests, tree.key()))
        if key not in self._known:
            self.tally.distinct += 1
            nested_model = model if nests else None
            self._known[key] = await self._look(tree, nested_model, recovers=recovers)
        return self._known[key]

    async def _look(
        self, tree: Tree, nested_model: Model | None = None, *, recovers: bool = False
    ) -> Examined:
        with scratch_directory() as outer, same_each_time(3):
            views = await read_after_crash(tree, outer, self._options)
            found = frozenset(views.items())
            if not recovers:
                return Examined(frozenset([found]), None)
            files = await recover_after_crash(tree, outer, views, self._options)
            await self._go_on(files.tree, outer, views)
        nested: set[Views] = set()
        if nested_model is not None:
            nested = await self._crash_again(nested_model, tree, files.operations, found)
        flushed = position_of(Acknowledged, 0, files.operations)
        recovered = tree_after(tree, files.operations[:flushed])
        return Examined(frozenset([found, *nested]), recovered)

    async def _go_on(self, tree: Tree, outer: Path, views: dict[str, Seen]) -> None:
        """Examine what a recovery led to; many crash states lead to the same."""
        key = hash((tree.key(), frozenset(views.items())))
        if key not in self._recovered:
            self._recovered.add(key)
            with same_each_time(4):
                await go_on(tree, outer, views, self._options)

    async def _crash_again(
        self, model: Model, tree: Tree, operations: Sequence[Operation], recovered: Views
    ) -> set[Views]:
        """Return what is seen after a second crash: what was seen, once a flush has returned."""
        found: set[Views] = set()
        flushed = position_of(Acknowledged, 0, operations)
        for state in crash_states(model, tree, operations, 1, self._nested_caps or self._caps):
            self.tally.nested += 1
            try:
                views = await self._seen_after(model, state.tree)
                if state.point > flushed:
                    require(views == {recovered}, "what was flushed is gone:", views)
            except Exception as error:
                text = f"and then after operation {state.point} of the recovery: {error!r}"
                raise BrokenPromiseError(text) from error
            found |= views
        return found

    async def _seen_after(self, model: Model, tree: Tree) -> frozenset[Views]:
        key = hash((model, False, False, tree.key()))
        if key not in self._known:
            self._known[key] = await self._look(tree)
        return self._known[key].views


POPULATED = ("save-existing", "save-existing", "save-existing")


def sequences(most_calls: int, calls: Sequence[str] = oracle.CALLS) -> Iterator[tuple[str, ...]]:
    """Yield all sequences of up to so many calls."""
    for length in range(1, most_calls + 1):
        yield from itertools.product(calls, repeat=length)
