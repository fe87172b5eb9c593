"""SIGKILL, at random and at every named failpoint, loses nothing that was acknowledged."""

from __future__ import annotations

import itertools
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import Durability
from tests.crash.machine import Machine, failpoints

pytestmark = pytest.mark.blocking

_ROUNDS = 300
_MOST_CALLS = 900
_REWINDS = 3
_SMALL_SLOT_BYTES = 128 << 10


def _die_anywhere(machine: Machine, dice: random.Random) -> None:
    machine.live(visit=dice.randint(1, _MOST_CALLS))


@pytest.mark.long
async def test_killed_at_every_failpoint(
    victim: subprocess.Popen[bytes],
    root: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Wherever a process is killed, the next one finds every acknowledged save and delete."""
    machine = Machine(victim, root, "journal")
    names = failpoints()

    for name in names:
        assert machine.live(name, 1), f"{name} was not reached"
        await machine.inspect()

    assert machine.deaths == len(names)
    record_property("examined", machine.deaths)


@pytest.mark.parametrize(("durability", "rounds"), [("journal", 6), ("file", 2)])
async def test_killed_at_random(
    victim: subprocess.Popen[bytes],
    root: Path,
    durability: Durability,
    rounds: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Killed at any system call, and again in the recovery, nothing acknowledged is lost."""
    machine = Machine(victim, root, durability)

    await _kill(machine, rounds, random.Random(1))

    assert machine.deaths > 0
    assert machine.ledger.acknowledged > 0
    record_property("examined", machine.deaths)


@pytest.mark.parametrize("durability", ["journal", "file"])
@pytest.mark.few(1)
async def test_killed_with_positions_of_before_a_crash(
    victim: subprocess.Popen[bytes],
    root: Path,
    durability: Durability,
    record_property: Callable[[str, object], None],
) -> None:
    """The same with positions that are as they were shared earlier, over many small segments."""
    machine = Machine(victim, root, durability)
    dice = random.Random(3)

    for _ in range(_REWINDS):
        visit = dice.randint(2, 60)
        rewinds_to = dice.randint(1, visit)
        machine.live("before_publish", visit, rewinds_to=rewinds_to, slot_bytes=_SMALL_SLOT_BYTES)
        await machine.inspect()

    assert machine.deaths > 0
    record_property("examined", machine.deaths)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durability", ["journal", "file", "none"])
async def test_killed_hundreds_of_times(
    victim: subprocess.Popen[bytes],
    root: Path,
    durability: Durability,
    record_property: Callable[[str, object], None],
) -> None:
    """The same over hundreds of deaths on one store, at failpoints and between them."""
    machine = Machine(victim, root, durability, seed=2)
    dice = random.Random(2)
    for name in itertools.cycle(failpoints()):
        machine.live(name, dice.randint(1, 8))
        await _kill(machine, 1, dice)
        if machine.deaths >= _ROUNDS:
            break
    record_property("examined", machine.deaths)


async def _kill(machine: Machine, rounds: int, dice: random.Random) -> None:
    for _ in range(rounds):
        _die_anywhere(machine, dice)
        if dice.random() < 0.5:
            _die_anywhere(machine, dice)
        await machine.inspect()
