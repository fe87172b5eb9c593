"""The ways of saving that the same promises hold for."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.conftest import MakeWriter

SYNCED_FILES: dict[str, Any] = {"durability": "file"}
"""Options of a writer that syncs each file on its own."""

DURABILITIES = [pytest.param({"durability": name}, id=name) for name in ("journal", "file")]
"""Options of writers that keep every promise about power cuts."""


@pytest.fixture(name="durability", params=DURABILITIES)
def each_durability(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options of each durability in turn; for modules that take this name over."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture(
    name="durability",
    params=[DURABILITIES[0], pytest.param(SYNCED_FILES, id="file", marks=pytest.mark.long)],
)
def journal_by_default(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options of each durability in turn, by default those of the journal alone."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture(name="make_writer")
def writers_of_each_durability(make_writer: MakeWriter, durability: dict[str, Any]) -> MakeWriter:
    """Make writers of each durability; for modules that take this name over."""
    return partial(make_writer, **durability)
