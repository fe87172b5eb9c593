"""The cases that run by default are few, and of each kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.some_cases import covering, leave_the_rest, spread


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


class _Case:
    """A case of a test, as far as marks go."""

    def __init__(self, number: int, *marks: pytest.MarkDecorator) -> None:
        self.nodeid = f"test[{number}]"
        self._marks = [each.mark for each in marks]

    @property
    def marks(self) -> set[str]:
        return {mark.name for mark in self._marks}

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self._marks if mark.name == name), None)

    def iter_markers_with_node(self, name: str) -> Iterator[tuple[_Case, pytest.Mark]]:
        return ((self, mark) for mark in self._marks if mark.name == name)

    def add_marker(self, name: str) -> None:
        self._marks.append(getattr(pytest.mark, name).mark)


def test_what_is_left_by_default_is_run_by_the_ci() -> None:
    """Of what the campaign leaves few run by default, and the others have the CI's mark."""
    cases: list[Any] = [_Case(n, pytest.mark.some(6), pytest.mark.few(2)) for n in range(10)]
    cases += [_Case(10, pytest.mark.few(2), pytest.mark.servers)]
    leave_the_rest(cases)
    left = [case.marks & {"campaign", "long", "servers"} for case in cases]
    assert left.count({"campaign"}) == 4
    assert left.count({"long"}) == 4
    assert left.count(set()) == 2
    assert left[10] == {"servers"}
