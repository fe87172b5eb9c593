"""Runs of the library that short sequences of calls do not reach: two lives, two writers, damage.

Each tells how a crash amid or after it breaks a promise.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import CheckpointData, SessionOwnedError, Transaction, blob_digest
from aiocheckpoint._disk.files import Directory, FileStatus
from aiocheckpoint._format import names as layout
from aiocheckpoint.errors import CheckpointCorruptError, JournalCorruptError, StorageError
from tests.crash import oracle, test_blobs
from tests.crash.checker import (
    BEFORE_RECOVERY,
    ROOT_NAME,
    Allowed,
    BrokenPromiseError,
    Options,
    Writer,
    materialise,
    opened,
    perform,
    read_after_crash,
    recover_after_crash,
    require,
    require_allowed,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import (
    POPULATED,
    SMALL_SLOT_BYTES,
    Enumerator,
    Moment,
    record,
    same_each_time,
    tree_after,
)
from tests.crash.model import LONG, NESTED, QUICK, SECOND, Caps, Model, crash_states
from tests.crash.operations import BLOCK_BYTES, Content, File, Operation, Tree
from tests.crash.oracle import MAIN, Seen, Version
from tests.crash.processes import new_disk, pair_on, survived, turns
from tests.crash.recorder import KilledError, RecordingFiles

JOURNAL: Options = {"durability": "journal"}
HASTY: Options = {"durability": "none"}
TINY_SLOT_BYTES = 16 * 1024
_GARBAGE = b"\xa5" * BLOCK_BYTES
Scenario = Callable[[], Coroutine[Any, Any, str]]


class Aftermath(NamedTuple):
    """
    What was done, and what it leads to.

    Attributes:
        start: what was durable on the disk before.
        operations: what was done to it.
        allowed: what may be seen afterwards.
        first_point: from how many operations on.
    """

    start: Tree
    operations: Sequence[Operation]
    allowed: Allowed
    first_point: int


async def violation(
    run: Aftermath,
    model: Model = "posix",
    caps: Caps = SECOND,
    tolerated: Collection[str] = BEFORE_RECOVERY,
    recovers_every: int = 8,
) -> str:
    """Return how a promise is broken in a state that a crash leaves, `""` if none is."""
    states = crash_states(model, run.start, run.operations, run.first_point, caps)
    for number, state in enumerate(states):
        try:
            with scratch_directory() as outer, same_each_time(7):
                views = await read_after_crash(state.tree, outer, JOURNAL, tolerated)
                require_allowed(views, run.allowed)
                if number % recovers_every == 0:
                    await recover_after_crash(state.tree, outer, views, JOURNAL)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            return f"after operation {state.point}: {error!r}"
    return ""


def version(serial: int) -> Version:
    """Return the content that a numbered save has."""
    return Version(f"a{serial}", serial)


def save(serial: int, checkpoint_id: str = "") -> oracle.Save:
    """Return a numbered save."""
    return oracle.Save(MAIN, Version(checkpoint_id or f"a{serial}", serial))


def delete(serial: int) -> oracle.Delete:
    """Return the delete of a numbered save."""
    return oracle.Delete(MAIN, f"a{serial}")


# Calls of one process


async def calls(
    kinds: Sequence[str],
    durability: str = "journal",
    base: Sequence[str] = (),
    models: Sequence[Model] = ("posix",),
    *,
    slot_bytes: int = SMALL_SLOT_BYTES,
    caps: Caps = SECOND,
    patches: Iterable[tuple[str, object]] = (),
) -> str:
    """Make calls one after the other, and crash amid or after the last."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in patches:
            patch.setattr(name, value)
        enumerator = Enumerator(
            {"durability": durability}, caps, recovers_every=4, slot_bytes=slot_bytes
        )
        await enumerator.run(kinds, base, models)
    return next(iter(enumerator.tally.violations), "")


_ONE_BY_ONE = (
    ("aiocheckpoint._engine.sync._FEW_SYNCS", 0),
    ("aiocheckpoint._disk.system.syncfs", None),
)
_BY_DISK = _ONE_BY_ONE[:1]
_EACH_FLUSHED = (*("save-existing", "flush") * 3, "save-existing")
_EQUAL_SLOTS = (("aiocheckpoint._disk.free_slots.LARGEST_SPARE_BYTES", TINY_SLOT_BYTES),)
"""So that those that are free are used again, and not removed for their size."""


