"""`aiocheckpoint copy SOURCE TARGET`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from aiocheckpoint import BlobStore, CheckpointError, CopyTotals, RawRecord, copy_store
from aiocheckpoint.cli.errors import CommandError
from aiocheckpoint.cli.place import Place, open_raw
from aiocheckpoint.cli.terminal import (
    AsJson,
    MaxBytes,
    advised,
    console,
    counted,
    in_shell_words,
    one_line,
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
    _require_apart(source, target)
    with advised(source):
        stores = open_raw(source, max_bytes), open_raw(target, max_bytes, may_make=True)
        try:
            totals = asyncio.run(_copied(*stores, source))
        except CheckpointError as error:
            _print_notes(error, source)
            raise
    if as_json:
        print_json(totals._asdict())
    else:
        others = counted(totals.only_in_target, "session")
        rest = f"; {others} only in the target" if totals.only_in_target else ""
        print_line(console(), f"{word(target)}: {_summary(totals)}, verified{rest}", "green")
    return 0


def _require_apart(source: Place, target: Place) -> None:
    """
    Refuse one place for both, and a directory within the other, as one of its sessions would be.

    Raises:
        CommandError: it is.
    """
    if source.is_same(target):
        other = "" if str(source) == str(target) else f", which {target} is, too"
        raise CommandError(f"nothing to copy from {source} to itself{other}; give another target")
    if source.path is None or target.path is None:
        return
    paths = source.path.resolve(), target.path.resolve()
    for inner, outer in (paths, paths[::-1]):
        if outer in inner.parents:
            reason = f"{inner} is within {outer}, as one of its sessions would be"
            raise CommandError(f"{reason}; give a directory outside of it")


async def _copied(
    source: BlobStore[RawRecord], target: BlobStore[RawRecord], place: Place
) -> CopyTotals:
    tell = _tell if sys.stderr.isatty() else None
    async with source, target:
        await require_store(source, place)
        try:
            totals = await copy_store(source, target, on_progress=tell)
        finally:
            if tell is not None:
                sys.stderr.write("\n")
        if not totals.sessions:
            raise CommandError(f"no sessions in {place}; nothing was copied")
        return totals


def _print_notes(error: CheckpointError, source: Place) -> None:
    """Say how many sessions are refused, and of all but the first, which is raised, why."""
    notes = getattr(error, "__notes__", ())
    if notes:
        sys.stderr.write(f"aiocheckpoint: {len(notes) + 1} sessions are refused, each told below\n")
    for note in notes:
        sys.stderr.write(f"aiocheckpoint: {one_line(in_shell_words(note, source, None))}\n")


def _tell(totals: CopyTotals) -> None:
    sys.stderr.write(f"\r\x1b[K{_summary(totals)}")
    sys.stderr.flush()


def _summary(totals: CopyTotals) -> str:
    copied = f"{counted(totals.checkpoints, 'checkpoint')} copied ({totals.bytes / 1e6:.1f} MB)"
    return f"{counted(totals.sessions, 'session')}, {copied}, {totals.skipped} there before"
