"""A file operation that fails, and then a power cut: nothing acknowledged is lost even so."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest

from aiocheckpoint import CheckpointError, DurabilityUnknownError
from aiocheckpoint._disk.append import Appender
from tests.crash import oracle
from tests.crash.checker import (
    Allowed,
    BrokenPromiseError,
    Options,
    Views,
    Writer,
    materialise,
    opened,
    perform,
    recover_after_crash,
    require,
    require_allowed,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import Run, record, same_each_time, tree_after
from tests.crash.model import LONG, SECOND, Caps, Model, crash_states, one_of
from tests.crash.operations import Operation, Tree
from tests.crash.oracle import MAIN, Call, CopySession, Flush, Save, Seen, Version
from tests.crash.recorder import RecordingFiles

pytestmark = pytest.mark.blocking

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EINTR, errno.EROFS)
BASE = ("save-new", "save-existing", "save-existing")
CALLS = ("save-existing", "replace", "delete", "delete-session", "copy-session")
DURABILITIES = ("journal", "file")
Way: TypeAlias = Literal["before", "after", "for ever", "short"]
WAYS: tuple[Way, ...] = ("before", "after", "for ever", "short")
_SLICES = 16
"""One of so many states is looked at by default."""

_UNFLUSHED = (
    "leftover",
    "dangling-pointer",
    "stale-pointer",
    "unflushed-journal",
    "unwritten-session",
)
_CLOSING = frozenset({"close", "unlock_file"})
_LOCKING = frozenset({"lock_file", "try_lock_file", "await_lock"})


class Fault(NamedTuple):
    """
    Which system call fails, and how.

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
        if fault is None or (fault.way == "short" and name != "write_at"):
            return sound
        self.calls += 1
        nth = self.calls - 1
        if nth != fault.nth and not (fault.way == "for ever" and nth > fault.nth):
            return sound
        if fault.way == "short":
            return _partly(sound)
        has_effect = fault.way == "after" and name not in _LOCKING
        if has_effect or name in _CLOSING:
            return self._then_failing(name, sound, fault.error_number)
        return _failing(fault.error_number)

    def _then_failing(self, name: str, sound: Any, error_number: int) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            result = sound(*args, **kwargs)
            if name in ("open", "_open_file"):  # one that fails leaves no descriptor
                RecordingFiles.recorded(self, "close", os.close)(result)
            return _failing(error_number)()

        return run


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
        point: how many when the disk was sound again.
        then: what may be seen from there on.
        finally_: what must be seen at the end.
    """

    was_hit: bool
    start: Tree
    operations: list[Operation]
    point: int
    then: Allowed
    finally_: Views


async def _failed(base: Run, kind: str, options: Options, fault: Fault) -> Aftermath:
    """Make a call and flush while the disk fails, then go on where it is sound."""
    start = tree_after(base.start, base.operations)
    store: oracle.Store = {}
    for done in base.calls:
        store = oracle.after(store, done)
    call = oracle.resolve(kind, store, 50)
    with scratch_directory() as outer, same_each_time(3):
        materialise(start, outer)
        files = FaultyFiles(outer, start)
        async with opened(outer, files, options) as writer:
            await writer.load(MAIN)
            files.fault = fault
            then = _possible(store, call, await _error_of(writer, call, outer))
            await _error_of(writer, Flush(), outer)
            files.fault = None
            point = len(files.operations)
            require_allowed(await see_all(writer, _UNFLUSHED), then)
            views = await _go_on(writer, await _seen_by_another(outer, files, options, then))
            operations = list(files.operations)
    return Aftermath(files.calls > fault.nth, start, operations, point, then, views)


async def _error_of(writer: Writer, call: Call, outer: Path) -> CheckpointError | None:
    try:
        await perform(writer, call)
    except CheckpointError as error:
        require(str(outer) in str(error), f"{error!r} does not name a path")
        return error
    return None


def _possible(
    store: oracle.Store, call: Call, error: CheckpointError | None
) -> dict[str, list[Seen]]:
    """Return what may be seen: a call that failed counts only where that is not known."""
    states = {session_id: [kept] for session_id, kept in store.items()}
    before = store.get(call.session_id, ())
    outcomes = oracle.outcomes(store, call)
    if error is None:
        states[call.session_id] = outcomes[-1:]
    elif isinstance(call, CopySession):  # some of it, in the order of the source
        whole = outcomes[-1]
        sizes = range(len(whole) + 1)
        states[call.session_id] = [c for n in sizes for c in itertools.combinations(whole, n)]
    elif isinstance(error, DurabilityUnknownError):
        states[call.session_id] = [before, *outcomes]
    return states


async def _seen_by_another(
    outer: Path, files: RecordingFiles, options: Options, allowed: Allowed
) -> Views:
    """Return what another process sees; it may know of a save whose outcome was unknown."""
    other = RecordingFiles(outer, beside=files)
    async with opened(outer, other, options) as reader:
        views = await see_all(reader, _UNFLUSHED)
    require_allowed(views, allowed)
    return views


async def _go_on(writer: Writer, views: Views) -> Views:
    """Flush, save once more, and flush: all of it works, and nothing is left of the fault."""
    await writer.flush()
    found = await see_all(writer, (), is_flushed=True)
    require(found == views, "a flush shows", found, "where another process has seen", views)
    save = Save(MAIN, Version("later", 60))
    await perform(writer, save)
    expected = oracle.after(views, save)
    require(await see_all(writer) == expected, "the next save changes something else")
    await writer.flush()
    require(await see_all(writer, (), is_flushed=True) == expected, "a flush changes something")
    return expected


async def _examine(aftermath: Aftermath, options: Options, model: Model, caps: Caps) -> int:
    """Cut the power where the disk is sound again, and at the end."""
    examined = 0
    last = {session_id: [seen] for session_id, seen in aftermath.finally_.items()}
    for point, allowed in ((aftermath.point, aftermath.then), (len(aftermath.operations), last)):
        operations = aftermath.operations[:point]
        for state in crash_states(model, aftermath.start, operations, point, caps):
            with scratch_directory() as outer, same_each_time(4):
                materialise(state.tree, outer)
                files = RecordingFiles(outer, state.tree)
                async with opened(outer, files, options) as writer:
                    views = await see_all(writer, _UNFLUSHED)
                    require_allowed(views, allowed)
                if examined % 4 == 0:
                    await recover_after_crash(state.tree, outer, views, options)
            examined += 1
    return examined


async def _fail_each(
    kind: str,
    durability: str,
    way: Way,
    *,
    first: int = 0,
    every: int = 1,
    model: Model = "posix",
    caps: Caps = SECOND,
    errors: Sequence[int] = ERRORS,
) -> int:
    """Let each file operation of a call and a flush fail in turn, and cut the power."""
    options: Options = {"durability": durability}
    base = await record(BASE, options)
    examined = 0
    for nth in itertools.count(first, every):
        fault = Fault(nth, way, errors[nth % len(errors)])
        try:
            aftermath = await _failed(base, kind, options, fault)
            if not aftermath.was_hit:
                return examined
            examined += await _examine(aftermath, options, model, caps)
        except BaseException as error:
            error.add_note(f"{kind}, {durability}: {fault}")
            raise
    return examined


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.some
@pytest.mark.few(1)
async def test_some_failing_operations(
    kind: str, durability: str, record_property: Callable[[str, object], None]
) -> None:
    """An operation that fails costs its own call at most, also when the power goes then."""
    examined = 0
    with one_of(_SLICES):
        for number, way in enumerate(WAYS):
            first = 12 * number + 2 * CALLS.index(kind) + DURABILITIES.index(durability)
            examined += await _fail_each(
                kind, durability, way, first=first, every=174, model="ext4", caps=LONG
            )
    record_property("examined", examined)


@pytest.mark.long
async def test_it_sees_a_failed_save_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a segment used on after a write that failed, the refused save would come back."""
    monkeypatch.setattr(Appender, "_break", lambda self, error: None)

    errors = (errno.EIO,)  # after a full disk the save is tried again
    with pytest.raises(BrokenPromiseError):
        await _fail_each(
            "replace", "journal", "after", first=80, model="ext4", caps=LONG, errors=errors
        )


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("durability", DURABILITIES)
async def test_every_failing_operation(
    kind: str, durability: str, way: Way, record_property: Callable[[str, object], None]
) -> None:
    """The same of each operation, before, after, for ever and in part, on the weakest disk."""
    record_property("examined", await _fail_each(kind, durability, way))
