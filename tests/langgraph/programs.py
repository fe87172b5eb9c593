"""Programs on LangGraph, each in a process of its own that need not import it for a second."""

from __future__ import annotations

import os
import runpy
import sys
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
    words = [str(path), *map(str, arguments)]
    done = _nursery().run(_run, words, killed_at, timeout=_SECONDS)
    return done.returncode, done.stdout.splitlines(), done.stderr


def _run(words: list[str], killed_at: str) -> None:
    if killed_at:
        killing.main("0", killed_at, *words)
    else:
        sys.argv = words
        sys.path[0] = os.path.dirname(words[0])
        runpy.run_path(words[0], run_name="__main__")
