"""What a commit is made of: saves and deletes, planned under the session's lock, then applied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple

from aiocheckpoint._disk.sessions import OpenSession
from aiocheckpoint._engine.jobs import Outcome
from aiocheckpoint._engine.journal import (
    Entry,
    JournaledBlob,
    JournaledDelete,
    JournaledSave,
    JournaledUndo,
)
from aiocheckpoint._engine.store import NO_TERMS, Store, Terms
from aiocheckpoint._format.codec import Draft, RecordT, Sealed
from aiocheckpoint._format.names import FileName
from aiocheckpoint._format.retention import surplus
from aiocheckpoint.errors import PruneError
from aiocheckpoint.models import CheckpointId


class Save:
    """
    A save waiting for its commit.

    Attributes:
        draft: what to save.
        terms: what else the save asks for.
    """

    def __init__(self, draft: Draft, terms: Terms = NO_TERMS, new_bytes: int = 0) -> None:
        self.draft = draft
        self.terms = terms
        self._new_bytes = new_bytes
        self._sealed: Sealed | None = None

    @property
    def size_bytes(self) -> int:
        """About what it adds to the journal."""
        return len(self.draft.text) + self._new_bytes

    def sealed(self, store: Store[RecordT]) -> Sealed:
        """Return its file; made once, however often it has to wait for its session."""
        self._sealed = self._sealed or store.sealed(self.draft)
        return self._sealed


class Delete(NamedTuple):
    """
    A delete waiting for its commit.

    Attributes:
        checkpoint_ids: which checkpoints; None for the whole session.
    """

    checkpoint_ids: tuple[CheckpointId, ...] | None


Change = Save | Delete


class Group(ABC, Generic[RecordT]):
    """
    Changes of one session that share a commit.

    Attributes:
        outcomes: of the changes.
        entries: what to journal; empty when there is nothing to do.
        is_journaled: whether a crash amid `apply` is made good by the journal.
    """

    def __init__(self, outcomes: list[Outcome[Any]]) -> None:
        self.outcomes = outcomes
        self.is_journaled = True
        self.entries: list[Entry] = []

    @abstractmethod
    def apply(self) -> list[JournaledUndo]:
        """Put the files in place, keep each outcome, return which saves did not succeed."""


class _PlannedSave(NamedTuple):
    outcome: Outcome[CheckpointId]
    checkpoint_id: CheckpointId
    name: FileName
    sealed: Sealed
    replaced: list[FileName]
    digests: tuple[str, ...]
    new_blobs: dict[str, bytes]


def _require_none_lost(plan: _PlannedSave, lost_blobs: dict[str, BaseException]) -> None:
    for digest in lost_blobs.keys() & set(plan.digests):
        raise lost_blobs[digest]


class SaveGroup(Group[RecordT]):
    """
    Saves of one session, of different ids, in order.

    Args:
        store: the store.
        session: locked until the group is applied.
        saves: the sealed saves with their outcomes.
    """

    def __init__(
        self,
        store: Store[RecordT],
        session: OpenSession,
        saves: list[tuple[Outcome[CheckpointId], Save]],
    ) -> None:
        super().__init__([outcome for outcome, _ in saves])
        self._store = store
        self._session = session
        self._previous = session.known.newest
        self._planned: list[_PlannedSave] = []
        for outcome, save in saves:
            try:
                self._planned.append(self._plan(outcome, save))
            except BaseException as error:  # noqa: BLE001 - kept as the outcome
                outcome.error = error
        superfluous = self._superfluous()
        for plan in self._planned:
            doomed = [*plan.replaced, *(superfluous if plan is self._planned[-1] else ())]
            removed = tuple(name.text for name in doomed)
            for digest, data in plan.new_blobs.items():
                self.entries.append(JournaledBlob(session.name, digest, data))
            entry = JournaledSave(session.name, plan.name.text, plan.sealed.body, removed)
            self.entries.append(entry)

    def _plan(self, outcome: Outcome[CheckpointId], save: Save) -> _PlannedSave:
        store, session, checkpoint_id = self._store, self._session, save.draft.checkpoint_id
        sealed = save.sealed(store)
        earlier = [plan.checkpoint_id for plan in self._planned]
        store.require(session, save.terms.precondition, earlier)
        last = self._planned[-1].name if self._planned else session.known.last_stamped
        name = store.next_name(checkpoint_id, last)
        replaced = store.files_of(session, checkpoint_id)
        digests = save.terms.digests
        coming = {digest for plan in self._planned for digest in plan.new_blobs}
        others = [digest for digest in digests if digest not in coming]
        new_blobs = store.blobs.to_store(session, others, save.terms.blobs) if others else {}
        return _PlannedSave(outcome, checkpoint_id, name, sealed, replaced, digests, new_blobs)

    def _superfluous(self) -> Sequence[FileName]:
        """Return what `prune` will remove because there are too many checkpoints."""
        max_checkpoints = self._store.max_checkpoints
        if max_checkpoints is None or not self._planned:
            return ()
        replaced = {name for plan in self._planned for name in plan.replaced}
        present = [name for name in self._session.known.names if name not in replaced]
        return surplus([*present, *(plan.name for plan in self._planned)], max_checkpoints)

    def apply(self) -> list[JournaledUndo]:
        """Write the files, then the pointer, then remove what they replace."""
        lost_blobs: dict[str, BaseException] = {}
        published = [plan for plan in self._planned if self._publish(plan, lost_blobs)]
        if published:
            try:
                self._show(published)
            except BaseException as error:  # noqa: BLE001 - kept as the outcome
                names = [plan.name for plan in published]
                self._store.withdraw(self._session, names, self._previous)
                self._fail(published, error)
                published = []
            else:
                self._clean_up(published)
        lost = tuple(plan.name.text for plan in self._planned if plan not in published)
        return [JournaledUndo(self._session.name, lost)] if lost else []

    def _publish(self, plan: _PlannedSave, lost_blobs: dict[str, BaseException]) -> bool:
        """Write a save's blobs and its file; without a blob that a save before it lost, fail."""
        try:
            _require_none_lost(plan, lost_blobs)
            self._store.blobs.store(self._session, plan.new_blobs, synced=False)
            self._store.publish(
                self._session, plan.name, plan.sealed.body, synced=False, digests=plan.digests
            )
        except BaseException as error:  # noqa: BLE001 - kept as the outcome
            lost_blobs.update(dict.fromkeys(plan.new_blobs, error))
            self._fail([plan], error)
            return False
        plan.outcome.result = plan.checkpoint_id
        return True

    def _show(self, published: list[_PlannedSave]) -> None:
        newest = published[-1]
        self._store.point(self._session, newest.name, newest.sealed.body)
        for name in (self._previous, *(plan.name for plan in published[:-1])):
            self._store.back_up(self._session, name)

    def _clean_up(self, published: list[_PlannedSave]) -> None:
        """Remove what the saves replace; from here on they are saved, whatever fails."""
        replaced = [name for plan in published for name in plan.replaced]
        try:
            self._store.prune(self._session, replaced, synced=False)
        except PruneError as error:
            self._fail(published, error)
        else:
            self._store.sessions.note_change(self._session, published[-1].name)

    @staticmethod
    def _fail(plans: list[_PlannedSave], error: BaseException) -> None:
        for plan in plans:
            plan.outcome.error = error


