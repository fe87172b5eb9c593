"""States of flows of CrewAI in any store of checkpoints."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import date
from os import PathLike
from types import TracebackType
from typing import Any, Self, cast
from weakref import WeakValueDictionary

import msgspec
from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.persistence import FlowPersistence as BasePersistence
from pydantic import BaseModel, Field, PrivateAttr, field_serializer

from aiocheckpoint import (
    CheckpointDecodeError,
    CheckpointEncodeError,
    JsonValue,
    Transaction,
    UnsupportedOperationError,
    exact,
)
from aiocheckpoint.adapters._documents import DocumentRecord, Documents
from aiocheckpoint.adapters._storage import Opened, Storage
from aiocheckpoint.adapters.crewai.records import (
    NAMES,
    PENDING_ID,
    STATE_ID,
    FlowRecord,
    MethodState,
    PendingFeedback,
)
from aiocheckpoint.kit import AsyncClosing, Reads, require_instance, server_url
from aiocheckpoint.portal import Portal

_MOST_PIECES = 8  # only the newest state is kept, so hardly any are shared


class _Process:
    """What all persistences of a process share, so that each costs no thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._portals: WeakValueDictionary[str, Portal] = WeakValueDictionary()
        self._turns = [threading.Lock() for _ in range(64)]

    def portal(self) -> Portal:
        """Return the portal that others use, too; it goes with the last of them."""
        with self._mutex:
            return self._portals.setdefault("", Portal())

    def turn(self, flow_uuid: str) -> threading.Lock:
        """Return what lets the saves of a flow wait for one another."""
        return self._turns[hash(flow_uuid) % len(self._turns)]


# By process: a fork may happen while another thread saves, and holds the turn of a flow.
_processes: dict[int, _Process] = {}


def _process() -> _Process:
    process_id = os.getpid()
    return _processes.get(process_id) or _processes.setdefault(process_id, _Process())


