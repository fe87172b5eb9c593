"""Errors that are kept, or that several callers get."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from aiocheckpoint.errors import CheckpointError, shown

ErrorT = TypeVar("ErrorT", bound=BaseException)


def kept(error: Exception) -> Exception:
    """
    Return a copy of an error that is kept, with its notes, and copies of the errors in it.

    A traceback, of it or of its cause, would keep all that was going on, as the state and the
    writer of who called.

    Args:
        error: of whatever class.

    Returns:
        the copy; a `CheckpointError` with its name and text where it cannot be copied.
    """
    try:
        if isinstance(error, ExceptionGroup):
            group = error.derive([kept(each) for each in error.exceptions])
            return _with_notes(group, error)
        found = _copied(error)
        if isinstance(found, CheckpointError) and found.others:
            found.others = tuple(_alone(other) for other in found.others)
    except Exception:  # noqa: BLE001 - whatever a class of theirs raises
        return _as_text(error)
    return found


def own_copy(error: ErrorT) -> ErrorT:
    """
    Return an error for one of several callers, each of which adds its own traceback.

    Args:
        error: what all of them are to raise, or what is raised again and again.

    Returns:
        a copy with its notes and its cause; the error itself where it is no `CheckpointError`, or
        cannot be copied.
    """
    if not isinstance(error, CheckpointError):
        return error
    try:
        own = _copied(error)
    except Exception:  # noqa: BLE001 - as of whoever has written a store; they share one
        return error
    own.__cause__ = error.__cause__
    return own


def _alone(error: CheckpointError) -> CheckpointError:
    """Return a copy of one of several errors, without the rest of them."""
    try:
        found = _copied(error)
    except Exception:  # noqa: BLE001 - as above
        return _as_text(error)
    found.others = ()
    return found


def _as_text(error: Exception) -> CheckpointError:
    return CheckpointError(f"{type(error).__name__}: {shown(error, str)}")


def _copied(error: ErrorT) -> ErrorT:
    """Return a copy, or raise where the class takes other arguments than it passes on."""
    found = copy(error)
    if type(found) is not type(error):
        raise TypeError(f"a copy of {type(error).__name__} is {type(found).__name__}")
    return _with_notes(found, error)


def _with_notes(found: ErrorT, error: BaseException) -> ErrorT:
    if hasattr(error, "__notes__"):
        found.__notes__ = [*error.__notes__]
    return found
