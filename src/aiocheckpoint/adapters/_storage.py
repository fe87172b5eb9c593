"""What every adapter takes as its storage: a path, a URL, or a store that is open."""

from __future__ import annotations

from os import PathLike
from typing import Any, Generic, TypeAlias, TypeVar, cast

from aiocheckpoint import BlobStore, CheckpointRecord, open_store

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
