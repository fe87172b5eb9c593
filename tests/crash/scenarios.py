"""Runs of the library that short sequences of calls do not reach: two lives, two writers, damage.

Each gives the operations, and what has to be seen after a crash at their end.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import AsyncCheckpointWriter, blob_digest
from aiocheckpoint._engine import journal
from aiocheckpoint._format import names as layout
from aiocheckpoint.errors import CheckpointCorruptError
from aiocheckpoint.testing import LargeValue
from tests.crash import oracle, test_blobs
from tests.crash.checker import (
    ROOT_NAME,
    Allowed,
    BrokenPromiseError,
    Writer,
    materialise,
    open_after_crash,
    perform,
    require,
    require_allowed,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import POPULATED, Enumerator, record, same_each_time, steady_clock
from tests.crash.model import QUICK, Model, crash_states
from tests.crash.operations import Content, File, Operation, Tree
from tests.crash.oracle import MAIN, Seen, SessionState, Version
from tests.crash.recorder import RecordingFiles
from tests.crash.syncs import forgotten, site

JOURNAL: dict[str, Any] = {"durability": "journal"}
_BOOT = "boot-0"
_STAMPS = 1_767_323_045_000_000


class Run(NamedTuple):
    """
    What was done, and what it leads to.

    Attributes:
        start: what was durable on the disk before.
        operations: what was done to it.
        allowed: what may be seen afterwards.
        first_point: from how many operations on.
    """

    start: Tree
    operations: list[Operation]
    allowed: Allowed
    first_point: int


async def violation(run: Run, model: Model = "posix") -> str:
    """Return how a promise is broken in a state that a crash leaves, `""` if none is."""
    states = crash_states(model, run.start, run.operations, run.first_point, QUICK)
    for state in states:
        try:
            with scratch_directory() as outer:
                opened = await open_after_crash(state.tree, outer, JOURNAL, "boot-1")
                require_allowed(opened.views, run.allowed)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            return f"after operation {state.point}: {error!r}"
    return ""


def _at_end(files: RecordingFiles, start: Tree, seen: Seen) -> Run:
    operations = list(files.operations)
    return Run(start, operations, {MAIN: [SessionState(seen)]}, len(operations))


def version(serial: int) -> Version:
    """Return the content that a numbered save has."""
    return Version(f"a{serial}", serial)


def save(serial: int) -> oracle.Save:
    """Return a numbered save."""
    return oracle.Save(MAIN, version(serial))


def delete(serial: int) -> oracle.Delete:
    """Return the delete of a numbered save."""
    return oracle.Delete(MAIN, f"a{serial}")


@asynccontextmanager
async def _opened(outer: Path, files: RecordingFiles, stamp: int = 0) -> AsyncIterator[Writer]:
    async with AsyncCheckpointWriter(outer / ROOT_NAME, files=files, **JOURNAL) as writer:
        steady_clock(writer, _STAMPS + stamp)
        yield writer


async def _perform(writer: Writer, *calls: oracle.Call) -> None:
    for call in calls:
        await perform(writer, call)


# Two lives


async def after_a_kill(point: int, durability: str) -> Run | None:
    """
    Let one process be killed at a point of its first save, and another save on the same machine.

    What the first had made and not synced must be durable when the second has saved.
    """
    options: dict[str, Any] = {"durability": durability}
    first = await record(("save-existing",), options)
    if point >= len(first.operations):
        return None
    tree = Tree()
    for operation in first.operations[:point]:
        tree.apply(operation)
    with scratch_directory() as outer, same_each_time(seed=2):
        materialise(tree, outer)
        files = RecordingFiles(outer, tree, _BOOT)
        root = outer / ROOT_NAME
        async with AsyncCheckpointWriter(root, files=files, **options) as writer:
            steady_clock(writer, _STAMPS + 5000)
            await perform(writer, save(2))
            operations = [*first.operations[:point], *files.operations]
    either = [SessionState((version(2), version(1))), SessionState((version(2),))]
    return Run(Tree(), operations, {MAIN: either}, len(operations))


# Commits beside flushing


async def _committed_while_settling(outer: Path, files: RecordingFiles, writer: Writer) -> None:
    """Save 1 in a segment, and 2 in another while that is flushed; 1's is then kept for use."""
    await _perform(writer, save(1))
    files.held_at = "before_settle"
    flushing = asyncio.ensure_future(writer.flush())
    await asyncio.to_thread(files.arrived.wait)
    await _perform(writer, save(2))
    files.released.set()
    await flushing