# Two processes


async def kills(
    plan: str, durability: str = "journal", slot_bytes: int = SMALL_SLOT_BYTES, every: int = 1
) -> str:
    """Kill the first process after each so many changes, and cut the power in the end."""
    options = {"durability": durability}
    enumerator = Enumerator(options, LONG, recovers_every=8)
    for lifetime in itertools.count(step=every):
        after = await survived(turns(plan), lifetime, options, slot_bytes)
        name = f"killed after change {lifetime}"
        end = len(after.run.operations)
        await enumerator.examine(name, after.run, end, ["posix"], Moment(after.store))
        if enumerator.is_done or not after.died:
            return next(iter(enumerator.tally.violations), "")
    raise AssertionError


async def replaced_in_haste() -> str:
    """Save durably, let another process replace it without a sync, and make files of that."""
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL, HASTY) as pair:
            await pair.make("a", save(1))
            begun = len(pair.files["a"].operations)
            await pair.make("b", save(2, "a1"))
            await pair.make("b", oracle.Apply())
            operations = [*pair.files["a"].operations]
    either: list[Seen] = [(version(1),), (Version("a1", 2),)]
    return await violation(Aftermath(Tree(), operations, {MAIN: either}, begun))


async def deleted_in_haste() -> str:
    """Delete without a sync what is in a file, and tell by another process that it is gone."""
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL, HASTY) as pair:
            await pair.make("a", save(1))
            await pair.make("a", oracle.Flush())
            await pair.make("b", delete(1))
            require(not await perform(pair.writers["a"], delete(1)), "it was deleted twice")
            operations = [*pair.files["a"].operations]
    return await violation(Aftermath(Tree(), operations, {MAIN: [()]}, len(operations)))


async def in_haste(slot_bytes: int) -> str:
    """Save without a sync: a power cut takes the last saves, and damages nothing."""
    with new_disk(slot_bytes) as outer:
        files = RecordingFiles(outer)
        async with opened(outer, files, HASTY) as writer:
            for serial in (1, 2, 3):
                await perform(writer, save(serial))
            operations = [*files.operations]
    kept = [tuple(version(n) for n in range(count, 0, -1)) for count in range(4)]
    return await violation(Aftermath(Tree(), operations, {MAIN: kept}, 0))


async def seen_of_the_dead() -> str:
    """Let a hasty process see what a dead one has written, and not synced: it stays."""
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL, HASTY) as pair:
            await pair.make("b", oracle.Save("other", Version("x", 1, "other")))
            dying, calls_ = pair.files["a"], save(2)
            dying.at("before_sync_log", dying.die)
            with suppress(KilledError):
                await pair.make("a", calls_)
            await pair.make("b", oracle.Save("other", Version("y", 3, "other")))
            require(MAIN in await pair.look("b"), "what a dead process has written is not seen")
            operations = [*pair.files["b"].operations]
    others = [(), (Version("x", 1, "other"),), (Version("y", 3, "other"), Version("x", 1, "other"))]
    run = Aftermath(Tree(), operations, {MAIN: [(version(2),)], "other": others}, len(operations))
    return await violation(run)


async def removed_by_hand(start: Callable[[], Coroutine[Any, Any, Tree]]) -> str:
    """Remove a file with other tools when it is flushed: no crash brings it back."""
    tree = await start()
    with scratch_directory() as outer, same_each_time(5):
        materialise(tree, outer)
        files = RecordingFiles(outer, tree)
        async with opened(outer, files, JOURNAL) as writer:
            for call in (save(8), save(9), oracle.Flush()):
                await perform(writer, call)
            hand = RecordingFiles(outer, beside=files)
            directory = hand.open_path(str(outer / ROOT_NAME / MAIN / layout.CHECKPOINTS_DIRECTORY))
            for name in hand.scan(directory):
                if "_a9.json" not in name and name != layout.LATEST_NAME:
                    hand.unlink(directory, name)
            hand.sync_directory(directory)
            hand.close_directory(directory)
            operations = [*files.operations]
    run = Aftermath(tree, operations, {MAIN: [(version(9),)]}, len(operations))
    return await violation(run)


