"""What the work of an update stages of one session: one way for all stores, to what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from aiocheckpoint._format.blobs import reachable_blobs
from aiocheckpoint.errors import WriterClosedError
from aiocheckpoint.models import CheckpointId

SaveT = TypeVar("SaveT")


class Outcome(NamedTuple, Generic[SaveT]):
    """
    What was staged comes to; deletes are made before saves.

    Attributes:
        deletes: ids, none of which is saved; None for all that there are.
        saves: in the order in which they are saved, each of another id, with the blobs to store
            before it: each that was given, with the first save that leads to it.
        erased: ids of some that are saved: they were deleted first, so what they held is to be
            erased as what is deleted is.
    """

    deletes: tuple[CheckpointId, ...] | None
    saves: tuple[tuple[SaveT, dict[str, bytes]], ...]
    erased: frozenset[CheckpointId] = frozenset()


class Staging(Generic[SaveT]):
    """Takes changes until its end; of an id the last word counts."""

    def __init__(self) -> None:
        self._saves: dict[CheckpointId, tuple[SaveT, tuple[str, ...]]] = {}
        self._deletes: dict[CheckpointId, None] = {}
        self._deletes_all = False
        self._erased: set[CheckpointId] = set()
        self._blobs: dict[str, bytes] = {}
        self._staged = 0  # saves, also those that count no more
        self._is_over = False

    def require_running(self) -> None:
        """
        Refuse what comes too late.

        Raises:
            WriterClosedError: the update is over.
        """
        if self._is_over:
            raise WriterClosedError("the update that this transaction belongs to is over")

    def save(
        self,
        checkpoint_id: CheckpointId,
        save: SaveT,
        digests: tuple[str, ...],
        blobs: Mapping[str, bytes],
    ) -> None:
        """Take a save of a record that names these digests, given with these blobs."""
        self._saves.pop(checkpoint_id, None)  # a dict keeps the place of a key that it has
        if checkpoint_id in self._deletes:
            del self._deletes[checkpoint_id]
            self._erased.add(checkpoint_id)
        self._saves[checkpoint_id] = (save, digests)
        self._staged += 1
        self._blobs.update(blobs)

    def delete(self, checkpoint_ids: Iterable[CheckpointId]) -> None:
        """Take deletes."""
        for checkpoint_id in checkpoint_ids:
            self._saves.pop(checkpoint_id, None)
            self._deletes[checkpoint_id] = None

    def delete_all(self) -> None:
        """Take the delete of all that there is by now."""
        self._saves.clear()
        self._deletes_all = True

    def end(self) -> Outcome[SaveT]:
        """
        Return what it comes to; from then on nothing is taken.

        Nothing is held, either: a history that goes on from an update keeps its transaction.
        """
        self._is_over = True
        staged, blobs = self._saves, self._blobs
        self._saves, self._blobs = {}, {}
        deletes = None if self._deletes_all else tuple(self._deletes)
        erased = frozenset(self._erased)
        if self._staged <= 1:  # as mostly: then all blobs are those of the one save
            alone = tuple((save, blobs) for save, _ in staged.values())
            return Outcome(deletes, alone, erased)
        left = dict(blobs)
        saves: list[tuple[SaveT, dict[str, bytes]]] = []
        for save, digests in staged.values():
            reached = reachable_blobs(digests, blobs) if left else ()
            saves.append((save, {key: left.pop(key) for key in reached if key in left}))
        return Outcome(deletes, tuple(saves), erased)