async def deleted_in_another_segment() -> Run:
    """Delete a save in a later segment than its own, and flush that too."""
    with scratch_directory() as outer, same_each_time(seed=2):
        files = RecordingFiles(outer)
        async with _opened(outer, files) as writer:
            await _committed_while_settling(outer, files, writer)
            await _perform(writer, delete(1), oracle.Flush())
            return _at_end(files, Tree(), (version(2),))


async def deleted_after_its_segment_was_removed() -> Run:
    """Delete a save whose segment, too large to be used again, is gone, and close."""
    with scratch_directory() as outer, same_each_time(seed=2):
        files = RecordingFiles(outer)
        async with _opened(outer, files) as writer:
            await _perform(writer, save(1), save(2))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(journal, "_MAX_SPARE_BYTES", 0)
                await writer.flush()
            await _perform(writer, delete(2))
        return _at_end(files, Tree(), (version(1),))


# Several processes


@asynccontextmanager
async def _beside_a_dead_process(outer: Path) -> AsyncIterator[tuple[Writer, RecordingFiles, Tree]]:
    """Open a writer that was there before another process saved 1 and was killed."""
    tree = (await record(("save-existing",), JOURNAL)).tree_after(0)
    materialise(tree, outer)
    files = RecordingFiles(outer, tree)
    async with _opened(outer, files, 5000) as writer:
        writer._store.sessions._preparation = "done"
        await _perform(writer, save(2))
        yield writer, files, tree


async def _replayed(outer: Path, files: RecordingFiles) -> None:
    """Let a third process put the root in order, which removes the journal of the dead one."""
    async with _opened(outer, files, 9000) as writer:
        await writer.load(MAIN)


async def deleted_after_a_journal_was_removed() -> Run:
    """Delete a dead process's save, whose journal a third one has replayed and removed."""
    with scratch_directory() as outer, same_each_time(seed=2):
        async with _beside_a_dead_process(outer) as (writer, files, tree):
            await _replayed(outer, files)
            await _perform(writer, delete(1))
            await writer.aclose()  # flushes without a segment for the next commit
            return _at_end(files, tree, (version(2),))


async def deleted_before_a_journal_was_removed() -> Run:
    """The same the other way round, and the third is killed before it has synced the removal."""
    with scratch_directory() as outer, same_each_time(seed=2):
        async with _beside_a_dead_process(outer) as (writer, files, tree):
            await _perform(writer, delete(1))
            with forgotten(site("replay.replay-sync_directory")):
                await _replayed(outer, files)
            await writer.aclose()
            return _at_end(files, tree, (version(2),))


async def deleted_before_a_segment_was_blanked() -> Run:
    """Delete another writer's save and flush that, while the other is blanking its segment."""
    with scratch_directory() as outer, same_each_time(seed=2):
        files = RecordingFiles(outer)
        async with _opened(outer, files) as saver, _opened(outer, files, 5000) as deleter:
            await _perform(saver, save(1), save(2))
            await _perform(deleter, delete(1))
            files.held_at = "before_sync_blank"
            flushing = asyncio.ensure_future(saver.flush())
            await asyncio.to_thread(files.arrived.wait)
            await _perform(deleter, oracle.Flush())
            run = _at_end(files, Tree(), (version(2),))
            files.released.set()
            await flushing
            return run


# A full disk


class FullFiles(RecordingFiles):
    """Recording files of a disk without room for a journal."""

    def recorded(self, name: str, function: Any) -> Any:
        return _no_room if name == "_write_at" else super().recorded(name, function)


def _no_room(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "there is no room")


async def _deleted_on_a_full_disk(call: oracle.Call, *seen: Seen) -> str:
    """Delete without a journal; a crash amid it leaves one of what may be seen, then the last."""
    start = await _two_saves()
    with scratch_directory() as outer, same_each_time(seed=2):
        materialise(start, outer)
        files = FullFiles(outer, start)
        async with _opened(outer, files, 5000) as writer:
            await perform(writer, call)
            run = _at_end(files, start, seen[-1])
    amid = Run(start, run.operations, {MAIN: [SessionState(one) for one in seen]}, 0)
    return await violation(amid) or await violation(run)


async def _two_saves() -> Tree:
    """Return what two saves leave when their writer is closed."""
    base = await record(("save-existing", "save-existing"), JOURNAL)
    tree = base.start.copy()
    for operation in base.operations:
        tree.apply(operation)
    return tree


