"""The crash tests see what they are there for: each broken rule is caught."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.enumeration import Enumerator
from tests.crash.model import QUICK, SECOND
from tests.crash.mutants import MUTANTS, Edit, Mutant, mutated

pytestmark = pytest.mark.blocking


def _setting(mutant: Mutant) -> Mutant:
    return mutant._replace(name="", edits=())


async def _violations(mutant: Mutant) -> list[str]:
    """Return what is found in the states that a crash in the mutant's calls may leave."""
    enumerator = Enumerator(
        {"durability": mutant.durability}, QUICK, SECOND if mutant.crashes_again else None
    )
    with mutated(mutant.edits):
        await enumerator.run(mutant.calls, mutant.base, [mutant.model])
    assert enumerator.tally.states[mutant.model] > 0
    return enumerator.tally.violations


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_mutant_is_caught(
    mutant: Mutant, record_property: Callable[[str, object], None]
) -> None:
    """A library with one rule broken is seen to lose, or to bring back, a checkpoint."""
    violations = await _violations(mutant)

    assert violations
    print(violations[0])
    record_property("examined", 1)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "setting",
    list(dict.fromkeys(map(_setting, MUTANTS))),
    ids=lambda setting: f"{setting.durability}-{setting.model}-{'/'.join(setting.calls)}",
)
async def test_the_library_itself_is_not(setting: Mutant) -> None:
    """In the very states in which mutants are caught, the library keeps its promises."""
    assert await _violations(setting) == []


def test_an_edit_that_fits_nothing_is_an_error() -> None:
    """A mutant whose rule has been rewritten fails aloud; it does not become the library."""
    with pytest.raises(LookupError), mutated([Edit("replay.replay", "no such text", "pass")]):
        pass
