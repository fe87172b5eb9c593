"""What becomes of the entries of sessions whose files cannot be written."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiocheckpoint._disk.files import printable
from aiocheckpoint._disk.pending import Committed
from aiocheckpoint._engine.root import WritableRoot
from aiocheckpoint._format import log
from aiocheckpoint._format.entries import READ_JOURNAL, Entry, Removed, Saved, SavedBlob, Stuck
from aiocheckpoint._format.names import is_leftover
from aiocheckpoint._frameworks import advice_at
from aiocheckpoint.errors import CheckpointCorruptError, CheckpointError, StorageFullError


class Failure(NamedTuple):
    """
    A session whose files could not be written.

    Attributes:
        error: why.
        place: the position up to which that was tried.
        done: the position up to which it succeeded.
    """

    error: CheckpointError
    place: int
    done: int = 0


def carry_failed(root: WritableRoot, failed: Mapping[str, Failure], place: int) -> int:
    """
    Carry the sessions whose files could not be written, so that the journal can go on.

    Again only when that lets entries of others go. Not those that the root's own disk has no room
    for: the copy would take what is left.

    Returns:
        the position before the first of those that were not carried.
    """
    frees_others = bool(root.view.pending.sessions.keys() - failed.keys())
    flushed = root.view.flushed
    for name, failure in failed.items():
        is_new = root.view.pending.sessions[name].stuck is None
        frees_any = frees_others or _holds_up_erasure(root, name)
        if _is_root_full(root, name, failure.error) or not (is_new or frees_any):
            done = max(failure.done, flushed)
            place = min(place, root.view.pending.before(name, done))
            if is_new:
                with contextlib.suppress(StorageFullError):  # no save has room then, either
                    _append_stuck(root, name, failure.error, ())
        else:
            # Also those behind the place: what is carried must not undo what came since.
            kept = root.view.pending.entries_of(name, flushed)
            _append_stuck(root, name, failure.error, kept)
    return place


def _holds_up_erasure(root: WritableRoot, name: str) -> bool:
    """
    Tell whether something is to be erased before a session's entries, or among them.

    Not in the segment to which they were carried: a flush begins another one, a mere retry does
    not, and would carry them again and again.
    """
    session = root.view.pending.sessions[name]
    carried = next((c.place for c in session.entries if c.entry is session.stuck), 0)
    is_before = log.sequence_of(carried) < log.sequence_of(root.log.end)
    return root.appender.must_erase and is_before


def _is_root_full(root: WritableRoot, name: str, error: CheckpointError) -> bool:
    """Tell whether it is the root's own disk that a session finds no room on."""
    if not isinstance(error, StorageFullError):
        return False
    device = root.view.files.directory_status(root.view.sessions.root).device
    return root.view.sessions.signature(name).device in (0, device)


def _reason_of(error: CheckpointError) -> str:
    """Return why saves of a session are refused, with what helps where no new try does."""
    reason: str = getattr(error, "reason", str(error))
    if not isinstance(error, CheckpointCorruptError):
        return reason
    advice = "recover(session_id) lets the session go on"
    return f"{reason}; {advice_at(error.session_id, error.path, advice)}"


def _lasting(path: str) -> str:
    """Return where a failure was, for who reads it later: the temporary file is gone by then."""
    found = Path(path)
    return str(found.parent) if is_leftover(found.name) else path


def _append_stuck(
    root: WritableRoot, name: str, error: CheckpointError, kept: Sequence[Committed]
) -> None:
    """Let every process refuse saves of a session, and append entries of it again."""
    is_damage = isinstance(error, CheckpointCorruptError)
    operation = READ_JOURNAL if is_damage else getattr(error, "operation", "write")
    path = printable(_lasting(getattr(error, "path", name)))
    reason = printable(_reason_of(error))
    number = getattr(error, "errno", None) or 0
    entries: list[Entry] = [Stuck(name, operation, path, number, reason)]
    bodies: list[bytes] = []
    for committed in kept:
        entry = committed.entry
        if isinstance(entry, Stuck):
            continue
        entries.append(entry)
        if isinstance(entry, (Saved, SavedBlob)):
            bodies.append(root.view.raw_body(committed))
    # Without the bodies: those may be damaged, and are verified when they are read from the log.
    note = partial(root.view.note, entries=entries, bodies=())
    # What was removed is among it again, so that is to be erased from here on.
    erases = any(isinstance(entry, Removed) and entry.erases for entry in entries)
    root.appender.append(entries, bodies, 0, note, sync=True, leaves=0, erases=erases)
