"""No crash, at any moment, leaves an acknowledged record without a blob that it refers to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointError, blob_digest
from aiocheckpoint._disk.blobs import Blobs
from aiocheckpoint._engine.changes import DeleteGroup
from aiocheckpoint._engine.journal import Entry, Journal, JournaledBlob
from aiocheckpoint.testing import LargeValue
from tests.crash.checker import (
    ROOT_NAME,
    BrokenPromiseError,
    materialise,
    require,
    scratch_directory,
)
from tests.crash.enumeration import same_each_time
from tests.crash.model import MODELS, QUICK, CrashState, Model, crash_states
from tests.crash.operations import Acknowledged, Began, Operation, Tree
from tests.crash.recorder import RecordingFiles

pytestmark = pytest.mark.blocking

Writer = AsyncCheckpointWriter[LargeValue]
State = dict[tuple[str, str], tuple[bytes, ...]]
HARMLESS = {"leftover", "dangling-pointer", "stale-pointer", "unused-blob"}


class Save(NamedTuple):
    """A save of an id with blobs; all are given."""

    checkpoint_id: str
    blobs: tuple[bytes, ...]
    session_id: str = "s"


class Delete(NamedTuple):
    """A delete of some ids."""

    checkpoint_ids: tuple[str, ...]


class DeleteSession(NamedTuple):
    """A delete of the session."""


class Copy(NamedTuple):
    """A copy of the session to another."""

    target_id: str


class Flush(NamedTuple):
    """A flush."""


Call = Save | Delete | DeleteSession | Copy | Flush
ONE, TWO, THREE = (text * 2500 for text in (b"1", b"2", b"3"))
BASE: tuple[Call, ...] = (Save("a", (ONE, TWO)), Save("b", (TWO, THREE)))
SEQUENCES: dict[str, tuple[Call, ...]] = {
    "first save": (Save("x", (ONE, b"")),),
    "save sharing a blob": (*BASE, Save("c", (TWO, b"new"))),
    "replace": (*BASE, Save("a", (THREE, b"new"))),
    "delete": (*BASE, Delete(("a",))),
    "delete many": (*BASE, Delete(("a", "b"))),
    "a blob again after its delete": (*BASE, Delete(("a",)), Save("c", (ONE,))),
    "flushed and deleted": (*BASE, Flush(), Delete(("b",)), Save("c", (THREE,))),
    "delete session": (*BASE, DeleteSession(), Save("c", (ONE,))),
    "copy": (*BASE, Copy("t")),
}


async def perform(writer: Writer, call: Call) -> None:
    match call:
        case Save(checkpoint_id, blobs, session_id):
            given = {blob_digest(blob): blob for blob in blobs}
            record = LargeValue(
                session_id=session_id, checkpoint_id=checkpoint_id, blob_digests=tuple(given)
            )
            await writer.save(record, blobs=given)
        case Delete(checkpoint_ids):
            await writer.delete_many("s", checkpoint_ids)
        case DeleteSession():
            await writer.delete_session("s")
        case Copy(target_id):
            await writer.copy_session("s", target_id)
        case Flush():
            await writer.flush()


def _after(state: State, call: Call) -> State:
    match call:
        case Save(checkpoint_id, blobs, session_id):
            return state | {(session_id, checkpoint_id): blobs}
        case Delete(checkpoint_ids):
            return {key: blobs for key, blobs in state.items() if key[1] not in checkpoint_ids}
        case DeleteSession():
            return {key: blobs for key, blobs in state.items() if key[0] != "s"}
        case Copy(target_id):
            return state | {(target_id, key[1]): blobs for key, blobs in state.items()}
        case Flush():
            return state


async def record(calls: Sequence[Call], options: dict[str, Any]) -> list[Operation]:
    with scratch_directory() as outer, same_each_time():
        files = RecordingFiles(outer)
        async with AsyncCheckpointWriter(
            outer / ROOT_NAME, files=files, record_type=LargeValue, **options
        ) as writer:
            writer._store._clock = itertools.count(1_767_323_045_000_000).__next__
            for number, call in enumerate(calls):
                files.began(number)
                await perform(writer, call)
                files.acknowledged(number)
        return files.operations


async def see(writer: Writer) -> State:
    """Return what there is, each block loaded and verified."""
    state: State = {}
    async for session_id in writer.sessions():
        for record in await writer.load_many(session_id, await writer.ids(session_id)):
            blobs = await writer.load_blobs(session_id, record.blob_digests)
            state[session_id, record.checkpoint_id] = tuple(blobs.values())
    findings = [finding for finding in await writer.check() if finding.kind not in HARMLESS]
    require(findings == [], findings)
    return state


async def _examine(
    model: Model, state: CrashState, allowed: list[State], options: dict[str, Any]
) -> None:
    with scratch_directory() as outer:
        materialise(state.tree, outer)
        boot = "boot-0" if model == "killed" else "boot-1"
        files = RecordingFiles(outer, state.tree, boot)
        async with AsyncCheckpointWriter(
            outer / ROOT_NAME, files=files, record_type=LargeValue, **options
        ) as writer:
            seen = await see(writer)
            require(_is_allowed(seen, allowed), f"{_text(seen)}; allowed: {allowed and ''}",
                    *map(_text, allowed))  # fmt: skip
            await perform(writer, Save("after", (ONE, TWO, THREE)))
            await perform(writer, Delete(("after",)))
            require(await see(writer) == seen, "going on changes what is seen")
            await perform(writer, Delete(tuple(key for _, key in seen)))
            unused = [finding for finding in await writer.check() if finding.session_id == "s"]
            require(unused == [], "a delete leaves litter:", unused)


def _is_allowed(seen: State, allowed: list[State]) -> bool:
    if seen in allowed:
        return True
    # A copy may have got only some of them across.
    before, after = allowed[0], allowed[-1]
    return before.items() <= seen.items() <= after.items() and any(s == "t" for s, _ in seen)


def _text(state: State) -> str:
    return " ".join(f"{s}/{key}:{[b[:3] for b in blobs]}" for (s, key), blobs in state.items())


async def examine_all(
    name: str, options: dict[str, Any], models: Sequence[Model], first_call: int
) -> int:
    calls = SEQUENCES[name]
    operations = await record(calls, options)
    first_point = operations.index(Began(max(first_call, 0)))
    examined = 0
    for model in models:
        for crash in crash_states(model, Tree(), operations, first_point, QUICK):
            done = [op.call for op in operations[: crash.point] if isinstance(op, Acknowledged)]
            begun = [op.call for op in operations[: crash.point] if isinstance(op, Began)]
            state: State = {}
            for number in done:
                state = _after(state, calls[number])
            pending = [calls[number] for number in begun if number not in done]
            allowed = [state, *(_after(state, call) for call in pending)]
            try:
                await _examine(model, crash, allowed, options)
            except BaseException as error:
                error.add_note(f"{model} crash after operation {crash.point}")
                raise
            examined += 1
    return examined


@pytest.mark.parametrize("name", SEQUENCES)
async def test_killed_at_every_system_call(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    """Wherever the last call is killed, each record that loads has its blobs; none is lost."""
    calls = SEQUENCES[name]
    options = {"durability": "journal" if len(calls) % 2 else "file"}

    examined = await examine_all(name, options, ["killed"], len(calls) - 1)
    assert examined > 5
    record_property("examined", examined)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_every_crash_state_keeps_records_and_blobs_together(
    name: str, durability: str, record_property: Callable[[str, object], None]
) -> None:
    """The same of power cuts, and of the last two calls."""
    options = {"durability": durability}

    examined = await examine_all(name, options, MODELS, len(SEQUENCES[name]) - 2)
    assert examined > 10
    record_property("examined", examined)


def _blobs_are_not_journaled(patch: pytest.MonkeyPatch) -> None:
    begin = Journal.committed

    def committed(self: Journal, entries: Sequence[Entry]) -> Any:
        return begin(self, [entry for entry in entries if not isinstance(entry, JournaledBlob)])

    patch.setattr(Journal, "committed", committed)


def _blobs_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    store = Blobs.store

    def unsynced(self: Blobs, session: Any, blobs: Any, *, synced: bool) -> None:
        store(self, session, blobs, synced=synced and False)

    patch.setattr(Blobs, "store", unsynced)


def _blobs_go_before_their_records(patch: pytest.MonkeyPatch) -> None:
    delete = DeleteGroup.__init__

    def early(self: Any, store: Any, session: Any, *args: Any) -> None:
        delete(self, store, session, *args)
        if session is not None and self._doomed:
            store.blobs.remove_all(session)

    patch.setattr(DeleteGroup, "__init__", early)


@pytest.mark.parametrize(
    ("mutate", "name", "durability", "model"),
    [
        (_blobs_are_not_journaled, "first save", "journal", "posix"),
        (_blobs_are_not_synced, "first save", "file", "posix"),
        (_blobs_go_before_their_records, "delete", "journal", "killed"),
    ],
)
async def test_a_broken_rule_is_noticed(
    mutate: Callable[[pytest.MonkeyPatch], None],
    name: str,
    durability: str,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A version that breaks a rule of durability of blobs loses one in some crash state."""
    mutate(monkeypatch)
    first_call = len(SEQUENCES[name]) - 1

    with pytest.raises((CheckpointError, BrokenPromiseError)):
        await examine_all(name, {"durability": durability}, [model], first_call)
