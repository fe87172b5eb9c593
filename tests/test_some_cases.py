"""The cases that run by default are few, and of each kind."""

from __future__ import annotations

import itertools

import pytest

from tests.some_cases import covering, spread


@pytest.mark.parametrize("sizes", [(5, 5, 2), (1, 7), (2, 2), (3,), (4, 6, 3, 2)])
def test_each_value_of_each_parameter_occurs(sizes: tuple[int, ...]) -> None:
    """Of a matrix so many cases run by default as its longest side has values."""
    cases = [*itertools.product(*map(range, sizes))]
    chosen = [cases[number] for number in covering(cases)]
    assert len(chosen) == max(sizes)
    for position, size in enumerate(sizes):
        assert {indices[position] for indices in chosen} == set(range(size))


def test_of_a_matrix_with_gaps_each_value_occurs_too() -> None:
    """A value that the diagonal lacks comes by another case."""
    cases = [(0, 1), (1, 0), (2, 2), (3, 1)]
    assert covering(cases) == {0, 1, 2, 3}


def test_so_many_as_are_asked_for_are_spread() -> None:
    """A number of cases is taken from all of the list, at the same distance."""
    assert spread(10, 3) == {0, 3, 6}
    assert spread(3, 3) == {0, 1, 2}
    assert spread(2, 5) == {0, 1}
