"""What all that moves sessions here from another store does alike, and how it is a command."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields, is_dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias

from aiocheckpoint import (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointError,
    CheckpointTooLargeError,
    ExactValueError,
    FormatVersionError,
    InvalidArgumentError,
    InvalidIdError,
    SessionChangedError,
)

_REPORT_EVERY = 100
ADVICE: Final = (
    "find out which of the two is the newer before you change either: the one that is there may "
    "be, and an empty storage would get what the source has"
)
"""What to do where something else is at the target already."""
OF_ONE_SESSION: Final = (
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointTooLargeError,
    ExactValueError,
    FormatVersionError,
    InvalidArgumentError,
    InvalidIdError,
    SessionChangedError,
)
"""What is wrong with one session; from anything else, as a full disk, all would suffer."""


class Copied(NamedTuple):
    """
    How much was copied.

    Attributes:
        sessions: so many.
        entries: so many in all of them, of what the framework adds to a session one by one.
        left_out: so many more are in the source alone, as the framework hands them to no store.
    """

    sessions: int = 0
    entries: int = 0
    left_out: int = 0


Progress: TypeAlias = Callable[[Copied], object]
"""Called after each session, with how much was copied so far."""


class Failure(NamedTuple):
    """
    A session that was not copied, or does not read the same after it.

    Attributes:
        session_id: the session, as the framework names it; None of something of which nobody can
            tell whose it is, as of a file that is torn.
        reason: what is wrong, and what to do.
        unit: what the framework calls it.
    """

    session_id: str | None
    reason: str
    unit: str = "session"

    def __str__(self) -> str:
        if self.session_id is None:
            return self.reason
        return f"{self.unit} {self.session_id!r}: {self.reason}"


class CopyMismatchError(RuntimeError):
    """
    Sessions that were not copied, or do not read the same after it; all others were copied.

    Where something may be of any session, nothing was copied.

    Attributes:
        failures: of each its id, and what is wrong and what to do.
        copied: how much the others have.
    """

    def __init__(self, failures: Sequence[Failure], copied: Copied) -> None:
        super().__init__(failures, copied)
        self.failures = (*failures,)
        self.copied = copied

    def __str__(self) -> str:
        return "\n".join([*map(str, self.failures), self._outcome])

    @property
    def _outcome(self) -> str:
        """What became of the others."""
        if any(failure.session_id is None for failure in self.failures):
            return "nothing was copied, since what cannot be read may be of any session"
        return f"{len(self.failures)} refused, and all others are there"


class RefusedError(Exception):
    """
    What is being copied is refused, and nothing of it was written, unless the reason says so.

    Attributes:
        reason: what is wrong, and what to do.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_same_json(one: object, other: object) -> bool:
    """Tell whether JSON values are the same: as text, in which NaN is NaN, and 1 is not 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def is_same(one: Any, other: Any) -> bool:
    """Tell whether values, lists and dataclasses of them too, are equal; NaN is what NaN is."""
    if type(one) is type(other):
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(is_same(one[k], other[k]) for k in one)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(is_same, one, other))
        if is_dataclass(one):
            names = [field.name for field in fields(one) if field.compare]
            return all(is_same(getattr(one, name), getattr(other, name)) for name in names)
        if isinstance(one, float) and one != one:  # noqa: PLR0124 - NaN alone
            return bool(other != other)  # noqa: PLR0124
    return bool(one == other)


class Part:
    """
    A block that copies a session, as a whole or not at all; what is wrong with it alone ends it.

    Attributes:
        session_id: the session, as the framework names it.
        unit: what the framework calls it.
        sessions: how many sessions it is.
        entries: how many they have, which the block tells.
        left_out: how many are in the source alone, which it tells, too.
    """

    def __init__(self, move: Move, session_id: str, unit: str) -> None:
        self.session_id = session_id
        self.unit = unit
        self.sessions = 1
        self.entries = 0
        self.left_out = 0
        self._move = move

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if exc is None:
            self._move.count(self)
            return False
        return self._move.keep(self, exc)


class Move:
    """
    Copies one session after the other: what is refused is told once the others are copied.

    As a context manager it raises that at its end; what stops all of it then says in its notes what
    was refused before.

    Args:
        progress: called after each session.
        unit: what the framework calls a session.

    Attributes:
        copied: how much.
    """

    def __init__(self, progress: Progress | None, *, unit: str = "session") -> None:
        self.copied = Copied()
        self._unit = unit
        self._progress = progress
        self._failures: list[Failure] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """
        Tell what was refused.

        Raises:
            CopyMismatchError: something was.
        """
        if exc is None and self._failures:
            raise CopyMismatchError(self._failures, self.copied)
        if exc is not None:
            for failure in self._failures:
                exc.add_note(str(failure))

    def part(self, session_id: object, unit: str | None = None) -> Part:
        """Return a block for a session, of any name, or for what is called otherwise."""
        name = session_id if isinstance(session_id, str) else repr(session_id)
        return Part(self, name, unit or self._unit)

    def count(self, part: Part) -> None:
        """Count what was copied, and tell it."""
        sessions, entries, left_out = self.copied
        self.copied = Copied(
            sessions + part.sessions, entries + part.entries, left_out + part.left_out
        )
        if self._progress is not None and part.sessions:
            self._progress(self.copied)

    def keep(self, part: Part, error: BaseException) -> bool:
        """Keep what is wrong with one session, to be told at the end; False of anything else."""
        if isinstance(error, RefusedError):
            reason = error.reason
        elif isinstance(error, OF_ONE_SESSION):
            reason = str(error)
        else:
            return False
        self._failures.append(Failure(part.session_id, reason, part.unit))
        return True


def run_copy(
    parser: argparse.ArgumentParser,
    copy: Callable[[Progress], Coroutine[Any, Any, Copied]],
    *,
    unit: str = "session",
    entries: str,
    source: str,
    source_errors: tuple[type[Exception], ...],
) -> None:
    """
    Run a copy as a command: say how far it is, and how it ends.

    Args:
        parser: of the command, which exits with 1 when the copy fails or something was refused,
            and with 2 when there is nothing to copy from.
        copy: what to run.
        unit: what the framework calls a session.
        entries: what it calls those.
        source: says what was to be copied, and is not what it should be.
        source_errors: what tells that.
    """

    def told(copied: Copied, when: str) -> str:
        text = f"{copied.sessions} {unit}s, {copied.entries} {entries} {when}"
        if copied.left_out:
            text += f"; {copied.left_out} more left out, which the framework hands to no store"
        return f"{text}\n"

    def report(copied: Copied) -> None:
        if copied.sessions % _REPORT_EVERY == 0:
            sys.stdout.write(told(copied, "so far"))

    try:
        copied = asyncio.run(copy(report))
    except CopyMismatchError as error:
        parser.exit(1, f"{error}:\n" + told(error.copied, "copied and compared"))
    except CheckpointError as error:  # of which some are `ValueError`s too
        texts = (error, *getattr(error, "__notes__", ()), "run it again to go on where it stopped")
        parser.exit(1, "".join(f"{text}\n" for text in texts))
    except source_errors as error:
        texts = (f"{source}: {error}", *getattr(error, "__notes__", ()))
        parser.exit(2, "".join(f"{text}\n" for text in texts))
    sys.stdout.write(told(copied, "copied and compared"))
