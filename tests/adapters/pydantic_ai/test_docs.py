"""The page and the example do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from tests.adapters.pages import ends_once, goes_on, run_page
from tests.adapters.processes import TAKES_LONG

EXAMPLE = "pydantic_ai_resume.py"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the page runs, in order, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    run_page("pydantic-ai.md")


@pytest.mark.parametrize(
    "line", ["the model thinks, step 0", "look_up", "the model thinks, step 1"]
)
def test_example_goes_on(tmp_path: Path, line: str) -> None:
    """It is killed amid a turn, goes on, waits for Ann over a restart, and refunds once."""
    goes_on(EXAMPLE, tmp_path, line)


@pytest.mark.parametrize("line", ["the model thinks, step 2", "Your 40 euros"])
def test_example_ends_once(tmp_path: Path, line: str) -> None:
    """Killed after the refund it refunds no more; when it has ended it prints what is stored."""
    ends_once(EXAMPLE, tmp_path, line)
