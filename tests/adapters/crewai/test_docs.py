"""The page and the example do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("crewai", reason="needs the extra crewai: .ci/adapter crewai")

from tests.adapters.pages import kill_example_at, lines_of_example, run_page

EXAMPLE = "crewai_resume.py"

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(600)]


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the page runs, in order, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    run_page("crewai.md")


def test_example_goes_on(tmp_path: Path) -> None:
    """It is killed amid the flow, goes on, waits for Ann over a restart, and refunds once."""
    kill_example_at("asks Ann", EXAMPLE, tmp_path)

    runs = [lines_of_example(EXAMPLE, tmp_path) for _ in range(2)]

    assert runs[0][-1] == "waiting: refund 40 euros?"
    assert "look_up: order 7" not in runs[0]
    assert runs[1][0] == "approved by Ann"
    assert runs[1][-1] == "Your 40 euros are on their way."
    assert [found for run in runs for found in run].count("refund: 40 euros") == 1
