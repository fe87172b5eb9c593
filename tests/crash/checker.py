"""Open the real library on what a crash left, and see whether it keeps its promises."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, Transaction
from aiocheckpoint._format import documents
from aiocheckpoint._format import names as layout
from aiocheckpoint.errors import CheckpointCorruptError, DurabilityUnknownError, StorageError
from tests.crash import oracle
from tests.crash.operations import OUTER, Directory, File, Symlink, Tree
from tests.crash.oracle import Seen, Version, body_of, mark_of, record_of
from tests.crash.recorder import RecordingFiles
from tests.on_disk import path_of

ROOT_NAME = "state"
ResultT = TypeVar("ResultT")
Allowed: TypeAlias = Mapping[str, Sequence[Seen]]
Views: TypeAlias = Mapping[str, Seen]
Options: TypeAlias = dict[str, Any]
Writer: TypeAlias = AsyncCheckpointWriter[CheckpointData]

_AT_THE_END = frozenset({"given-up-journal"})  # it stays until somebody has looked
_AFTER_RECOVERY = _AT_THE_END | {"leftover"}
BEFORE_RECOVERY = _AFTER_RECOVERY | {"dangling-pointer", "stale-pointer", "unflushed-journal"}
_FIRST_EXERCISE_SERIAL = 9000
_ROUND_SECONDS = 60.0
_MEMORY_DISK = Path("/dev/shm")


class BrokenPromiseError(AssertionError):
    """A promise that was not kept."""


def require(kept: object, *what: object) -> None:
    """Raise a violation unless a promise was kept."""
    if not kept:
        raise BrokenPromiseError(" ".join(map(str, what)))


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make a directory in memory where there is such a disk, and remove it afterwards."""
    place = _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="crash-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def materialise(tree: Tree, outer: Path) -> None:
    """Put a tree into an empty directory."""
    paths: dict[int, Path] = {OUTER: outer}
    for relative, node in tree.walk():
        path = outer / relative
        if node in paths:
            os.link(paths[node], path)
            continue
        paths[node] = path
        match tree.kinds[node]:
            case Directory():
                path.mkdir(0o700)
            case Symlink(target):
                path.symlink_to(target)
            case File():
                _write_file(path, tree, node)


def _write_file(path: Path, tree: Tree, node: int) -> None:
    content = tree.contents[node]
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.ftruncate(descriptor, content.size)
        for number, block in content.blocks.items():
            start = number * len(block)
            os.pwrite(descriptor, block[: content.size - start], start)
    finally:
        os.close(descriptor)


# What a plain reader sees


def require_plain_files_valid(tree: Tree, *, pointers: bool = True) -> None:
    """
    See that a reader that is not us meets only valid files, and no dangling `latest.json`.

    So it is at every moment of a machine that lives on.
    """
    for path, directory in tree.walk():
        if path.endswith(f"/{layout.CHECKPOINTS_DIRECTORY}") and directory in tree.entries:
            _require_valid_directory(tree, path, tree.entries[directory], pointers=pointers)


def _require_valid_directory(
    tree: Tree, path: str, entries: Mapping[str, int], *, pointers: bool
) -> None:
    for name, node in entries.items():
        if layout.parse_name(name) is not None:
            try:
                documents.verified(tree.contents[node].read(), f"{path}/{name}")
            except CheckpointCorruptError as error:
                raise BrokenPromiseError(f"a plain reader meets a damaged file: {error}") from error
    pointer = tree.kinds[entries[layout.LATEST_NAME]] if layout.LATEST_NAME in entries else None
    if pointers and isinstance(pointer, Symlink):
        require(pointer.target in entries, path, "latest.json dangles")


# What we see


