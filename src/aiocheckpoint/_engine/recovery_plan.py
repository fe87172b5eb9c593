"""What still holds of a recovery that was decided without the lock."""

from __future__ import annotations

from aiocheckpoint._engine.bodies import Bodies
from aiocheckpoint._engine.changes import Recover
from aiocheckpoint._engine.session_plan import SessionPlan
from aiocheckpoint._format import names
from aiocheckpoint._format.entries import Entry, Quarantined, Saved
from aiocheckpoint.errors import CheckpointCorruptError, MissingBlobError


def still_holding(
    contents: Bodies, plan: SessionPlan, recover: Recover
) -> tuple[list[Entry], list[bytes]]:
    """
    Return the entries that still hold, and the bodies of those that have one.

    Args:
        contents: of checkpoints.
        plan: the session as it will be.
        recover: what was found out.
    """
    is_changed = bool(plan.added or plan.removed or plan.new_blobs)
    is_as_seen = not is_changed and recover.seen == plan.session.known.by_text.keys()
    entries: list[Entry] = []
    kept: list[bytes] = []
    bodies = iter(recover.bodies)
    for entry in recover.entries:
        body = next(bodies) if isinstance(entry, Saved) else None
        if is_as_seen or _still_holds(contents, plan, entry):
            entries.append(entry)
            if body is not None:
                kept.append(body)
    return entries, kept


def _still_holds(contents: Bodies, plan: SessionPlan, entry: Entry) -> bool:
    """
    Tell whether what `recover` wanted may be done in a session that has changed since.

    A file that was removed stays removed, and is not kept either. What was saved since may
    need a blob that nothing needed: the next `recover` will tell.
    """
    if isinstance(entry, Quarantined) and entry.is_blob:
        return _is_damaged(contents, plan, entry.name)
    if isinstance(entry, (Saved, Quarantined)):
        text = entry.name.removesuffix(names.BACKUP_SUFFIX)
        return text in plan.session.known.by_text and text not in plan.removed
    return True


def _is_damaged(contents: Bodies, plan: SessionPlan, digest: str) -> bool:
    try:
        contents.blob(plan.session.name, digest)
    except MissingBlobError:
        return False
    except CheckpointCorruptError:
        return digest not in plan.new_blobs
    return False
