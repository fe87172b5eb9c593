"""Whoever removes a sync sees a test fail: each, left out alone, breaks a promise somewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.model import one_of
from tests.crash.scenarios import MANY_KILLS, MANY_STATES, SCENARIOS, SLOW
from tests.crash.syncs import Site, forgotten, sites

pytestmark = pytest.mark.blocking

FIRST_TRIED = {
    "append.make_ready: sync()": "seen of the dead",
    "append.make_ready: sync(slot)": "without a header",
    "attempt.append: sync()": "deleted in haste",
    "segment_writer._seal: sync()": "in haste, in many segments",
    "segment_writer.sync: _sync_slot()": "seen of the dead",
    "free_slots.take: keep(free[-1])": "killed in a save",
    "applier._synced: sync()": "replaced in haste",
    "files._sync_above: sync_directory(above)": "killed in a save",
    "files.replace: sync_directory(directory)": "owned by the dead",
    "files.replace: sync_file(descriptor, path)": "recover from a disk to another",
    "files.move_if_there: sync_directory(target)": "recover",
    "files.sync_name: sync_file(descriptor, path)": "flush one by one",
    "lost_parts._note: sync_directory(noted)": "lost for others",
    "place.write_known: sync()": "journal removed by hand",
    "root._made_private: sync_directory(root)": "killed in a save",
    "slots.adopt: sync_directory(self._directory)": "a slot used again",
    "slots.blank: sync(number)": "a slot used again",
    "slots.create: sync_directory(self._directory)": "unsynced by the dead",
    "slots.erase: sync(number)": "erase",
    "slots.prepare: sync_file(descriptor, path)": "a slot used again",
    "slots.keep: sync_directory(self._directory)": "killed in a new segment",
    "slots.keep: sync_file(self._descriptor(number), self.path(number))": "killed in a save",
    "sync._sync_devices: sync_everything(directory)": "flush by disk",
    "sync.sync: sync_name(opened, name)": "flush one by one",
}
"""Where it is not one of the quickest scenarios that notices it."""

OF_NO_EFFECT = {
    "files.sync_directory: sync_everything(directory)": (
        "it stands in for the sync of a directory on disks that have none; those here have"
    ),
    "lost_parts._keep: sync_directory(self._parent)": (
        "a damaged segment is given free after its successor's slot was synced into the directory"
    ),
}
"""Those that no crash shows, since what they make durable is so by other ways; and by which."""


_SLICES = 8
"""So many slices of the states of a scenario: most lacks show in one, and the others take long."""

_SOUND_SLICES = 48
"""The same where no sync lacks; the campaign sees all."""

_KILLS_EVERY = 4
"""After one of so many changes a process dies there."""


async def _noticed(site: Site) -> str:
    """Return how the lack of a sync shows, and in which scenario; `""` where it does not."""
    first = FIRST_TRIED.get(str(site))
    for name in sorted(SCENARIOS, key=lambda name: name != first):
        for every in (_SLICES, 1) if name in MANY_STATES else (1,):
            with forgotten(site), one_of(every):
                violation = await SCENARIOS[name]()
            if violation:
                return f"{name}: {violation}"
    return ""


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in SLOW])
@pytest.mark.some(14)
@pytest.mark.few(4)
async def test_a_scenario_keeps_the_promises(name: str) -> None:
    """With every sync in its place no crash breaks a promise; of many states one slice is seen."""
    every = _SOUND_SLICES if name in MANY_STATES else 1
    some = {"every": _KILLS_EVERY} if name in MANY_KILLS else {}
    with one_of(every, [*SCENARIOS].index(name) % every):
        assert await SCENARIOS[name](**some) == ""


@pytest.mark.campaign
@pytest.mark.parametrize("name", [*MANY_STATES, *MANY_KILLS, *SLOW])
async def test_a_scenario_keeps_the_promises_in_every_state(name: str) -> None:
    """The same of each state that a crash may leave."""
    assert await SCENARIOS[name]() == ""


@pytest.mark.parametrize("site", [s for s in sites() if str(s) not in OF_NO_EFFECT], ids=str)
@pytest.mark.some(13)
@pytest.mark.few(4)
async def test_a_sync_left_out_is_seen(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    """With one sync left out, a crash in some scenario loses or brings back a checkpoint."""
    violation = await _noticed(site)

    assert violation, f"line {site.lines.start}: no scenario needs it"
    first = FIRST_TRIED.get(str(site), "")
    assert violation.startswith(first), f"{first!r} needs it no more, and trying all is slow"
    print(violation)
    record_property("examined", 1)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("site", [s for s in sites() if str(s) in OF_NO_EFFECT], ids=str)
async def test_a_sync_of_no_effect_is_none(site: Site) -> None:
    """Without one of those that are said to be of no effect, no scenario breaks a promise."""
    assert await _noticed(site) == ""


def test_what_is_said_of_syncs_is_of_some_that_are_there() -> None:
    """Who renames a function tells here, too."""
    assert {*FIRST_TRIED, *OF_NO_EFFECT} <= set(map(str, sites()))
