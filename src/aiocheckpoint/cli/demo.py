"""`aiocheckpoint demo`: agents that are killed with SIGKILL, and a parent that counts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer
from rich.console import Console

from aiocheckpoint import Durability
from aiocheckpoint.cli.agents import Event, Task, casting
from aiocheckpoint.cli.demo_report import KILLED_STATUS, DemoReport, Run, demo_report
from aiocheckpoint.cli.demo_screen import DemoScreen
from aiocheckpoint.cli.oracle import Oracle
from aiocheckpoint.cli.terminal import AsJson, CommandError, console, print_json

# -P: what lies in the current directory must not take the place of the child's imports.
AGENTS_COMMAND = (sys.executable, "-P", "-m", "aiocheckpoint.cli.agents")

_DIRECTORY_NAME = "aiocheckpoint-demo"
_FIRST_KILL, _LAST_KILL = 0.05, 0.9
_MAX_KILL_DELAY_SECONDS = 0.005
_EVENT_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

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
    Path | None,
    typer.Option(
        metavar="DIR",
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
    kills: Kills = 3,
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
    directory = _own_directory(directory)
    seed = random.randrange(10_000) if seed is None else seed  # noqa: S311 - not a secret
    task = Task(
        directory=str(directory),
        sessions=sessions,
        durability=durability,
        pace_seconds=pace / 1000,
        seed=seed,
    )
    output = Console(quiet=True) if as_json else console()
    report = asyncio.run(_rehearse(task, kills, output))
    if report.ok and not keep:
        shutil.rmtree(directory)
        report.kept = False
    if as_json:
        print_json(report)
    else:
        DemoScreen.print_report(output, report)
    return 0 if report.ok else 1


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


async def _rehearse(task: Task, kills: int, output: Console) -> DemoReport:
    """Run the agents until all are done or a save is lost, killing them on the way."""
    started = time.monotonic()
    oracle = Oracle(casting(task.sessions))
    directory = Path(task.directory)
    chance = random.Random(task.seed)  # noqa: S311 - not a secret
    moments = iter([*_kill_moments(chance, kills, oracle.steps), None])
    runs: list[Run] = []
    damage = await oracle.check(directory)
    with DemoScreen(output, oracle, task) as screen:
        for moment in moments:
            run = await _run(task, oracle, moment, chance, screen)
            damage = await oracle.check(directory)
            run.verified = oracle.verified
            runs.append(run)
            screen.ran(run)
            if not run.was_killed or oracle.lost:
                break
    seconds = time.monotonic() - started
    return demo_report(task, kills, oracle, runs=runs, damage=damage, seconds=seconds)


def _kill_moments(chance: random.Random, kills: int, steps: int) -> list[int]:
    """Return after how many steps to kill: one random moment in each of `kills` equal parts."""
    part = (_LAST_KILL - _FIRST_KILL) / max(kills, 1)
    return [
        int(steps * (_FIRST_KILL + part * chance.uniform(number, number + 1)))
        for number in range(kills)
    ]


async def _run(
    task: Task, oracle: Oracle, kill_after: int | None, chance: random.Random, screen: DemoScreen
) -> Run:
    """Run the child to its end, or until all sessions together have done so many steps."""
    before = oracle.acknowledged
    oracle.process_started()
    # A process group of its own: Ctrl-C reaches the parent alone, which then ends the child.
    child = await asyncio.create_subprocess_exec(
        *AGENTS_COMMAND, msgspec.json.encode(task), stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    screen.started(child.pid)
    try:
        _, complaint = await asyncio.gather(
            _follow(child, oracle, kill_after, chance), _reader(child.stderr).read()
        )
        exit_status = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if exit_status not in (0, KILLED_STATUS):
        reason = complaint.decode(errors="backslashreplace")
        raise CommandError(f"the agents' process ended with status {exit_status}: {reason}")
    return Run(
        process_id=child.pid,
        exit_status=exit_status,
        acknowledged=oracle.acknowledged - before,
        in_flight=oracle.in_flight,
        acknowledged_in_all=oracle.acknowledged,
        verified=0,
    )


async def _follow(
    child: Process, oracle: Oracle, kill_after: int | None, chance: random.Random
) -> None:
    """Take in what the child reports until it is dead, and kill it when the moment has come."""
    async for line in _reader(child.stdout):
        oracle.note(_EVENT_DECODER.decode(line))
        if kill_after is not None and oracle.steps_done >= kill_after:
            kill_after = None
            # A report comes right after a save; the delay makes any other moment as likely.
            await asyncio.sleep(chance.uniform(0, _MAX_KILL_DELAY_SECONDS))
            with contextlib.suppress(ProcessLookupError):
                child.kill()


def _reader(pipe: asyncio.StreamReader | None) -> asyncio.StreamReader:
    """Return a pipe that was asked for, and so is there."""
    return cast(asyncio.StreamReader, pipe)
