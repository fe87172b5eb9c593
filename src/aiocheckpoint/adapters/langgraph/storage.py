"""Where a saver keeps its threads: a directory, what a URL names, or a store that is open."""

from __future__ import annotations

import inspect
from os import PathLike
from pathlib import Path
from typing import Any

from aiocheckpoint import AsyncCheckpointWriter, BlobStore, InvalidArgumentError, open_store
from aiocheckpoint.adapters._storage import (
    Storage,
    is_store,
    refused_as_storage,
    require_all_kept,
)
from aiocheckpoint.adapters.langgraph.records import ThreadRecord
from aiocheckpoint.kit import path_of_url, path_text

_OF_A_DIRECTORY = inspect.signature(AsyncCheckpointWriter).parameters.keys() - {
    "storage_path", "record_type",
}  # fmt: skip
_OF_ANY_PLACE = frozenset({"max_bytes", "lock_timeout_seconds", "must_exist"})


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
        text = path_text("storage", storage)
        linked = path_of_url("storage", text)
        if linked is not None or "://" not in text or isinstance(storage, PathLike):
            # Nobody needs a second name of a checkpoint of which there are five a turn.
            given: dict[str, Any] = {"max_backups": 0, **options}
            with refused_as_storage():
                writer: AsyncCheckpointWriter[ThreadRecord] = AsyncCheckpointWriter(
                    Path(linked) if linked else storage, record_type=ThreadRecord, **given
                )
            return writer, True
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
        raise InvalidArgumentError(name, options[name], f"none: it is an option of {of_what}")