async def journal_removed_by_hand() -> str:
    """Remove the journal with other tools: what is flushed afterwards has what it held."""
    with scratch_directory() as outer, same_each_time(5):
        files = RecordingFiles(outer)
        async with opened(outer, files, JOURNAL) as writer:
            await perform(writer, save(8))
            hand = RecordingFiles(outer, beside=files)
            root = hand.open_path(str(outer / ROOT_NAME))
            private = hand.open_subdirectory(root, layout.PRIVATE_DIRECTORY)
            assert private is not None
            for name in hand.scan(private):
                hand.unlink(private, name)
            hand.remove_subdirectory(root, layout.PRIVATE_DIRECTORY)
            hand.sync_directory(root)
            for directory in (private, root):
                hand.close_directory(directory)
            for call in (save(9), oracle.Flush()):
                await perform(writer, call)
            operations = [*files.operations]
    expected = {MAIN: [(version(9), version(8))]}
    return await violation(Aftermath(Tree(), operations, expected, len(operations)))


async def nothing() -> Tree:
    """Return an empty disk."""
    return Tree()


async def without_positions() -> Tree:
    """Return what a process leaves that was killed, with a free slot, and without `control`."""
    run = await record(("save-existing", "flush", "save-existing"), JOURNAL)
    tree = run.tree_after(2)
    private = _node_of(tree, layout.PRIVATE_DIRECTORY)
    del tree.entries[private]["control"]
    return tree


# Updates and owners


async def updated_beside_others() -> str:
    """Update a session that another process changes meanwhile: nothing is lost."""
    ids: list[tuple[str, ...]] = []
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL) as pair:
            await pair.make("a", save(1))

            async def work(session: Transaction[CheckpointData]) -> None:
                ids.append(await session.ids())
                if len(ids) == 1:
                    await pair.writers["b"].save(oracle.record_of(MAIN, version(2)))
                session.delete(*ids[-1])
                session.save(oracle.record_of(MAIN, version(3)))

            await pair.writers["a"].update(MAIN, work)
            seen = await see_all(pair.writers["b"])
    kept = {MAIN: (version(3),)}
    return "" if seen == kept else f"{seen} is there after an update that had seen {ids}"


async def moved_between_sessions(slot_bytes: int = SMALL_SLOT_BYTES) -> str:
    """Move a checkpoint to another session, and crash: it is in one of the two, and whole."""
    moved = {MAIN: (version(1),)}, {"other": (Version("a1", 2, "other"),)}

    async def move(sessions: Mapping[str, Transaction[CheckpointData]]) -> None:
        sessions[MAIN].delete("a1")
        sessions["other"].save(oracle.record_of("other", moved[1]["other"][0]))

    with new_disk(slot_bytes) as outer:
        files = RecordingFiles(outer)
        async with opened(outer, files, JOURNAL) as writer:
            await perform(writer, save(1))
            begun = len(files.operations)
            await writer.update_many([MAIN, "other"], move)
            done = len(files.operations)
            await writer.flush()
            operations = [*files.operations]
    for model in ("killed", "posix"):
        for state in crash_states(model, Tree(), operations, begun, SECOND):
            with scratch_directory() as outer, same_each_time(7):
                seen = await read_after_crash(state.tree, outer, JOURNAL)
            if seen not in (moved[1:] if state.point >= done else moved):
                return f"after operation {state.point} there is {seen}"
    return ""


async def owned_by_the_dead(options: Options) -> str:
    """Own a session, and crash: it is free then, and the next token is greater than any before."""
    given: list[tuple[int, int]] = []
    with new_disk() as outer:
        files = RecordingFiles(outer)
        async with opened(outer, files, options) as writer:
            await perform(writer, save(1))
            for flushes in (False, True):
                async with writer.own(MAIN, wait=False) as owner:
                    given.append((len(files.operations), owner.token))
                    if flushes:
                        await writer.flush()
            operations = [*files.operations]
    for model in ("killed", "posix"):
        for state in crash_states(model, Tree(), operations, given[0][0], NESTED):
            known = max(token for point, token in given if point <= state.point)
            with scratch_directory() as outer, same_each_time(7):
                materialise(state.tree, outer)
                files = RecordingFiles(outer, state.tree)
                async with (
                    opened(outer, files, JOURNAL) as writer,
                    writer.own(MAIN, wait=False) as owner,
                ):
                    if owner.token <= known:
                        return f"after operation {state.point} comes {owner.token}, after {known}"
    return ""


