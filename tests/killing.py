"""Programs that are killed the moment they have printed a certain line, or are about to."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

_SECONDS = 240.0


def killed_at(
    line_start: str, *command: object, cwd: Path | None = None, before: bool = False
) -> list[str]:
    """
    Let a program be killed as soon as it has printed a line that begins so; return its lines.

    It is this process that would be late: whoever reads the line and then kills meets a program
    that has gone on, or ended, the more so on a busy machine. So it sends SIGKILL to itself.

    Args:
        line_start: of the line.
        command: what follows `python`: a path, or `-m` and a module, and arguments.
        cwd: where it runs.
        before: it is killed instead of printing the line.
    """
    done = subprocess.run(
        [sys.executable, __file__, str(int(before)), line_start, *map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_SECONDS,
        cwd=cwd,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == -signal.SIGKILL, lines
    return lines


class _Output:
    """Standard output, until the line."""

    def __init__(self, stream: TextIO, line_start: str, *, before: bool) -> None:
        self._stream = stream
        self._line_start = line_start
        self._before = before
        self._last = ""

    def write(self, text: str) -> int:
        *lines, self._last = (self._last + text).split("\n")
        if self._before:
            self._end_at([*lines, self._last])
        count = self._stream.write(text)
        self._end_at(lines)
        return count

    def _end_at(self, lines: list[str]) -> None:
        if any(line.startswith(self._line_start) for line in lines):
            self._stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def main(before: str, line_start: str, *command: str) -> None:
    """Run a program in this process, until it is killed."""
    output: Any = _Output(sys.stdout, line_start, before=before == "1")
    sys.stdout = output
    is_module = command[0] == "-m"
    sys.argv = [*command[is_module:]]
    sys.path[0] = os.getcwd() if is_module else os.path.dirname(command[0])
    if is_module:
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
