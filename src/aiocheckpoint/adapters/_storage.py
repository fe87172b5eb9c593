"""What every adapter takes as its storage, and how its sessions are named there."""

from __future__ import annotations

from os import PathLike
from typing import Any, Generic, TypeAlias, TypeVar, cast

from aiocheckpoint import (
    BlobStore,
    CheckpointRecord,
    InvalidIdError,
    SessionId,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.kit import AsyncClosing

RecordT = TypeVar("RecordT", bound=CheckpointRecord)

Storage: TypeAlias = str | PathLike[str] | BlobStore[RecordT]
"""A directory, a URL, or an open store of the adapter's records, or of more than those."""


class Opened(Generic[RecordT]):
    """
    A store, and who closes it: whoever opened it.

    All that open one place share one store of this process, so that an adapter may open it for
    each object that the framework makes.

    Args:
        storage: what the user gave.
        record_type: what the adapter stores; a union may stand here.

    Attributes:
        store: the store.

    Raises:
        CheckpointError: what `open_store` raises.
    """

    def __init__(self, storage: Storage[RecordT], record_type: Any) -> None:
        self.is_own = isinstance(storage, str | PathLike)
        self.store: BlobStore[RecordT] = cast(
            "BlobStore[RecordT]",
            open_store(storage, record_type=record_type)
            if isinstance(storage, str | PathLike)
            else storage,
        )

    async def aclose(self) -> None:
        """Close the store if it was opened here."""
        if self.is_own:
            await self.store.aclose()


class InStorage(AsyncClosing, Generic[RecordT]):
    """
    An adapter that keeps its records in a storage, and lets go of it at its end.

    Args:
        storage: what the user gave.
        record_type: what the adapter stores; a union may stand here.
    """

    def __init__(self, storage: Storage[RecordT], record_type: Any) -> None:
        self._opened = Opened(storage, record_type)
        self._store = self._opened.store
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self._store!r}>"

    async def aclose(self) -> None:
        """Let go of the storage; a store that was given open stays open."""
        self._is_closed = True
        await self._opened.aclose()

    def _require_open(self) -> None:
        if self._is_closed:
            raise WriterClosedError(f"{self!r} is closed")


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
            InvalidIdError: it is no text.
        """
        given: object = text
        if not isinstance(given, str):
            raise InvalidIdError("session id", text, f"of type {type(given).__name__}; give a str")
        return self._prefix + str.__str__(text)  # an enum that extends `str` prints otherwise

    def text_in(self, name: SessionId) -> str:
        """Return what a session of the adapter is of."""
        return name.removeprefix(self._prefix)