async def owned_by_another() -> str:
    """Own a session beside another process, and flush: who comes later owns it not."""
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL) as pair, pair.writers["a"].own(MAIN) as owner:
            for process in "aab":
                await owner.save(oracle.record_of(MAIN, version(1)))
                await perform(pair.writers["b"], save(2))
                await pair.writers[process].flush()
                third = RecordingFiles(outer, beside=pair.files["a"])
                async with opened(outer, third, JOURNAL) as late:
                    for writer in (pair.writers["b"], late):
                        with suppress(SessionOwnedError):
                            async with writer.own(MAIN, wait=False) as other:
                                return f"two own the session, by {owner.token} and {other.token}"
    return ""


# Operations that fail


async def unsynced_by_the_dead() -> str:
    """Let a process see its sync fail, and die; then another one commits on top of it."""
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL) as pair:
            dying = pair.files["a"]
            dying.at("before_sync_log", dying.refuse_sync_and_die)
            with suppress(KilledError):
                await pair.make("a", save(1))
            await pair.make("b", save(2))
            seen = await pair.look("b")
            operations = [*dying.operations]
    run = Aftermath(Tree(), operations, {MAIN: [seen[MAIN]]}, len(operations))
    return await violation(run)


async def refused_beside_haste() -> str:
    """Refuse a save whose sync failed: what another process has saved in haste stays."""
    with new_disk() as outer:
        async with pair_on(outer, JOURNAL, HASTY) as pair:
            await pair.make("b", save(1))
            begun = len(pair.files["a"].operations)
            await pair.make("a", oracle.RefusedSave(MAIN, version(2)))
            for process in "ab":
                await pair.look(process)
            operations = [*pair.files["a"].operations]
    amid: Allowed = {MAIN: [(version(1),), (version(2), version(1))]}
    run = Aftermath(Tree(), operations, {MAIN: [(version(1),)]}, len(operations))
    return await violation(run, "killed") or await violation(
        Aftermath(Tree(), operations, amid, begun), "killed"
    )


async def flushed_after_a_failure() -> str:
    """Let the sync of a flush fail, and flush again: nothing rests on what may be lost."""
    with new_disk() as outer:
        files = RecordingFiles(outer)
        async with opened(outer, files, JOURNAL) as writer:
            await perform(writer, save(1))
            files.at("before_flush", files.refuse_file_sync)
            with suppress(StorageError):
                await writer.flush()
            await writer.flush()
            operations = [*files.operations]
    run = Aftermath(Tree(), operations, {MAIN: [(version(1),)]}, len(operations))
    return await violation(run)


class StuckFiles(RecordingFiles):
    """
    Recording files of a disk on which no directory can be made.

    Attributes:
        is_stuck: whether it is so just now.
    """

    is_stuck = False

    def recorded(self, name: str, function: Any) -> Any:
        if name == "_make_directory" and self.is_stuck:
            return _refused
        return super().recorded(name, function)


async def stuck_beside_others() -> str:
    """Flush while the files of a session cannot be written: the journal keeps what it has."""
    others = [oracle.Save("other", Version(name, 100 + n, "other")) for n, name in enumerate("xy")]
    with new_disk() as outer:
        files = StuckFiles(outer)
        async with opened(outer, files, JOURNAL) as writer:
            await perform(writer, others[0])
            await perform(writer, oracle.Flush())
            files.is_stuck = True
            await perform(writer, save(1))
            await perform(writer, others[1])
            with suppress(StorageError):
                await writer.flush()
            operations = [*files.operations]
            files.is_stuck = False
    seen = tuple(call.version for call in reversed(others))
    allowed: Allowed = {MAIN: [(version(1),)], "other": [seen]}
    run = Aftermath(Tree(), operations, allowed, len(operations))
    return await violation(run, tolerated={*BEFORE_RECOVERY, "unwritten-session"})


