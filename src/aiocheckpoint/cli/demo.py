"""`aiocheckpoint demo`: agents that are killed with SIGKILL, and a parent that counts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from aiocheckpoint import Durability
from aiocheckpoint.cli.agents import Task, casting
from aiocheckpoint.cli.demo_report import DemoReport, JsonFilesReport, demo_report
from aiocheckpoint.cli.demo_screen import DemoScreen
from aiocheckpoint.cli.errors import CommandError
from aiocheckpoint.cli.oracle import JsonOracle, Oracle
from aiocheckpoint.cli.place import Place
from aiocheckpoint.cli.rehearsal import rehearse
from aiocheckpoint.cli.terminal import AsJson, console, print_json

_DIRECTORY_NAME = "aiocheckpoint-demo"

Sessions = Annotated[
    int, typer.Option(min=1, max=10_000, metavar="N", help="How many agents run at once.")
]
Kills = Annotated[
    int, typer.Option(min=0, max=100, metavar="N", help="How often their process is killed.")
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", help="Of the moments of the kills and of the pace. [random]"),
]
Where = Annotated[
    Place | None,
    typer.Option(
        metavar="DIR",
        parser=Place,
        help=f"Where to save: a new or an empty directory. [a fresh ./{_DIRECTORY_NAME}, or one "
        "in the system's temporary directory where . is not writable]",
    ),
]
Keep = Annotated[
    bool, typer.Option(help="Keep the files afterwards; after a loss they stay anyway.")
]
HowDurable = Annotated[Durability, typer.Option(help="Of the agents' writer.")]
Pace = Annotated[
    int,
    typer.Option(min=0, metavar="MS", help="How long an agent thinks before a step, on average."),
]


def demo(
    *,
    sessions: Sessions = 32,
    kills: Kills = 5,
    seed: Seed = None,
    directory: Where = None,
    keep: Keep = True,
    durability: HowDurable = "journal",
    pace: Pace = 150,
    as_json: AsJson = False,
) -> int:
    """
    Kill a process full of agents with SIGKILL, again and again, and count what is lost.

    A child process runs scripted agents with tool calls, all at once, each saving a checkpoint
    after every step. It reports every save that has returned. After each kill all of these
    must be on disk, intact; then the child starts again and goes on from what is there.
    """
    seed = random.randrange(10_000) if seed is None else seed  # noqa: S311 - not a secret
    given = None if directory is None else directory.directory("demo")
    is_new = given is None or not given.exists()
    task = Task(
        directory=str(_own_directory(given)),
        sessions=sessions,
        durability=durability,
        pace_seconds=pace / 1000,
        seed=seed,
    )
    output = Console(quiet=True) if as_json else console()
    try:
        report = asyncio.run(_demonstrate(task, kills, output))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or not keep:
            _remove(Path(task.directory), is_new=is_new)
        raise
    if report.ok and not keep:
        _remove(report.directory, is_new=is_new)
        report.kept = False
    if as_json:
        print_json(report)
    else:
        DemoScreen.print_report(output, report)
    return 0 if report.ok else 1


async def _demonstrate(task: Task, kills: int, output: Console) -> DemoReport:
    """Kill agents that save with this library, and beside them some that use `json.dump`."""
    started = time.monotonic()
    oracle = Oracle(casting(task.sessions))
    ours = asyncio.create_task(rehearse(task, kills, oracle, DemoScreen(output, oracle, task)))
    others = asyncio.create_task(json_files_report(task, kills))
    try:
        (runs, damage), json_files = await asyncio.gather(ours, others)
    finally:  # or the end of the loop cancels all there is in the start of a child: it never ends
        ours.cancel()
        others.cancel()
        await asyncio.wait((ours, others))
    return demo_report(
        task,
        kills,
        oracle,
        runs=runs,
        damage=damage,
        json_files=json_files,
        seconds=time.monotonic() - started,
    )


async def json_files_report(task: Task, kills: int) -> JsonFilesReport | None:
    """Kill the same agents in the same way with files of `json.dump`; None for no kill at all."""
    if kills == 0:
        return None
    oracle = JsonOracle(casting(task.sessions))
    with tempfile.TemporaryDirectory() as directory:
        task = msgspec.structs.replace(task, directory=directory, store="json.dump")
        screen = DemoScreen(Console(quiet=True), oracle, task)
        runs, _ = await rehearse(task, kills, oracle, screen)
    return JsonFilesReport(
        kills=sum(run.was_killed for run in runs),
        in_flight=sum(run.in_flight for run in runs),
        acknowledged=oracle.acknowledged,
        lost=oracle.lost,
        torn=oracle.torn,
    )


def _remove(directory: Path, *, is_new: bool) -> None:
    """Remove what the demo has made; a directory that was there stays, empty as it was."""
    for path in [directory] if is_new else directory.iterdir():
        shutil.rmtree(path)


def _own_directory(given: Path | None) -> Path:
    """Return an absolute path where the demo is alone."""
    if given is not None:
        if given.exists() and not (given.is_dir() and not any(given.iterdir())):
            raise CommandError(f"{given} is not an empty directory; give the demo one of its own")
        return given.absolute()
    for parent in (Path.cwd(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            return _fresh_directory(parent)
    raise CommandError("nowhere to write; give the demo a directory with --directory")


def _fresh_directory(parent: Path) -> Path:
    for number in itertools.count(1):
        path = parent / (_DIRECTORY_NAME if number == 1 else f"{_DIRECTORY_NAME}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
    raise AssertionError
