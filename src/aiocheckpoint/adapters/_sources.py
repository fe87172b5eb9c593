"""Reading what is moved here from its source, of which any value may be damaged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Generator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from aiocheckpoint import CheckpointError
from aiocheckpoint.adapters._moving import Copied, CopyMismatchError, Failure, RefusedError

_LONGEST = 500  # characters
UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    sqlite3.Error,
)
"""What is raised of a value that is damaged, by whatever reads it."""

ItemT = TypeVar("ItemT")


@contextlib.contextmanager
def reading_source(what: str, *errors: type[Exception]) -> Generator[None]:
    """
    Refuse what the source cannot read, while it is asked for one session and does nothing else.

    Args:
        what: is read, as errors name it.
        errors: what it raises then, besides what any does.
    """
    try:
        yield
    except CheckpointError:  # of one that is of this library, too
        raise
    except Exception as error:
        if not isinstance(error, (*UNREADABLE, *errors)):
            raise
        raise RefusedError(
            f"{what} cannot be read in the source; see whether what wrote it still can, and only "
            f"if not, mend or delete it: {brief(error)}"
        ) from error


def brief(error: object) -> str:
    """Return an error as text; that of what is damaged may have all of it."""
    return repr(error)[:_LONGEST]


async def listed(what: str, listing: Awaitable[Sequence[ItemT]]) -> list[ItemT]:
    """
    Return what a source lists.

    Args:
        what: it is, as errors name it.
        listing: lists it.

    Raises:
        CopyMismatchError: it cannot, so that nothing was copied.
    """
    try:
        with reading_source(what, OSError):
            return [*await listing]
    except RefusedError as error:
        raise CopyMismatchError([Failure(None, error.reason)], Copied()) from error


def sqlite_rows(database: str | Path, sql: str, *values: str | int) -> list[Any]:
    """
    Return what a database answers, which is not changed, nor made.

    A text that is none comes as its bytes: one row that is damaged hides no other.

    Raises:
        sqlite3.Error: it is none, or damaged, or has no such tables.
    """
    with contextlib.closing(_opened(database)) as connection:
        connection.text_factory = text_in
        return connection.execute(sql, values).fetchall()


@contextlib.asynccontextmanager
async def copied_database(database: str | Path | sqlite3.Connection) -> AsyncGenerator[Path]:
    """
    Give a copy of a database, which a framework may change as it reads it; it is gone afterwards.

    What reads a database with the framework's own code brings it to the format of today, and the
    log of a process that was killed into its file.

    Args:
        database: its file, or an open connection, of any thread.

    Raises:
        sqlite3.Error: it is none, or is damaged, or there is no room for the copy.
    """
    made = await asyncio.to_thread(
        tempfile.TemporaryDirectory, prefix="aiocheckpoint-", ignore_cleanup_errors=True
    )
    try:
        copy = Path(made.name) / "copy.db"
        await asyncio.to_thread(_copy, database, copy)
        yield copy
    finally:
        await asyncio.to_thread(made.cleanup)


def _copy(database: str | Path | sqlite3.Connection, to: Path) -> None:
    with contextlib.ExitStack() as stack:
        if not isinstance(database, sqlite3.Connection):
            database = stack.enter_context(contextlib.closing(_opened(database)))
        database.backup(stack.enter_context(contextlib.closing(sqlite3.connect(to))))


def _opened(database: str | Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)


def text_in(data: bytes) -> str | bytes:
    """Return a text of a database, or its bytes where it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def require_names(*names: object) -> None:
    """
    Refuse a session of which a name is damaged.

    Raises:
        RefusedError: one is no text.
    """
    if not all(isinstance(name, str) for name in names):
        raise RefusedError("its name is no text in the source; mend or delete it")


def parsed(text: Any, what: str) -> Any:
    """
    Return what a JSON text is.

    Args:
        text: as the source has it.
        what: it is, as errors name it.

    Raises:
        RefusedError: it is none.
    """
    try:
        return json.loads(text)
    except (RecursionError, TypeError, ValueError) as error:
        raise RefusedError(f"{what} is no JSON; mend or delete it") from error


def parsed_object(text: Any, what: str) -> dict[str, Any]:
    """
    Return what the JSON text of an object is.

    Args:
        text: as the source has it.
        what: it is, as errors name it.

    Raises:
        RefusedError: it is none.
    """
    found = parsed(text, what)
    if not isinstance(found, dict):
        raise RefusedError(f"{what} is no JSON object; mend or delete it")
    return found