# Damage


class Damage(NamedTuple):
    """
    A damaged file, and what `recover` makes of it.

    Attributes:
        serial: of the save whose file is damaged.
        backed_up: whether its backup is an intact file of its own.
        seen: what there is in the end.
        linked: whether the disk has hard links.
    """

    serial: int
    backed_up: bool
    seen: Seen
    linked: bool = True


NEWEST = Damage(2, backed_up=False, seen=(version(1),))
BACKED_UP = Damage(1, backed_up=True, seen=(version(2), version(1)))


class LinklessFiles(RecordingFiles):
    """Recording files of a disk without hard links."""

    def recorded(self, name: str, function: Any) -> Any:
        return _refused if name == "link" else super().recorded(name, function)


def _refused(*args: object, **kwargs: object) -> None:
    raise PermissionError(errno.EPERM, "there are no links")


async def recover_violation(damage: Damage, model: Model = "posix") -> str:
    """
    Return how a crash during or after `recover` breaks a promise, `""` if none does.

    Without links only one after it is looked at: a rename across directories is all there is then.
    """
    run, damaged = await _recovered(damage)
    first_point = 0 if damage.linked else run.first_point
    for state in crash_states(model, run.start, run.operations, first_point, QUICK):
        try:
            with scratch_directory() as outer:
                is_done = state.point >= run.first_point
                await _look_after_recover(state.tree, outer, damage, damaged, is_done=is_done)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            return f"after operation {state.point}: {error!r}"
    return ""


async def _recovered(damage: Damage) -> tuple[Run, Content]:
    start = await _two_saves()
    damaged = _damage(start, damage)
    with scratch_directory() as outer, same_each_time(seed=2):
        materialise(start, outer)
        files = (RecordingFiles if damage.linked else LinklessFiles)(outer, start, _BOOT)
        async with _opened(outer, files, 5000) as writer:
            await writer.recover(MAIN)
            return _at_end(files, start, damage.seen), damaged


def _damage(tree: Tree, damage: Damage) -> Content:
    path = next(path for path, _ in tree.walk() if path.endswith(f"_a{damage.serial}.json"))
    above, _, name = path.rpartition("/")
    directory = dict(tree.walk())[above]
    content = tree.contents[tree.entries[directory][name]].copy()
    content.truncate(content.size - 100)
    node = max(tree.kinds) + 1
    tree.know(node, File())
    tree.contents[node] = content
    tree.entries[directory][name] = node
    if not damage.backed_up:
        tree.entries[directory].pop(name + layout.BACKUP_SUFFIX, None)
    return content


async def _look_after_recover(
    tree: Tree, outer: Path, damage: Damage, damaged: Content, *, is_done: bool
) -> None:
    materialise(tree, outer)
    files = RecordingFiles(outer, tree, "boot-1")
    async with _opened(outer, files, 9000) as writer:
        try:
            views = await see_all(writer)
        except (CheckpointCorruptError, BrokenPromiseError):
            require(not is_done, "what was recovered is damaged again")
            await writer.recover(MAIN)
            views = await see_all(writer)
        require(views == {MAIN: damage.seen}, "there is", views)
    kept = [files.tree.contents[n].key() for _, n in files.tree.walk() if n in files.tree.contents]
    require(damaged.key() in kept, "the damaged file is nowhere")


# Blobs


async def _blobs(name: str) -> str:
    try:
        await test_blobs.examine_all(name, {"durability": "file"}, ["posix"], 0)
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
        return repr(error)
    return ""


async def _recovered_blobs() -> str:
    """Damage a blob, recover, and see that it does not come back."""
    calls = (test_blobs.Save("a", (test_blobs.ONE,)), test_blobs.Save("b", (test_blobs.TWO,)))
    start = Tree()
    for operation in await test_blobs.record(calls, JOURNAL):
        start.apply(operation)
    blob = blob_digest(test_blobs.ONE)
    ((_, node),) = ((path, node) for path, node in start.walk() if path.endswith(blob))
    start.contents[node].truncate(100)
    with scratch_directory() as outer, same_each_time(seed=2):
        materialise(start, outer)
        files = RecordingFiles(outer, start, _BOOT)
        async with _opened_with_blobs(outer, files) as writer:
            await writer.recover("s")
            operations = list(files.operations)
    for state in crash_states("posix", start, operations, len(operations), QUICK):
        with scratch_directory() as outer:
            materialise(state.tree, outer)
            files = RecordingFiles(outer, state.tree, "boot-1")
            async with _opened_with_blobs(outer, files) as writer:
                findings = [f for f in await writer.check() if f.kind not in test_blobs.HARMLESS]
        if findings:
            return str(findings)
    return ""


