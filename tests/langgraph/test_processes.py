"""Runs of several processes on one thread."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import thread
from tests.langgraph.promises import listed

pytestmark = pytest.mark.blocking


class _PausedRun:
    """Another process, with a run that waits in its node."""

    def __init__(self, root: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.langgraph.paused_process", root, "t", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "waiting"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(name="one")
def _one(root: Path) -> Iterator[_PausedRun]:
    run = _PausedRun(root, "one")
    yield run
    run.close()


@pytest.fixture(name="two")
def _two(root: Path, one: _PausedRun) -> Iterator[_PausedRun]:  # after one
    run = _PausedRun(root, "two")
    yield run
    run.close()


@pytest.mark.long
async def test_the_process_that_was_overtaken_is_told(
    make: MakeSaver, one: _PausedRun, two: _PausedRun
) -> None:
    """Of two processes that run one thread the first is refused; nothing forks; it may run anew."""
    assert one.go_on() == "ThreadChangedError"
    assert two.go_on() == "ended"
    assert one.go_on() == "waiting"
    assert one.go_on() == "ended"

    saver: CheckpointSaver = make()
    found = await listed(saver, thread("t"))
    parents: list[Any] = [checkpoint.parent_config for checkpoint in found]
    assert parents == [*(checkpoint.config for checkpoint in found[1:]), None]
    messages = [m.content for m in found[0].checkpoint["channel_values"]["messages"]]
    assert messages[-4:] == ["two asks", messages[-3], "one asks", f"{len(messages) - 1} before"]
