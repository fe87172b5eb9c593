"""Two processes on one root: calls by turns, and one that is killed while the other goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.crash import oracle
from tests.crash.checker import (
    Options,
    Writer,
    opened,
    perform,
    require,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import SMALL_SLOT_BYTES, Run, same_each_time
from tests.crash.operations import Tree
from tests.crash.oracle import MAIN, Call, Save, Step, Version
from tests.crash.recorder import KilledError, RecordingFiles

_LAST_SERIAL = 8000


class Turn(NamedTuple):
    """
    A call by one of the processes.

    Attributes:
        process: `"a"` or `"b"`.
        kind: name of the call.
    """

    process: str
    kind: str


def turns(text: str) -> tuple[Turn, ...]:
    """Return the turns in a text as `"a:save-new b:flush"`."""
    return tuple(Turn(*word.split(":")) for word in text.split())


class Pair:
    """
    Two processes that have one root open.

    Attributes:
        files: of each.
        writers: of each.
        stores: what may be there: more than one store where a call was cut off, and nobody has
            committed since.
        steps: the calls made.
    """

    def __init__(self, files: dict[str, RecordingFiles], writers: dict[str, Writer]) -> None:
        self.files = files
        self.writers = writers
        self.stores: list[oracle.Store] = [{}]
        self.steps: list[Step] = []

    async def make(self, process: str, call: Call) -> None:
        """Make a call and mark it."""
        number = len(self.steps)
        self.steps.append(Step((call,)))
        self.files[process].began(number)
        try:
            await perform(self.writers[process], call)
        except KilledError:
            self.stores += [
                {**store, call.session_id: seen}
                for store in self.stores
                for seen in oracle.outcomes(store, call)
            ]
            raise
        self.files[process].acknowledged(number)
        self.stores = [oracle.after(store, call) for store in self.stores]
        if not isinstance(call, oracle.Apply | oracle.Recover):  # it has looked for what was left
            self.stores = [await self.look(process)]

    async def look(self, process: str) -> oracle.Store:
        """Return what one of them sees, which may be there."""
        views = await see_all(self.writers[process])
        there = [{s: kept for s, kept in store.items() if kept} for store in self.stores]
        require(views in there, "one shows", views, "in place of", *there)
        return views

    def run(self) -> Run:
        """Return what was done."""
        operations = list(self.files["a"].operations)
        return Run(Tree(), {}, list(self.steps), operations)


@asynccontextmanager
async def pair_on(
    outer: Path,
    options: Options,
    other_options: Options | None = None,
    start: Tree | None = None,
    lifetime: int | None = None,
) -> AsyncIterator[Pair]:
    """
    Open a root by two processes.

    Args:
        outer: the directory it is in.
        options: of the writer of `a`.
        other_options: of that of `b`; None for the same.
        start: what is in `outer`.
        lifetime: after how many changes of the disk `a` is killed.
    """
    first = RecordingFiles(outer, start)
    files = {"a": first, "b": RecordingFiles(outer, beside=first)}
    async with (
        _mortal(outer, first, options) as one,
        opened(outer, files["b"], other_options or options) as other,
    ):
        first.lifetime = lifetime
        yield Pair(files, {"a": one, "b": other})


@asynccontextmanager
async def _mortal(outer: Path, files: RecordingFiles, options: Options) -> AsyncIterator[Writer]:
    """Open a writer whose process may be dead when it is closed."""
    context = opened(outer, files, options)
    writer = await context.__aenter__()
    try:
        yield writer
    finally:
        with suppress(KilledError):
            await context.__aexit__(None, None, None)


@contextmanager
def new_disk(slot_bytes: int = SMALL_SLOT_BYTES) -> Iterator[Path]:
    """Make an empty directory, in which all runs do the same."""
    with scratch_directory() as outer, same_each_time(1, slot_bytes):
        yield outer


async def by_turns(
    plan: Sequence[Turn], options: Options, slot_bytes: int = SMALL_SLOT_BYTES
) -> Run:
    """Make calls by turns; after each both processes show what was acknowledged."""
    with new_disk(slot_bytes) as outer:
        async with pair_on(outer, options) as pair:
            for serial, turn in enumerate(plan, 1):
                await pair.make(turn.process, oracle.resolve(turn.kind, pair.stores[0], serial))
                for process in "ab":
                    await pair.look(process)
            run = pair.run()
    return run


class Survived(NamedTuple):
    """
    What there is after one process was killed, and the other has gone on.

    Attributes:
        died: whether it was, before its last call had returned.
        run: what was done.
        store: what is acknowledged.
    """

    died: bool
    run: Run
    store: oracle.Store


async def survived(
    plan: Sequence[Turn], lifetime: int, options: Options, slot_bytes: int = SMALL_SLOT_BYTES
) -> Survived:
    """
    Kill `a` after so many changes of the disk, and let `b` make the rest of the calls.

    What was cut off has happened or not; the next commit of `b` decides it for ever.
    """
    died = False
    with new_disk(slot_bytes) as outer:
        async with pair_on(outer, options, lifetime=lifetime) as pair:
            for serial, turn in enumerate(plan, 1):
                store = await pair.look("b")
                call = oracle.resolve(turn.kind, store, serial)
                try:
                    await pair.make("b" if died else turn.process, call)
                except KilledError:
                    died = True
            await pair.look("b")
            await pair.make("b", Save(MAIN, Version("last", _LAST_SERIAL)))
            store = await pair.look("b")
            run = pair.run()
    return Survived(died, run, store)
