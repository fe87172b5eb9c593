"""Changes to entries of the log, decided under its lock."""

from __future__ import annotations

from collections.abc import Mapping

from aiocheckpoint._disk.files import now_microseconds, random_number, storage_error
from aiocheckpoint._engine import listing
from aiocheckpoint._engine.bodies import Bodies, Session, VanishedError
from aiocheckpoint._engine.changes import Batch, Change, Delete, Disown, Own, Recover, Save
from aiocheckpoint._engine.session_plan import Limits, OwnerPlan, SessionPlan, still_holding
from aiocheckpoint._format import names
from aiocheckpoint._format.blobs import blob_links, require_digest
from aiocheckpoint._format.entries import Entry, Removed, Saved, SavedBlob
from aiocheckpoint._format.ids import encode_id
from aiocheckpoint._format.names import FileName
from aiocheckpoint.errors import (
    CheckpointCorruptError,
    CheckpointError,
    FormatVersionError,
    MissingBlobError,
    NotACheckpointError,
    OwnershipLostError,
    SessionChangedError,
    StorageError,
)
from aiocheckpoint.models import ANY_NEWEST, CheckpointId

_MAX_LEAP_MICROSECONDS = 1000


class Planner:
    """
    Plans one commit.

    Args:
        bodies: the contents of checkpoints.
        limits: the bounds to keep.

    Attributes:
        entries: what the frame will say.
        bodies: of those entries that have one.
        names: of the files that will be there, by their texts.
        erases: whether somebody asked for a removal.
    """

    def __init__(self, bodies: Bodies, limits: Limits) -> None:
        self._contents = bodies
        self._limits = limits
        self._plans: dict[str, SessionPlan] = {}
        self._owners = OwnerPlan(bodies.view)
        self.entries: list[Entry] = []
        self.bodies: list[bytes] = []
        self.names: dict[str, FileName] = {}
        self.erases = False

    def plan(self, change: Change, sessions: Mapping[str, Session]) -> object:
        """
        Plan a change, and return its result.

        Args:
            change: the change.
            sessions: those it is about, by the names of their directories.

        Raises:
            CheckpointError: it is refused; nothing was planned for it.
        """
        if isinstance(change, Batch):
            plans = [self._plan_of(sessions[name]) for name in change.sessions]
            return self._batch(plans, change)
        return self._whole(self._plan_of(sessions[change.session]), change)

    def _plan_of(self, session: Session) -> SessionPlan:
        plan = self._plans.get(session.name)
        if plan is None:
            plan = self._plans[session.name] = SessionPlan(session)
        return plan

    def _whole(self, plan: SessionPlan, change: Change) -> object:
        """Plan a change that is made alone."""
        match change:
            case Own():
                self._require_all_known(plan.session)
                owned = self._owners.own(change)
                self.entries.append(owned)
                return owned.token
            case Disown():
                left = self._owners.disown(change)
                if left is not None:
                    self.entries.append(left)
                return left is not None
            case Recover():
                return self._recover(plan, change)
        doomed = _Doomed()
        result = self._part(plan, change, doomed)
        self._remove(plan, doomed)
        return result

    def _part(self, plan: SessionPlan, change: Change, doomed: _Doomed) -> object:
        """Plan a change, but for the files that are to go when all of its batch is planned."""
        if isinstance(change, Save):
            return self._save(plan, change, doomed)
        if isinstance(change, Delete):
            return self._delete(plan, change, doomed)
        return None

    # Several changes as one

    def _batch(self, plans: list[SessionPlan], batch: Batch) -> tuple[object, ...]:
        """Plan all parts, or none; the sessions have to be as they were read, and owned."""
        for plan in plans:
            token = batch.tokens.get(plan.session.name)
            if token is not None and not self._owners.is_owned(plan.session.name, token):
                raise OwnershipLostError(plan.session.id, token)
        for plan in plans:
            state = batch.states[plan.session.name]
            if state is not None:
                self._require_all_known(plan.session)
            if state is not None and (plan.is_changed or plan.session.known.state != state):
                raise SessionChangedError(plan.session.id, self._newest_id_or_none(plan))
        kept = {plan.session.name: plan.copy() for plan in plans if plan.is_changed}
        entries, bodies, erases = len(self.entries), len(self.bodies), self.erases
        doomed = {plan.session.name: _Doomed() for plan in plans}
        try:
            results = tuple(
                self._part(self._plans[part.session], part, doomed[part.session])
                for part in batch.parts
            )
            for plan in plans:
                self._remove(plan, doomed[plan.session.name])
            return results  # noqa: TRY300 - what removing raises undoes all, too
        except BaseException:
            for plan in plans:  # of one that was unchanged another is made when it is asked for
                del self._plans[plan.session.name]
            self._plans |= kept
            del self.entries[entries:], self.bodies[bodies:]
            self.erases = erases
            raise

    def _newest_id_or_none(self, plan: SessionPlan) -> CheckpointId | None:
        """Return the id of the newest, where it can be told; for an error that has its reason."""
        try:
            return self._newest_id(plan)
        except CheckpointError:
            return None

    # Saves

    def _save(self, plan: SessionPlan, save: Save, doomed: _Doomed) -> CheckpointId:
        session = plan.session
        self._require_writable(session)
        if save.expected is not ANY_NEWEST:
            self._require_all_known(session)
            self._require_expected(plan, save)
        replaced = self._replaced(plan, save.checkpoint_id)
        max_kept = self._limits.max_checkpoints
        is_full = max_kept is not None and plan.count - len(replaced) >= max_kept
        if is_full:
            self._require_all_known(session)  # or retention drops what was not the oldest
        if replaced or is_full:
            self._spare_blobs_in_doubt(session, doomed)
        blobs = self._blobs_to_save(plan, save) if save.digests else {}
        now = now_microseconds()
        name = names.next_name(save.checkpoint_id, now, plan.last_stamped, _leap)
        for digest, links in blobs.items():
            data = save.blobs[digest]
            self.entries.append(
                SavedBlob(
                    session.name, bytes.fromhex(digest), len(data), tuple(map(bytes.fromhex, links))
                )
            )
            self.bodies.append(data)
            plan.add_blob(digest, links)
        body = save.body
        self.entries.append(
            Saved(
                session.name, name.text, save.checkpoint_id, body.digest, len(body.text),
                b"" if body.checksum == body.digest else body.checksum,
                tuple(map(bytes.fromhex, save.digests)) if save.digests else (),
                self._limits.max_backups, 0 if name.microseconds == now else now,
            )
        )  # fmt: skip
        self.bodies.append(body.text)
        self.names[name.text] = name
        plan.add(name, save.checkpoint_id, save.digests)
        plan.is_changed = True
        plan.remove(replaced)
        doomed.files += replaced
        doomed.erases |= save.erases and bool(replaced)
        doomed.max_kept = max_kept
        return save.checkpoint_id

    def _require_writable(self, session: Session) -> None:
        """Refuse to save what could not be written to a file either."""
        found = self._contents.view.pending.sessions.get(session.name)
        stuck = found and found.stuck
        if stuck:
            reason = f"{stuck.told}; earlier saves of the session wait in the journal"
            if not stuck.is_damage:  # it may be over, and who noted it may be dead
                reason += ", and their files are being tried again, by flush() at once"
            cause = OSError(stuck.errno, reason) if stuck.errno else OSError(reason)
            raise storage_error(stuck.operation, stuck.path, cause)

    def _require_all_known(self, session: Session) -> None:
        """Refuse to decide by what is there while changes may be lost with a part of the log."""
        self._contents.view.lost.require_none(session.id, session.name)

    def _require_expected(self, plan: SessionPlan, save: Save) -> None:
        newest_id = self._newest_id(plan)
        if newest_id != save.expected:
            raise SessionChangedError(save.session_id, newest_id)

    def _newest_id(self, plan: SessionPlan) -> CheckpointId | None:
        newest = plan.newest
        if newest is None:
            plan.session.known.require_complete()
            return None
        added = plan.added.get(newest)
        return self._identify(plan.session, newest) if added is None else added

    def _identify(self, session: Session, newest: FileName) -> CheckpointId:
        try:
            return self._contents.identify(session, newest)
        except VanishedError as error:
            path = self._contents.path(session.name, newest.text)
            raise StorageError("read", path, None, "it was removed just then; try again") from error

    def _replaced(self, plan: SessionPlan, checkpoint_id: CheckpointId) -> list[FileName]:
        """Return the files that hold an id and can be read; a damaged one is left for `recover`."""
        found = []
        for name in plan.candidates(checkpoint_id):
            try:
                known = plan.added.get(name) or self._contents.identify(plan.session, name)
            except (
                CheckpointCorruptError, FormatVersionError, NotACheckpointError, VanishedError,
            ):  # fmt: skip
                continue
            if known == checkpoint_id:
                found.append(name)
        return found

    def _blobs_to_save(self, plan: SessionPlan, save: Save) -> dict[str, tuple[str, ...]]:
        """
        Return which blobs have to be saved before a record that leads to them, and their links.

        Raises:
            MissingBlobError: one is neither given nor there.
            CheckpointEncodeError: one that is given is not what its name says.
        """
        new: dict[str, tuple[str, ...]] = {}
        seen: set[str] = set()
        waiting = plan.lacking(reversed(save.digests))
        while waiting:
            digest = waiting.pop()
            if digest in seen:
                continue
            seen.add(digest)
            data = save.blobs.get(digest)
            if data is not None:
                require_digest(digest, data)
                new[digest] = links = blob_links(data)
            else:
                links = self._links(plan, digest)
            waiting += plan.lacking(links)
        return new

    def _links(self, plan: SessionPlan, digest: str) -> tuple[str, ...]:
        """Return what a blob that is not given refers to; or it is missing."""
        try:
            if digest not in plan.gone_blobs:
                return self._contents.links(plan.session.name, digest)
        except MissingBlobError:
            pass
        raise MissingBlobError(self._contents.blob_path(plan.session.name, digest), digest, "save")

    def _spare_blobs_in_doubt(self, session: Session, doomed: _Doomed) -> None:
        """
        Let blobs stay to which what is lost of the log may lead.

        Asked before anything is planned: where nobody can tell, the change is refused.
        """
        doomed.spares_blobs |= self._contents.view.lost.path_of(session.name) is not None

    # Recovery

    def _recover(self, plan: SessionPlan, recover: Recover) -> set[Entry]:
        """Plan what still holds of a recovery that was decided without the lock; return it."""
        entries, bodies = still_holding(self._contents, plan, recover)
        # Of nothing: to wait for it is to wait for what was done meanwhile.
        self.entries += entries or [Removed(plan.session.name, ())]
        self.bodies += bodies
        plan.is_changed = True
        return set(entries)

    # Removals

    def _delete(self, plan: SessionPlan, delete: Delete, doomed: _Doomed) -> int:
        files: list[FileName] = []
        orphans = plan.session.known.orphans()
        if delete.checkpoint_ids is None:
            plan.session.known.require_complete()
            files = plan.remaining()
            count = len(files)
            if not files:
                self._require_all_known(plan.session)
            doomed.drops |= plan.session.known.has_directory or bool(files)
        else:
            count = 0
            id_names: set[str] = set()
            for checkpoint_id in dict.fromkeys(delete.checkpoint_ids):
                holders = self._holders(plan, checkpoint_id)
                files += holders
                count += bool(holders)
                id_names.add(encode_id(checkpoint_id, "checkpoint id"))
            orphans = [file for file in orphans if file.id_names[0] in id_names]
        if files:
            self._spare_blobs_in_doubt(plan.session, doomed)
        plan.remove(files)
        doomed.files += files
        doomed.orphans += orphans
        doomed.erases |= bool(files or orphans)
        return count

    def _holders(self, plan: SessionPlan, checkpoint_id: CheckpointId) -> list[FileName]:
        """
        Return the files that `list` names by an id.

        Raises:
            CheckpointError: when one may be of another id, and cannot be read to make sure.
            StorageError: when the session could not be listed.
            JournalCorruptError: when none is found, and a part of the journal is lost.
        """
        found = []
        for name in plan.candidates(checkpoint_id):
            try:
                added = plan.added.get(name)
                if added == checkpoint_id or (
                    added is None
                    and listing.is_named(self._contents, plan.session, name, checkpoint_id)
                ):
                    found.append(name)
            except VanishedError:
                continue
        if not found:
            self._require_all_known(plan.session)
            self._contents.require_absent(plan.session, checkpoint_id)
        return found

    def _remove(self, plan: SessionPlan, doomed: _Doomed) -> None:
        """Plan what goes with all that was planned: no blob that something leads to by now."""
        if doomed.max_kept is not None:
            surplus = plan.surplus(doomed.max_kept)
            plan.remove(surplus)
            doomed.files += surplus
        if not (doomed.files or doomed.orphans or doomed.drops):
            return
        plan.is_changed = True
        self.erases |= doomed.erases
        blobs = () if doomed.spares_blobs and not doomed.drops else plan.remove_unused_blobs()
        texts = tuple(dict.fromkeys(name.text for name in (*doomed.files, *doomed.orphans)))
        self.entries.append(Removed(plan.session.name, texts, blobs, doomed.drops, doomed.erases))


class _Doomed:
    """
    What is to go when a change, or all of a batch, is planned.

    Attributes:
        files: the files.
        orphans: files that are gone already, of which a backup is left.
        drops: whether the session's directories go as well, if nothing else is in them.
        erases: whether somebody asked for the removal.
        spares_blobs: whether blobs stay that nothing leads to, unless all of the session goes.
        max_kept: how many files are to stay; None for all.
    """

    def __init__(self) -> None:
        self.files: list[FileName] = []
        self.orphans: list[FileName] = []
        self.drops = False
        self.erases = False
        self.spares_blobs = False
        self.max_kept: int | None = None


def _leap() -> int:
    return 1 + random_number(_MAX_LEAP_MICROSECONDS)
