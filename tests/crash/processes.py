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
    require_allowed,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import SMALL_SLOT_BYTES, Run, same_each_time
from tests.crash.operations import Tree
from tests.crash.oracle import MAIN, Save, Step, Version
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
        store: what is acknowledged.
        steps: the calls made.
    """

    def __init__(self, files: dict[str, RecordingFiles], writers: dict[str, Writer]) -> None:
        self.files = files
        self.writers = writers
        self.store: oracle.Store = {}
        self.steps: list[Step] = []

    async def make(self, turn: Turn) -> None:
        """Make a call and mark it; both see its outcome at once."""
        files = self.files[turn.process]
        number = len(self.steps)
        call = oracle.resolve(turn.kind, self.store, number + 1)
        self.steps.append(Step((call,)))
        files.began(number)
        await perform(self.writers[turn.process], call)
        files.acknowledged(number)
        self.store = oracle.after(self.store, call)

    async def look(self, process: str) -> dict[str, oracle.Seen]:
        """Return what one of them sees."""
        return await see_all(self.writers[process])

    def run(self) -> Run:
        """Return what was done."""
        operations = list(self.files["a"].operations)
        return Run(Tree(), {}, list(self.steps), operations)


@asynccontextmanager
async def _pair(
    outer: Path, options: Options, lifetime: int | None = None
) -> AsyncIterator[Pair]:
    first = RecordingFiles(outer)
    files = {"a": first, "b": RecordingFiles(outer, beside=first)}
    with suppress(KilledError):  # of the close of a process that is dead
        async with (
            opened(outer, files["b"], options) as other,
            opened(outer, first, options) as one,
        ):
            first.lifetime = lifetime
            yield Pair(files, {"a": one, "b": other})


@contextmanager
def _alone(slot_bytes: int) -> Iterator[Path]:
    with scratch_directory() as outer, same_each_time(1, slot_bytes):
        yield outer


async def by_turns(
    plan: Sequence[Turn], options: Options, slot_bytes: int = SMALL_SLOT_BYTES
) -> Run:
    """Make calls by turns; after each both processes show what was acknowledged."""
    with _alone(slot_bytes) as outer:
        async with _pair(outer, options) as pair:
            for turn in plan:
                await pair.make(turn)
                for process in "ab":
                    views = await pair.look(process)
                    require_allowed(views, {s: [kept] for s, kept in pair.store.items()})
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

    What `b` sees of a call that was cut off is there or not, and stays so.
    """
    died = False
    with _alone(slot_bytes) as outer:
        async with _pair(outer, options, lifetime) as pair:
            for turn in plan:
                try:
                    await pair.make(turn._replace(process="b") if died else turn)
                except KilledError:
                    died = True
                    cut_off = pair.steps[-1].calls
                    views = await pair.look("b")
                    require_allowed(views, oracle.allowed(pair.store, cut_off))
                    pair.store = views
            await perform(pair.writers["b"], Save(MAIN, Version("last", _LAST_SERIAL)))
            pair.store = oracle.after(pair.store, Save(MAIN, Version("last", _LAST_SERIAL)))
            views = await pair.look("b")
            expected = {session_id: kept for session_id, kept in pair.store.items() if kept}
            require(views == expected, "the other one shows", views, "in place of", expected)
            run = pair.run()
    return Survived(died, run, expected)
