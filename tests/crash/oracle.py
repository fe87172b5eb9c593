"""What the library promises: the sequence of calls, and what may be seen after each; pure.

A session is seen as its checkpoints, saved last first. While a call has begun and has not
returned, more than one thing may be seen; `allowed` lists them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple, TypeAlias

from aiocheckpoint import CheckpointData
from aiocheckpoint._format.codec import RecordCodec
from tests.formats import seal

MAIN = "a"
"""The session most calls are about."""

_CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_CODEC = RecordCodec(CheckpointData)


class Version(NamedTuple):
    """
    One content of a checkpoint.

    Attributes:
        checkpoint_id: its id.
        serial: different for every save.
        origin: the session it was saved in, before it was copied.
    """

    checkpoint_id: str
    serial: int
    origin: str = MAIN


@cache
def record_of(session_id: str, version: Version, size_bytes: int = 6000) -> CheckpointData:
    """Return the checkpoint that is saved as a version: two blobs long, unlike any other."""
    text = f"{version.origin} {version.checkpoint_id} {version.serial} "
    return CheckpointData(
        session_id=session_id,
        checkpoint_id=version.checkpoint_id,
        created_at=_CREATED_AT,
        iteration=version.serial,
        messages=[{"role": "user", "content": text * (size_bytes // len(text))}],
        resume_hint=str(version.serial),
    )


@cache
def body_of(session_id: str, version: Version) -> bytes:
    """Return the file of a version, byte for byte."""
    return seal(_CODEC.draft(record_of(session_id, version)))


def mark_of(version: Version) -> bytes:
    """Return bytes that stand in every copy of a version, and nowhere else."""
    return f"{version.origin} {version.checkpoint_id} {version.serial} ".encode()


class Save(NamedTuple):
    """A save of a new id or of one that is there."""

    session_id: str
    version: Version


class RefusedSave(NamedTuple):
    """A save whose sync of the journal fails."""

    session_id: str
    version: Version


class OwnedSave(NamedTuple):
    """A save by an owner of the session, from its entry to its end."""

    session_id: str
    version: Version


class Update(NamedTuple):
    """An update that deletes some checkpoints and saves others, as one step."""

    session_id: str
    deleted_ids: tuple[str, ...]
    versions: tuple[Version, ...]


class Delete(NamedTuple):
    """A delete of one id."""

    session_id: str
    checkpoint_id: str


class DeleteMany(NamedTuple):
    """A delete of several ids."""

    session_id: str
    checkpoint_ids: tuple[str, ...]


class DeleteSession(NamedTuple):
    """A delete of a whole session."""

    session_id: str


class CopySession(NamedTuple):
    """A copy of a session into another."""

    session_id: str
    source_id: str


class Recover(NamedTuple):
    """A `recover` of a session in which nothing is damaged."""

    session_id: str


class Flush(NamedTuple):
    """A `flush`: what is durable in the journal becomes durable in its own files."""

    session_id: str = ""


class Apply(NamedTuple):
    """What a process does by itself moments after a commit: the same, and nobody waits for it."""

    session_id: str = ""


Call: TypeAlias = (
    Save
    | RefusedSave
    | OwnedSave
    | Update
    | Delete
    | DeleteMany
    | DeleteSession
    | CopySession
    | Recover
    | Flush
    | Apply
)
Seen: TypeAlias = tuple[Version, ...]
Store: TypeAlias = Mapping[str, Seen]
REMOVALS = (Delete, DeleteMany, DeleteSession, Update)


def saved_by(call: Call) -> tuple[Version, ...]:
    """Return what a call saves."""
    match call:
        case Save(_, version) | RefusedSave(_, version) | OwnedSave(_, version):
            return (version,)
        case Update(_, _, versions):
            return versions
        case _:
            return ()


def outcomes(store: Store, call: Call, max_checkpoints: int | None = None) -> list[Seen]:
    """
    Return what the call's session may hold once the call has begun to have an effect.

    The last is what it holds when the call has returned.
    """
    kept = store.get(call.session_id, ())
    match call:
        case Save(_, version) | OwnedSave(_, version):
            return [_saved(kept, version, max_checkpoints)]
        case Update(_, deleted_ids, versions):
            found = tuple(v for v in kept if v.checkpoint_id not in deleted_ids)
            for version in versions:
                found = _saved(found, version, None)
            return [found[:max_checkpoints]]
        case RefusedSave(_, version):  # until it is refused it may come to be there
            return [_saved(kept, version, max_checkpoints), kept]
        case Delete(_, checkpoint_id):
            return [tuple(v for v in kept if v.checkpoint_id != checkpoint_id)]
        case DeleteMany(_, checkpoint_ids):
            return [tuple(v for v in kept if v.checkpoint_id not in checkpoint_ids)]
        case DeleteSession():
            return [()]
        case CopySession(_, source_id):
            states = [kept]
            for version in reversed(store.get(source_id, ())):
                states.append(_saved(states[-1], version, max_checkpoints))
            return states
        case Recover() | Flush() | Apply():
            return [kept]


def _saved(kept: Seen, version: Version, max_checkpoints: int | None) -> Seen:
    others = tuple(v for v in kept if v.checkpoint_id != version.checkpoint_id)
    return (version, *others)[:max_checkpoints]


def after(store: Store, call: Call, max_checkpoints: int | None = None) -> dict[str, Seen]:
    """Return what the store holds when a call has returned."""
    return {**store, call.session_id: outcomes(store, call, max_checkpoints)[-1]}


def allowed(
    store: Store, pending: Iterable[Call], max_checkpoints: int | None = None
) -> dict[str, list[Seen]]:
    """
    Return what each session may hold while calls have begun and have not returned.

    Those of one session take effect in their order.
    """
    found = {session_id: [kept] for session_id, kept in store.items()}
    now = dict(store)
    for call in pending:
        states = outcomes(now, call, max_checkpoints)
        found.setdefault(call.session_id, [()]).extend(states)
        now[call.session_id] = states[-1]
    return found


# Sequences of calls

CALLS = (
    "save-new",
    "save-existing",
    "replace",
    "replace-newest",
    "delete",
    "delete-latest",
    "delete-session",
    "flush",
    "recover",
)


def resolve(kind: str, store: Store, serial: int) -> Call:
    """Return the call that a name stands for, given what the store holds."""
    kept = store.get(MAIN, ())
    match kind:
        case "save-new":
            return Save(f"n{serial}", Version("n", serial, f"n{serial}"))
        case "replace" if kept:
            return Save(MAIN, Version(kept[-1].checkpoint_id, serial))
        case "replace-newest" if kept:
            return Save(MAIN, Version(kept[0].checkpoint_id, serial))
        case "save-existing" | "replace" | "replace-newest":
            return Save(MAIN, Version(f"a{serial}", serial))
        case "replace-refused" if kept:
            return RefusedSave(MAIN, Version(kept[0].checkpoint_id, serial))
        case "save-refused" | "replace-refused":
            return RefusedSave(MAIN, Version(f"a{serial}", serial))
        case "save-owned":
            return OwnedSave(MAIN, Version(f"a{serial}", serial))
        case "update":  # one gone, one replaced, one new
            serials = itertools.count(serial * 100)
            ids = [*(version.checkpoint_id for version in kept[:1]), f"a{serial}"]
            return Update(
                MAIN,
                tuple(version.checkpoint_id for version in kept[-1:]),
                tuple(Version(checkpoint_id, next(serials)) for checkpoint_id in ids),
            )
        case "delete":
            return Delete(MAIN, kept[-1].checkpoint_id if kept else "absent")
        case "delete-latest":
            return Delete(MAIN, kept[0].checkpoint_id if kept else "absent")
        case "delete-session":
            return DeleteSession(MAIN)
        case "copy-session":
            return CopySession("copy", MAIN)
        case "flush":
            return Flush()
        case "apply":
            return Apply()
        case "recover":
            return Recover(MAIN)
        case _:
            raise ValueError(kind)


class Step(NamedTuple):
    """
    Calls that are made at once.

    Attributes:
        calls: the first is held up while the others are made.
        moment: where it is held up: a failpoint.
        others_return: whether they return meanwhile.
    """

    calls: tuple[Call, ...]
    moment: str = ""
    others_return: bool = False


TOGETHER = {
    "burst": "before_sync_log",
    "flush-amid-files": "after_rename",
    "flush-amid-removals": "before_unlink",
    "flush-before-its-sync": "before_flush",
    "flush-after-its-sync": "after_flush",
}
"""Calls that share a commit, and calls beside a flush: with the moment at which the first waits."""


def _step(kind: str, store: Store, serial: int) -> Step:
    if kind not in TOGETHER:
        return Step((resolve(kind, store, serial),))
    moment = TOGETHER[kind]
    if kind == "burst":
        return Step(tuple(_burst(store, serial)), moment)
    return Step((Flush(), *_beside_flush(store, serial)), moment, others_return=True)


def _burst(store: Store, serial: int) -> Iterator[Call]:
    """Yield saves that wait together: new ids and known ones, in three sessions."""
    kept = store.get(MAIN, ())
    ids = [f"a{serial}", f"b{serial}", *(version.checkpoint_id for version in kept[-1:])]
    serials = itertools.count(serial * 100)
    yield Save("first", Version("x", next(serials), "first"))
    for checkpoint_id in ids:
        yield Save(MAIN, Version(checkpoint_id, next(serials)))
    yield Save("other", Version("x", next(serials), "other"))


def _beside_flush(store: Store, serial: int) -> Iterator[Call]:
    """Yield changes of what is being written to files: one more, one replaced, one deleted."""
    for number, kind in enumerate(("save-existing", "replace", "delete-latest")):
        call = resolve(kind, store, serial * 100 + number)
        store = after(store, call)
        yield call


def steps(
    kinds: Iterable[str], store: Store, first_serial: int, max_checkpoints: int | None = None
) -> Iterator[Step]:
    """Yield the calls that names stand for, those together that are made at once."""
    for serial, kind in enumerate(kinds, first_serial):
        step = _step(kind, store, serial)
        yield step
        for call in step.calls:
            store = after(store, call, max_checkpoints)


def sequence(
    kinds: Iterable[str], store: Store, first_serial: int, max_checkpoints: int | None = None
) -> Iterator[Call]:
    """Yield the calls that names stand for, one after the other."""
    for step in steps(kinds, store, first_serial, max_checkpoints):
        yield from step.calls
