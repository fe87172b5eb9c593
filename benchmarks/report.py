"""Tables of results: as Markdown for people, as plain data for JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from msgspec import Struct


def quantile(values: Sequence[float], fraction: float) -> float:
    """Return the value below which that fraction of `values` lies, interpolated."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


class Spread(Struct, frozen=True):
    """One number per round, summed up."""

    median: float
    least: float
    greatest: float
    rounds: list[float]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of one value per round, of which there is at least one."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known), known)


Cell: TypeAlias = str | int | float | Spread
Row: TypeAlias = dict[str, Cell]


class Table(Struct, frozen=True):
    """
    Measured rows.

    Attributes:
        title: what was measured.
        rows: a cell for each column, by its heading; all rows have the same headings.
        notes: what a reader must know to take the numbers right.
    """

    title: str
    rows: list[Row]
    notes: list[str] = []


class Bound(Struct, frozen=True):
    """
    What a number has to be.

    Attributes:
        what: is measured.
        found: its value in each round; the median counts.
        limit: the worst that will do.
        aim: what it should be.
        is_least: whether more is better.
    """

    what: str
    found: Spread
    limit: float
    aim: float | None = None
    is_least: bool = True

    def row(self) -> Row:
        """Return it as a row of a table."""
        sign = ">=" if self.is_least else "<="
        aim = "" if self.aim is None else f"{sign} {self.aim:g}"
        short = self.limit - self.found.median
        is_met = (short if self.is_least else -short) <= 0
        return {
            "what": self.what,
            "found": self.found,
            "bound": f"{sign} {self.limit:g}",
            "aim": aim,
            "met": "yes" if is_met else "NO",
        }


class Answer(Struct, frozen=True):
    """What a benchmark found."""

    tables: list[Table]
    bounds: list[Bound] = []


def ratios(numerators: Iterable[float], denominators: Iterable[float]) -> Spread:
    """Return the ratio of two contenders, formed within each round."""
    return Spread.of(a / b for a, b in zip(numerators, denominators, strict=True))


def _number(value: float) -> str:
    if value != 0 and abs(value) < 0.01:
        return f"{value:.4f}"
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _text(cell: Cell) -> str:
    match cell:
        case Spread():
            return f"{_number(cell.median)} ({_number(cell.least)}-{_number(cell.greatest)})"
        case float():
            return _number(cell)
        case _:
            return str(cell)


def markdown(table: Table) -> str:
    """Return a table as aligned Markdown."""
    headings = list(table.rows[0])
    lines = [headings, *([_text(row[heading]) for heading in headings] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"### {table.title}", "", drawn[0], rule, *drawn[1:], "", *notes]).rstrip()
