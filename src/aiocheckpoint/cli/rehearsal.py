"""Agents in a child process that is killed with SIGKILL, again and again, while a parent counts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import cast

import msgspec

from aiocheckpoint import Finding
from aiocheckpoint.cli.agents import Event, Saving, Task
from aiocheckpoint.cli.demo_report import KILLED_STATUS, Run
from aiocheckpoint.cli.demo_screen import DemoScreen
from aiocheckpoint.cli.errors import CommandError
from aiocheckpoint.cli.oracle import Oracle

# -P: what lies in the current directory must not take the place of the child's imports.
AGENTS_COMMAND = (sys.executable, "-P", "-m", "aiocheckpoint.cli.agents")

_FIRST_KILL, _LAST_KILL = 0.05, 0.9
# Of the pipe in which events wait: the agents must not be far ahead of a parent that is slow.
_PIPE_BYTES = 4096
_EVENT_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


async def rehearse(
    task: Task, kills: int, oracle: Oracle, screen: DemoScreen
) -> tuple[list[Run], tuple[Finding, ...]]:
    """
    Run the agents until all are done or a save is lost, killing them on the way.

    Returns:
        the lives of their process, and what is damaged in the end.
    """
    directory = Path(task.directory)
    chance = random.Random(task.seed)  # noqa: S311 - not a secret
    runs: list[Run] = []
    damage = await oracle.check(directory)
    with screen:
        for moment in [*_kill_moments(chance, kills, oracle.steps), None]:
            run = await _run(task, oracle, moment, screen)
            damage = await oracle.check(directory)
            run.verified = oracle.verified
            runs.append(run)
            screen.ran(run)
            if not run.was_killed or (oracle.lost and task.store == "aiocheckpoint"):
                break
    return runs, damage


def _kill_moments(chance: random.Random, kills: int, steps: int) -> list[int]:
    """Return after how many steps to kill: one random moment in each of `kills` equal parts."""
    part = (_LAST_KILL - _FIRST_KILL) / max(kills, 1)
    return [
        int(steps * (_FIRST_KILL + part * chance.uniform(number, number + 1)))
        for number in range(kills)
    ]


async def _run(task: Task, oracle: Oracle, kill_after: int | None, screen: DemoScreen) -> Run:
    """Run the child to its end, or until all sessions together have done so many steps."""
    before = oracle.acknowledged
    oracle.process_started()
    # A process group of its own: Ctrl-C reaches the parent alone, which then ends the child.
    child = await asyncio.create_subprocess_exec(
        *AGENTS_COMMAND, msgspec.json.encode(task),
        stdout=PIPE, stderr=PIPE, pipesize=_PIPE_BYTES, start_new_session=True,
    )  # fmt: skip
    screen.started(child.pid)
    try:
        _, complaint = await asyncio.gather(
            _follow(child, oracle, kill_after), _reader(child.stderr).read()
        )
        exit_status = await child.wait()
    finally:
        _kill(child)
        await child.wait()
    if exit_status not in (0, KILLED_STATUS):
        # Of a traceback the last line tells what was raised.
        reason = complaint.decode(errors="backslashreplace").strip().rpartition("\n")[2]
        raise CommandError(f"the agents' process ended with status {exit_status}: {reason}")
    return Run(
        process_id=child.pid,
        exit_status=exit_status,
        acknowledged=oracle.acknowledged - before,
        in_flight=oracle.in_flight,
        acknowledged_in_all=oracle.acknowledged,
        verified=0,
    )


async def _follow(child: Process, oracle: Oracle, kill_after: int | None) -> None:
    """Take in what the child reports until it is dead, and kill it when the moment has come."""
    async for line in _reader(child.stdout):
        event = _EVENT_DECODER.decode(line)
        oracle.note(event)
        is_saving = isinstance(event, Saving)  # a save has been called, and is at work now
        if kill_after is not None and is_saving and oracle.steps_done >= kill_after:
            kill_after = None
            _kill(child)


def _kill(child: Process) -> None:
    """Kill the child, if it is alive; `child.kill` might take its status from who waits for it."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _reader(pipe: asyncio.StreamReader | None) -> asyncio.StreamReader:
    """Return a pipe that was asked for, and so is there."""
    return cast(asyncio.StreamReader, pipe)
