"""What every adapter takes as its storage, and how its sessions are named there."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike
from typing import Any, Generic, TypeAlias, TypeVar, cast

from aiocheckpoint import (
    BlobStore,
    CheckpointError,
    CheckpointRecord,
    InvalidArgumentError,
    InvalidIdError,
    SessionId,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.kit import AsyncClosing, check_session_id

RecordT = TypeVar("RecordT", bound=CheckpointRecord)

Storage: TypeAlias = str | PathLike[str] | BlobStore[RecordT]
"""A directory, a URL, or an open store of the adapter's records, or of more than those."""

_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def is_store(value: object) -> bool:
    """Tell whether something is an open store, as far as an adapter can see."""
    methods = ("update", "load_blobs")
    is_class = isinstance(value, type)
    return not is_class and all(callable(getattr(value, name, None)) for name in methods)


def require_all_kept(
    store: object, instead: str = "let the framework delete what it no longer needs"
) -> None:
    """
    Refuse an open store with retention: what it removes may be part of a state that is needed.

    Args:
        store: one that the user gave open.
        instead: what keeps the storage small.

    Raises:
        InvalidArgumentError: it has `max_checkpoints`.
    """
    kept = getattr(store, "max_checkpoints", None)
    if kept is not None:
        raise InvalidArgumentError(
            "storage",
            store,
            f"one that was opened without `max_checkpoints`, here {kept}: a state is several "
            f"records, and the store would remove some that are still needed; {instead}",
        )


@contextmanager
def told_of(what: str) -> Generator[None]:
    """Say in errors what was asked for, in the framework's words: `thread 'support-42'`."""
    try:
        yield
    except CheckpointError as error:
        for each in (error, *error.others):
            each.about = each.about or what
        raise


@contextmanager
def refused_as_storage() -> Generator[None]:
    """Say that it is the `storage` that is refused, as those name a location who gave it."""
    try:
        yield
    except InvalidArgumentError as error:
        if error.name not in ("location", "storage_path"):
            raise
        raise InvalidArgumentError("storage", error.value, error.wanted) from None


class Opened(Generic[RecordT]):
    """
    A store, and who closes it: whoever opened it.

    All that open one place share one store of this process, so that an adapter may open it for
    each object that the framework makes.

    Args:
        storage: what the user gave.
        record_type: what the adapter stores; a union may stand here.
        allows_retention: whether each record is a whole state, of which a store may keep the newest
            few alone.

    Raises:
        InvalidArgumentError: it is no storage, or a store with `max_checkpoints`.
        CheckpointError: what `open_store` raises.
    """

    def __init__(
        self, storage: Storage[RecordT], record_type: Any, *, allows_retention: bool = False
    ) -> None:
        given: object = storage
        self._is_own = isinstance(storage, str | PathLike)
        self._is_closed = False
        if isinstance(storage, str | PathLike):
            with refused_as_storage():
                opened = open_store(storage, record_type=record_type)
            self._store = cast("BlobStore[RecordT]", opened)
        elif is_store(given):
            if not allows_retention:
                require_all_kept(given)
            self._store = storage
        else:
            raise InvalidArgumentError("storage", given, "a directory, a URL or an open store")

    def __repr__(self) -> str:
        return repr(self._store)

    @property
    def store(self) -> BlobStore[RecordT]:
        """
        The store.

        Raises:
            WriterClosedError: it was let go of.
        """
        if self._is_closed:
            raise WriterClosedError(f"what was opened on {self._store!r} is closed")
        return self._store

    def require_open(self) -> None:
        """
        Refuse a call that would not come to the store.

        Raises:
            WriterClosedError: it was let go of.
        """
        _ = self.store

    async def aclose(self) -> None:
        """Let go of the store, and close it if it was opened here."""
        if self._is_own:
            await self._store.aclose()
        self._is_closed = True


class InStorage(AsyncClosing, Generic[RecordT]):
    """
    An adapter that keeps its records in a storage, and lets go of it at its end.

    Args:
        storage: what the user gave.
        record_type: what the adapter stores; a union may stand here.
        allows_retention: as `Opened` has it.
    """

    def __init__(
        self, storage: Storage[RecordT], record_type: Any, *, allows_retention: bool = False
    ) -> None:
        self._opened = Opened(storage, record_type, allows_retention=allows_retention)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self._opened!r}>"

    async def aclose(self) -> None:
        """Let go of the storage, after which calls are refused; a store given open stays open."""
        await self._opened.aclose()

    @property
    def _store(self) -> BlobStore[RecordT]:
        return self._opened.store

    def _require_open(self) -> None:
        self._opened.require_open()


class Names:
    """
    How the sessions of an adapter are named in the store: its own name, a dot, what they are of.

    So adapters of several frameworks, and the application itself, may share a storage: none finds
    what another one stored, whatever ids they are given.

    Args:
        adapter: its module.
    """

    def __init__(self, adapter: str) -> None:
        self._prefix = f"{adapter}."

    def of(self, text: str) -> SessionId:
        """
        Return the name of a session; also how those of an adapter begin that begin with a text.

        Raises:
            InvalidIdError: no session can have it: it is no text, or has a lone surrogate.
        """
        check_session_id(text)
        return self._prefix + str.__str__(text)  # an enum that extends `str` prints otherwise

    def text_in(self, name: SessionId) -> str:
        """Return what a session of the adapter is of."""
        return name.removeprefix(self._prefix)

    def of_parts(self, *parts: str) -> SessionId:
        """
        Return the name of a session that is of several texts: a JSON array of them.

        Raises:
            InvalidIdError: one is no text.
        """
        for part in parts:
            check_session_id(part)
        return self.of(_as_json(parts))

    def prefix_of_parts(self, *parts: str) -> str:
        """
        Return how the names begin that have more parts than these.

        Raises:
            InvalidIdError: one is no text.
        """
        return self.of_parts(*parts).removesuffix("]") + ","

    def parts_in(self, name: SessionId) -> tuple[str, ...]:
        """Return the parts that `of_parts` made a name of; none when it did not make it."""
        try:
            parts = tuple(json.loads(self.text_in(name)))
            return parts if self.of_parts(*parts) == name else ()
        except (TypeError, ValueError, RecursionError, InvalidIdError):  # somebody else's
            return ()
