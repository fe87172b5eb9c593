"""The page and the example do what they say."""

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

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from tests.test_docs import fenced

_ROOT = Path(__file__).parents[3]
_PAGE = _ROOT / "docs" / "how-to" / "google-adk.md"
_EXAMPLE = _ROOT / "examples" / "google_adk_resume.py"

pytestmark = pytest.mark.blocking


def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the page runs, in order, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = ""
    with asyncio.Runner() as runner:
        for block in fenced(_PAGE):
            if block.language == "text":
                assert printed == block.text
            if block.language == "py":
                flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                code = compile(block.text, str(_PAGE), "exec", flags=flags)
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    result = eval(code, names)
                    if result is not None:
                        runner.run(result)
                printed = output.getvalue()


@pytest.mark.parametrize(
    "line", ["the model thinks, step 0", "look_up", "the model thinks, step 1"]
)
def test_example_goes_on(tmp_path: Path, line: str) -> None:
    """It is killed amid a turn, goes on, waits for Ann over a restart, and refunds once."""
    command = [sys.executable, str(_EXAMPLE), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(found for found in process.stdout if found.startswith(line))
        process.kill()
    assert process.returncode == -signal.SIGKILL

    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]

    assert runs[0][-1] == "waiting: refund 40 euros?"
    assert runs[1][0] == "confirmed by Ann"
    assert runs[1][-1] == "Your 40 euros are on their way."
    assert [found for run in runs for found in run].count("refund: 40 euros") == 1
