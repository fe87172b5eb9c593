"""Run every crash test, the long campaigns too, and print what they examined.

python -m tests.crash [further arguments of pytest]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

_LAYERS = {
    "test_enumeration": ("every crash state of short sequences of calls", "states"),
    "test_kill": ("SIGKILL at failpoints and at random", "kills"),
    "test_power_cut": ("power cuts of a real ext4", "cuts"),
    "test_full_disk": ("real full disks", "scenarios"),
    "test_mutants": ("broken versions, each to be caught", "mutants"),
    "test_completeness": ("the recorder against strace", "system calls"),
}


@dataclass
class _Row:
    examined: int = 0
    violations: int = 0
    skipped: int = 0
    seconds: float = 0.0


class Summary:
    """A pytest plugin that adds up what tests report as the property `examined`."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, _Row] = defaultdict(_Row)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test to its layer."""
        row = self.rows[Path(report.nodeid.split("::")[0]).stem]
        row.seconds += report.duration
        row.violations += report.failed
        row.skipped += report.skipped
        if report.when == "call":
            row.examined += int(str(dict(report.user_properties).get("examined", 1)))

    def table(self) -> str:
        """Return one line for each layer."""
        lines = [
            "| Layer | Examined | Violations | Skipped tests | Seconds |",
            "|---|---:|---:|---:|---:|",
        ]
        for module, row in self.rows.items():
            layer, unit = _LAYERS.get(module, (module, "tests"))
            lines.append(
                f"| {layer} | {row.examined:,} {unit} | {row.violations} | {row.skipped} "
                f"| {row.seconds:,.0f} |"
            )
        return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the tests and print the table."""
    summary = Summary()
    options = ["-m", "", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    code = pytest.main([*options, *arguments], plugins=[summary])
    print(summary.table())
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
