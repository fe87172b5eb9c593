"""Stores on servers, a package each and an extra of its name; `open_store` finds the right one."""

from __future__ import annotations

import importlib
import shlex
import sys
from os import PathLike
from pathlib import Path
from typing import Any, cast, overload

from aiocheckpoint.errors import InvalidArgumentError, UnsupportedOperationError
from aiocheckpoint.kit import (
    RecordKit,
    RecordT,
    location_of,
    require_count,
    require_instance,
    require_seconds,
)
from aiocheckpoint.models import CheckpointData, WriterStats
from aiocheckpoint.store import BlobStore, RecordUnion
from aiocheckpoint.stores.sharing import Plan, SharedStore
from aiocheckpoint.writer import (
    DEFAULT_LOCK_TIMEOUT_SECONDS,
    DEFAULT_MAX_BYTES,
    AsyncCheckpointWriter,
)

# By scheme: the module, the class in it, and the extra that brings its driver.
_SERVERS = {
    "postgresql": ("aiocheckpoint.stores.postgres", "PostgresStore", "postgres"),
    "postgres": ("aiocheckpoint.stores.postgres", "PostgresStore", "postgres"),
    "s3": ("aiocheckpoint.stores.s3", "S3Store", "s3"),
}
# What an extra of this library adds, for whoever cannot have it by name from where they are.
_DRIVERS = {"postgres": "asyncpg backports.zstd", "s3": "aiobotocore aiohttp"}


class SharedWriter(SharedStore[RecordT]):
    """A hold on the writer of a directory, which does what only a writer can."""

    @property
    def _writer(self) -> AsyncCheckpointWriter[RecordT]:
        return cast("AsyncCheckpointWriter[RecordT]", self._store)  # as its plan says

    async def flush(self) -> None:
        """Do what `AsyncCheckpointWriter.flush` says."""
        await self._writer.flush()

    def stats(self) -> WriterStats:
        """Do what `AsyncCheckpointWriter.stats` says, of the writer that all share."""
        return self._writer.stats()


@overload
def open_store(
    location: str | PathLike[str],
    *,
    max_bytes: int = ...,
    max_checkpoints: int | None = ...,
    lock_timeout_seconds: float = ...,
    must_exist: bool = ...,
) -> BlobStore[CheckpointData]: ...


@overload
def open_store(
    location: str | PathLike[str],
    *,
    record_type: type[RecordT] | RecordUnion,
    max_bytes: int = ...,
    max_checkpoints: int | None = ...,
    lock_timeout_seconds: float = ...,
    must_exist: bool = ...,
) -> BlobStore[RecordT]: ...


def open_store(
    location: str | PathLike[str],
    *,
    record_type: Any = CheckpointData,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_checkpoints: int | None = None,
    lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
    must_exist: bool = False,
) -> BlobStore[Any]:
    """
    Return the store at a location; no I/O until its first call.

    ```python
    from aiocheckpoint import CheckpointData, open_store

    async with open_store("state") as store:
        await store.save(CheckpointData(session_id="support-42"))
    ```

    Open it as often as is convenient, for each agent of a framework: all that ask for one location
    with the same options share one store, one pool of threads or connections. It is closed with
    the last of them. It may be used from any event loop and thread, and after a fork in the child,
    which has a store of its own. That of a directory has `flush` and `stats` of the writer, too.

    Args:
        location: a directory, or its `file://` URL; a relative one is resolved by the first call of
            the first that asks for it. `postgresql://user@host/database`; `s3://bucket/prefix`.
            A text that is almost a URL, as with quotes around it, or in which something was to be
            filled in, as `$STATE`, `~` or `None`, is refused: a directory that is called so is
            given as a `Path`.
            Credentials and endpoints that it does not name are those of the
            environment, as `psql` and the AWS command line read them.
        record_type: the Struct to store, extending `CheckpointRecord`, or a union of several.
        max_bytes: of one document, and of one blob.
        max_checkpoints: how many checkpoints to keep in a session, the newest; None keeps all.
            Sessions that only others save to are left alone.
        lock_timeout_seconds: how long a call may wait for others.
        must_exist: whether calls raise `MissingStoreError` where nobody has ever saved, and make no
            store: for a service that has run before, at a location that may be wrong by now. Where
            another store is found in the place of the one that was used, `ReplacedStoreError`.

    Raises:
        InvalidArgumentError: a location of an unknown kind, or another argument that is none.
        RecordTypeError: for a `record_type` that cannot be stored.
        UnsupportedOperationError: the extra for this kind of store is not installed.
    """
    RecordKit(record_type, max_bytes)  # refuses what cannot be stored
    if max_checkpoints is not None:
        require_count("max_checkpoints", max_checkpoints, 1)
    require_seconds("lock_timeout_seconds", lock_timeout_seconds)
    require_instance("must_exist", must_exist, bool)
    options = {
        "record_type": record_type,
        "max_bytes": max_bytes,
        "max_checkpoints": max_checkpoints,
        "lock_timeout_seconds": float(lock_timeout_seconds),
        "must_exist": must_exist,
    }
    place = location_of("location", location)
    kind, text = place
    if place.is_directory:
        path = Path(text)
        return SharedWriter(Plan(AsyncCheckpointWriter, path, options), str(path))
    if kind not in _SERVERS:
        wanted = "a directory, or a URL that begins with postgresql:// or s3://"
        raise InvalidArgumentError("location", f"{kind}://...", wanted)
    plan = Plan(_server(kind), text, options)
    try:
        plan.kind(text, **options)  # which touches nothing, and refuses what leads nowhere
    except InvalidArgumentError as error:
        name = "location" if error.name in ("dsn_or_pool", "url") else error.name
        raise InvalidArgumentError(name, error.value, error.wanted) from None
    return SharedStore(plan, f"{kind}://...")


def _server(kind: str) -> Any:
    module, name, extra = _SERVERS[kind]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        command = f"{shlex.quote(sys.executable)} -m pip install {_DRIVERS[extra]}"
        reason = f"its driver is not there ({error}), the extra `{extra}`: {command}"
        raise UnsupportedOperationError(f"{kind}:// store", "this installation", reason) from error
