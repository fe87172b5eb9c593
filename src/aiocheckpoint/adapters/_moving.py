"""What all that moves sessions here from another store reports, and how it is run as a command."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeAlias

from aiocheckpoint import CheckpointError

_REPORT_EVERY = 100


class Copied(NamedTuple):
    """
    How much was copied.

    Attributes:
        sessions: so many.
        entries: so many in all of them, of what the framework adds to a session one by one.
    """

    sessions: int = 0
    entries: int = 0


Progress: TypeAlias = Callable[[Copied], object]
"""Called after each session, with how much was copied so far."""


class CopyMismatchError(RuntimeError):
    """
    A session that was not copied, or does not read the same after it.

    Attributes:
        session_id: the session.
        reason: what is wrong, and what to do.
    """

    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(session_id, reason)
        self.session_id = session_id
        self.reason = reason

    def __str__(self) -> str:
        return f"session {self.session_id!r}: {self.reason}"


def run_copy(
    parser: argparse.ArgumentParser,
    copy: Callable[[Progress], Coroutine[Any, Any, Copied]],
    *,
    entries: str,
    source: str,
    source_errors: tuple[type[Exception], ...],
) -> None:
    """
    Run a copy as a command: say how far it is, and how it ends.

    Args:
        parser: of the command, which exits with 1 when the copy fails, and with 2 when there is
            nothing to copy from.
        copy: what to run.
        entries: what the framework calls them.
        source: says what was to be copied, and is not what it should be.
        source_errors: what tells that.
    """

    def say(copied: Copied, when: str) -> None:
        sys.stdout.write(f"{copied.sessions} sessions, {copied.entries} {entries} {when}\n")

    def report(copied: Copied) -> None:
        if copied.sessions % _REPORT_EVERY == 0:
            say(copied, "so far")

    try:
        copied = asyncio.run(copy(report))
    except (CheckpointError, CopyMismatchError) as error:  # of which some are `ValueError`s too
        parser.exit(1, "".join(f"{text}\n" for text in (error, *getattr(error, "__notes__", ()))))
    except source_errors as error:
        parser.exit(2, f"{source}: {error}\n")
    say(copied, "copied and compared")