class DeleteGroup(Group[RecordT]):
    """
    The delete of checkpoints or of a whole session.

    Args:
        store: the store.
        session: locked until the group is applied; None when there is no such session.
        outcome: of the delete.
        checkpoint_ids: which checkpoints; None for all.
    """

    def __init__(
        self,
        store: Store[RecordT],
        session: OpenSession | None,
        outcome: Outcome[int],
        checkpoint_ids: tuple[CheckpointId, ...] | None,
    ) -> None:
        super().__init__([outcome])
        self._store = store
        self._outcome = outcome
        self._is_whole = checkpoint_ids is None
        self._doomed: list[FileName] = []
        self._count = 0
        if session is not None and checkpoint_ids is None:
            session = store.sessions.confirmed(session)
            self._doomed = session.known.newest_first()
            self._count = len(self._doomed)
        elif session is not None and checkpoint_ids is not None:
            for checkpoint_id in dict.fromkeys(checkpoint_ids):
                holders = store.holders(session, checkpoint_id)
                if not holders:
                    session = store.sessions.confirmed(session)
                    holders = store.holders(session, checkpoint_id)
                self._doomed += holders
                self._count += bool(holders)
        self._session = session
        if session is not None and self._doomed:
            removed = tuple(name.text for name in self._doomed)
            self.entries.append(JournaledDelete(session.name, removed))

    def apply(self) -> list[JournaledUndo]:
        """Move the pointer off the files and remove them."""
        self._outcome.run(self._remove)
        return []

    def _remove(self) -> int:
        if self._session is not None and self._is_whole:
            self._store.delete_everything(self._session, synced=not self.is_journaled)
        elif self._session is not None and self._doomed:
            synced = not self.is_journaled
            self._store.delete_files(self._session, self._doomed, synced=synced)
        return self._count
