"""`aiocheckpoint verify DIR` and `aiocheckpoint verify FILE`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointRecord,
    Finding,
    SessionId,
)
from aiocheckpoint.cli.errors import EXIT_DAMAGED, CommandError
from aiocheckpoint.cli.place import Place, open_store, open_writer
from aiocheckpoint.cli.recover import RECOVERABLE, count_needed, is_spare
from aiocheckpoint.cli.sessions import summaries
from aiocheckpoint.cli.terminal import (
    SOME_SESSION,
    AsJson,
    MaxBytes,
    command_line,
    console,
    counted,
    in_shell_words,
    print_json,
    print_line,
    quoted,
    require_store,
    word,
)
from aiocheckpoint.kit import framework_of

_BUSY = "another process has kept its journal locked; is it stopped?"
Target = Annotated[
    Place,
    typer.Argument(
        metavar="DIR|FILE", parser=Place, help="A directory of sessions or a URL; or a checkpoint."
    ),
]


class Verification(Struct, kw_only=True):
    """
    What was verified, and what is wrong.

    Attributes:
        path: what was asked for.
        ok: whether all was looked at, and nothing is damaged; what a killed process left behind is
            no damage.
        sessions: how many there are; 0 where not all could be looked at.
        checkpoints: how many can be listed, damaged ones among them where they still can; None
            where some session cannot be listed.
        findings: what is wrong.
    """

    path: str
    ok: bool
    sessions: int
    checkpoints: int | None
    findings: tuple[Finding, ...]

    @property
    def is_damaged(self) -> bool:
        """Whether anything is."""
        return any(finding.is_damage for finding in self.findings)

    @property
    def is_partial(self) -> bool:
        """Whether there is more, which could not be looked at."""
        return _is_partial(self.findings)


def verify(target: Target, *, max_bytes: MaxBytes = None, as_json: AsJson = False) -> int:
    """Verify the checksum of one checkpoint, or everything in a store."""
    path = target.path
    if path is None or path.is_dir():
        found, some = asyncio.run(_store_verified(open_store(target, max_bytes), target))
    elif path.parent.name == ".aiocheckpoint" and path.exists():
        what = f"{target} is a part of the journal, not a checkpoint"
        raise CommandError(f"{what}; `{command_line('verify', path.parent.parent)}` reads it, too")
    elif path.parent.name == "blobs" and path.exists():
        what = f"{target} is a blob, not a checkpoint"
        raise CommandError(f"{what}; `{command_line('verify', path.parents[2])}` reads it, too")
    elif path.exists():
        found, some = asyncio.run(_file_verified(open_writer(path.parent, max_bytes), path)), ""
    else:
        raise CommandError(f"{target} does not exist")
    if as_json:
        print_json(found)
    else:
        _print(found, target, some)
    if found.is_damaged:
        return EXIT_DAMAGED
    if found.is_partial:
        raise CommandError(f"{target} could not be looked at in full: {_BUSY}")
    return 0


async def _store_verified(
    store: BlobStore[CheckpointRecord], place: Place
) -> tuple[Verification, SessionId]:
    """Verify a store, and name one of its sessions, for a command that is about any."""
    async with store:
        findings = await store.check()
        is_partial = _is_partial(findings)
        # Beside a journal that is locked they would be waited for as long once more, for nothing.
        sessions = [] if is_partial else (await summaries(store))[0]
        if not sessions and not findings:
            await require_store(store, place)
            raise CommandError(f"no sessions in {place}; nothing was verified")
    counts = [summary.checkpoints for summary in sessions]
    verification = Verification(
        path=str(place),
        ok=not is_partial and not any(finding.is_damage for finding in findings),
        sessions=len(sessions),
        checkpoints=None if is_partial or None in counts else sum(filter(None, counts)),
        findings=findings,
    )
    known = (one.session_id for one in sessions if one.session_id is not None)
    return verification, next(known, SOME_SESSION)


def _is_partial(findings: Sequence[Finding]) -> bool:
    return any(finding.kind == "busy-journal" for finding in findings)


async def _file_verified(
    writer: AsyncCheckpointWriter[CheckpointRecord], path: Path
) -> Verification:
    async with writer:
        intact = await writer.verify(path)
    findings = () if intact else (_damaged(path),)
    return Verification(path=str(path), ok=intact, sessions=0, checkpoints=1, findings=findings)


def _damaged(path: Path) -> Finding:
    detail = "its content does not match its checksum, or it is no checkpoint"
    location = path.absolute().as_uri()
    return Finding(kind="damaged", location=location, path=path, detail=detail)


def _print(found: Verification, place: Place, some_session: SessionId) -> None:
    screen = console()
    for finding in found.findings:
        style = "red" if finding.is_damage else "yellow"
        print_line(screen, f"{finding.kind}: {word(finding.path or finding.location)}", style)
        session = finding.session_id
        if session is None:
            session = SOME_SESSION if finding.kind == "lost-id" else some_session
        detail = in_shell_words(finding.detail, place, session)
        print_line(screen, f"    {detail}{_advice(finding, found.findings, place)}")
    what = word(place)
    if found.sessions:
        what += f": {counted(found.sessions, 'session')}, "
        what += _counted_checkpoints(found.checkpoints)
    if found.is_damaged:
        damaged = sum(finding.is_damage for finding in found.findings)
        print_line(screen, f"{what}, {damaged} not intact", "red")
    elif found.is_partial:
        print_line(screen, f"{what}, not looked at in full", "yellow")
    elif found.findings:
        findings = counted(len(found.findings), "finding")
        print_line(screen, f"{what}, no damage, {findings}", "yellow")
    else:
        print_line(screen, f"{what}, intact", "green")


def _counted_checkpoints(number: int | None) -> str:
    return "checkpoints unknown" if number is None else counted(number, "checkpoint")


def _advice(finding: Finding, findings: Sequence[Finding], place: Place) -> str:
    """Return what to type about a finding, if there is anything."""
    if finding.kind == "lost-id" and finding.path is not None:
        root, name = finding.path.parent.resolve(), finding.path.name
        moved = f"mv -n -- {quoted(root / name)} {quoted(root.with_name(f'{root.name}-{name}'))}"
        return f", as `{moved}` does"
    if finding.kind not in RECOVERABLE or finding.session_id is None:
        return ""
    framework = framework_of(finding.session_id)
    if is_spare(finding.location):
        spare = "; it is a second name of a checkpoint, and"
        if framework is not None and count_needed(findings, finding.session_id):
            return f"{spare} goes with what is done about the other damage of its session"
        command = command_line("recover", place, finding.session_id)
        return f"{spare} `{command}` moves it aside"
    if framework is not None:
        is_told = framework.advice in finding.detail
        advice = in_shell_words(framework.advice, place, finding.session_id)
        return "" if is_told else f"; {advice}"
    if "recover(session_id)" in finding.detail:
        return ""
    return f"; `{command_line('recover', place, finding.session_id)}` moves it aside"
