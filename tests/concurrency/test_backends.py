"""The core promises, on every event loop and inside anyio's task groups and scopes."""

from __future__ import annotations

from functools import partial

import pytest

from tests.concurrency.backends import BACKENDS, Run, run_asyncio
from tests.concurrency.scenarios import CORE, Scenario
from tests.concurrency.site import Site

each_promise = pytest.mark.parametrize("scenario", CORE, ids=lambda scenario: scenario.__name__)


@pytest.mark.parametrize("run", BACKENDS)
@each_promise
@pytest.mark.some
@pytest.mark.few(5)
def test_core_promise_holds(run: Run, scenario: Scenario, default_site: Site) -> None:
    """Each promise of `scenarios.CORE` holds under asyncio, uvloop and anyio."""
    run(partial(scenario, default_site))


@pytest.mark.parametrize("site", ["none", "file"], indirect=True)
@each_promise
@pytest.mark.some
@pytest.mark.few(5)
def test_core_promise_holds_with_each_durability(scenario: Scenario, site: Site) -> None:
    """Each of them holds whenever a call returns."""
    run_asyncio(partial(scenario, site))
