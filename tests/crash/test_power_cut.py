"""A real ext4 that loses power at any moment still holds all that was acknowledged."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocheckpoint import Durability
from tests.crash.disks import ext4
from tests.crash.machine import Machine, failpoints

pytestmark = pytest.mark.blocking

_DISK_BYTES = 64 << 20
_MOST_CALLS = 900
_LOST = 2
_ROUNDS = 60


async def _cut(
    victim: subprocess.Popen[bytes],
    directory: Path,
    durability: Durability,
    moments: list[tuple[str, int]],
    flags: tuple[int, ...] = (_LOST,),
) -> Machine:
    """Cut the power at each moment, a failpoint and which of its visits, and look after each."""
    with ext4(directory, _DISK_BYTES) as disk:
        machine = Machine(victim, disk.path / "state", durability)
        for number, (failpoint, visit) in enumerate(moments):
            cut = flags[number % len(flags)]
            died = machine.live(failpoint, visit, disk=str(disk.path), cut=cut)
            assert died or failpoint != ""
            disk.detach()
            disk.attach()
            await machine.inspect()
    return machine


@pytest.mark.parametrize("durability", ["journal", "file"])
@pytest.mark.few(1)
async def test_power_cut(
    victim: subprocess.Popen[bytes],
    disk_directory: Path,
    durability: Durability,
    record_property: Callable[[str, object], None],
) -> None:
    """After a power cut every acknowledged save and delete is there, and nothing torn."""
    moments = [("before_publish", 20), ("before_unlink", 2), ("before_flush", 2)]

    machine = await _cut(victim, disk_directory, durability, moments)

    assert machine.deaths == len(moments)
    assert machine.ledger.acknowledged > 0
    record_property("examined", machine.deaths)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durability", ["journal", "file"])
async def test_power_cuts_at_every_failpoint_and_at_random(
    victim: subprocess.Popen[bytes],
    disk_directory: Path,
    durability: Durability,
    record_property: Callable[[str, object], None],
) -> None:
    """The same with every flag of the shutdown, at every failpoint and between them."""
    dice = random.Random(3)
    moments = [(name, dice.randint(1, 6)) for name in failpoints()]
    moments += [("", dice.randint(1, _MOST_CALLS)) for _ in range(_ROUNDS - len(moments))]
    dice.shuffle(moments)

    machine = await _cut(victim, disk_directory, durability, moments, (0, 1, 2, 2))

    assert machine.deaths > _ROUNDS / 2
    record_property("examined", machine.deaths)