class FullFiles(RecordingFiles):
    """
    Recording files of a disk with room for some files.

    Attributes:
        room: for how many checkpoints.
        there: names of those that took it.
    """

    room = 1000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.there: set[str] = set()

    def recorded(self, name: str, function: Any) -> Any:
        sound = super().recorded(name, function)
        if name != "replace":
            return sound

        def moved(source: str, target: str, **kwargs: Any) -> Any:
            if target.startswith("cp_"):
                if target not in self.there and len(self.there) == self.room:
                    raise OSError(errno.ENOSPC, "the disk is full")
                self.there.add(target)
            return sound(source, target, **kwargs)

        return moved


async def full_amid_a_session() -> str:
    """Flush on a disk that has room for some files of a session, twice: the others stay, too."""
    with new_disk(TINY_SLOT_BYTES) as outer:
        files = FullFiles(outer)
        async with opened(outer, files, JOURNAL) as writer:
            await perform(writer, save(1))
            begun = len(files.operations)
            for serial in (2, 3, 4):
                await perform(writer, save(serial))
            await perform(writer, delete(2))
            files.room = 2
            for _ in range(2):
                with suppress(StorageError):
                    await writer.flush()
            require(len(files.there) == files.room, "there was room for all files")
            operations = [*files.operations]
            files.room = 1000
    seen = tuple(map(version, (4, 3, 1)))
    end = Aftermath(Tree(), operations, {MAIN: [seen]}, len(operations))
    amid: Allowed = {MAIN: [seen, tuple(map(version, (4, 3, 2, 1))), *_first_of(3)]}
    stuck = {*BEFORE_RECOVERY, "unwritten-session"}
    return await violation(end, tolerated=stuck) or await violation(
        Aftermath(Tree(), operations, amid, begun), "killed", tolerated=stuck
    )


def _first_of(count: int) -> list[Seen]:
    """Return what is there after each of some saves."""
    return [tuple(map(version, range(last, 0, -1))) for last in range(1, count + 1)]


async def dropped_before_rust_saved() -> str:
    """Delete a session, and let another tool save in it: the journal does not delete it again."""
    later = oracle.Save("other", Version("x", 3, "other"))
    with new_disk() as outer:
        files = RecordingFiles(outer)
        async with opened(outer, files, JOURNAL) as writer:
            for call in (save(1), oracle.DeleteSession(MAIN), oracle.Apply()):
                await perform(writer, call)
            _save_by_hand(outer, files, version(2))
            await perform(writer, later)  # after which a cut may take what is flushed from memory
            operations = [*files.operations]
    allowed: Allowed = {MAIN: [(version(2),)], "other": [(later.version,)]}
    run = Aftermath(Tree(), operations, allowed, len(operations))
    return await violation(run, recovers_every=1)


def _save_by_hand(outer: Path, files: RecordingFiles, saved: Version) -> None:
    """Save as the Rust crate does, durably."""
    hand = RecordingFiles(outer, beside=files)
    directory = hand.open_path(str(outer / ROOT_NAME))
    for name in (MAIN, layout.CHECKPOINTS_DIRECTORY):
        hand.make_subdirectory(directory, name)
        hand.sync_directory(directory)
        inner = hand.open_subdirectory(directory, name)
        assert inner is not None
        directory = inner
    name = f"cp_20270101_000000_{saved.checkpoint_id}.json"
    descriptor = hand.create(directory, name)
    hand.write_at(descriptor, oracle.body_of(MAIN, saved), 0, name)
    hand.sync_file(descriptor, name)
    hand.sync_directory(directory)


# Damage of the journal


def _node_of(tree: Tree, name: str) -> int:
    ((_, node),) = ((path, node) for path, node in tree.walk() if path.endswith(f"/{name}"))
    return node


async def _killed_with_two_saves() -> Tree:
    run = await record(("save-existing", "save-existing"), JOURNAL)
    return run.tree_after(1)


