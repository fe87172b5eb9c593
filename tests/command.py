"""The command line tool in a process of its own, which need not import it."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from aiocheckpoint.cli import main
from tests.nursery import Nursery

_SECONDS = 60.0


@cache
def _nursery() -> Nursery:
    return Nursery("aiocheckpoint.cli.app", "pydantic.type_adapter", strict=False)


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the tool; what is about its start, as users do it, starts it by itself."""
    words = [*map(str, arguments)]
    if sys.platform != "linux":
        command = [sys.executable, "-m", "aiocheckpoint", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    return _nursery().run(_run, words, timeout=_SECONDS)


def _run(words: list[str]) -> None:
    sys.exit(main(words))
