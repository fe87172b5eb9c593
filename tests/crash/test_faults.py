"""A file operation that fails, and then a power cut: nothing acknowledged is lost even so."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest

from aiocheckpoint import AsyncCheckpointWriter, StorageError
from tests.crash import oracle
from tests.crash.checker import (
    ROOT_NAME,
    Allowed,
    BrokenPromiseError,
    materialise,
    open_after_crash,
    perform,
    require,
    require_allowed,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import record, same_each_time, steady_clock
from tests.crash.model import SECOND, Caps, Model, crash_states
from tests.crash.mutants import MUTANTS, mutated
from tests.crash.operations import Operation, Tree
from tests.crash.oracle import MAIN, Save, SessionState, Version
from tests.crash.recorder import RecordingFiles

pytestmark = pytest.mark.blocking

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EINTR, errno.EROFS)
BASE = ("save-new", "save-existing", "save-existing")
CALLS = (*oracle.CALLS, "copy-session")
Way: TypeAlias = Literal["before", "after", "for ever", "short"]
WAYS: tuple[Way, ...] = ("before", "after", "for ever", "short")

_CLOSING = frozenset({"close", "flock"})
_WRITING = frozenset({"write", "_write_at"})
_STAMP = 1_767_323_045_900_000


class Fault(NamedTuple):
    """
    Which call fails, and how.

    Attributes:
        nth: which one, from 0; of those that write for `"short"`.
        way: before its effect, after it, that and all later ones, or with a part of it.
        error_number: the `errno`.
    """

    nth: int
    way: Way
    error_number: int


class FaultyFiles(RecordingFiles):
    """
    Recording files that fail where told.

    Attributes:
        fault: what fails; None for nothing.
        calls: how many there were that could have failed.
    """

    def __init__(self, outer: Path, start: Tree) -> None:
        super().__init__(outer, start)
        self.fault: Fault | None = None
        self.calls = 0

    def recorded(self, name: str, function: Any) -> Any:
        sound = super().recorded(name, function)
        fault = self.fault
        if fault is None or (fault.way == "short" and name not in _WRITING):
            return sound
        self.calls += 1
        nth = self.calls - 1
        if nth != fault.nth and not (fault.way == "for ever" and nth > fault.nth):
            return sound
        if fault.way == "short":
            return _partly(sound)
        if fault.way == "after" or name in _CLOSING:
            return self._then_failing(name, sound, fault.error_number)
        return _failing(fault.error_number)

    def _then_failing(self, name: str, sound: Any, error_number: int) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = sound(*args, **kwargs)
            if name == "open":  # one that fails leaves no descriptor
                RecordingFiles.recorded(self, "close", _close)(result)
            return _failing(error_number)()

        return run


def _close(descriptor: int) -> None:

    os.close(descriptor)


def _failing(error_number: int) -> Callable[..., Any]:
    def fail(*args: object, **kwargs: object) -> Any:
        raise OSError(error_number, "injected")

    return fail


def _partly(sound: Any) -> Callable[..., Any]:
    def write(descriptor: int, data: memoryview, *offset: int) -> Any:
        return sound(descriptor, data[: len(data) // 2 or 1], *offset)

    return write


class Aftermath(NamedTuple):
    """
    What was done to the disk, and what may be seen after a crash.

    Attributes:
        was_hit: whether the fault was met.
        start: what was durable before.
        operations: what was done.
        point: how many when the call had returned.
        then: what may be seen from there on.
        finally_: likewise when another save had returned.
    """

    was_hit: bool
    start: Tree
    operations: list[Operation]
    point: int
    then: Allowed
    finally_: Allowed


async def _failed(kind: str, options: Mapping[str, Any], fault: Fault) -> Aftermath:
    """Make a call in which a file operation fails, then save once more on the healed disk."""
    base = await record(BASE, dict(options))
    start = base.start.copy()
    store: oracle.Store = {}
    for operation in base.operations:
        start.apply(operation)
    for done in base.calls:
        store = oracle.after(store, done)
    call = oracle.resolve(kind, store, 50)
    with scratch_directory() as outer, same_each_time(seed=2):
        materialise(start, outer)
        files = FaultyFiles(outer, start)
        async with AsyncCheckpointWriter(outer / ROOT_NAME, files=files, **options) as writer:
            steady_clock(writer, _STAMP)
            await writer.load(MAIN)
            files.fault = fault
            error = None
            try:
                await perform(writer, call)
            except StorageError as raised:
                error = raised
            files.fault = None
            if error is not None:
                require(error.errno == fault.error_number, f"{error!r} is not what failed")
                require(str(outer) in str(error), f"{error!r} does not name a path")
            then = _possible(store, call, is_certain=error is None)
            require_allowed(await see_all(writer), then)
            point = len(files.operations)
            save = Save(MAIN, Version("later", 60))
            await perform(writer, save)
            finally_ = {**then, MAIN: [oracle.outcomes({MAIN: s}, save)[-1] for s in then[MAIN]]}
            views = await see_all(writer)
            require_allowed(views, finally_)
            if isinstance(call, Save):  # the session's next commit flushes what became of it
                finally_[MAIN] = [state for state in finally_[MAIN] if state.permits(views[MAIN])]
            operations = list(files.operations)
    was_hit = files.calls > fault.nth
    return Aftermath(was_hit, start, operations, point, then, finally_)


def _possible(
    store: oracle.Store, call: oracle.Call, *, is_certain: bool
) -> dict[str, list[SessionState]]:
    states = {session_id: [state] for session_id, state in store.items()}
    before = store.get(call.session_id, SessionState())
    outcomes = oracle.outcomes(store, call)
    states[call.session_id] = outcomes[-1:] if is_certain else [before, *outcomes]
    return states


async def _examine(aftermath: Aftermath, options: dict[str, Any], model: Model, caps: Caps) -> int:
    examined = 0
    for point, allowed in (
        (aftermath.point, aftermath.then),
        (len(aftermath.operations), aftermath.finally_),
    ):
        operations = aftermath.operations[:point]
        for state in crash_states(model, aftermath.start, operations, point, caps):
            with scratch_directory() as outer:
                opened = await open_after_crash(state.tree, outer, options, "boot-1")
                require_allowed(opened.views, allowed)
            examined += 1
    return examined


async def _fail_each(
    kind: str, durability: str, way: Way, *, first: int = 0, every: int = 1, model: Model = "posix"
) -> int:
    """Let each file operation of a call fail in turn, and cut the power."""
    options: dict[str, Any] = {"durability": durability}
    examined = 0
    for nth in itertools.count(first, every):
        fault = Fault(nth, way, ERRORS[nth % len(ERRORS)])
        try:
            aftermath = await _failed(kind, options, fault)
            if not aftermath.was_hit:
                return examined
            examined += await _examine(aftermath, options, model, SECOND)
        except BaseException as error:
            error.add_note(f"{kind}, {durability}: {fault}")
            raise
    return examined


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_some_failing_operations(
    kind: str, durability: str, record_property: Callable[[str, object], None]
) -> None:
    """An operation that fails costs its own call at most, also when the power goes then."""
    examined = 0
    for number, way in enumerate(WAYS):
        first = 4 * number + CALLS.index(kind)
        examined += await _fail_each(kind, durability, way, first=first, every=41, model="ext4")
    record_property("examined", examined)


async def test_it_sees_a_failed_save_that_comes_back() -> None:
    """Were saves that failed not undone, one of these power cuts would show it."""
    (mutant,) = (m for m in MUTANTS if m.name == "saves that failed are not undone")

    with mutated(mutant.edits), pytest.raises(BrokenPromiseError):
        await _fail_each("replace", "journal", "before", first=4, every=5, model="ext4")


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_every_failing_operation(
    kind: str, durability: str, way: Way, record_property: Callable[[str, object], None]
) -> None:
    """The same of each operation, before, after, for ever and in part, on the weakest disk."""
    record_property("examined", await _fail_each(kind, durability, way))
