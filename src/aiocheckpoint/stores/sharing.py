"""One store a location and process, however many ask for it."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from aiocheckpoint.errors import NestedCallError, WriterClosedError
from aiocheckpoint.kit import AsyncClosing, RecordT
from aiocheckpoint.models import (
    ANY_NEWEST,
    CheckpointId,
    CheckpointMeta,
    Expected,
    Finding,
    RecoveryReport,
    SessionId,
)
from aiocheckpoint.store import (
    NO_BLOBS,
    BlobStore,
    Marks,
    Ownership,
    ReadBlocking,
    SessionReader,
    Transaction,
)

ResultT = TypeVar("ResultT")
_Metas = tuple[CheckpointMeta, ...]  # within the class below `list` is a method
_Key = tuple[object, ...]


class Plan(NamedTuple):
    """
    How to make a store.

    Attributes:
        kind: its class.
        location: what it is made with.
        options: the same, by name.
    """

    kind: Callable[..., BlobStore[Any]]
    location: str | Path
    options: Mapping[str, object]

    def key(self) -> _Key:
        """Return what is the same for all that share a store."""
        return self.kind, self.location, tuple(self.options.items())


class _Shared:
    """A store that is in use, and by whom; whoever is collected uses it no more."""

    def __init__(self, plan: Plan, key: _Key) -> None:
        self.store = plan.kind(plan.location, **plan.options)
        self.key = key
        self.users: weakref.WeakSet[SharedStore[Any]] = weakref.WeakSet()


class _Registry:
    """What is open in this process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._shared: weakref.WeakValueDictionary[_Key, _Shared] = weakref.WeakValueDictionary()

    def enter(self, plan: Plan, user: SharedStore[Any]) -> _Shared:
        """Return the store of a plan, made if need be."""
        key = plan.key()
        with self._mutex:
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = _Shared(plan, key)
            shared.users.add(user)
            return shared

    def leave(self, shared: _Shared, user: SharedStore[Any]) -> bool:
        """Tell whether it was the last user that leaves, who has to close the store."""
        with self._mutex:
            shared.users.discard(user)
            is_last = not shared.users
            if is_last and self._shared.get(shared.key) is shared:
                del self._shared[shared.key]
            return is_last

    def put_back(self, shared: _Shared, user: SharedStore[Any]) -> None:
        """Take back that a user has left."""
        with self._mutex:
            self._shared.setdefault(shared.key, shared)
            shared.users.add(user)


# By process: a fork may happen while another thread holds the lock of a registry.
_registries: dict[int, _Registry] = {}


def _registry() -> _Registry:
    process_id = os.getpid()
    return _registries.get(process_id) or _registries.setdefault(process_id, _Registry())


