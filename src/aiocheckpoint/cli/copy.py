"""`aiocheckpoint copy SOURCE TARGET`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from aiocheckpoint import (
    BlobStore,
    CheckpointError,
    CopyError,
    CopyTotals,
    InvalidArgumentError,
    RawRecord,
    copy_store,
)
from aiocheckpoint.cli.errors import EXIT_NOT_DONE, CommandError
from aiocheckpoint.cli.place import Closing, Place, open_raw
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    command_line,
    console,
    counted,
    exit_status_of,
    print_error,
    print_json,
    print_line,
    require_store,
    told,
    word,
)

Source = Annotated[
    Place, typer.Argument(metavar="SOURCE", parser=Place, help="The directory or URL to copy.")
]
Target = Annotated[
    Place, typer.Argument(metavar="TARGET", parser=Place, help="Where to: a directory or a URL.")
]


def copy(
    source: Source, target: Target, *, max_bytes: MaxBytes = None, as_json: AsJson = False
) -> int:
    """Copy all sessions from one store to another; called again, it goes on where it was."""
    _require_not_within(source, target)
    copying = _Copying(source, target)
    stores = open_raw(source, max_bytes), open_raw(target, max_bytes, may_make=True)
    try:
        asyncio.run(copying.run(*stores))
    except CheckpointError as error:
        if copying.totals != CopyTotals():  # the others were copied
            copying.print(as_json=as_json)
        copying.print_others(error)
        raise CommandError(copying.told(error), _exit_status_of(error)) from error
    copying.print(as_json=as_json)
    return 0


def _exit_status_of(error: CheckpointError) -> int:
    cause = error.__cause__ if isinstance(error, CopyError) else error
    return exit_status_of(cause) if isinstance(cause, CheckpointError) else EXIT_NOT_DONE


def _require_not_within(source: Place, target: Place) -> None:
    """
    Refuse a directory within the other, as one of its sessions would be.

    Raises:
        CommandError: it is.
    """
    if source.path is None or target.path is None:
        return
    paths = source.path.resolve(), target.path.resolve()
    for inner, outer in (paths, paths[::-1]):
        if outer in inner.parents:
            reason = f"{inner} is within {outer}, as one of its sessions would be"
            raise CommandError(f"{reason}; give a directory outside of it")


class _Copying:
    """A copy of one place to another, and how much it has done."""

    def __init__(self, source: Place, target: Place) -> None:
        self.totals = CopyTotals()
        self._source = source
        self._target = target
        self._tells = sys.stderr.isatty()
        self._is_complete = False

    async def run(self, source: BlobStore[RawRecord], target: BlobStore[RawRecord]) -> None:
        """
        Copy.

        Raises:
            CommandError: there is nothing to copy, or it is one place.
            CheckpointError: what `copy_store` raises.
        """
        closing = Closing(source, target)
        async with closing:
            await require_store(source, self._source)
            try:
                totals = await copy_store(source, target, on_progress=self._progressed)
            except InvalidArgumentError as error:
                raise self._is_one_place() from error
            finally:
                if self._tells:
                    sys.stderr.write("\n")
            if not totals.sessions:
                raise CommandError(f"no sessions in {self._source}; nothing was copied")
        self._is_complete = True
        closing.raise_first()

    def _is_one_place(self) -> CommandError:
        other = ""
        if str(self._source) != str(self._target):
            other = f", which {self._target} is, too, or a part of it, or around it"
        text = f"nothing to copy from {self._source} to itself{other}; give another target"
        return CommandError(text)

    def _progressed(self, totals: CopyTotals) -> None:
        self.totals = totals
        if self._tells:
            sys.stderr.write(f"\r\x1b[K{self._summary}")
            sys.stderr.flush()

    @property
    def _verify(self) -> str:
        return command_line("verify", self._target)

    def told(self, error: CheckpointError) -> str:
        """Return what an error says, with commands in the place of methods."""
        is_of_target = isinstance(error, CopyError) or self._is_in_target(error)
        text = told(error, self._target if is_of_target else self._source)
        return text.replace("`check` of the target", f"`{self._verify}`")

    def _is_in_target(self, error: CheckpointError) -> bool:
        path: object = getattr(error, "path", None)
        if not isinstance(path, str) or self._target.path is None:
            return False
        return self._target.path.absolute() in Path(path).absolute().parents

    def print_others(self, error: CheckpointError) -> None:
        """Say how many sessions are refused, and of all but the first, which is raised, why."""
        if error.others:
            print_error(f"{len(error.others) + 1} sessions are refused, each told below")
        for other in error.others:
            print_error(self.told(other))

    @property
    def _summary(self) -> str:
        totals = self.totals
        copied = f"{counted(totals.checkpoints, 'checkpoint')} copied"
        if totals.checkpoints:
            copied += f" and read back ({totals.bytes / 1e6:.1f} MB)"
        return f"{counted(totals.sessions, 'session')}, {copied}, {totals.skipped} there before"

    def print(self, *, as_json: bool) -> None:
        """Say how much was copied."""
        if as_json:
            print_json(self.totals._asdict())
            return
        end = f" and not read: `{self._verify}` reads all" if self.totals.skipped else ""
        style = "green"
        if not self._is_complete:
            end, style = f"{end}; incomplete", "yellow"
        if self.totals.only_in_target:
            end += f"; {counted(self.totals.only_in_target, 'session')} only in the target"
        print_line(console(), f"{word(self._target)}: {self._summary}{end}", style)
