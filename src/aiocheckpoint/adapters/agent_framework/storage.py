"""Checkpoints of workflows in any store of checkpoints."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

from agent_framework import WorkflowCheckpoint
from agent_framework.exceptions import WorkflowCheckpointException

from aiocheckpoint import CheckpointDecodeError, MissingBlobError
from aiocheckpoint.adapters._storage import Opened, Storage
from aiocheckpoint.adapters.agent_framework.records import StoredCheckpoint
from aiocheckpoint.adapters.agent_framework.sharing import NOTHING, Prepared, Shared, loaded
from aiocheckpoint.adapters.agent_framework.values import Values
from aiocheckpoint.history import LoadBlobs

_MAX_KNOWN = 512
_MAX_FAILED = 100
_IDS = ("workflow_name", "checkpoint_id")


class FailedSave(NamedTuple):
    """
    A checkpoint that was not saved.

    Attributes:
        workflow_name: its workflow.
        checkpoint_id: its id.
        iteration_count: the step after which it was made.
        error: why.
    """

    workflow_name: str
    checkpoint_id: str
    iteration_count: int
    error: Exception


class _Known(NamedTuple):
    """What this process knows of a checkpoint that it has saved or loaded."""

    workflow_name: str
    shared: Shared


class CheckpointStorage:
    """
    Checkpoints of workflows that survive the process, the machine, a power cut.

    ```py
    storage = CheckpointStorage("state/")
    builder = WorkflowBuilder(name="order-7", start_executor=start, checkpoint_storage=storage)
    ```

    Any number of storages, tasks, event loops, threads and processes may use one place; those that
    are given the same path or URL share one store.

    **Durability**: when `save` returns, the checkpoint is durable as the store promises. A workflow
    goes on when a save fails, and only logs it: ask `require_saved` at the end of a run. Leaving
    `async with` asks it.

    **Cancellation**: a call ends when its outcome is known; it took place as a whole or not at all.

    **Damage** raises `CheckpointCorruptError`. It is never taken for an older checkpoint, or none.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `StoredCheckpoint`, which
            stays open.
        allowed_checkpoint_types: classes, each as `module:qualname`, whose objects may be stored
            beside those of the framework and of `register_checkpoint_type`.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(
        self,
        storage: Storage[StoredCheckpoint],
        *,
        allowed_checkpoint_types: Iterable[str] | None = None,
    ) -> None:
        self._opened = Opened(storage, StoredCheckpoint)
        self._store = self._opened.store
        self._values = Values(allowed_checkpoint_types or ())
        self._lock = Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: deque[FailedSave] = deque(maxlen=_MAX_FAILED)

    def __repr__(self) -> str:
        return f"<CheckpointStorage in {self._store!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.aclose()
        if exc is None:
            self.require_saved()
            return
        for failed in self._failed:
            exc.add_note(_told(failed))

    async def aclose(self) -> None:
        """
        Let go of the storage; a store that was given open stays open.

        Raises:
            ExceptionGroup: as `require_saved`, when it is closed.
        """
        await self._opened.aclose()
        self.require_saved()

    @property
    def failed_saves(self) -> tuple[FailedSave, ...]:
        """The saves that have failed since `require_saved` was asked, the newest 100, in order."""
        return (*self._failed,)

    def require_saved(self, workflow_name: str | None = None) -> None:
        """
        Tell of the saves that have failed; each is told once.

        Args:
            workflow_name: of one workflow alone; by default of all.

        Raises:
            ExceptionGroup: the errors of all that have failed since it was asked last.
        """
        wanted = [it for it in self._failed if workflow_name in (None, it.workflow_name)]
        for failed in wanted:
            self._failed.remove(failed)
            failed.error.add_note(_told(failed))
        if wanted:
            raise ExceptionGroup("checkpoints were not saved", [it.error for it in wanted])

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """
        Store a checkpoint as it is now, and return its id; one of its id is replaced.

        Raises:
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `save` of the store raises. The framework only logs either;
                `failed_saves` has it.

        Cost: one save of the store, of what is not as it was in the checkpoint before; all of it is
            encoded on the event loop.
        """
        try:
            return await self._save(checkpoint)
        except Exception as error:
            place = (checkpoint.workflow_name, checkpoint.checkpoint_id, checkpoint.iteration_count)
            self._failed.append(FailedSave(*place, error))
            raise

    async def _save(self, checkpoint: WorkflowCheckpoint) -> str:
        name, checkpoint_id = checkpoint.workflow_name, checkpoint.checkpoint_id
        fields = {key: part for key, part in checkpoint.to_dict().items() if key not in _IDS}
        prepared = Prepared(self._values.to_json(fields))
        record = StoredCheckpoint(session_id=name, checkpoint_id=checkpoint_id, text="")
        load_blobs = partial(self._store.load_blobs, name)
        known = self._known.get(checkpoint.previous_checkpoint_id or "")
        before = known.shared if known is not None and known.workflow_name == name else NOTHING
        stored, blobs, shared = prepared.stored(record, before, load_blobs)
        try:
            await self._store.save(stored, blobs=blobs)
        except MissingBlobError:  # the checkpoint before was deleted
            stored, blobs, shared = prepared.stored(record, NOTHING, load_blobs)
            await self._store.save(stored, blobs=blobs)
        self._know(checkpoint_id, _Known(name, shared))
        return checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """
        Return a checkpoint.

        Raises:
            WorkflowCheckpointException: there is none, or it has an object of a class that is not
                allowed.
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `load` of the store raises.

        Cost: a few reads. The framework does not say of which workflow it is: one that this storage
            has not seen yet is looked for in the workflows one by one.
        """
        name = await self._workflow_of(checkpoint_id)
        found = None if name is None else await self._load(name, checkpoint_id)
        if found is None:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return found

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """
        Return the checkpoint of a workflow that was saved last, whatever its time says; or None.

        Raises:
            CheckpointError: as `load`.
        """
        return await self._load(workflow_name, None)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """
        Return all checkpoints of a workflow, the one saved first first.

        Raises:
            CheckpointError: as `load`; no damaged one is left out.
        """
        load_blobs = _remembering(partial(self._store.load_blobs, workflow_name))
        ids = await self.list_checkpoint_ids(workflow_name=workflow_name)
        found = [await self._load(workflow_name, it, load_blobs) for it in ids]
        return [checkpoint for checkpoint in found if checkpoint is not None]

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """
        Return the ids of all checkpoints of a workflow, the one saved first first.

        Raises:
            CheckpointError: what `list` of the store raises.
        """
        return [meta.checkpoint_id for meta in await self._store.list(workflow_name)][::-1]

    async def delete(self, checkpoint_id: str) -> bool:
        """
        Remove a checkpoint; False when there is none.

        Raises:
            CheckpointError: what `delete` of the store raises.
        """
        name = await self._workflow_of(checkpoint_id)
        self._known.pop(checkpoint_id, None)
        return name is not None and await self._store.delete(name, checkpoint_id)

    async def _load(
        self, name: str, checkpoint_id: str | None, load_blobs: LoadBlobs | None = None
    ) -> WorkflowCheckpoint | None:
        """Return a checkpoint, the newest for None."""
        load_blobs = load_blobs or partial(self._store.load_blobs, name)
        record: Any = await self._store.load(name, checkpoint_id)
        while record is not None:
            if not isinstance(record, StoredCheckpoint):
                kind, reason = StoredCheckpoint.__qualname__, "something else has this session"
                raise CheckpointDecodeError(f"{name}/{record.checkpoint_id}", kind, reason)
            try:
                json, shared = await loaded(record, load_blobs)
            except MissingBlobError:
                again = await self._store.load(name, checkpoint_id)
                if again == record:
                    raise
                record = again  # it was deleted meanwhile, or replaced
                continue
            self._know(record.checkpoint_id, _Known(name, shared))
            ids = {"workflow_name": name, "checkpoint_id": record.checkpoint_id}
            return WorkflowCheckpoint.from_dict({**self._values.from_json(json), **ids})
        return None

    async def _workflow_of(self, checkpoint_id: str) -> str | None:
        """Return in which workflow a checkpoint is."""
        known = self._known.get(checkpoint_id)
        if known is not None:
            return known.workflow_name
        async for name in self._store.sessions():
            if isinstance(await self._store.load(name, checkpoint_id), StoredCheckpoint):
                return name
        return None

    def _know(self, checkpoint_id: str, known: _Known) -> None:
        with self._lock:
            self._known[checkpoint_id] = known
            self._known.move_to_end(checkpoint_id)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)


def _remembering(load_blobs: LoadBlobs) -> LoadBlobs:
    """Return what loads each blob once."""
    blobs: dict[str, bytes] = {}

    async def load(digests: Iterable[str]) -> dict[str, bytes]:
        wanted = [*digests]
        missing = [digest for digest in wanted if digest not in blobs]
        if missing:
            blobs.update(await load_blobs(missing))
        return {digest: blobs[digest] for digest in wanted}

    return load


def _told(failed: FailedSave) -> str:
    return (
        f"checkpoint {failed.checkpoint_id!r} of workflow {failed.workflow_name!r}, "
        f"iteration {failed.iteration_count}, was not saved: {failed.error}"
    )
