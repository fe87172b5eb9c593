"""The crash tests see what they are there for: each broken rule is caught."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.enumeration import Enumerator
from tests.crash.model import QUICK
from tests.crash.mutants import MUTANTS, Mutant, broken

pytestmark = pytest.mark.blocking


async def _violations(mutant: Mutant) -> list[str]:
    """Return what is found in the states that a crash in the mutant's calls may leave."""
    enumerator = Enumerator({"durability": mutant.durability}, QUICK)
    await enumerator.run(mutant.calls, mutant.base, [mutant.model])
    return enumerator.tally.violations


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_mutant_is_caught(
    mutant: Mutant, record_property: Callable[[str, object], None]
) -> None:
    """A library with one rule broken is seen to lose, or to bring back, a checkpoint."""
    with broken(mutant):
        violations = await _violations(mutant)

    assert violations
    print(violations[0])
    record_property("examined", 1)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_the_library_itself_is_not(mutant: Mutant) -> None:
    """In the very states in which mutants are caught, the library keeps its promises."""
    assert await _violations(mutant) == []
