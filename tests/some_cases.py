"""Which cases of a test that has many run by default; the campaign runs the others."""

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


def leave_the_rest_to_the_campaign(items: Iterable[pytest.Item]) -> None:
    """
    Let of each test with the mark `some` so many cases run by default as that says.

    Without a number it is so many that each value of each parameter occurs. On a class it is so
    many of all of its tests.
    """
    for (_, count), group in _groups(items).items():
        cases = _indices(group)
        chosen = spread(len(cases), count) if count else covering(cases)
        for number, item in enumerate(group):
            if number not in chosen:
                item.add_marker(pytest.mark.campaign)


def _groups(items: Iterable[pytest.Item]) -> dict[tuple[str, int], list[pytest.Item]]:
    groups: defaultdict[tuple[str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        for node, mark in item.iter_markers_with_node("some"):
            if item.get_closest_marker("campaign") is None:
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
