"""Drive the library, then examine every state that a crash at any moment may have left."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from aiocheckpoint import AsyncCheckpointWriter
from aiocheckpoint._engine import journal
from aiocheckpoint._format.codec import RecordCodec
from tests.crash import oracle
from tests.crash.checker import (
    ROOT_NAME,
    Allowed,
    BrokenPromiseError,
    Writer,
    open_after_crash,
    perform,
    recover_and_go_on,
    require,
    require_allowed,
    require_plain_files_valid,
    scratch_directory,
)
from tests.crash.model import FULL, Caps, CrashState, Model, crash_states
from tests.crash.operations import Acknowledged, Began, Operation, Tree
from tests.crash.oracle import Call, Seen
from tests.crash.recorder import RecordingFiles

_SMALL_CHUNK_BYTES = 64 * 1024
"""So that segments are made fast, and grow."""

_NEVER_SECONDS = 3600.0
_FIRST_STAMP = 1_767_323_045_000_000
_FIRST_BOOT = "boot-0"
_NEXT_BOOT = "boot-1"
Views: TypeAlias = frozenset[tuple[str, Seen]]
MakeFiles = Callable[..., RecordingFiles]


class Recording(NamedTuple):
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
    steps: list[tuple[Call, ...]]
    operations: list[Operation]

    @property
    def calls(self) -> list[Call]:
        """The calls made, in order."""
        return [call for step in self.steps for call in step]

    def tree_after(self, call: int) -> Tree:
        """Return what was there when a call had returned."""
        tree = self.start.copy()
        for operation in self.operations:
            tree.apply(operation)
            if isinstance(operation, Acknowledged) and operation.call == call:
                break
        return tree

    def beginning_of(self, call: int) -> int:
        """Return how many operations there were before a call."""
        return next(
            position
            for position, operation in enumerate(self.operations)
            if isinstance(operation, Began) and operation.call == call
        )


_codec_of = cache(RecordCodec)


class _Seeded:
    """In the place of `secrets`: the same names in each run, and never twice in one."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def token_bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)

    def token_hex(self, count: int) -> str:
        return self._dice.randbytes(count).hex()


