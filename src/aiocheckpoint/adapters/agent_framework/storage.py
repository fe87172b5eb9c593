"""Checkpoints of workflows in any store of checkpoints."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import TracebackType
from typing import NamedTuple, TypeVar

from agent_framework import WorkflowCheckpoint
from agent_framework.exceptions import WorkflowCheckpointException

from aiocheckpoint import CheckpointError, MissingBlobError, SessionReader
from aiocheckpoint.adapters._given import require_text
from aiocheckpoint.adapters._lists import OF_ONE, require_read
from aiocheckpoint.adapters._steady import find_steadily, read_steadily
from aiocheckpoint.adapters._storage import InStorage, Storage
from aiocheckpoint.adapters.agent_framework.sharing import (
    NAMES,
    NOTHING,
    Prepared,
    Shared,
    StoredCheckpoint,
    read,
)
from aiocheckpoint.adapters.agent_framework.values import Values
from aiocheckpoint.kit import kept, require_instance

_MAX_KNOWN = 512
_MAX_FAILED = 100
_IDS = ("workflow_name", "checkpoint_id")
ResultT = TypeVar("ResultT")


class FailedSave(NamedTuple):
    """
    A checkpoint that was not saved.

    Attributes:
        workflow_name: its workflow.
        checkpoint_id: its id.
        iteration_count: the step after which it was made.
        error: why, without its traceback, which would keep the state in memory.
    """

    workflow_name: str
    checkpoint_id: str
    iteration_count: int
    error: Exception


@dataclass
class UnreadableCheckpoint(WorkflowCheckpoint):
    """
    A checkpoint that `load` refuses, in a list: its ids, and nothing of its state.

    Its `timestamp` is when it was stored. It cannot be saved.

    Attributes:
        problem: what `load` says of it.
    """

    problem: str = ""


class _Known(NamedTuple):
    """What this process knows of a checkpoint that it has saved, or loaded: then of no parts."""

    session_id: str
    shared: Shared | None


class CheckpointStorage(InStorage[StoredCheckpoint]):
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
        super().__init__(storage, StoredCheckpoint, allows_retention=True)
        self._values = Values(allowed_checkpoint_types or ())
        self._lock = Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: deque[FailedSave] = deque(maxlen=_MAX_FAILED)

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
            InvalidArgumentError: it is no checkpoint, or an `UnreadableCheckpoint`.
            CheckpointEncodeError: a value that would not come back as it is; names its path.
            CheckpointError: what `save` of the store raises. The framework only logs either;
                `failed_saves` has it.

        Cost: one save of the store, of what is not as it was in the checkpoint before; all of it is
            encoded on the event loop.
        """
        require_instance("checkpoint", checkpoint, WorkflowCheckpoint)
        require_read("checkpoint", checkpoint)
        try:
            return await self._save(checkpoint)
        except Exception as error:
            place = (checkpoint.workflow_name, checkpoint.checkpoint_id, checkpoint.iteration_count)
            self._failed.append(FailedSave(*place, kept(error)))
            raise

    async def _save(self, checkpoint: WorkflowCheckpoint) -> str:
        name, checkpoint_id = NAMES.of(checkpoint.workflow_name), checkpoint.checkpoint_id
        if checkpoint.previous_checkpoint_id is not None:
            require_text("previous_checkpoint_id", checkpoint.previous_checkpoint_id)
        fields = {key: part for key, part in checkpoint.to_dict().items() if key not in _IDS}
        json, is_pickled, is_escaped = self._values.to_json(fields)
        prepared = Prepared(json, is_pickled=is_pickled)
        record = StoredCheckpoint(
            session_id=name,
            checkpoint_id=checkpoint_id,
            text="",
            is_pickled=is_pickled,
            is_escaped=is_escaped,
        )
        load_blobs = partial(self._store.load_blobs, name)
        before = await self._shared_with(name, checkpoint.previous_checkpoint_id)
        stored, blobs, shared = prepared.stored(record, before, load_blobs)
        try:
            await self._store.save(stored, blobs=blobs)
        except MissingBlobError:  # the checkpoint before was deleted
            stored, blobs, shared = prepared.stored(record, NOTHING, load_blobs)
            await self._store.save(stored, blobs=blobs)
        self._know(checkpoint_id, _Known(name, shared))
        return checkpoint_id

    async def _shared_with(self, name: str, checkpoint_id: str | None) -> Shared:
        """Return what a checkpoint that follows another one may share with it."""
        if checkpoint_id is None:
            return NOTHING
        known = self._known.get(checkpoint_id)
        if known is not None and known.shared is not None:
            return known.shared if known.session_id == name else NOTHING
        try:
            found = await read_steadily(self._store, name, partial(read, checkpoint_id, None))
            return NOTHING if found is None else found.shared()
        except CheckpointError:  # who reads it is told
            return NOTHING

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """
        Return a checkpoint.

        Raises:
            WorkflowCheckpointException: there is none, or it has an object of a class that is not
                allowed.
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `load` of the store raises.

        Cost: a few reads. The framework does not say of which workflow it is: one that this storage
            has not seen yet is looked for in the workflows one by one, in a directory of 64 in each
            hop.
        """
        found = await self._find(checkpoint_id, partial(self._loaded, checkpoint_id, None))
        if found is None:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return found

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """
        Return the checkpoint of a workflow that was saved last, whatever its time says; or None.

        Raises:
            CheckpointError: as `load`.
        """
        return await self._load(NAMES.of(workflow_name), None, None)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """
        Return all checkpoints of a workflow, the one saved first first.

        One that `load` refuses, as it is damaged, is there too, as an `UnreadableCheckpoint`.

        Raises:
            CheckpointError: what `list` of the store raises.

        Cost: one list, and a few reads of each.
        """
        name, blobs = NAMES.of(workflow_name), dict[str, bytes]()
        found: list[WorkflowCheckpoint] = []
        for meta in (await self._store.list(name))[::-1]:
            try:
                checkpoint = await self._load(name, meta.checkpoint_id, blobs)
            except (*OF_ONE, WorkflowCheckpointException) as error:
                checkpoint = UnreadableCheckpoint(
                    workflow_name=workflow_name,
                    graph_signature_hash="",
                    checkpoint_id=meta.checkpoint_id,
                    timestamp=meta.saved_at.isoformat(),
                    problem=str(error),
                )
            found += [] if checkpoint is None else [checkpoint]
        return found

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """
        Return the ids of all checkpoints of a workflow, the one saved first first.

        Raises:
            CheckpointError: what `list` of the store raises.
        """
        metas = await self._store.list(NAMES.of(workflow_name))
        return [meta.checkpoint_id for meta in metas][::-1]

    async def delete(self, checkpoint_id: str) -> bool:
        """
        Remove a checkpoint; False when there is none.

        Raises:
            CheckpointError: what `delete` of the store raises.
        """

        async def session_of(session: SessionReader[StoredCheckpoint]) -> str | None:
            found = await session.load(checkpoint_id)
            return session.session_id if isinstance(found, StoredCheckpoint) else None

        name = await self._find(checkpoint_id, session_of)
        if name is None:
            return False
        self._known.pop(checkpoint_id, None)
        return await self._store.delete(name, checkpoint_id)

    async def _load(
        self, name: str, checkpoint_id: str | None, blobs: dict[str, bytes] | None
    ) -> WorkflowCheckpoint | None:
        return await read_steadily(self._store, name, partial(self._loaded, checkpoint_id, blobs))

    async def _loaded(
        self,
        checkpoint_id: str | None,
        blobs: dict[str, bytes] | None,
        session: SessionReader[StoredCheckpoint],
    ) -> WorkflowCheckpoint | None:
        """Return a checkpoint, the newest for None; made in the thread that reads it."""
        found = await read(checkpoint_id, blobs, session)
        if found is None:
            return None
        saved_id = found.record.checkpoint_id
        if saved_id not in self._known:
            self._know(saved_id, _Known(session.session_id, None))
        ids = {"workflow_name": NAMES.text_in(session.session_id), "checkpoint_id": saved_id}
        return WorkflowCheckpoint.from_dict({**found.joined(self._values), **ids})

    async def _find(
        self,
        checkpoint_id: str,
        work: Callable[[SessionReader[StoredCheckpoint]], Awaitable[ResultT | None]],
    ) -> ResultT | None:
        """Read the sessions in which a checkpoint may be, until one returns something."""
        require_text("checkpoint_id", checkpoint_id)  # of None the newest would be loaded
        known = self._known.get(checkpoint_id)
        if known is None:
            return await find_steadily(self._store, NAMES.of(""), work)
        return await read_steadily(self._store, known.session_id, work)

    def _know(self, checkpoint_id: str, known: _Known) -> None:
        with self._lock:
            self._known[checkpoint_id] = known
            self._known.move_to_end(checkpoint_id)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)


def _told(failed: FailedSave) -> str:
    return (
        f"checkpoint {failed.checkpoint_id!r} of workflow {failed.workflow_name!r}, "
        f"iteration {failed.iteration_count}, was not saved: {failed.error}"
    )