async def _blobs_deleted_on_a_full_disk(call: test_blobs.Call) -> str:
    """Delete records without a journal; at no point may one be there without its blobs."""
    start = Tree()
    for operation in await test_blobs.record(test_blobs.BASE, JOURNAL):
        start.apply(operation)
    with scratch_directory() as outer, same_each_time(seed=2):
        materialise(start, outer)
        files = FullFiles(outer, start)
        async with _opened_with_blobs(outer, files) as writer:
            await test_blobs.perform(writer, call)
            operations = list(files.operations)
    for state in crash_states("posix", start, operations, 0, QUICK):
        with scratch_directory() as outer:
            materialise(state.tree, outer)
            again = RecordingFiles(outer, state.tree, "boot-1")
            async with _opened_with_blobs(outer, again) as writer:
                try:
                    await test_blobs.see(writer)
                except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
                    return f"after operation {state.point}: {error!r}"
    return ""


def _opened_with_blobs(outer: Path, files: RecordingFiles) -> AsyncCheckpointWriter[LargeValue]:
    return AsyncCheckpointWriter(
        outer / ROOT_NAME, files=files, record_type=LargeValue, durability="journal"
    )


# All


async def _calls(
    kinds: Sequence[str],
    durability: str = "journal",
    base: Sequence[str] = (),
    **journal: int,
) -> str:
    """Make calls one after the other; with other constants of the journal's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in journal.items():
            patch.setattr(f"aiocheckpoint._engine.journal.{name}", value)
        enumerator = Enumerator({"durability": durability}, QUICK)
        await enumerator.run(kinds, base, ["posix"])
    return next(iter(enumerator.tally.violations), "")


async def _of(run: Callable[[], Awaitable[Run]]) -> str:
    return await violation(await run())


async def after_kills(durability: str) -> str:
    """Return how a promise is broken when a process is killed, and after another saved, power."""
    for point in itertools.count():
        run = await after_a_kill(point, durability)
        if run is None:
            return ""
        if found := await violation(run):
            return f"killed after operation {point}: {found}"
    return ""


SCENARIOS: dict[str, Callable[[], Coroutine[Any, Any, str]]] = {
    "save": partial(_calls, ("save-new",)),
    "save by file": partial(_calls, ("save-new",), "file"),
    "flush": partial(_calls, ("save-existing", "flush")),
    "flush by syncfs": partial(_calls, ("save-existing", "flush"), _FEW_SYNCS=0),
    "a journal that grows": partial(_calls, ("save-existing",), _CHUNK_BYTES=12_288),
    "a delete after a replacement": partial(
        _calls, ("delete", "replace-newest", "delete-latest"), "file", POPULATED
    ),
    "a delete in another segment": partial(_of, deleted_in_another_segment),
    "a delete after its segment": partial(_of, deleted_after_its_segment_was_removed),
    "a delete after a journal": partial(_of, deleted_after_a_journal_was_removed),
    "a delete before a journal": partial(_of, deleted_before_a_journal_was_removed),
    "a delete before a blanking": partial(_of, deleted_before_a_segment_was_blanked),
    "flush a second session": partial(_calls, ("save-existing", "save-new", "flush")),
    "a delete on a full disk": partial(
        _deleted_on_a_full_disk, delete(2), (version(2), version(1)), (version(1),)
    ),
    "a delete of a session on a full disk": partial(
        _deleted_on_a_full_disk,
        oracle.DeleteSession(MAIN),
        (version(2), version(1)),
        (version(2),),
        (),
    ),
    "recover": partial(recover_violation, NEWEST),
    "recover from a backup": partial(recover_violation, BACKED_UP),
    "recover without links": partial(recover_violation, NEWEST._replace(linked=False)),
    "blobs": partial(_blobs, "first save"),
    "recover blobs": _recovered_blobs,
    "a delete with blobs on a full disk": partial(
        _blobs_deleted_on_a_full_disk, test_blobs.Delete(("a",))
    ),
    "a delete of a session with blobs on a full disk": partial(
        _blobs_deleted_on_a_full_disk, test_blobs.DeleteSession()
    ),
    "a kill before": partial(after_kills, "file"),
}
"""Each returns how a promise is broken, `""` if none is."""
