"""The crash tests see what they are there for: each broken rule is caught."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiocheckpoint import CheckpointError
from tests.crash.checker import BrokenPromiseError
from tests.crash.model import one_of
from tests.crash.mutants import MUTANTS, Mutant, broken

pytestmark = pytest.mark.blocking

_SLICES = 8


async def _violation(mutant: Mutant) -> str:
    """Return what is found in the states that a crash in the mutant's run may leave."""
    for every in (_SLICES, 1):  # mostly a slice of them is enough
        try:
            with one_of(every):
                violation = await mutant.scenario()
        except (BrokenPromiseError, CheckpointError) as error:  # no crash was needed
            return repr(error)
        if violation:
            return violation
    return ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
@pytest.mark.some(10)
@pytest.mark.few(5)
async def test_a_mutant_is_caught(
    mutant: Mutant, record_property: Callable[[str, object], None]
) -> None:
    """A library with one rule broken is seen to lose, or to bring back, a checkpoint."""
    with broken(mutant):
        violation = await _violation(mutant)

    assert violation
    print(violation)
    record_property("examined", 1)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_the_library_itself_is_not(mutant: Mutant) -> None:
    """In the very states in which mutants are caught, the library keeps its promises."""
    assert await _violation(mutant) == ""
