"""The page and the example do what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

from tests.adapters.claude_agent.scripted import environment, needs_program
from tests.adapters.pages import ends_once, goes_on, run_page
from tests.adapters.processes import TAKES_LONG

EXAMPLE = "claude_agent_resume.py"
_MODEL = Path(__file__).parents[3] / "examples" / "claude_agent_model.py"

pytestmark = [needs_program, pytest.mark.blocking, TAKES_LONG]


@pytest.fixture(name="model")
def _model() -> Iterator[str]:
    """Serve the scripted model in a process of its own, and return its address."""
    with subprocess.Popen(
        [sys.executable, _MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def test_its_examples_run(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the page runs, in order, and prints what the page says."""
    for name, value in environment(model, tmp_path / "local").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    run_page("claude-agent.md")


@pytest.mark.parametrize("line", ["the model thinks, step 0", "look_up"])
def test_example_goes_on(tmp_path: Path, line: str) -> None:
    """It is killed amid a turn, goes on, waits for Ann over a restart, and refunds once."""
    goes_on(EXAMPLE, tmp_path, line)


def test_example_killed_after_its_effect(tmp_path: Path) -> None:
    """Killed with the refund made and its result not stored, it goes on, and refunds no more."""
    ends_once(EXAMPLE, tmp_path, "the model thinks, step 2")


def test_example_ends_once(tmp_path: Path) -> None:
    """Killed before it prints the answer, it prints what is stored, also when it has ended."""
    ends_once(EXAMPLE, tmp_path, "Your 40 euros")
