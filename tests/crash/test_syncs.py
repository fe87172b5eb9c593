"""Whoever removes a sync sees a test fail: each, left out alone, breaks a promise somewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.crash.scenarios import SCENARIOS
from tests.crash.syncs import Site, forgotten, passing, sites

pytestmark = [pytest.mark.blocking, pytest.mark.campaign, pytest.mark.timeout(1200)]

# What is kept of a damaged journal is for people to look at: no checkpoint depends on it.
_FOR_PEOPLE = frozenset({"log.keep-sync_directory"})


class Passage(NamedTuple):
    """
    What a scenario came to, with every sync in its place.

    Attributes:
        violation: how a promise was broken, `""` if none was.
        syncs: the places it passed.
        seconds: how long it took.
    """

    violation: str
    syncs: frozenset[Site]
    seconds: float


Passages = dict[str, Passage]


@pytest.fixture(name="passages", scope="module")
def _passages() -> Passages:
    """Run all scenarios, the quickest first in the answer."""
    found = {name: _passage(name) for name in SCENARIOS}
    return dict(sorted(found.items(), key=lambda item: item[1].seconds))


def _passage(name: str) -> Passage:
    start = time.perf_counter()
    with passing() as passed:
        violation = asyncio.run(SCENARIOS[name]())
    return Passage(violation, frozenset(passed), time.perf_counter() - start)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_keeps_the_promises(name: str, passages: Passages) -> None:
    """With every sync in its place no crash breaks a promise."""
    assert passages[name].violation == ""


@pytest.mark.parametrize("site", sites(), ids=str)
async def test_a_sync_left_out_is_seen(
    site: Site, passages: Passages, record_property: Callable[[str, object], None]
) -> None:
    """With one sync left out, a crash in some scenario loses or brings back a checkpoint."""
    for name in [name for name, passage in passages.items() if site in passage.syncs]:
        with forgotten(site):
            violation = await SCENARIOS[name]()
        if violation:
            print(f"{name}: {violation}")
            record_property("examined", 1)
            return
    if str(site) in _FOR_PEOPLE:
        pytest.skip("no checkpoint depends on what is kept aside")
    pytest.fail(f"{site}, line {site.lines.start}: no scenario needs it")
