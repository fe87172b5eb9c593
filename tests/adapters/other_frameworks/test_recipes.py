"""The programs of the page are killed, and go on; each where its framework is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.killing import killed_at

_PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "other-frameworks.md"
_SECONDS = 60

pytestmark = pytest.mark.blocking


class Recipe(NamedTuple):
    """
    A program of the page.

    Attributes:
        heading: of its part.
        module: what it needs to be installed; `pip install` is told on the page.
        kill_at: the line at which it is killed.
        never_again: the lines that do not come again then.
        last: the line it ends with.
    """

    heading: str
    module: str
    kill_at: str
    never_again: tuple[str, ...]
    last: str


RECIPES = (
    Recipe("A plain loop", "aiocheckpoint", "turn 3", ("turn 1", "turn 2", "turn 3"), "turn 5"),
    Recipe("AutoGen", "autogen_ext", "turn 3", ("turn 1", "turn 2", "turn 3"), "turn 5: 10"),
    Recipe("LlamaIndex workflows", "workflows", "turn 3", ("turn 1", "turn 2"), "['answer 1',"),
    Recipe("Haystack", "haystack", "waiting", ("look up", "waiting"), "Your 40 euros"),
    Recipe("smolagents", "smolagents", "4 steps", ("look up 0", "look up 1"), "all are lamps"),
)


def program(heading: str) -> str:
    """Return the program of a part of the page."""
    part = _PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (found,) = re.findall(r"```py\n(.*?)```", part, re.DOTALL)
    return str(found)


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.module for recipe in RECIPES])
def test_it_is_killed_and_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    """What was saved before the kill does not run again, and all is there at the end."""
    if find_spec(recipe.module) is None:
        pytest.skip(f"needs {recipe.heading}: .ci/recipes")
    path = tmp_path / "program.py"
    path.write_text(program(recipe.heading), encoding="utf-8")

    killed_at(recipe.kill_at, path, cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith(recipe.never_again)]
    assert lines[-1].startswith(recipe.last)


def test_each_program_is_tried() -> None:
    """Each part of the page that has a program is one of those here."""
    text = _PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [recipe.heading for recipe in RECIPES]
