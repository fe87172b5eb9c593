"""Programs on LangGraph, each in a process of its own that need not import it for a second."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests import killing
from tests.nursery import Nursery

_SECONDS = 240.0


@cache
def _nursery() -> Nursery:
    modules = ("langgraph.graph", "langchain_core.messages", "aiocheckpoint.adapters.langgraph")
    return Nursery(
        *modules, "aiocheckpoint.testing", "asyncpg", "aiobotocore.session", strict=False
    )


def run(path: Path, *arguments: object, killed_at: str = "") -> tuple[int, list[str], str]:
    """
    Run a program.

    Args:
        path: of it.
        arguments: for it.
        killed_at: how a line begins; having printed that it is killed. Empty for none.

    Returns:
        how it ended, the lines it printed, and what it had to say of errors.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        words = [str(path), *map(str, arguments)]
        process = _nursery().start(
            _run, words, killed_at, descriptors=[output.fileno(), errors.fileno()]
        )
        status = process.wait(_SECONDS)
        output.seek(0)
        errors.seek(0)
        return status, output.read().decode().splitlines(), errors.read().decode()


def _run(words: list[str], killed_at: str, output: int, errors: int) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    if killed_at:
        killing.main("0", killed_at, *words)
    else:
        sys.argv = words
        sys.path[0] = os.path.dirname(words[0])
        runpy.run_path(words[0], run_name="__main__")
