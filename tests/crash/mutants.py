"""Versions of the library that break a rule of its journal, each by a named operation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest

from aiocheckpoint._disk.append import Appender
from aiocheckpoint._disk.files import Directory
from aiocheckpoint._disk.log import Log
from aiocheckpoint._disk.owners import Presence
from aiocheckpoint._disk.segments import ChainReader
from aiocheckpoint._disk.slots import Slots
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine import applier, apply
from aiocheckpoint._engine.applier import Applier
from aiocheckpoint._engine.apply import Files
from aiocheckpoint._engine.changes import Batch, Own
from aiocheckpoint._engine.last_words import last_words
from aiocheckpoint._engine.read import Reader
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._engine.sync import Touched
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import Removed, body_bytes
from aiocheckpoint._format.log import Frame, Header
from aiocheckpoint.errors import StorageError
from tests.crash.enumeration import POPULATED
from tests.crash.scenarios import SCENARIOS, TINY_SLOT_BYTES, Scenario, calls

Break = Callable[[pytest.MonkeyPatch], None]


class Mutant(NamedTuple):
    """
    A broken version, and a run during which a crash shows it.

    Attributes:
        name: what is wrong.
        break_it: puts the broken operation in the place of the right one.
        scenario: tells how a promise is broken then.
    """

    name: str
    break_it: Break
    scenario: Scenario


def _nothing(*args: object, **kwargs: object) -> None:
    """Do nothing in the place of an operation."""


def _does_nothing(owner: type, operation: str) -> Break:
    return lambda patch: patch.setattr(owner, operation, _nothing)


def _returns(owner: type, operation: str, answer: object) -> Break:
    return lambda patch: patch.setattr(owner, operation, lambda *args, **kwargs: answer)


# Appending


def _append_at_visible(patch: pytest.MonkeyPatch) -> None:
    def catch_up(self: Log) -> Any:
        self.is_scanned = True
        return self.follow()

    patch.setattr(Log, "catch_up", catch_up)


def _forget_where_the_predecessor_ends(patch: pytest.MonkeyPatch) -> None:
    def frames_to(self: ChainReader, end: int) -> Iterator[Frame]:
        return self.frames_to_end(0, searches=False)

    patch.setattr(ChainReader, "frames_to", frames_to)


def _count_frames_of_any_segment(patch: pytest.MonkeyPatch) -> None:
    right = log.head_end

    def head_end(data: bytes, segment: bytes, offset: int) -> int:
        return right(data, data[8:24], offset)

    patch.setattr(log, "head_end", head_end)
    patch.setattr(Frame, "follows", lambda self, chain: True)


def _count_headers_in_any_slot(patch: pytest.MonkeyPatch) -> None:
    def header(self: Slots, number: int) -> Header | None:
        return log.parse_header(self.read(number, log.HEADER_BYTES, 0), self.path(number))

    patch.setattr(Slots, "header", header)


def _trust_positions_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    right = Log._find_segments

    def find_segments(self: Log, control: Any, *, newest: bool, to_end: bool) -> bool:
        return right(self, control, newest=control is None, to_end=to_end)

    patch.setattr(Log, "_find_segments", find_segments)


def _begin_segments_at_once(patch: pytest.MonkeyPatch) -> None:
    begin = Appender._begin_segment

    def begin_segment(self: Appender, *args: Any, **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Slots, "sync", _nothing)
            return begin(self, *args, **kwargs)

    patch.setattr(Appender, "_begin_segment", begin_segment)


def _forget_removals_to_erase(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Log, "erasure", property(lambda self: 0, _nothing), raising=False)


# Applying and flushing


def _apply_what_is_visible(patch: pytest.MonkeyPatch) -> None:
    def synced(self: Applier, root: WritableRoot) -> int:
        control = root.log.control
        return control.visible if control else 0

    patch.setattr(Applier, "_synced", synced)


def _ignore_removals(patch: pytest.MonkeyPatch) -> None:
    def without_removals(entries: Sequence[Any]) -> Any:
        return last_words([c for c in entries if not isinstance(c.entry, Removed)])

    patch.setattr(apply, "last_words", without_removals)


def _remove_whatever_is_there(patch: pytest.MonkeyPatch) -> None:
    right = Files._only_remove

    def only_remove(self: Files, name: str, wanted: Any, *args: Any) -> None:
        if wanted.drops_session:
            with self._view.sessions.opened(name) as directory:
                found = [] if directory is None else self._files.scan(directory)
            wanted = wanted._replace(removed={**wanted.removed, **dict.fromkeys(found)})
        right(self, name, wanted, *args)

    patch.setattr(Files, "_only_remove", only_remove)


def _point_first(patch: pytest.MonkeyPatch) -> None:
    right = Files._write_all

    def write_all(
        self: Files, name: str, wanted: Any, index: Any, place: int, touched: Touched, written: Any
    ) -> None:
        with self._view.sessions.made(name) as directory:
            self._show(name, directory, index, wanted, place)
        right(self, name, wanted, index, place, touched, written)

    patch.setattr(Files, "_write_all", write_all)


def _write_in_place(patch: pytest.MonkeyPatch) -> None:
    def put(
        self: Files, directory: Directory, name: str, data: bytes, modified: int, touched: Touched
    ) -> None:
        with contextlib.suppress(StorageError):
            self._files.unlink(directory, name)
        descriptor = self._files.write_new(directory, name, data, modified)
        touched.file(descriptor, directory, name)

    patch.setattr(Files, "_put", put)


def _publish_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    flush = Applier._flush

    def publish_then_sync(self: Applier, root: Any, touched: Touched, *rest: Any) -> None:
        sync = touched.sync
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(touched, "sync", _nothing)
            flush(self, root, touched, *rest)
        sync()

    patch.setattr(Applier, "_flush", publish_then_sync)


def _sync_again_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    sync = Touched.sync

    def sync_twice(self: Touched) -> None:
        try:
            sync(self)
        except StorageError:
            sync(self)

    patch.setattr(Touched, "sync", sync_twice)


# Updates and owners


def _ignore_states(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Batch, "states", property(lambda self: dict.fromkeys(self.sessions)))


def _plan_the_first_part(patch: pytest.MonkeyPatch) -> None:
    right: Any = Batch.parts
    patch.setattr(Batch, "parts", property(lambda self: right.__get__(self)[:1]))


def _append_each_entry_by_itself(patch: pytest.MonkeyPatch) -> None:
    right = Appender.append

    def append(self: Appender, entries: Any, bodies: Any, flags: int, note: Any, **how: Any) -> Any:
        given = iter(bodies)
        if not entries:
            return right(self, entries, bodies, flags, note, **how)
        for entry in entries:
            body = [next(given)] if body_bytes(entry) else []
            enter = partial(note.func, entries=[entry], bodies=body)
            read = right(self, [entry], body, flags, enter, **how)
        return read

    patch.setattr(Appender, "append", append)


# Reading


def _only_follow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reader, "look", lambda self: self.view.follow())


_SAVE = partial(calls, ("save-existing",), base=POPULATED[:1])
_FLUSH = partial(calls, ("save-existing", "flush"))
_KILLED_FLUSH = partial(calls, ("save-existing", "flush"), models=("killed",))
_ROTATE = partial(calls, ("save-existing",) * 2, slot_bytes=TINY_SLOT_BYTES)
_NO_ROOM_FOR_A_SLOT = (
    "aiocheckpoint._disk.free_slots.FreeSlots.take_for_rest",
    lambda free: free.take(log.HEADER_BYTES),
)
_OLD_FRAMES = partial(
    calls,
    ("save-existing", "replace-newest", "flush", "save-new", "flush", "save-existing"),
    models=("killed",),
    patches=(_NO_ROOM_FOR_A_SLOT,),
)

MUTANTS = (
    Mutant("a commit is acknowledged before it is synced", _does_nothing(Slots, "sync"), _SAVE),
    Mutant(
        "a commit by file is acknowledged before the journal is synced",
        _does_nothing(Appender, "_sync_slot"),
        SCENARIOS["recover without links"],
    ),
    Mutant("it is appended at the visible end", _append_at_visible, _SAVE),
    Mutant("a new segment is shared before it is synced", _begin_segments_at_once, _ROTATE),
    Mutant(
        "a header does not tell where its predecessor ends",
        _forget_where_the_predecessor_ends,
        partial(calls, ("replace-refused", "flush"), base=POPULATED[:2]),
    ),
    Mutant("frames are not bound to their segment", _count_frames_of_any_segment, _OLD_FRAMES),
    Mutant("a header counts in any slot", _count_headers_in_any_slot, _FLUSH),
    Mutant("frames count whose bodies are torn", _returns(ChainReader, "is_whole", True), _SAVE),
    Mutant("shared positions are trusted after a crash", _trust_positions_after_a_crash, _ROTATE),
    Mutant(
        "what others wrote is not written again",
        _returns(Slots, "unvouched_end", 0),
        SCENARIOS["unsynced by the dead"],
    ),
    Mutant(
        "what was acknowledged in haste is not copied out of a closed segment",
        _returns(Appender, "_copies", []),
        SCENARIOS["refused beside haste"],
    ),
    Mutant("slots are not blanked", _does_nothing(Slots, "blank"), SCENARIOS["a slot used again"]),
    Mutant("slots are not erased", _does_nothing(Slots, "erase"), SCENARIOS["erase"]),
    Mutant("a crash makes it forget to erase", _forget_removals_to_erase, SCENARIOS["erase"]),
    Mutant("what is not synced is applied", _apply_what_is_visible, SCENARIOS["replaced in haste"]),
    Mutant(
        "removals are not applied",
        _ignore_removals,
        partial(calls, ("delete-latest", "flush"), base=POPULATED[:2]),
    ),
    Mutant(
        "a drop removes whatever is there",
        _remove_whatever_is_there,
        SCENARIOS["dropped before Rust saved"],
    ),
    Mutant("latest.json is there before what it names", _point_first, _KILLED_FLUSH),
    Mutant("a file has its name before it is whole", _write_in_place, _KILLED_FLUSH),
    Mutant("files are not synced", _does_nothing(Touched, "sync"), _FLUSH),
    Mutant("what is flushed is shared before the sync", _publish_before_the_sync, _FLUSH),
    Mutant(
        "a sync that failed is made again",
        _sync_again_after_a_failure,
        SCENARIOS["flushed after a failure"],
    ),
    Mutant(
        "a session that is stuck is not carried on",
        lambda patch: patch.setattr(applier, "carry_failed", lambda _root, _failed, place: place),
        SCENARIOS["stuck beside others"],
    ),
    Mutant(
        "what found no room counts as written",
        lambda patch: patch.setattr(applier, "done_up_to", lambda found, _: found[-1].place - 1),
        SCENARIOS["full amid a session"],
    ),
    Mutant(
        "the condition of an update is ignored",
        _ignore_states,
        SCENARIOS["updated beside others"],
    ),
    Mutant("only the first part of an update is done", _plan_the_first_part, SCENARIOS["update"]),
    Mutant(
        "what is staged is several frames",
        _append_each_entry_by_itself,
        SCENARIOS["moved between sessions"],
    ),
    Mutant(
        "an ownership is not kept over a flush",
        _does_nothing(View, "keep_owners"),
        SCENARIOS["owned by another"],
    ),
    Mutant(
        "who lives is taken for dead",
        _returns(Presence, "is_alive", False),
        SCENARIOS["owned by another"],
    ),
    Mutant(
        "the dead own what they did",
        _returns(Presence, "is_alive", True),
        SCENARIOS["owned by the dead"],
    ),
    Mutant(
        "a token is told before it is synced",
        lambda patch: patch.setattr(Own, "syncs", False),
        SCENARIOS["owned by the dead"],
    ),
    Mutant("who reads first does not look for the end", _only_follow, _SAVE),
)


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Put a broken operation in the place of the library's."""
    with pytest.MonkeyPatch.context() as patch:
        mutant.break_it(patch)
        yield