class FlowPersistence(AsyncClosing, BasePersistence):
    """
    Keeps the newest state of each flow, and the flows that wait for a person.

    ```py
    @persist(FlowPersistence("flows/"))
    class Greeting(Flow): ...
    ```

    Its methods are synchronous, as CrewAI has them. They may be called from any thread, and beside
    a running event loop, which stands still meanwhile; CrewAI itself saves from other threads.
    Any number of objects and processes may use one storage; those that are given the same path or
    URL share one store.

    **Durability**: when a call returns, what it changed is durable, as the store promises.

    **Values** are stored as `SQLiteFlowPersistence` stores them: what JSON lacks becomes text.

    **Damage** raises `CheckpointCorruptError`. It is never taken for a flow that is new.

    Args:
        storage: a directory, a URL of `open_store`, or an open store of `FlowRecord`, which stays
            open.

    Attributes:
        persistence_type: by which CrewAI finds this class again.
        storage: as given.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    persistence_type: str = Field(default="FlowPersistence")
    storage: Any
    _opened: Opened[FlowRecord] = PrivateAttr()
    _portal: Portal = PrivateAttr()
    _documents: Documents = PrivateAttr()

    def __init__(self, storage: Storage[FlowRecord] | None = None, /, **fields: Any) -> None:
        super().__init__(**{"storage": storage, **fields})
        self._opened = Opened(self.storage, FlowRecord)
        self._portal = _process().portal()
        self._documents = Documents(_MOST_PIECES)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return the same: a copy of a flow has the same storage."""
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield what is shown of it: where it is, without credentials."""
        yield None, getattr(self, "_opened", None)

    @field_serializer("storage", when_used="json")
    def _storage_text(self, storage: Any) -> str:
        if not isinstance(storage, str | PathLike):
            reason = "an open store is of this process alone; give a directory or a URL"
            raise UnsupportedOperationError("model_dump", "FlowPersistence", reason)
        if isinstance(storage, str) and _may_hold_password(storage):
            reason = "its URL has a password; give that elsewhere, as by PGPASSWORD"
            raise UnsupportedOperationError("model_dump", "FlowPersistence", reason)
        return str(storage)

    def __enter__(self) -> Self:
        """Return the persistence; it is closed at the end of the block."""
        self._require_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _require_open(self) -> None:
        self._opened.require_open()

    def close(self) -> None:
        """Let go of the storage; a store that was given open stays open."""
        self._portal.run_close(self._opened.aclose())

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the loop."""
        await self._opened.aclose()

    def init_db(self) -> None:
        """Do nothing: the first call makes what it needs."""

    def save_state(
        self, flow_uuid: str, method_name: str, state_data: dict[str, Any] | BaseModel
    ) -> None:
        """
        Store a state in the place of the one before.

        Saves of one flow take effect in the order in which the states were looked at, so that the
        newest that is stored is the newest that was, also of methods that end at once.

        Args:
            flow_uuid: any text.
            method_name: the method that has ended.
            state_data: as it is now; it may be changed afterwards.

        Raises:
            CheckpointEncodeError: it cannot be made JSON.
            CheckpointError: what `save` of the store raises.

        Cost: the state as JSON, one save of what has changed of it, two hops between threads.
        """
        name = NAMES.of(flow_uuid)
        with _process().turn(name):
            pieces = self._documents.cut(name, _encoded(state_data, "state"))
            state = pieces.into(
                MethodState(session_id=name, checkpoint_id=STATE_ID, method_name=method_name)
            )
            store = self._opened.store
            self._portal.run(pieces.saved(lambda blobs: store.save(state, blobs=blobs)))
            self._documents.keep(name, pieces)

    def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
        """
        Return the newest state of a flow; None when there is none.

        Args:
            flow_uuid: as it was saved.

        Raises:
            CheckpointCorruptError: what is stored is damaged.
            CheckpointError: what `load` of the store raises.
        """
        found = self._load(flow_uuid, STATE_ID)
        return None if found is None else found[1]

    def save_pending_feedback(
        self,
        flow_uuid: str,
        context: PendingFeedbackContext,
        state_data: dict[str, Any] | BaseModel,
    ) -> None:
        """
        Store the state of a flow that waits for a person, and what it waits for, in one commit.

        Args:
            flow_uuid: any text.
            context: what CrewAI needs to go on.
            state_data: as it is now.

        Raises:
            InvalidArgumentError: the context is none.
            CheckpointEncodeError: it cannot be made JSON.
            CheckpointError: what `update` of the store raises.
        """
        name = NAMES.of(flow_uuid)
        require_instance("context", context, PendingFeedbackContext)
        with _process().turn(name):
            pieces = self._documents.cut(name, _encoded(state_data, "state"))
            waiting: JsonValue = exact.to_json(json.loads(_encoded(context.to_dict(), "context")))
            state = pieces.into(
                MethodState(
                    session_id=name,
                    checkpoint_id=STATE_ID,
                    method_name=context.method_name,
                )
            )
            pending = pieces.into(
                PendingFeedback(session_id=name, checkpoint_id=PENDING_ID, context=waiting)
            )

            async def save(blobs: Mapping[str, bytes]) -> None:
                async def stage(session: Transaction[FlowRecord]) -> None:
                    session.save(pending, blobs=blobs)
                    session.save(state, blobs=blobs)

                await self._opened.store.update(name, stage)

            self._portal.run(pieces.saved(save))
            self._documents.keep(name, pieces)

    def load_pending_feedback(
        self, flow_uuid: str
    ) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
        """
        Return the state of a flow that waits and what it waits for; None when it does not.

        Args:
            flow_uuid: as it was saved.

        Raises:
            CheckpointCorruptError: what is stored is damaged.
            CheckpointDecodeError: this version of CrewAI does not know such a context.
            CheckpointError: what `load` of the store raises.
        """
        found = self._load(flow_uuid, PENDING_ID)
        if found is None:
            return None
        record, state = found
        try:
            context: Any = exact.from_json(cast("PendingFeedback", record).context, path="context")
            return state, PendingFeedbackContext.from_dict(context)
        except (KeyError, TypeError, AttributeError) as error:
            raise _decode_error(record, error) from error

    def clear_pending_feedback(self, flow_uuid: str) -> None:
        """
        Forget what a flow waits for, as when it has gone on; its state stays.

        Args:
            flow_uuid: as it was saved.

        Raises:
            CheckpointError: what `delete` of the store raises.
        """
        self._portal.run(self._opened.store.delete(NAMES.of(flow_uuid), PENDING_ID))

    def _load(
        self, flow_uuid: str, checkpoint_id: str
    ) -> tuple[DocumentRecord, dict[str, Any]] | None:
        name = NAMES.of(flow_uuid)

        async def load(store: Reads[FlowRecord]) -> tuple[DocumentRecord, bytes] | None:
            return await self._documents.load_from(store, name, checkpoint_id)

        found = self._portal.read(self._opened.store, load)
        if found is None:
            return None
        record, document = found
        try:
            state = _decoded(document)
        except (ValueError, RecursionError) as error:
            raise _decode_error(record, error) from error
        if not isinstance(state, dict):
            raise _decode_error(record, "the state is no object")
        return record, state


def _decode_error(record: DocumentRecord, reason: object) -> CheckpointDecodeError:
    place = f"{record.session_id}/{record.checkpoint_id}"
    return CheckpointDecodeError(place, type(record).__qualname__, str(reason))


def _may_hold_password(storage: str) -> bool:
    if not storage.lower().startswith(("postgresql://", "postgres://")):
        return False
    url = server_url(storage)
    return url is None or url.has_password or "password=" in url.query


def _decoded(document: bytes) -> object:
    """Return what `json.loads` does, in half the time where no value is one that JSON lacks."""
    try:
        return msgspec.json.decode(document)
    except (ValueError, RecursionError):  # also what is no UTF-8
        return json.loads(document)


def _encoded(value: object, path: str) -> bytes:
    """Return a state as JSON, as CrewAI's own store does."""
    try:
        plain = _dumped(value) if isinstance(value, BaseModel) else value
        if not isinstance(plain, dict):
            raise CheckpointEncodeError(path, f"is {type(plain).__name__}; give a dict or a model")
        return json.dumps(plain, default=_plain, ensure_ascii=False).encode(errors="surrogatepass")
    except (TypeError, RecursionError, ValueError) as error:
        if isinstance(error, CheckpointEncodeError):
            raise
        raise CheckpointEncodeError(path, f"is no JSON: {error}") from error


def _plain(value: object) -> object:
    match value:
        case BaseModel():
            return _dumped(value)
        case set() | frozenset():
            return [*value]
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _dumped(model: BaseModel) -> dict[str, Any]:
    try:
        return model.model_dump(mode="json")
    except Exception:  # noqa: BLE001 - whatever a serializer of the application raises
        return model.model_dump(mode="python")