async def without_a_header() -> str:
    """Damage the header of the journal while `control` tells what it said, and go on in haste."""
    start = await _killed_with_two_saves()
    start.contents[_node_of(start, "log.0")].write(0, _GARBAGE)
    with scratch_directory() as outer, same_each_time(5):
        materialise(start, outer)
        files = RecordingFiles(outer, start)
        async with opened(outer, files, HASTY) as writer:
            await perform(writer, save(3))
            operations = [*files.operations]
    seen = (version(3), version(2), version(1))
    run = Aftermath(start, operations, {MAIN: [seen, seen[1:]]}, len(operations))
    return await violation(run)


async def lost_in_the_journal() -> str:
    """Damage a save in the journal beyond recovery, recover, and go on: its part is kept."""
    async with _beside_a_lost_save() as (writer, files, start, damaged):
        for session_id in (MAIN, "other"):  # whichever there were may have lost a save
            await writer.recover(session_id)
        for call in (save(9), oracle.Flush()):
            await perform(writer, call)
        operations = [*files.operations]
    for state in crash_states("posix", start, operations, len(operations), SECOND):
        kept = [node for path, node in state.tree.walk() if "/journal-" in path]
        copies = [state.tree.contents[node] for node in kept if node in state.tree.contents]
        if not any(copy.holds(0, damaged) for copy in copies):
            return f"after operation {state.point}: the damaged part of the journal is nowhere"
    seen = tuple(map(version, (9, 4, 3, 2, 1)))
    allowed: Allowed = {MAIN: [seen], "other": [(Version("x", 8, "other"),)]}
    return await violation(Aftermath(start, operations, allowed, len(operations)))


async def lost_for_others() -> str:
    """Damage a save in the journal, and recover its session alone: others are told, ever after."""
    async with _beside_a_lost_save() as (writer, files, start, _):
        begun = len(files.operations)
        await writer.recover(MAIN)
        operations = [*files.operations]
    for state in crash_states("posix", start, operations, begun, SECOND):
        with scratch_directory() as outer, same_each_time(7, TINY_SLOT_BYTES):
            materialise(state.tree, outer)
            async with opened(outer, RecordingFiles(outer, state.tree), JOURNAL) as writer:
                with suppress(JournalCorruptError):
                    await writer.load("other")
                    return f"after operation {state.point}: nobody is told what may be lost"
    return ""


