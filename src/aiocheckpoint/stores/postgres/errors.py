"""What the server or the driver says, as errors of the library."""

from __future__ import annotations

import errno

import asyncpg

from aiocheckpoint.errors import (
    CheckpointError,
    StorageFullError,
    StoreBusyError,
    StoreUnavailableError,
    UnsuitableStoreError,
)
from aiocheckpoint.stores.postgres.schema import grants

_LOST = (
    "08",  # the connection
    "57P01", "57P02", "57P03",  # shut down, crashed, not up yet
    "25P03", "25P04",  # idle in a transaction for too long
    "40",  # a deadlock, or what may go well the next time
    "53300",  # too many connections
)  # fmt: skip
READ_ONLY = "25006"
IS_REPLICA = "the server is a replica, which takes no changes; give the primary's address"
_OF_SETTINGS = ("22023", "42501", "42704", "55P02", "08P01")  # the last is what poolers say
_NO_SCHEMA = ("3F000", "42P01", "42883")


class LostError(Exception):
    """The connection was lost, or gave no answer; to try again is right."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotMadeError(Exception):
    """
    A change whose answer was lost was not made, and never will be.

    Attributes:
        refusal: what the server said when it was tried again.
    """

    def __init__(self, refusal: asyncpg.PostgresError) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def is_lost(error: BaseException) -> bool:
    """Tell whether to try again on another connection may help."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True  # the driver has forgotten by now what it had prepared before a migration
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_LOST)
    if isinstance(error, ValueError):  # what the driver cannot send, on any connection
        return False
    return isinstance(
        error,
        (
            OSError,
            TimeoutError,
            EOFError,
            LostError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ),
    )


def is_about_settings(error: BaseException) -> bool:
    """Tell whether an error may be about a parameter of a URL, which the server did not take."""
    is_known = isinstance(error, asyncpg.PostgresError) and error.sqlstate in _OF_SETTINGS
    return is_known or isinstance(error, asyncpg.exceptions.ClientConfigurationError)


def is_read_only(error: BaseException) -> bool:
    """Tell whether the server takes no changes, as a replica does."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate == READ_ONLY


def is_damage(error: BaseException) -> bool:
    """Tell whether the server cannot read what it has stored."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith("XX")


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one line; it has no text of a record and no password."""
    if isinstance(error, LostError):
        return error.reason
    if isinstance(error, asyncpg.PostgresError):
        return f"{error.args[0] if error.args else type(error).__name__} ({error.sqlstate})"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__


def translated(
    error: BaseException, operation: str, location: str, wait_seconds: float
) -> CheckpointError:
    """Return the error of the tree that stands for one of the server's or the driver's."""
    if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return UnsuitableStoreError(location, IS_REPLICA)
    if not isinstance(error, asyncpg.PostgresError):
        return StoreUnavailableError(location, operation, reason_of(error))
    state, reason = error.sqlstate or "", reason_of(error)
    if state == "55P03":
        return StoreBusyError(location, wait_seconds)
    if state == "53100":
        return StorageFullError(operation, location, errno.ENOSPC, reason)
    if state == READ_ONLY:
        advice = "give the primary's address, or several with target_session_attrs=primary"
        return UnsuitableStoreError(location, f"the server takes no changes: {reason}; {advice}")
    if state == "42501":
        schema = location.partition("?schema=")[2]
        maker = f"aiocheckpoint.stores.postgres.schema_sql({schema!r}) returns"
        advice = f"its owner makes a schema that is not there by what {maker}, and {grants(schema)}"
        return UnsuitableStoreError(location, f"{reason}; {advice}")
    if state in _NO_SCHEMA:
        return UnsuitableStoreError(
            location, f"its schema is not complete: {reason}; restore it from a backup"
        )
    if "transaction isolation" in reason:
        return UnsuitableStoreError(
            location, f"{reason}: alter role ... set default_transaction_isolation = default"
        )
    return StoreUnavailableError(location, operation, reason)