async def see(writer: Writer, session_id: str, *, is_flushed: bool = False) -> Seen:
    """Return what there is of a session, each checkpoint loaded and compared byte by byte."""
    metas = await writer.list(session_id)
    seen: list[Version] = []
    for meta in metas:
        record = await writer.load(session_id, meta.checkpoint_id)
        require(record is not None, f"{meta.checkpoint_id} is listed and does not load")
        assert record is not None
        version = Version(record.checkpoint_id, record.iteration, _origin(record))
        require(record == record_of(session_id, version), f"{version} does not load as it was")
        if is_flushed:
            in_file = path_of(meta).read_bytes() == body_of(session_id, version)
            require(in_file, f"the file of {version} is not what was written")
        seen.append(version)
    newest = await writer.load(session_id)
    expected = record_of(session_id, seen[0]) if seen else None
    require(newest == expected, f"load gives {newest and newest.iteration}, the list {seen}")
    return tuple(seen)


def _origin(record: CheckpointData) -> str:
    text: str = record.messages[0]["content"]
    return text.split(" ", 1)[0]


async def see_all(
    writer: Writer, tolerated: Collection[str] = BEFORE_RECOVERY, *, is_flushed: bool = False
) -> dict[str, Seen]:
    """Return what there is of each session in which something is seen."""
    session_ids = sorted([session_id async for session_id in writer.sessions()])
    views = {key: await see(writer, key, is_flushed=is_flushed) for key in session_ids}
    findings = [f for f in await writer.check() if f.kind not in tolerated]
    require(not findings, findings)
    return {session_id: seen for session_id, seen in views.items() if seen}


def require_allowed(views: Views, allowed: Allowed) -> None:
    """See that each session shows what it may show."""
    for session_id in sorted({*views, *allowed}):
        seen = views.get(session_id, ())
        states = allowed.get(session_id, [()])
        require(
            seen in states,
            f"session {session_id} shows {_text(seen)}; allowed:",
            " or ".join(map(_text, states)),
        )


def _text(seen: Seen) -> str:
    return "(" + ", ".join(f"{v.checkpoint_id}#{v.serial}" for v in seen) + ")"


def require_erased(tree: Tree, versions: Collection[Version]) -> None:
    """See that no file holds any part of some versions."""
    marks = {version: mark_of(version) for version in versions}
    for path, node in tree.walk():
        if marks and node in tree.contents:
            blocks = tree.contents[node].blocks.values()
            for version, mark in marks.items():
                is_there = any(mark in block for block in blocks)
                require(not is_there, f"{path} holds {version}, which was deleted")


class Opened(NamedTuple):
    """
    What the library made of a crash state.

    Attributes:
        views: what it shows.
        files: what it did to the disk meanwhile.
    """

    views: dict[str, Seen]
    files: RecordingFiles


async def read_after_crash(
    tree: Tree, outer: Path, options: Options, tolerated: Collection[str] = BEFORE_RECOVERY
) -> dict[str, Seen]:
    """
    Open the library on a copy of a crash state and read everything.

    Args:
        tree: the state.
        outer: an empty directory for the copy.
        options: of the writer.
        tolerated: kinds of findings that there may be.

    Raises:
        BrokenPromiseError: something is seen that was never saved, or that contradicts itself.
    """
    materialise(tree, outer)
    files = RecordingFiles(outer, tree)
    async with opened(outer, files, options) as writer:
        views = await see_all(writer, tolerated)
    require(not files.operations, "reading changes what is there:", files.operations)
    return views


async def recover_after_crash(
    tree: Tree, outer: Path, views: Views, options: Options
) -> RecordingFiles:
    """
    Open what was read once more, and let everything that was acknowledged become files.

    Returns:
        what was done to the disk; the first of the calls that are marked there is the flush.

    Raises:
        BrokenPromiseError: something else is seen than before, or the files are not as they
            should be.
    """
    files = RecordingFiles(outer, tree)
    async with opened(outer, files, options) as writer:
        files.began(0)
        await writer.flush()
        files.acknowledged(0)
        found = await see_all(writer, _AFTER_RECOVERY, is_flushed=True)
        require(found == views, "recovery shows", found, "in place of", views)
        require_plain_files_valid(files.tree)
    return files