@asynccontextmanager
async def _beside_a_lost_save() -> AsyncIterator[tuple[Writer, RecordingFiles, Tree, bytes]]:
    """Open a root with a save that cannot be read, and save to another session."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _EQUAL_SLOTS:
            patch.setattr(name, value)
        start, damaged = await _with_a_lost_save()
        with scratch_directory() as outer, same_each_time(5, TINY_SLOT_BYTES):
            materialise(start, outer)
            files = RecordingFiles(outer, start)
            async with opened(outer, files, JOURNAL) as writer:
                await perform(writer, oracle.Save("other", Version("x", 8, "other")))
                yield writer, files, start, damaged


async def _with_a_lost_save() -> tuple[Tree, bytes]:
    """Return what saves leave of which the last, in a segment of its own, cannot be read."""
    kinds = (*["save-existing"] * 4, "flush", "save-existing")  # so that several slots are free
    run = await record(kinds, JOURNAL, slot_bytes=TINY_SLOT_BYTES)
    tree = run.tree_after(len(run.calls) - 1)
    mark = oracle.mark_of(version(6))
    (slot,) = (
        content
        for content in tree.contents.values()
        if any(mark in block for block in content.blocks.values())
    )
    slot.write(BLOCK_BYTES, _GARBAGE * 2)
    return tree, slot.read()[: 3 * BLOCK_BYTES]


# Damage of files


class Damage(NamedTuple):
    """
    A damaged file, and what `recover` makes of it.

    Attributes:
        serial: of the save whose file is damaged.
        backed_up: whether its backup is an intact file of its own.
        seen: what there is in the end.
        files: the file operations.
    """

    serial: int
    backed_up: bool
    seen: Seen
    files: type[RecordingFiles] = RecordingFiles


NEWEST = Damage(2, backed_up=False, seen=(version(1),))
BACKED_UP = Damage(1, backed_up=True, seen=(version(2), version(1)))


class LinklessFiles(RecordingFiles):
    """Recording files of a disk without hard links."""

    def recorded(self, name: str, function: Any) -> Any:
        return _refused if name == "link" else super().recorded(name, function)


def _refused(*args: object, **kwargs: object) -> None:
    raise PermissionError(errno.EPERM, "there are no links")


class AcrossFiles(RecordingFiles):
    """Recording files of sessions whose directories are on disks of their own."""

    def status(self, directory: Directory, name: str) -> FileStatus | None:
        found = super().status(directory, name)
        is_private = found is not None and layout.PRIVATE_DIRECTORY in directory.path
        return found._replace(device=found.device + 1) if found and is_private else found

    def recorded(self, name: str, function: Any) -> Any:
        sound = super().recorded(name, function)
        if name not in ("link", "replace"):
            return sound

        def moved(*args: Any, src_dir_fd: int, dst_dir_fd: int, **kwargs: Any) -> Any:
            if src_dir_fd != dst_dir_fd:
                raise OSError(errno.EXDEV, "on another disk")
            return sound(*args, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **kwargs)

        return moved


async def recovered(damage: Damage, model: Model = "posix") -> str:
    """
    Return how a crash during or after `recover` breaks a promise, `""` if none does.

    Without links only one after it is looked at: a rename across directories is all there is then.
    """
    run, damaged = await _recovered(damage)
    first_point = run.first_point if damage.files is LinklessFiles else 0
    for state in crash_states(model, run.start, run.operations, first_point, SECOND):
        try:
            with scratch_directory() as outer, same_each_time(6):
                is_done = state.point >= run.first_point
                await _look_after_recover(state.tree, outer, damage, damaged, is_done=is_done)
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
            return f"after operation {state.point}: {error!r}"
    return ""


async def _recovered(damage: Damage) -> tuple[Aftermath, Content]:
    base = await record(("save-existing", "save-existing"), JOURNAL)
    start = tree_after(base.start, base.operations)
    damaged = _damage(start, damage)
    with scratch_directory() as outer, same_each_time(5):
        materialise(start, outer)
        files = damage.files(outer, start)
        async with opened(outer, files, JOURNAL) as writer:
            await writer.recover(MAIN)
            operations = [*files.operations]
    allowed: Allowed = {MAIN: [damage.seen]}
    return Aftermath(start, operations, allowed, len(operations)), damaged


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
    files = damage.files(outer, tree)
    async with opened(outer, files, JOURNAL) as writer:
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


async def _blobs(name: str, durability: str) -> str:
    try:
        await test_blobs.examine_all(name, {"durability": durability}, ["posix"], 0, 8)
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the finding
        return repr(error)
    return ""


async def recovered_blobs() -> str:
    """Damage a blob, recover, and see that it does not come back."""
    saves = (test_blobs.Save("a", (test_blobs.ONE,)), test_blobs.Save("b", (test_blobs.TWO,)))
    start = tree_after(Tree(), await test_blobs.record(saves, JOURNAL))
    start.contents[_node_of(start, blob_digest(test_blobs.ONE))].truncate(100)
    with scratch_directory() as outer, same_each_time(5):
        materialise(start, outer)
        files = RecordingFiles(outer, start)
        async with test_blobs.opened(outer, files, JOURNAL) as writer:
            await writer.recover("s")
            operations = [*files.operations]
    for state in crash_states("posix", start, operations, len(operations), QUICK):
        with scratch_directory() as outer, same_each_time(6):
            materialise(state.tree, outer)
            files = RecordingFiles(outer, state.tree)
            async with test_blobs.opened(outer, files, JOURNAL) as writer:
                findings = [f for f in await writer.check() if f.kind not in test_blobs.HARMLESS]
        if findings:
            return str(findings)
    return ""


# All

_AGAIN = ("save-existing", "flush", "replace-newest", "delete", "flush", "save-existing")
SCENARIOS: dict[str, Scenario] = {
    "recover blobs": recovered_blobs,
    "recover without links": partial(recovered, NEWEST._replace(files=LinklessFiles)),
    "removed by hand": partial(removed_by_hand, nothing),
    "journal removed by hand": journal_removed_by_hand,
    "removed by hand when positions were lost": partial(removed_by_hand, without_positions),
    "lost in the journal": lost_in_the_journal,
    "lost for others": lost_for_others,
    "deleted in haste": deleted_in_haste,
    "flushed after a failure": flushed_after_a_failure,
    "unsynced by the dead": unsynced_by_the_dead,
    "refused beside haste": refused_beside_haste,
    "stuck beside others": stuck_beside_others,
    "full amid a session": full_amid_a_session,
    "dropped before Rust saved": dropped_before_rust_saved,
    "without a header": without_a_header,
    "seen of the dead": seen_of_the_dead,
    "updated beside others": updated_beside_others,
    "moved between sessions": moved_between_sessions,
    "moved between sessions, in a new segment": partial(moved_between_sessions, TINY_SLOT_BYTES),
    "update": partial(calls, ("update",), base=POPULATED[:2], caps=NESTED),
    "owned by another": owned_by_another,
    "owned by the dead": partial(owned_by_the_dead, JOURNAL),
    "owned by the dead, in haste": partial(owned_by_the_dead, HASTY),
    "in haste": partial(in_haste, SMALL_SLOT_BYTES),
    "in haste, in many segments": partial(in_haste, TINY_SLOT_BYTES),
    "recover": partial(recovered, NEWEST),
    "recover from a disk to another": partial(recovered, NEWEST._replace(files=AcrossFiles)),
    "recover from a backup": partial(recovered, BACKED_UP),
    "erase": partial(calls, ("save-existing", "delete-latest", "flush"), models=("ext4",)),
    "erase again": partial(
        calls,
        ("delete-latest", "flush", "delete-latest", "flush"),
        base=POPULATED,
        models=("ext4",),
    ),
    "killed in a save": partial(kills, "a:save-existing b:save-existing"),
    "killed in an update": partial(kills, "b:save-existing b:save-existing a:update b:update"),
    "killed in a new segment": partial(
        kills, "b:save-existing a:save-existing b:save-existing", slot_bytes=TINY_SLOT_BYTES
    ),
    "killed in a flush": partial(kills, "b:save-existing a:replace-newest a:flush b:flush"),
    "replaced in haste": replaced_in_haste,
    "flush by disk": partial(calls, ("save-existing", "flush"), patches=_BY_DISK),
    "flush one by one": partial(calls, ("save-existing", "flush"), patches=_ONE_BY_ONE),
    "flush": partial(calls, ("save-existing", "flush")),
    "save by file": partial(calls, ("save-new",), "file"),
    "save": partial(calls, ("save-new",)),
    "a slot made ahead": partial(
        calls, ("save-existing", "flush", "save-existing"), slot_bytes=TINY_SLOT_BYTES
    ),
    "a slot used again": partial(
        calls, _EACH_FLUSHED, slot_bytes=TINY_SLOT_BYTES, patches=_EQUAL_SLOTS
    ),
    "segments used again": partial(
        calls, _AGAIN, base=POPULATED[:2], slot_bytes=TINY_SLOT_BYTES, caps=LONG
    ),
    "a save that is refused": partial(calls, ("replace-refused", "save-existing"), base=POPULATED),
    "blobs": partial(_blobs, "first save", "journal"),
    "blobs by file": partial(_blobs, "first save", "file"),
}
"""Each returns how a promise is broken, `""` if none is; the quickest first."""

MANY_STATES = (
    "moved between sessions",
    "moved between sessions, in a new segment",
    "update",
    "owned by the dead",
    "recover from a disk to another",
    "recover from a backup",
    "replaced in haste",
    "flush by disk",
    "flush one by one",
    "flush",
    "save by file",
    "save",
    "a slot made ahead",
    "a slot used again",
    "recover",
    "lost for others",
    "erase",
    "erase again",
    "full amid a session",
    "in haste",
    "in haste, in many segments",
)
"""Those whose last crash leaves more than fifty, of which a slice is seen by default."""

MANY_KILLS = (
    "killed in a save",
    "killed in an update",
    "killed in a new segment",
    "killed in a flush",
)
"""Those in which a process may die after any change, of which some are seen by default."""

SLOW = (
    "owned by the dead, in haste",
    "segments used again",
    "a save that is refused",
    "blobs",
    "blobs by file",
)
"""Those that only the campaign runs."""
