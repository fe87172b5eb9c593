"""A root directory to open writers on, once for each way of saving."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.concurrency.site import Site


@pytest.fixture(name="site", params=["journal", "file"])
def _site(root: Path, request: pytest.FixtureRequest) -> Site:
    """Return a site for each way of saving that is durable."""
    return Site(root, durability=request.param)


@pytest.fixture(name="default_site")
def _default_site(root: Path) -> Site:
    """Return a site with the default way of saving, for what does not depend on it."""
    return Site(root)


@pytest.fixture(name="flushing")
def _settling() -> None:
    """Let journals flush while the test runs, as they do outside tests."""


@pytest.fixture(autouse=True)
def _no_flushing(request: pytest.FixtureRequest) -> None:
    if "flushing" not in request.fixturenames:
        request.getfixturevalue("no_flushing")
