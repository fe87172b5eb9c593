"""Errors that are kept, or that several callers get."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from aiocheckpoint.errors import CheckpointError, shown

ErrorT = TypeVar("ErrorT", bound=Exception)
AnyErrorT = TypeVar("AnyErrorT", bound=BaseException)


def without_frames(error: ErrorT) -> ErrorT:
    """
    Return a copy of an error, to be kept, or of one that was kept, to be raised.

    Its traceback, or that of its cause, keeps all who called, and grows when it is raised again.

    Raises:
        Exception: its class takes other arguments than it passes on, as one of whoever has written
            a store may.
    """
    found = copy(error)
    if type(found) is not type(error):
        raise TypeError(f"a copy of {type(error).__name__} is {type(found).__name__}")
    if hasattr(error, "__notes__"):
        found.__notes__ = [*error.__notes__]
    return found


def kept(error: Exception) -> Exception:
    """Return what is to be kept of an error of whatever class; see `without_frames`."""
    try:
        return without_frames(error)
    except Exception:  # noqa: BLE001 - whatever a class of theirs raises
        return CheckpointError(f"{type(error).__name__}: {shown(error, str)}")


def own_copy(error: AnyErrorT) -> AnyErrorT:
    """Return an error for one of several callers, each of which adds its own traceback."""
    if not isinstance(error, CheckpointError):
        return error
    try:
        own = without_frames(error)
    except Exception:  # noqa: BLE001 - as above; then they share one
        return error
    own.__cause__ = error.__cause__
    return own
