"""What a release needs and no commit before it has: `pytest -m release`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import aiocheckpoint

REPOSITORY = Path(__file__).parents[1]

pytestmark = pytest.mark.release


def test_it_has_a_home() -> None:
    """The package index and its users are told where the source and the issues are."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    urls = project.get("urls", {})

    assert {"Source", "Issues", "Changelog"} <= set(urls), "[project.urls] of pyproject.toml lacks"
    assert all(url.startswith("https://") for url in urls.values())


def test_the_changelog_has_its_date() -> None:
    """The newest entry of the changelog is this version, with the day of its release."""
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")

    newest = re.search(r"^## (.+)$", text, re.MULTILINE)

    assert newest is not None
    version = re.escape(aiocheckpoint.__version__)
    assert re.fullmatch(rf"\[?{version}\]? - \d{{4}}-\d\d-\d\d", newest[1]), newest[1]
