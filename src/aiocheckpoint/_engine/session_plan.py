"""What will be after the changes that are planned: sessions, owners, what recoveries say."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

from aiocheckpoint._disk.files import now_microseconds
from aiocheckpoint._disk.known_blobs import BlobUses, KnownBlobs
from aiocheckpoint._disk.view import View
from aiocheckpoint._engine.bodies import Bodies, Session
from aiocheckpoint._engine.changes import Disown, Own, Recover
from aiocheckpoint._format import names
from aiocheckpoint._format.entries import Entry, Owned, Quarantined, Saved
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import CheckpointCorruptError, MissingBlobError, SessionOwnedError
from aiocheckpoint.models import CheckpointId

_NO_BLOBS = KnownBlobs()  # never changed


class Limits(NamedTuple):
    """
    The bounds a writer keeps.

    Attributes:
        max_backups: backups kept in a session.
        max_checkpoints: checkpoints kept in a session, None for all.
        max_bytes: of one file.
        max_file_bytes: of one file, as the system has it.
    """

    max_backups: int
    max_checkpoints: int | None
    max_bytes: int
    max_file_bytes: int = sys.maxsize

    @property
    def least_bytes(self) -> int:
        """The smaller of the two bounds of a file."""
        return min(self.max_bytes, self.max_file_bytes)


class SessionPlan:
    """
    A session as it will be after what is planned.

    Attributes:
        session: as it is.
        added: files that will be there, oldest first, with their ids.
        removed: names of files that will not.
        new_blobs: digests of blobs that will be there.
        gone_blobs: digests of blobs that will not.
        is_changed: whether anything is planned.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.added: dict[FileName, CheckpointId] = {}
        self.removed: set[str] = set()
        self.new_blobs: set[str] = set()
        self.gone_blobs: set[str] = set()
        self.is_changed = False
        self._digests: dict[str, tuple[str, ...]] = {}
        self._known = session.known.blobs or _NO_BLOBS
        self._counted: BlobUses | None = None
        self._last = session.known.last_stamped

    def copy(self) -> SessionPlan:
        """Return the same, to plan upon or to go back to."""
        copied = SessionPlan(self.session)
        copied.added, copied.removed = self.added.copy(), self.removed.copy()
        copied.new_blobs, copied.gone_blobs = self.new_blobs.copy(), self.gone_blobs.copy()
        copied.is_changed = self.is_changed
        copied._digests, copied._last = self._digests.copy(), self._last
        copied._counted = self._counted and self._counted.copy()
        return copied

    @property
    def _uses(self) -> BlobUses:
        """Which blobs will be in use; most changes touch none."""
        if self._counted is None:
            self._counted = BlobUses(self._known)
        return self._counted

    @property
    def last_stamped(self) -> FileName | None:
        """The file that the next is named after."""
        return self._last

    @property
    def newest(self) -> FileName | None:
        """The file that will be the newest."""
        for name in reversed(self.added):
            if name.text not in self.removed:
                return name
        if not self.removed:
            return self.session.known.newest
        found = self.session.known.newest_first()
        return next((name for name in found if name.text not in self.removed), None)

    def candidates(self, checkpoint_id: CheckpointId) -> list[FileName]:
        """Return the files that may hold an id."""
        found = self.session.known.candidates(checkpoint_id)
        if not self.added and not self.removed:
            return found
        if self.removed:
            found = [name for name in found if name.text not in self.removed]
        return found + [
            name
            for name, added in self.added.items()
            if added == checkpoint_id and name.text not in self.removed
        ]

    def remaining(self) -> list[FileName]:
        """Return all files that will be there, oldest first."""
        found = [*self.session.known.newest_first()[::-1], *self.added]
        return [name for name in found if name.text not in self.removed]

    @property
    def count(self) -> int:
        """How many files will be there."""
        return self.session.known.count + len(self.added) - len(self.removed)

    def surplus(self, max_kept: int) -> list[FileName]:
        """Return the files to remove so that the newest `max_kept` stay."""
        count = self.count - max_kept
        if count <= 0:
            return []
        found = [*self.session.known.oldest(count + len(self.removed)), *self.added]
        return [name for name in found if name.text not in self.removed][:count]

    def add(self, name: FileName, checkpoint_id: CheckpointId, digests: tuple[str, ...]) -> None:
        """Plan a file."""
        self.added[name] = checkpoint_id
        self._last = name
        if digests:
            self._digests[name.text] = digests
            self._uses.use(digests)

    def add_blob(self, digest: str, links: tuple[str, ...]) -> None:
        """Plan a blob, before the file that leads to it."""
        self.new_blobs.add(digest)
        self.gone_blobs.discard(digest)
        self._uses.learn(digest, links)

    def lacking(self, digests: Iterable[str]) -> list[str]:
        """Return those that are neither planned nor known to be there with all they lead to."""
        stored, new, gone = self._known.stored, self.new_blobs, self.gone_blobs
        return [d for d in digests if d not in new and (d not in stored or d in gone)]

    def remove(self, files: Iterable[FileName]) -> None:
        """Plan to remove files."""
        for name in files:
            self.removed.add(name.text)
            digests = self._known.of_file.get(name.text) or self._digests.get(name.text)
            if digests:
                self._uses.release(digests)

    def remove_unused_blobs(self) -> tuple[bytes, ...]:
        """
        Plan to remove the blobs that nothing will lead to, and return them.

        A checkpoint that cannot be read may name any blob, and so may a blob: then all stay.
        """
        known = self._known
        if not known.is_swept or not self.session.known.texts_but(known.of_file) <= self.removed:
            return ()
        unused = (self._uses.all_unused() or set()) - self.gone_blobs
        self.new_blobs -= unused
        self.gone_blobs |= unused
        return tuple(bytes.fromhex(digest) for digest in sorted(unused))


class OwnerPlan:
    """
    Who will own which session after what is planned.

    Args:
        view: the committed state.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._planned: dict[str, Owned] = {}

    def is_owned(self, session: str, token: int) -> bool:
        """Tell whether a session will have the owner with that token."""
        owned = self._owner(session)
        return owned is not None and owned.token == token

    def own(self, own: Own) -> Owned:
        """
        Plan that a session has an owner.

        Its token is greater than all of the root before, and at least the milliseconds since 1970:
        a root that was restored or copied does not know which were given before.

        Args:
            own: the wish.

        Raises:
            SessionOwnedError: another process owns it, and lives.
        """
        owned = self._owner(own.session)
        if owned is not None and owned.process != own.process and owned.process not in own.dead:
            raise SessionOwnedError(own.session_id, 0.0, own.told.get(owned.process, ""))
        planned = (owned.token for owned in self._planned.values())
        greatest = max([self._view.greatest_token(), *planned])
        token = max(greatest + 1, now_microseconds() // 1000)
        return self._enter(Owned(own.session, token, own.process))

    def disown(self, disown: Disown) -> Owned | None:
        """Plan that a session has no owner; None when it has another by now."""
        if not self.is_owned(disown.session, disown.token):
            return None
        return self._enter(Owned(disown.session, disown.token))

    def _owner(self, session: str) -> Owned | None:
        owned = self._planned.get(session)
        if owned is None:
            return self._view.owner(session)
        return owned if owned.process else None

    def _enter(self, owned: Owned) -> Owned:
        self._planned[owned.session] = owned
        return owned


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
