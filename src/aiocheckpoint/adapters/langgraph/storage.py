"""Where a saver keeps its threads: a directory, what a URL names, or a store that is open."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, cast

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    InvalidArgumentError,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.adapters._storage import (
    Storage,
    is_store,
    refused_as_storage,
    require_all_kept,
)
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from aiocheckpoint.kit import location_of

_OF_A_DIRECTORY = inspect.signature(AsyncCheckpointWriter).parameters.keys() - {
    "storage_path", "record_type",
}  # fmt: skip
_OF_ANY_PLACE = frozenset({"max_bytes", "lock_timeout_seconds", "must_exist"})


class _OfProcess:
    """
    A writer for each process that uses it: a forked child has another one than its parent.

    Args:
        make: makes one, and touches nothing.
    """

    def __init__(self, make: Callable[[], AsyncCheckpointWriter[ThreadRecord]]) -> None:
        self._make = make
        self._writers = {os.getpid(): make()}  # those of parents are let alone
        self._is_closed = False

    def __repr__(self) -> str:
        return repr(self._writer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._writer, name)

    @property
    def _writer(self) -> AsyncCheckpointWriter[ThreadRecord]:
        process_id = os.getpid()
        writer = self._writers.get(process_id)
        if writer is None:
            if self._is_closed:
                raise WriterClosedError("the saver is closed")
            writer = self._writers.setdefault(process_id, self._make())
        return writer

    async def aclose(self) -> None:
        """Close that of this process."""
        self._is_closed = True
        writer = self._writers.get(os.getpid())
        if writer is not None:
            await writer.aclose()


def opened(
    storage: Storage[ThreadRecord], options: dict[str, Any]
) -> tuple[BlobStore[ThreadRecord], bool]:
    """
    Return the store of a saver, and whether the saver has to close it.

    Args:
        storage: what the user gave.
        options: likewise; of the writer for a directory, of `open_store` for a URL.

    Raises:
        TypeError: an option that there is not.
        InvalidArgumentError: options that this kind of storage does not take, no storage, or
            `max_checkpoints`, given or of an open store.
        CheckpointError: what else the writer and `open_store` raise.
    """
    _require_options(options)
    if isinstance(storage, str | PathLike):
        location = location_of("storage", storage)
        if location.is_directory:
            # Nobody needs a second name of a checkpoint of which there are five a turn.
            given: dict[str, Any] = {"max_backups": 0, **options}
            path = Path(location.text)

            def make() -> AsyncCheckpointWriter[ThreadRecord]:
                return AsyncCheckpointWriter(path, record_type=ThreadRecord, **given)

            with refused_as_storage():
                return cast("BlobStore[ThreadRecord]", _OfProcess(make)), True
        _require_none(options.keys() - _OF_ANY_PLACE, options, "a directory")
        with refused_as_storage():
            return open_store(storage, record_type=ThreadRecord, **options), True
    if not is_store(storage):
        raise InvalidArgumentError("storage", storage, "a path, a URL or an open `BlobStore`")
    require_all_kept(storage, "give the saver `keep_last`")
    _require_none(options.keys(), options, "what the saver opens itself")
    return storage, False


def _require_options(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in _OF_A_DIRECTORY:
            raise TypeError(f"CheckpointSaver() got an unexpected keyword argument {name!r}")
        if name == "max_checkpoints":
            wanted = "`keep_last` instead: it would count writes as well"
            raise InvalidArgumentError(name, value, wanted)


def _require_none(names: Any, options: dict[str, Any], of_what: str) -> None:
    for name in sorted(names):
        wanted = f"no {name} here, where it has no effect: it is an option of {of_what}"
        raise InvalidArgumentError(name, options[name], wanted)
