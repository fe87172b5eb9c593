"""Where the checkpoints are that a command works on: a directory, or a store on a server."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointError,
    CheckpointRecord,
    RawRecord,
)
from aiocheckpoint import open_store as open_location
from aiocheckpoint.cli.errors import CommandError
from aiocheckpoint.kit import location_of, server_url

_MAX_BYTES = 64 * 1024 * 1024
_WHERE = frozenset({"host", "port", "user", "dbname", "schema"})
_DATABASES = ("postgresql://", "postgres://")
_ADVICE_BY_SCHEME = {"s3": "check the bucket and the prefix"}
_ADVICE = "check the database, and the schema in ?schema=, by default aiocheckpoint"


class Place:
    """
    A directory, or the URL of a store, as it was given.

    Args:
        text: the argument.

    Attributes:
        location: the argument, with credentials.
        path: of the directory, also that of a `file://` URL; None of a store on a server.

    Raises:
        BadParameter: it is empty, as a variable of the shell that is not set.
        InvalidArgumentError: a `file://` URL of another machine, or with options; what is almost a
            URL, as `s3:/bucket`; or a text in which something was to be filled in.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise typer.BadParameter("it is an empty text, as that of a variable which is not set")
        self.location = text
        place = location_of("location", text)
        self.path = Path(place.text) if place.is_directory else None

    @property
    def location_to_look_at(self) -> str:
        """The location, opened by which nothing is changed, the schema of a database neither."""
        if not self.location.lower().startswith(_DATABASES):
            return self.location
        return f"{self.location}{'&' if '?' in self.location else '?'}migrate=no"

    def __str__(self) -> str:
        """
        Return it as it may be shown: without a password.

        Of the options those are shown that say where it is: without them a command that is pasted
        would work on other checkpoints. Any other may be a secret.
        """
        if self.path is not None:
            return str(self.path)
        scheme = self.location.partition("://")[0]
        parts = server_url(self.location)
        if parts is None:
            return f"{scheme}://..."
        where = [it for it in parts.query.split("&") if it.partition("=")[0] in _WHERE]
        query = f"?{'&'.join(where)}" if where else ""
        user = f"{parts.user}@" if parts.user else ""
        return f"{scheme}://{user}{parts.hosts}{parts.path}{query}"

    def directory(self, verb: str) -> Path:
        """
        Return the path of the directory.

        Raises:
            CommandError: it is a store on a server, and this verb is about files.
        """
        if self.path is None:
            raise CommandError(f"{self} is no directory; {verb} is for directories alone")
        return self.path

    @property
    def advice(self) -> str:
        """What to look at where no store is there."""
        if self.path is not None:
            return "give the directory that holds the sessions"
        return _ADVICE_BY_SCHEME.get(self.location.partition("://")[0].lower(), _ADVICE)


class Closing:
    """
    A block with stores, which closes them at its end, and keeps what that raises.

    For it is about what others have left in the store, and must not hide what the block has done,
    or why it could not.

    Args:
        stores: to be closed, the last one first.

    Attributes:
        errors: what closing them raised.
    """

    def __init__(self, *stores: BlobStore[Any]) -> None:
        self.errors: list[CheckpointError] = []
        self._stores = stores

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        async with contextlib.AsyncExitStack() as closing:
            for store in self._stores:
                closing.push_async_callback(self._close, store)

    def raise_first(self) -> None:
        """Raise the first of the errors, if there is any."""
        for error in self.errors:
            raise error

    async def _close(self, store: BlobStore[Any]) -> None:
        try:
            await store.aclose()
        except CheckpointError as error:
            self.errors.append(error)


def open_writer(
    directory: Path, max_bytes: int | None = None, timeout_seconds: float = 60
) -> AsyncCheckpointWriter[CheckpointRecord]:
    """
    Return a writer on a directory, for records of any type.

    Raises:
        CommandError: when there is no such directory; a writer would make it.
    """
    _require_directory(directory)
    return AsyncCheckpointWriter(
        directory,
        record_type=CheckpointRecord,
        max_bytes=max_bytes or _MAX_BYTES,
        lock_timeout_seconds=timeout_seconds,
    )


def open_store(
    place: Place, max_bytes: int | None = None, *, may_change: bool = False
) -> BlobStore[CheckpointRecord]:
    """
    Return the store at a place, for records of any type.

    Args:
        place: where.
        max_bytes: the largest file to read.
        may_change: whether what is there may be changed, as the schema of an older release.

    Raises:
        CommandError: when there is no such directory; a writer would make it.
    """
    if place.path is not None:
        return open_writer(place.path, max_bytes)
    location = place.location if may_change else place.location_to_look_at
    return open_location(location, record_type=CheckpointRecord, max_bytes=max_bytes or _MAX_BYTES)


def open_raw(
    place: Place, max_bytes: int | None = None, *, may_make: bool = False
) -> BlobStore[RawRecord]:
    """
    Return the store at a place, for documents as they are.

    Args:
        place: where.
        max_bytes: the largest file to read.
        may_make: whether a directory that is not there will be made, and what is there changed.

    Raises:
        CommandError: when there is no such directory, and none may be made; or a file.
    """
    if place.path is not None and not (may_make and not place.path.exists()):
        _require_directory(place.path)
    location = place.location if may_make else place.location_to_look_at
    return open_location(location, record_type=RawRecord, max_bytes=max_bytes or _MAX_BYTES)


def _require_directory(directory: Path) -> None:
    if not directory.is_dir():
        reason = "is a file" if directory.exists() else "does not exist"
        raise CommandError(f"{directory} {reason}; give the directory that holds the sessions")
