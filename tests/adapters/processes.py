"""Processes that run an adapter: their lines, their end, and their death on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import killing

TAKES_LONG = pytest.mark.timeout(600)
"""Each process imports the framework, which takes it seconds, and many on a busy machine."""

_PROJECT = Path(__file__).parents[2]
_SECONDS = 240


@contextmanager
def started(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a module; it is killed at the end of the block."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_PROJECT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def killed_at(line_start: str, module: str, *arguments: object) -> list[str]:
    """Let a module be killed as soon as it prints a line that begins so; return its lines."""
    return killing.killed_at(line_start, "-m", module, *arguments, cwd=_PROJECT)


def killed_after(line_start: str, module: str, *arguments: object) -> list[str]:
    """Kill an endless module amid what it does after such a line; return all it has printed."""
    lines: list[str] = []
    with started(module, *arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:  # it goes on until it is hit
            lines.append(line.rstrip("\n"))
            if lines[-1] == line_start:
                process.kill()
    assert process.returncode == -signal.SIGKILL, lines
    return lines


def lines_of(module: str, *arguments: object) -> list[str]:
    """Run a module to its end and return the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        cwd=_PROJECT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
