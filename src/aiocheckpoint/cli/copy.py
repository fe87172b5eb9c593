"""`aiocheckpoint copy SOURCE TARGET`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from aiocheckpoint import (
    BlobStore,
    CheckpointCorruptError,
    CheckpointError,
    CopyError,
    CopyTotals,
    InvalidArgumentError,
    RawRecord,
    copy_store,
)
from aiocheckpoint.cli.errors import EXIT_DAMAGED, EXIT_NOT_DONE, CommandError
from aiocheckpoint.cli.place import Place, open_raw
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    advised,
    command_line,
    console,
    counted,
    in_shell_words,
    print_error,
    print_json,
    print_line,
    require_store,
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
    with advised(source):
        stores = open_raw(source, max_bytes), open_raw(target, max_bytes, may_make=True)
        try:
            asyncio.run(copying.run(*stores))
        except CheckpointError as error:
            if copying.totals != CopyTotals():  # the others were copied
                copying.print(as_json=as_json, is_complete=False)
            _print_notes(error, source, copying)
            if isinstance(error, CopyError):
                is_damage = isinstance(error.__cause__, CheckpointCorruptError)
                status = EXIT_DAMAGED if is_damage else EXIT_NOT_DONE
                raise CommandError(copying.in_target(str(error)), status) from error
            raise
    copying.print(as_json=as_json, is_complete=True)
    return 0


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

    async def run(self, source: BlobStore[RawRecord], target: BlobStore[RawRecord]) -> None:
        """
        Copy.

        Raises:
            CommandError: there is nothing to copy, or it is one place.
            CheckpointError: what `copy_store` raises.
        """
        async with source, target:
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

    def in_target(self, text: str) -> str:
        """Return what `copy_store` says of the target with a command in the place of a method."""
        return text.replace("`check` of the target", f"`{self._verify}`")

    @property
    def _summary(self) -> str:
        totals = self.totals
        copied = f"{counted(totals.checkpoints, 'checkpoint')} copied"
        if totals.checkpoints:
            copied += f" and read back ({totals.bytes / 1e6:.1f} MB)"
        return f"{counted(totals.sessions, 'session')}, {copied}, {totals.skipped} there before"

    def print(self, *, as_json: bool, is_complete: bool) -> None:
        """Say how much was copied."""
        if as_json:
            print_json(self.totals._asdict())
            return
        end = f" and not read: `{self._verify}` reads all" if self.totals.skipped else ""
        style = "green"
        if not is_complete:
            end, style = f"{end}; incomplete", "yellow"
        if self.totals.only_in_target:
            end += f"; {counted(self.totals.only_in_target, 'session')} only in the target"
        print_line(console(), f"{word(self._target)}: {self._summary}{end}", style)


def _print_notes(error: CheckpointError, source: Place, copying: _Copying) -> None:
    """Say how many sessions are refused, and of all but the first, which is raised, why."""
    notes = getattr(error, "__notes__", ())
    if notes:
        print_error(f"{len(notes) + 1} sessions are refused, each told below")
    for note in notes:
        print_error(copying.in_target(in_shell_words(note, source, None)))
