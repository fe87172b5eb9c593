"""`aiocheckpoint verify DIR` and `aiocheckpoint verify FILE`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from aiocheckpoint import AsyncCheckpointWriter, CheckpointRecord, Finding
from aiocheckpoint.cli.sessions import summaries
from aiocheckpoint.cli.terminal import (
    AsJson,
    CommandError,
    MaxBytes,
    command_line,
    console,
    counted,
    in_shell_words,
    no_checkpoints,
    open_store,
    print_json,
    print_line,
)

Target = Annotated[
    Path, typer.Argument(metavar="DIR|FILE", help="A directory of sessions, or one checkpoint.")
]

_RECOVERABLE = frozenset({"damaged", "misplaced", "missing-blob"})


class Verification(Struct, kw_only=True):
    """
    What was verified, and what is wrong.

    Attributes:
        path: what was asked for.
        ok: whether nothing is damaged; what a killed process left behind is no damage.
        sessions: how many were read.
        checkpoints: how many can be listed, damaged ones among them where they still can.
        findings: what is wrong.
    """

    path: Path
    ok: bool
    sessions: int
    checkpoints: int
    findings: tuple[Finding, ...]


def verify(target: Target, *, max_bytes: MaxBytes = None, as_json: AsJson = False) -> int:
    """Verify the checksum of one checkpoint, or everything under a directory."""
    if target.is_dir():
        found = asyncio.run(_directory_verified(open_store(target, max_bytes), target))
    elif target.exists():
        found = asyncio.run(_file_verified(open_store(target.parent, max_bytes), target))
    else:
        raise CommandError(f"{target} does not exist")
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0 if found.ok else 1


async def _directory_verified(
    writer: AsyncCheckpointWriter[CheckpointRecord], directory: Path
) -> Verification:
    async with writer:
        findings = await writer.check()
        counts = [summary.checkpoints for summary in (await summaries(writer))[0]]
    if not counts and not findings:
        raise no_checkpoints(directory, "nothing was verified")
    return Verification(
        path=directory,
        ok=not any(finding.is_damage for finding in findings),
        sessions=len(counts),
        checkpoints=sum(counts),
        findings=findings,
    )


async def _file_verified(
    writer: AsyncCheckpointWriter[CheckpointRecord], path: Path
) -> Verification:
    async with writer:
        intact = await writer.verify(path)
    findings = () if intact else (_damaged(path),)
    return Verification(path=path, ok=intact, sessions=0, checkpoints=1, findings=findings)


def _damaged(path: Path) -> Finding:
    detail = "its content does not match its checksum, or it is no checkpoint"
    location = path.absolute().as_uri()
    return Finding(kind="damaged", location=location, path=path, detail=detail)


def _print(found: Verification) -> None:
    screen = console()
    for finding in found.findings:
        style = "red" if finding.is_damage else "yellow"
        print_line(screen, f"{finding.kind}: {finding.path}", style)
        detail = in_shell_words(finding.detail, found.path, finding.session_id)
        print_line(screen, f"    {detail}{_advice(finding, found.path)}")
    what = str(found.path)
    if found.sessions:
        what += f": {counted(found.sessions, 'session')}, "
        what += counted(found.checkpoints, "checkpoint")
    if not found.ok:
        damaged = sum(finding.is_damage for finding in found.findings)
        print_line(screen, f"{what}, {damaged} not intact", "red")
    elif found.findings:
        findings = counted(len(found.findings), "finding")
        print_line(screen, f"{what}, no damage, {findings}", "yellow")
    else:
        print_line(screen, f"{what}, intact", "green")


def _advice(finding: Finding, directory: Path) -> str:
    """Return what to type about a finding, if there is anything."""
    if finding.kind in _RECOVERABLE and finding.session_id is not None:
        return f"; `{command_line('recover', directory, finding.session_id)}` mends it"
    return ""
