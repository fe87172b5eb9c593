"""Which cases of a test that has many run by default; the CI or the campaign runs the others."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

Indices = tuple[int, ...]


def examples(few: int, many: int) -> int:
    """Return how many examples to try: few, but many in the campaign of more examples."""
    return many if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else few


def leave_the_rest(items: Sequence[pytest.Item]) -> None:
    """
    Let of each test with the mark `some` or `few` so many cases run as that says.

    The campaign runs what `some` leaves. Of the others `few` lets so many run by default, and the
    CI runs all.

    Without a number it is so many that each value of each parameter occurs. On a class it is so
    many of all of its tests.
    """
    _leave_the_rest(_without(items, "campaign"), "some", "campaign")
    _leave_the_rest(_without(items, "campaign", "servers", "long"), "few", "long")


def _without(items: Iterable[pytest.Item], *marks: str) -> list[pytest.Item]:
    return [item for item in items if not any(map(item.get_closest_marker, marks))]


def _leave_the_rest(items: Iterable[pytest.Item], slices: str, others: str) -> None:
    """Let of each test with one mark so many cases run as that says; the others get another."""
    for (_, count), group in _groups(items, slices).items():
        cases = _indices(group)
        chosen = spread(len(cases), count) if count else covering(cases)
        for number, item in enumerate(group):
            if number not in chosen:
                item.add_marker(others)


def _groups(items: Iterable[pytest.Item], slices: str) -> dict[tuple[str, int], list[pytest.Item]]:
    groups: defaultdict[tuple[str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        for node, mark in item.iter_markers_with_node(slices):
            name = item.nodeid.partition("[")[0] if node is item else node.nodeid
            groups[name, *mark.args or (0,)].append(item)
            break
    return groups


def _indices(group: Sequence[pytest.Item]) -> list[Indices]:
    """Return for each case which of the values of each parameter it has, by order of appearance."""
    calls: list[Any] = [getattr(item, "callspec", None) for item in group]
    numbers: defaultdict[str, dict[int, int]] = defaultdict(dict)
    return [
        tuple(
            numbers[name].setdefault(id(value), len(numbers[name]))
            for name, value in (call.params if call else {}).items()
        )
        for call in calls
    ]


def spread(cases: int, count: int) -> set[int]:
    """Return the numbers of so many of the cases, as far from each other as can be."""
    return {number * cases // count for number in range(count)}


def covering(cases: Sequence[Indices]) -> set[int]:
    """Return the numbers of few cases in which each value of each parameter occurs."""
    sizes = [1 + max(values) for values in zip(*cases, strict=True)]
    diagonal = (tuple(step % size for size in sizes) for step in range(max(sizes, default=0)))
    numbers = {indices: number for number, indices in enumerate(cases)}
    chosen = {numbers[indices] for indices in diagonal if indices in numbers}
    seen = {value for number in chosen for value in _values(cases[number])}
    for number, indices in enumerate(cases):
        if not seen.issuperset(_values(indices)):
            chosen.add(number)
            seen.update(_values(indices))
    return chosen


def _values(indices: Indices) -> Iterator[tuple[int, int]]:
    return enumerate(indices)
