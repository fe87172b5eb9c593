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
from aiocheckpoint._format import codec
from aiocheckpoint._format.codec import RecordCodec

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
    return codec.seal(_CODEC.draft(record_of(session_id, version))).body


class Save(NamedTuple):
    """A save of a new id or of one that is there."""

    session_id: str
    version: Version


class RefusedSave(NamedTuple):
    """A save whose files the disk refuses once it is in the journal."""

    session_id: str
    version: Version


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


Call: TypeAlias = (
    Save | RefusedSave | Delete | DeleteMany | DeleteSession | CopySession | Recover | Flush
)
Seen: TypeAlias = tuple[Version, ...]


class SessionState(NamedTuple):
    """
    What a session holds.

    Attributes:
        kept: the checkpoints, saved last first.
        pruned: older ones over the limit; a crash may bring them back behind the others.
        doubtful: what a crash may show instead until the next commit, after a save that failed.
        copied: of which a crash may have left any on top of the others, amid a copy.
        max_checkpoints: how many that copy keeps; None for all.
    """

    kept: Seen = ()
    pruned: Seen = ()
    doubtful: Seen | None = None
    copied: Seen = ()
    max_checkpoints: int | None = None

    def permits(self, seen: Seen) -> bool:
        """Tell whether this is what a reader may see."""
        if self.copied:
            before = self._replace(copied=())
            return before.permits(seen) or any(
                _with_all(before, seen[:count], self.max_checkpoints).permits(seen)
                for count in range(1, len(seen) + 1)
                if _is_part(seen[:count], self.copied)
            )
        if seen == self.doubtful:
            return True
        if seen and not self.kept:
            return False
        extra = seen[len(self.kept) :]
        return seen == self.kept + extra and _is_part(extra, self.pruned)


def _is_part(seen: Seen, whole: Seen) -> bool:
    """Tell whether all that is seen is in the whole, in its order."""
    rest = iter(whole)
    return all(version in rest for version in seen)


Store: TypeAlias = Mapping[str, SessionState]


def outcomes(store: Store, call: Call, max_checkpoints: int | None = None) -> list[SessionState]:
    """
    Return what the call's session may hold once the call has begun to have an effect.

    The last is what it holds when the call has returned.
    """
    state = store.get(call.session_id, SessionState())
    match call:
        case Save(_, version):
            return [_saved(state, version, max_checkpoints)]
        case RefusedSave(_, version):
            return [state._replace(doubtful=_saved(state, version, max_checkpoints).kept)]
        case Delete(_, checkpoint_id):
            return outcomes(store, DeleteMany(call.session_id, (checkpoint_id,)))
        case DeleteMany(_, checkpoint_ids):
            kept = tuple(v for v in state.kept if v.checkpoint_id not in checkpoint_ids)
            if kept == state.kept:
                return [state]
            return [SessionState(kept, state.pruned if kept else ())]
        case DeleteSession():
            newest_only = SessionState(state.kept[:1], state.kept[1:] + state.pruned)
            return [newest_only, SessionState()]
        case CopySession(_, source_id):
            source = store.get(source_id, SessionState()).kept
            states = [state._replace(copied=source, max_checkpoints=max_checkpoints), state]
            for version in reversed(source):
                states.append(_saved(states[-1], version, max_checkpoints))
            return states
        case Recover() | Flush():
            return [state]


def _with_all(state: SessionState, versions: Seen, max_checkpoints: int | None) -> SessionState:
    for version in reversed(versions):
        state = _saved(state, version, max_checkpoints)
    return state


def _saved(state: SessionState, version: Version, max_checkpoints: int | None) -> SessionState:
    others = tuple(v for v in state.kept if v.checkpoint_id != version.checkpoint_id)
    kept = (version, *others)
    cut = len(kept) if max_checkpoints is None else max_checkpoints
    pruned = tuple(v for v in state.pruned if v.checkpoint_id != version.checkpoint_id)
    return SessionState(kept[:cut], kept[cut:] + pruned)


def after(store: Store, call: Call, max_checkpoints: int | None = None) -> dict[str, SessionState]:
    """Return what the store holds when a call has returned."""
    changed = outcomes(store, call, max_checkpoints)[-1]
    if isinstance(call, Flush):  # nothing is left of what failed before
        store = {session_id: state._replace(doubtful=None) for session_id, state in store.items()}
        changed = changed._replace(doubtful=None)
    return {**store, call.session_id: changed}


def allowed(
    store: Store, pending: Iterable[Call], max_checkpoints: int | None = None
) -> dict[str, list[SessionState]]:
    """
    Return what each session may hold while calls have begun and have not returned.

    Those of one session take effect in their order.
    """
    found = {session_id: [state] for session_id, state in store.items()}
    now = dict(store)
    for call in pending:
        states = outcomes(now, call, max_checkpoints)
        found.setdefault(call.session_id, [SessionState()]).extend(states)
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
    kept = store.get(MAIN, SessionState()).kept
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
        case "recover":
            return Recover(MAIN)
        case _:
            raise ValueError(kind)


BURST = "burst"


def _burst(store: Store, serial: int) -> Iterator[Call]:
    """Yield saves that wait together: new ids and known ones, in three sessions."""
    kept = store.get(MAIN, SessionState()).kept
    ids = [f"a{serial}", f"b{serial}", *(version.checkpoint_id for version in kept[-1:])]
    serials = itertools.count(serial * 100)
    yield Save("first", Version("x", next(serials), "first"))
    for checkpoint_id in ids:
        yield Save(MAIN, Version(checkpoint_id, next(serials)))
    yield Save("other", Version("x", next(serials), "other"))


def steps(
    kinds: Iterable[str], store: Store, first_serial: int, max_checkpoints: int | None = None
) -> Iterator[tuple[Call, ...]]:
    """Yield the calls that names stand for, those together that are made at once."""
    for serial, kind in enumerate(kinds, first_serial):
        calls = tuple(_burst(store, serial)) if kind == BURST else (resolve(kind, store, serial),)
        yield calls
        for call in calls:
            store = after(store, call, max_checkpoints)


def sequence(
    kinds: Iterable[str], store: Store, first_serial: int, max_checkpoints: int | None = None
) -> Iterator[Call]:
    """Yield the calls that names stand for, one after the other."""
    return itertools.chain.from_iterable(steps(kinds, store, first_serial, max_checkpoints))
