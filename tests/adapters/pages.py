"""A page and an example of an adapter, run as a reader would."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.test_docs import fenced

_ROOT = Path(__file__).parents[2]


def run_page(name: str) -> None:
    """Run every example of a how-to in order; each prints what the page says."""
    page = _ROOT / "docs" / "how-to" / name
    names: dict[str, Any] = {}
    printed = ""
    with asyncio.Runner() as runner:
        for block in fenced(page):
            if block.language == "text":
                assert printed == block.text
            if block.language == "py":
                flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                code = compile(block.text, str(page), "exec", flags=flags)
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    result = eval(code, names)
                    if result is not None:
                        runner.run(result)
                printed = output.getvalue()


def _command(example: str, *arguments: object) -> list[str]:
    return [sys.executable, str(_ROOT / "examples" / example), *map(str, arguments)]


def kill_example_at(line_start: str, example: str, *arguments: object) -> None:
    """Kill an example by SIGKILL as soon as it prints a line that begins so."""
    command = _command(example, *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(found for found in process.stdout if found.startswith(line_start))
        process.kill()
    assert process.returncode == -signal.SIGKILL


def lines_of_example(example: str, *arguments: object) -> list[str]:
    """Run an example to its end and return what it printed."""
    done = subprocess.run(_command(example, *arguments), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