@contextmanager
def same_each_time(seed: int = 1) -> Iterator[None]:
    """
    Let runs that begin alike do the same, so that states in common are examined once.

    Args:
        seed: of all names; another one for another process on the same root.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiocheckpoint._disk.files.secrets", _Seeded(seed))
        patch.setattr("aiocheckpoint._disk.files._unguessable", itertools.count(seed << 32))
        if journal._CHUNK_BYTES > _SMALL_CHUNK_BYTES:
            patch.setattr(journal, "_CHUNK_BYTES", _SMALL_CHUNK_BYTES)
        patch.setattr("aiocheckpoint.writer._FLUSH_SECONDS", _NEVER_SECONDS)
        yield


def steady_clock(writer: Writer, start: int) -> None:
    """Let the time stamps in file names be the same in each run."""
    writer._store._clock = itertools.count(start).__next__


async def record(
    kinds: Sequence[str],
    options: dict[str, Any],
    base: Sequence[str] = (),
    make_files: MakeFiles = RecordingFiles,
) -> Recording:
    """
    Make calls one after the other and record what they do.

    Args:
        kinds: names of the calls.
        options: of the writer.
        base: names of calls made before, closed and durable.
        make_files: the recorder, or a mutant of it.
    """
    limit = options.get("max_checkpoints")
    with scratch_directory() as outer, same_each_time():
        first = RecordingFiles(outer)
        earlier = list(oracle.steps(base, {}, 1, limit))
        await _drive(outer, first, earlier, options)
        store: oracle.Store = {}
        for call in itertools.chain.from_iterable(earlier):
            store = oracle.after(store, call, limit)
        files = make_files(outer, first.tree)
        steps = list(oracle.steps(kinds, store, len(base) + 1, limit))
        await _drive(outer, files, steps, options, _FIRST_STAMP + 1000)
    return Recording(first.tree, store, steps, files.operations)


async def _drive(
    outer: Path,
    files: RecordingFiles,
    steps: Iterable[Sequence[Call]],
    options: dict[str, Any],
    stamp: int = _FIRST_STAMP,
) -> None:
    numbers = itertools.count()
    async with AsyncCheckpointWriter(outer / ROOT_NAME, files=files, **options) as writer:
        steady_clock(writer, stamp)
        for first, *others in steps:
            files.held_at = "before_sync_journal" if others else ""
            calls = [asyncio.ensure_future(_make(writer, files, next(numbers), first))]
            if others and options["durability"] == "journal":
                await asyncio.to_thread(files.arrived.wait)
            calls += [
                asyncio.ensure_future(_make(writer, files, next(numbers), call)) for call in others
            ]
            await asyncio.sleep(0)  # they wait now, and share the next commit
            files.released.set()
            await asyncio.gather(*calls)


async def _make(writer: Writer, files: RecordingFiles, number: int, call: Call) -> None:
    files.began(number)
    await perform(writer, call)
    files.acknowledged(number)


def allowed_at(recording: Recording, point: int, limit: int | None) -> Allowed:
    """Return what may be seen after a crash at a point."""
    done = {op.call for op in recording.operations[:point] if isinstance(op, Acknowledged)}
    begun = [op.call for op in recording.operations[:point] if isinstance(op, Began)]
    store = recording.store
    pending = []
    for number in begun:
        call = recording.calls[number]
        if number in done:
            store = oracle.after(store, call, limit)
        else:
            pending.append(call)
    return oracle.allowed(store, pending, limit)


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


class Enumerator:
    """
    Examines crash states and remembers which it has seen.

    Args:
        options: of the writers.
        caps: how much to enumerate.
        nested_caps: likewise for second crashes; None for no second crashes.
        make_files: the recorder, or a mutant of it.
        most_violations: give up after so many.
        nested_every: of so many states one is crashed in a second time.
    """

    def __init__(
        self,
        options: dict[str, Any],
        caps: Caps = FULL,
        nested_caps: Caps | None = None,
        make_files: MakeFiles = RecordingFiles,
        most_violations: int = 1,
        nested_every: int = 1,
    ) -> None:
        self.tally = Tally()
        self._options = options
        self._limit = options.get("max_checkpoints")
        self._caps = caps
        self._nested_caps = nested_caps
        self._make_files = make_files
        self._most_violations = most_violations
        self._nested_every = nested_every
        self._known: dict[int, frozenset[Views]] = {}
        self._recovered: set[int] = set()

    async def run(self, kinds: Sequence[str], base: Sequence[str], models: Iterable[Model]) -> None:
        """Examine all states that a crash during or after the last call may leave."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiocheckpoint.writer.RecordCodec", _codec_of)  # saves a tenth
            await self._run(kinds, base, models)

    async def _run(
        self, kinds: Sequence[str], base: Sequence[str], models: Iterable[Model]
    ) -> None:
        recording = await record(kinds, self._options, base, self._make_files)
        self.tally.sequences += 1
        first_point = 0
        if len(kinds) > 1:  # crashes in earlier calls belong to shorter sequences
            first_point = recording.beginning_of(len(recording.calls) - len(recording.steps[-1]))
        for model in models:
            for state in crash_states(
                model, recording.start, recording.operations, first_point, self._caps
            ):
                self.tally.states[model] += 1
                allowed = allowed_at(recording, state.point, self._limit)
                await self._guarded(
                    f"{'/'.join(base) or 'empty'} + {'/'.join(kinds)}", model, state, allowed
                )
                if self.is_done:
                    return

    @property
    def is_done(self) -> bool:
        """Whether enough violations were found."""
        return len(self.tally.violations) >= self._most_violations

    async def _guarded(self, name: str, model: Model, state: CrashState, allowed: Allowed) -> None:
        try:
            if model == "killed" or (model == "ext4" and self._files_are_synced):
                require_plain_files_valid(state.tree)
            turn = self.tally.states.total() % self._nested_every == 0
            for views in await self._outcomes(
                model, state.tree, nest=self._nested_caps is not None and turn
            ):
                require_allowed(dict(views), allowed)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            kind = "" if isinstance(error, BrokenPromiseError) else f"{type(error).__name__}: "
            self.tally.violations.append(
                f"{name}: {model} crash after operation {state.point}: {kind}{error}"
            )

    async def _outcomes(self, model: Model, tree: Tree, *, nest: bool) -> frozenset[Views]:
        """Return what may be seen after a crash, and after a second one during the recovery."""
        boot = _FIRST_BOOT if model == "killed" else _NEXT_BOOT
        key = hash((model, nest, tree.key()))
        if key in self._known:
            return self._known[key]
        self.tally.distinct += 1
        with scratch_directory() as outer:
            views, files = await open_after_crash(tree, outer, self._options, boot)
            done = await self._go_on(files.tree, outer, views, boot)
        found = {frozenset(views.items())}
        if nest:
            found |= await self._crash_again(model, tree, files.operations)
            afterwards = await self._crash_again(model, files.tree, done)
            require(afterwards <= found, "a crash in recover changes what is seen:", afterwards)
        self._known[key] = frozenset(found)
        return self._known[key]

    async def _go_on(
        self, tree: Tree, outer: Path, views: dict[str, Seen], boot: str
    ) -> list[Operation]:
        """Examine what a recovery led to; many crash states lead to the same."""
        key = hash((boot, tree.key(), frozenset(views.items())))
        if key in self._recovered:
            return []
        self._recovered.add(key)
        return await recover_and_go_on(tree, outer, views, self._options, boot)

    async def _crash_again(
        self, model: Model, tree: Tree, operations: Sequence[Operation]
    ) -> set[Views]:
        found: set[Views] = set()
        for state in crash_states(model, tree, operations, 1, self._nested_caps or self._caps):
            self.tally.nested += 1
            found |= await self._outcomes(model, state.tree, nest=False)
        return found

    @property
    def _files_are_synced(self) -> bool:
        return bool(self._options["durability"] == "file")


POPULATED = ("save-existing", "save-existing", "save-existing")


def sequences(most_calls: int, calls: Sequence[str] = oracle.CALLS) -> Iterator[tuple[str, ...]]:
    """Yield all sequences of up to so many calls."""
    for length in range(1, most_calls + 1):
        yield from itertools.product(calls, repeat=length)
