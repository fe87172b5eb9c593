"""The core promises, on every event loop and inside anyio's task groups and scopes."""

from __future__ import annotations

from functools import partial

import pytest

from tests.concurrency.backends import BACKENDS, Run
from tests.concurrency.scenarios import CORE, Scenario
from tests.concurrency.site import Site

each_backend = pytest.mark.parametrize("run", BACKENDS)


@each_backend
@pytest.mark.parametrize("scenario", CORE, ids=lambda scenario: scenario.__name__)
def test_core_promise_holds(run: Run, scenario: Scenario, site: Site) -> None:
    """Each promise of `scenarios.CORE` holds under asyncio, uvloop and anyio."""
    run(partial(scenario, site))