async def go_on(tree: Tree, outer: Path, views: Views, options: Options) -> None:
    """
    Open a recovered root again, where nothing may have changed, call `recover`, and go on.

    Raises:
        BrokenPromiseError: something else is seen than before, or does not work.
    """
    files = RecordingFiles(outer, tree)
    async with opened(outer, files, options) as writer:
        require(await see_all(writer, _AFTER_RECOVERY) == views, "reopening changes what is seen")
        for session_id in views:
            await writer.recover(session_id)
        require(await see_all(writer, _AFTER_RECOVERY) == views, "recover changes what is seen")
        known = {*views, *_session_names(outer / ROOT_NAME), "fresh"}
        store = {session_id: views.get(session_id, ()) for session_id in known}
        await _exercise(writer, store, options.get("max_checkpoints"))


def _session_names(root: Path) -> set[str]:
    return {path.name for path in root.glob("*")} - {layout.PRIVATE_DIRECTORY}


async def _exercise(writer: Writer, store: dict[str, Seen], limit: int | None) -> None:
    """Go on working: what is left of the crash must not come in the way."""
    for serial, session_id in enumerate(sorted(store), _FIRST_EXERCISE_SERIAL):
        call = oracle.OwnedSave(session_id, Version("exercise", serial, session_id))
        await perform(writer, call)
        store = oracle.after(store, call, limit)
    await writer.flush()
    await see_all(writer, _AT_THE_END, is_flushed=True)  # no litter is left
    for session_id in sorted(store):
        while kept := store[session_id]:
            delete = oracle.Delete(session_id, kept[0].checkpoint_id)
            require(await perform(writer, delete), f"{kept[0]} is not there to be deleted")
            store = oracle.after(store, delete, limit)
            gone = await writer.load(session_id, kept[0].checkpoint_id)
            require(gone is None, f"{kept[0]} comes back as {gone and gone.iteration}")
        require(await see(writer, session_id) == (), f"{session_id} is not empty at the end")


@asynccontextmanager
async def opened(outer: Path, files: RecordingFiles, options: Options) -> AsyncIterator[Writer]:
    """Open a writer whose reads take no hops, which would take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiocheckpoint._engine.local_store.hop", _at_once)
        async with AsyncCheckpointWriter(outer / ROOT_NAME, files=files, **options) as writer:
            yield writer


async def _at_once(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    return work()


async def perform(writer: Writer, call: oracle.Call) -> object:
    """Make a call of the API and return its answer."""
    match call:
        case oracle.Save(session_id, version):
            return await writer.save(record_of(session_id, version))
        case oracle.OwnedSave(session_id, version):
            async with writer.own(session_id, wait=False) as owner:
                return await owner.save(record_of(session_id, version))
        case oracle.Update(session_id):
            return await writer.update(session_id, partial(_change, call))
        case oracle.RefusedSave(session_id, version):
            await _refused(writer, record_of(session_id, version))
            return None
        case oracle.Delete(session_id, checkpoint_id):
            return await writer.delete(session_id, checkpoint_id)
        case oracle.DeleteMany(session_id, checkpoint_ids):
            return await writer.delete_many(session_id, checkpoint_ids)
        case oracle.DeleteSession(session_id):
            return await writer.delete_session(session_id)
        case oracle.CopySession(session_id, source_id):
            return await writer.copy_session(source_id, session_id)
        case oracle.Recover(session_id):
            return await writer.recover(session_id)
        case oracle.Flush():
            await writer.flush()
            return None
        case oracle.Apply():
            if writer._store.is_started:
                demand = writer._store._applier.demand
                await asyncio.to_thread(demand.wait_for_flush, _ROUND_SECONDS)
            return None


async def _change(call: oracle.Update, session: Transaction[CheckpointData]) -> None:
    session.delete(*call.deleted_ids)
    for version in call.versions:
        session.save(record_of(call.session_id, version))


async def _refused(writer: Writer, record: CheckpointData) -> None:
    files = writer._store.files
    assert isinstance(files, RecordingFiles)
    files.at("before_sync_log", files.refuse_sync)
    with pytest.raises(StorageError) as caught:
        await writer.save(record)
    require(
        not isinstance(caught.value, DurabilityUnknownError),
        "nobody knows whether a save was refused:",
        caught.value,
    )
