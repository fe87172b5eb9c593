"""A page and an example of an adapter, run as a reader would."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.metadata
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.killing import killed_at
from tests.test_docs import fenced

_ROOT = Path(__file__).parents[2]
_EXAMPLES = _ROOT / "examples"
_ANSWER = "Your 40 euros are on their way."


def run_page(name: str) -> None:
    """
    Run every example of a how-to in order; each prints what the page says.

    Of the command that moves an old store, which is not there, it runs what finds that out.
    """
    page = _ROOT / "docs" / "how-to" / name
    names: dict[str, Any] = {}
    printed = ""
    with asyncio.Runner() as runner:
        for block in fenced(page):
            assert block.language in ("py", "text", "bash"), f"line {block.line}: it is not run"
            if block.language == "bash":
                _run_command(block.text)
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


def _run_command(command: str) -> None:
    """Run a command of a page."""
    if found := re.fullmatch(r"pip install '\.\[([\w,-]+)\]'\n", command):
        for extra in found[1].split(","):
            _require_installed(extra)
        return
    assert command.startswith("python -m aiocheckpoint.adapters."), command
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": programs, "HOME": os.getcwd()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "usage:" not in ran.stderr
    assert command.split()[3].removeprefix("~/").rstrip("/").split(":")[0] in ran.stderr


def _require_installed(extra: str) -> None:
    """Fail unless this environment has what an extra asks for: `.ci/adapter` made it by that."""
    needs = importlib.metadata.requires("aiocheckpoint") or []
    names = [re.split(r"[^\w.-]", need)[0] for need in needs if f"extra == '{extra}'" in need]
    assert names, f"there is no extra {extra}"
    for name in names:
        assert importlib.metadata.version(name)


def lines_of_example(example: str, *arguments: object) -> list[str]:
    """Run an example to its end and return what it printed."""
    command = [sys.executable, str(_EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def goes_on(
    example: str, storage: object, line_start: str, *, approval: str = "approved by Ann"
) -> list[list[str]]:
    """
    Kill an example at a line, run it twice, and return what both runs printed.

    The first one goes on and waits for Ann; the second has her approval, and refunds once.
    """
    killed_at(line_start, _EXAMPLES / example, storage)
    runs = [lines_of_example(example, storage) for _ in range(2)]
    assert runs[0][-1].startswith("waiting: refund"), runs
    assert runs[1][0] == approval, runs
    assert runs[1][-1] == _ANSWER, runs
    assert _refunds(runs) == 1, runs
    return runs


def ends_once(example: str, storage: object, line_start: str) -> None:
    """
    Kill an example that is approved before it prints a line, and run it twice.

    The first one ends what was begun, without a second refund; the last one has nothing to do, and
    prints the answer that is stored.
    """
    waits = lines_of_example(example, storage)
    killed = killed_at(line_start, _EXAMPLES / example, storage, before=True)
    runs = [lines_of_example(example, storage) for _ in range(2)]
    assert waits[-1].startswith("waiting: refund"), waits
    assert runs[0][-1] == _ANSWER, runs
    assert runs[1] == [_ANSWER], runs
    assert _refunds([killed, *runs]) == 1, (killed, runs)


def _refunds(runs: list[list[str]]) -> int:
    return sum(line.startswith("refund: 40 euros") for run in runs for line in run)