class SharedStore(AsyncClosing, Generic[RecordT]):
    """
    What `open_store` gives: a hold on a store that others may hold, too.

    Args:
        plan: how to make the store.
        shown: what to show of its location, without credentials.
    """

    def __init__(self, plan: Plan, shown: str) -> None:
        self._plan = plan
        self._shown = shown
        self._held: _Shared | None = None
        self._registry: _Registry | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<store {self._shown!r} {state}>"

    @property
    def _store(self) -> BlobStore[RecordT]:
        self._require_open()
        registry = _registry()
        if self._held is None or registry is not self._registry:  # or the first one after a fork
            self._held, self._registry = registry.enter(self._plan, self), registry
        return self._held.store

    def _require_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError("the store is closed")

    @property
    def max_checkpoints(self) -> int | None:
        """How many checkpoints of a session are kept, the newest; None keeps all."""
        return cast("int | None", self._plan.options["max_checkpoints"])

    async def aclose(self) -> None:
        """
        Let go of the store; the last one that does closes it.

        Durability: nothing acknowledged depends on it. Whoever is not the last does not wait until
            files of a directory are written.

        Raises:
            NestedCallError: the work of an update calls it, of the last one; it stays open.
        """
        self._is_closed = True
        held, self._held, registry = self._held, None, _registry()
        if held is None or self._registry is not registry:
            return
        if registry.leave(held, self):
            try:
                await held.store.aclose()
            except NestedCallError:  # it is as open as it was
                registry.put_back(held, self)
                self._held, self._is_closed = held, False
                raise

    # One session

    async def save(
        self,
        data: RecordT,
        /,
        *,
        blobs: Mapping[str, bytes] = NO_BLOBS,
        expected: Expected = ANY_NEWEST,
    ) -> CheckpointId:
        """Do what `BlobStore.save` says."""
        return await self._store.save(data, blobs=blobs, expected=expected)

    async def load(
        self, session_id: SessionId, checkpoint_id: CheckpointId | None = None
    ) -> RecordT | None:
        """Do what `BlobStore.load` says."""
        return await self._store.load(session_id, checkpoint_id)

    async def load_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> tuple[RecordT, ...]:
        """Do what `BlobStore.load_many` says."""
        return await self._store.load_many(session_id, checkpoint_ids)

    async def list(
        self,
        session_id: SessionId,
        *,
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> _Metas:
        """Do what `BlobStore.list` says."""
        return await self._store.list(session_id, before=before, limit=limit)

    async def ids(
        self,
        session_id: SessionId,
        *,
        prefix: str = "",
        before: CheckpointId | None = None,
        limit: int | None = None,
    ) -> tuple[CheckpointId, ...]:
        """Do what `BlobStore.ids` says."""
        return await self._store.ids(session_id, prefix=prefix, before=before, limit=limit)

    async def load_blobs(
        self, session_id: SessionId, digests: Iterable[str], /
    ) -> dict[str, bytes]:
        """Do what `BlobStore.load_blobs` says."""
        return await self._store.load_blobs(session_id, digests)

    async def delete(self, session_id: SessionId, checkpoint_id: CheckpointId) -> bool:
        """Do what `BlobStore.delete` says."""
        return await self._store.delete(session_id, checkpoint_id)

    async def delete_many(
        self, session_id: SessionId, checkpoint_ids: Iterable[CheckpointId], /
    ) -> int:
        """Do what `BlobStore.delete_many` says."""
        return await self._store.delete_many(session_id, checkpoint_ids)

    async def delete_session(self, session_id: SessionId) -> bool:
        """Do what `BlobStore.delete_session` says."""
        return await self._store.delete_session(session_id)

    async def copy_session(self, source_id: SessionId, target_id: SessionId) -> int:
        """Do what `BlobStore.copy_session` says."""
        return await self._store.copy_session(source_id, target_id)

    async def read(
        self, session_id: SessionId, work: Callable[[SessionReader[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Do what `BlobStore.read` says."""
        return await self._store.read(session_id, work)

    @property
    def read_blocking(self) -> ReadBlocking[RecordT] | None:
        """What `ReadBlocking` says; None where the store has none."""
        return getattr(self._store, "read_blocking", None)

    async def update(
        self, session_id: SessionId, work: Callable[[Transaction[RecordT]], Awaitable[ResultT]], /
    ) -> ResultT:
        """Do what `BlobStore.update` says."""
        return await self._store.update(session_id, work)

    @contextlib.asynccontextmanager
    async def own(
        self, session_id: SessionId, *, wait: bool = True
    ) -> AsyncIterator[Ownership[RecordT]]:
        """Do what `BlobStore.own` says."""
        async with self._store.own(session_id, wait=wait) as owner:
            yield owner

    # Across sessions

    async def sessions(self, *, prefix: str = "") -> AsyncIterator[SessionId]:
        """Do what `BlobStore.sessions` says."""
        async for session_id in self._store.sessions(prefix=prefix):
            yield session_id

    @property
    def find(self) -> Callable[..., Awaitable[Any]] | None:
        """What `Finds` says; None where the store has none."""
        return getattr(self._store, "find", None)

    async def load_newest(self, session_ids: Iterable[SessionId], /) -> dict[SessionId, RecordT]:
        """Do what `BlobStore.load_newest` says."""
        return await self._store.load_newest(session_ids)

    async def unfinished(
        self, *, final_triggers: Iterable[str], prefix: str = ""
    ) -> AsyncIterator[CheckpointMeta]:
        """Do what `BlobStore.unfinished` says."""
        async for meta in self._store.unfinished(final_triggers=final_triggers, prefix=prefix):
            yield meta

    async def update_many(
        self,
        session_ids: Iterable[SessionId],
        work: Callable[[Mapping[SessionId, Transaction[RecordT]]], Awaitable[ResultT]],
        /,
    ) -> ResultT:
        """Do what `BlobStore.update_many` says."""
        return await self._store.update_many(session_ids, work)

    # Health

    async def verify(self, session_id: SessionId, checkpoint_id: CheckpointId, /) -> bool:
        """Do what `BlobStore.verify` says."""
        return await self._store.verify(session_id, checkpoint_id)

    async def recover(self, session_id: SessionId) -> RecoveryReport:
        """Do what `BlobStore.recover` says."""
        return await self._store.recover(session_id)

    async def exists(self) -> bool:
        """Do what `BlobStore.exists` says."""
        return await self._store.exists()

    @contextlib.asynccontextmanager
    async def mark(self) -> AsyncIterator[str]:
        """Do what `Marks.mark` says."""
        async with cast("Marks", self._store).mark() as mark:
            yield mark

    async def has_mark(self, mark: str, /) -> bool:
        """Do what `Marks.has_mark` says."""
        return await cast("Marks", self._store).has_mark(mark)

    async def check(self) -> tuple[Finding, ...]:
        """Do what `BlobStore.check` says."""
        return await self._store.check()
