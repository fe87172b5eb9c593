"""The page and the example do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from tests.adapters.pages import ends_once, goes_on, run_page
from tests.adapters.processes import TAKES_LONG

EXAMPLE = "agent_framework_resume.py"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the page runs, in order, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    run_page("agent-framework.md")


@pytest.mark.parametrize("line", ["look_up", "the model reads 2"])
def test_example_goes_on(tmp_path: Path, line: str) -> None:
    """It is killed amid a step, goes on, waits for Ann over a restart, and refunds once."""
    runs = goes_on(EXAMPLE, tmp_path, line)
    assert line == "look_up" or "look_up: order 7" not in [*runs[0], *runs[1]]


def test_example_ends_once(tmp_path: Path) -> None:
    """Killed before it prints the answer, it prints what is stored, also when it has ended."""
    ends_once(EXAMPLE, tmp_path, "Your 40 euros")
