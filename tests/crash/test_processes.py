"""Two processes on one root: what each has acknowledged is there, whoever is killed and when."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import pytest

from tests.crash.enumeration import SMALL_SLOT_BYTES, Enumerator, Moment
from tests.crash.model import LONG, MODELS, SECOND, Caps, Model, one_of
from tests.crash.processes import Turn, by_turns, survived, turns
from tests.crash.test_enumeration import TINY_SLOT_BYTES

pytestmark = pytest.mark.blocking

RecordProperty = Callable[[str, object], None]
SLOTS = {"small-slots": SMALL_SLOT_BYTES, "tiny-slots": TINY_SLOT_BYTES}
PLANS = (
    "a:save-existing b:replace-newest a:flush b:delete-latest b:flush",
    "b:save-existing a:save-existing a:flush b:save-new a:delete-session b:apply",
)
each_in_some = pytest.mark.parametrize(
    ("plan", "durability", "slot_bytes"),
    [
        (PLANS[0], "journal", SMALL_SLOT_BYTES),
        (PLANS[0], "file", TINY_SLOT_BYTES),
        (PLANS[1], "journal", TINY_SLOT_BYTES),
        (PLANS[1], "file", SMALL_SLOT_BYTES),
    ],
    ids=["first-journal-small", "first-file-tiny", "second-journal-tiny", "second-file-small"],
)
"""Each with each other one in two of the four ways; the campaign takes all."""
_SLICES = 7
"""One of so many states is looked at by default."""
_KINDS = ("save-existing", "replace-newest", "delete-latest", "flush")


def _plans(length: int) -> Iterable[tuple[Turn, ...]]:
    """Return all ways in which two processes take turns, the first of them `a`'s."""
    for kinds in itertools.product(_KINDS, repeat=length):
        for others in itertools.product("ab", repeat=length - 1):
            yield tuple(map(Turn, ("a", *others), kinds))


async def _examine_turns(
    plan: Sequence[Turn], durability: str, slot_bytes: int, caps: Caps, models: Sequence[Model]
) -> Enumerator:
    options = {"durability": durability}
    enumerator = Enumerator(options, caps, recovers_every=8)
    run = await by_turns(plan, options, slot_bytes)
    await enumerator.examine(f"{plan}", run, 0, models)
    return enumerator


async def _examine_kills(
    plan: Sequence[Turn], durability: str, slot_bytes: int, models: Sequence[Model], every: int = 1
) -> Enumerator:
    """Kill `a` after each change it makes; then let all power be cut when `b` has gone on."""
    options = {"durability": durability}
    enumerator = Enumerator(options, LONG, recovers_every=8)
    for lifetime in itertools.count(step=every):
        after = await survived(plan, lifetime, options, slot_bytes)
        name = f"{plan}, killed after change {lifetime}"
        end = len(after.run.operations)
        await enumerator.examine(name, after.run, end, models, Moment(after.store))
        if enumerator.is_done or not after.died:
            return enumerator
    raise AssertionError


@each_in_some
@pytest.mark.some
@pytest.mark.few(1)
async def test_both_are_cut_off(
    plan: str, durability: str, slot_bytes: int, record_property: RecordProperty
) -> None:
    """Both see each change at once; when both are killed, or lose power, nothing is lost."""
    with one_of(_SLICES):
        found = await _examine_turns(turns(plan), durability, slot_bytes, LONG, ["killed", "ext4"])

    assert found.tally.violations == []
    record_property("examined", found.tally.states.total())


@each_in_some
@pytest.mark.some
@pytest.mark.few(1)
async def test_one_is_killed(
    plan: str, durability: str, slot_bytes: int, record_property: RecordProperty
) -> None:
    """The other one goes on, wherever it was, and no power cut takes what both acknowledged."""
    found = await _examine_kills(turns(plan), durability, slot_bytes, ["ext4"], every=11)

    assert found.tally.violations == []
    record_property("examined", found.tally.states.total())


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("slot_bytes", SLOTS.values(), ids=SLOTS)
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_all_turns_of_three_calls(
    durability: str, slot_bytes: int, record_property: RecordProperty
) -> None:
    """The same of all turns of three calls, in all models, and of a kill after each change."""
    examined = 0
    for plan in (*_plans(3), *map(turns, PLANS)):
        for found in (
            await _examine_turns(plan, durability, slot_bytes, SECOND, MODELS),
            await _examine_kills(plan, durability, slot_bytes, MODELS),
        ):
            assert found.tally.violations == []
            examined += found.tally.states.total()
    record_property("examined", examined)
