"""Run every crash test, the long campaigns too, on all cores, and print what they examined.

python -m tests.crash [further arguments of pytest, as `-k kill`]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

_LAYERS = {
    "test_enumeration": ("every crash state of short sequences of calls", "states"),
    "test_processes": ("two processes, one of them killed amid each call", "states"),
    "test_kill": ("SIGKILL at failpoints and at random", "kills"),
    "test_power_cut": ("power cuts of a real ext4", "cuts"),
    "test_full_disk": ("real full disks", "scenarios"),
    "test_faults": ("failing file operations, then a power cut", "states"),
    "test_any_order": ("random calls, faults, kills and power cuts against a plain model", "calls"),
    "test_blobs": ("every crash state of records with blobs", "states"),
    "test_names": ("names, with clocks that were set back", "tests"),
    "test_syncs": ("each sync left out, to be noticed", "syncs"),
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
        row = self.rows[_module_of(report.nodeid)]
        row.seconds += report.duration
        row.violations += report.failed
        row.skipped += report.skipped
        if report.when == "call":
            row.examined += int(str(dict(report.user_properties).get("examined", 1)))

    def add(self, module: str, row: _Row) -> None:
        """Add what another process has examined."""
        mine = self.rows[module]
        mine.examined += row.examined
        mine.violations += row.violations
        mine.skipped += row.skipped
        mine.seconds += row.seconds

    def table(self) -> str:
        """Return one line for each layer."""
        lines = [
            "| Layer | Examined | Violations | Skipped tests | CPU seconds |",
            "|---|---:|---:|---:|---:|",
        ]
        for module in [*_LAYERS, *(self.rows.keys() - _LAYERS.keys())]:
            if module in self.rows:
                row = self.rows[module]
                layer, unit = _LAYERS.get(module, (module, "tests"))
                lines.append(
                    f"| {layer} | {row.examined:,} {unit} | {row.violations} | {row.skipped} "
                    f"| {row.seconds:,.0f} |"
                )
        return "\n".join(lines)


class _Collected:
    """A pytest plugin that notes the tests, the long ones apart."""

    def __init__(self) -> None:
        self.long: list[str] = []
        self.short: defaultdict[str, list[str]] = defaultdict(list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note them."""
        for item in session.items:
            if item.get_closest_marker("campaign"):
                self.long.append(item.nodeid)
            else:
                self.short[_module_of(item.nodeid)].append(item.nodeid)


def _module_of(node_id: str) -> str:
    return Path(node_id.split("::")[0]).stem


_OPTIONS = ("-m", "", "-n", "0", "-q", "--no-header", "-p", "no:cacheprovider")


def _parts(arguments: list[str]) -> list[list[str]]:
    """Return which tests go into a process of their own."""
    collected = _Collected()
    directory = str(Path(__file__).parent)
    pytest.main([*_OPTIONS, "--collect-only", "-qq", directory, *arguments], plugins=[collected])
    return [*([one] for one in collected.long), *collected.short.values()]


def _run_part(node_ids: list[str]) -> tuple[int, dict[str, _Row]]:
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "tests.crash", "--part", report.name, *node_ids]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        found = report.read()
    if done.returncode != 0:
        print(done.stdout, done.stderr)
    rows = json.loads(found) if found else {_module_of(node_ids[0]): asdict(_Row(violations=1))}
    return done.returncode, {module: _Row(**fields) for module, fields in rows.items()}


def run_part(report: str, node_ids: Iterable[str]) -> int:
    """Run some tests in this process, and leave in a file what they examined."""
    summary = Summary()
    code = pytest.main([*_OPTIONS, "-rf", *node_ids], plugins=[summary])
    rows = {module: asdict(row) for module, row in summary.rows.items()}
    Path(report).write_text(json.dumps(rows), encoding="utf-8")
    return int(code)


def main(arguments: list[str]) -> int:
    """Run the tests and print the table."""
    if arguments[:1] == ["--part"]:
        return run_part(arguments[1], arguments[2:])
    start = time.perf_counter()
    summary = Summary()
    worst = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for code, rows in pool.map(_run_part, _parts(arguments)):
            worst = max(worst, code)
            for module, row in rows.items():
                summary.add(module, row)
    print(summary.table())
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.0f} minutes on {os.cpu_count()} cores")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
