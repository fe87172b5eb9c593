"""Run the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import msgspec

from benchmarks.disk import MAKERS, DiskError, empty_directory
from benchmarks.documents import KB
from benchmarks.environment import Environment, probe, probe_line
from benchmarks.report import Answer, Bound, Table, markdown
from benchmarks.rounds import Settings

QUESTIONS = (
    "save", "sustained", "latency", "processes", "stall", "langgraph", "load", "growth", "limits",
    "others", "large", "list", "sizes", "history", "postgres", "footprint",
)  # fmt: skip
_DEFAULT_DIRECTORY = ".benchmark"


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=QUESTIONS, help="may be given more than once"
    )
    parser.add_argument(
        "--disk",
        default=_DEFAULT_DIRECTORY,
        metavar="|".join([*MAKERS, "DIRECTORY"]),
        help="a new file system on a loop device, for root, or where to measure (%(default)s);"
        " what is made is removed afterwards",
    )
    parser.add_argument("--rounds", type=int, help="how often every contender runs (5)")
    parser.add_argument("--seconds", type=float, help="how long in a round (3)")
    parser.add_argument(
        "--sustained-seconds", type=float, help="how long in a round of `sustained` (30)"
    )
    parser.add_argument("--kilobytes", type=float, default=8, help="of a document (%(default)s)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep every row, with its rounds, as JSON lines"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it works; no results"
    )
    parser.add_argument(
        "--allow-memory", action="store_true", help="run on tmpfs, where nothing is durable"
    )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run what was asked for and return an exit status."""
    arguments = _arguments(words)
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(empty_directory(arguments.disk))
        except DiskError as error:
            print(error, file=sys.stderr)
            return 2
        environment = Environment.of(directory)
        if environment.file_system.is_in_memory and not arguments.allow_memory:
            print(
                f"{directory} is on {environment.file_system.kind}, in memory: nothing there is"
                " durable and every fsync is free. Give --disk a directory on a real disk, or"
                " --allow-memory.",
                file=sys.stderr,
            )
            return 2
        kept = stack.enter_context(arguments.json.open("wb")) if arguments.json else None
        _measure(arguments, directory, environment, Lines(kept))
    return 0


class Lines:
    """Where results are kept as JSON lines, each as soon as it is known."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file

    def add(self, **line: Any) -> None:
        """Keep a line."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()

    def add_table(self, question: str, table: Table) -> None:
        """Keep a line for each row."""
        for row in table.rows:
            self.add(question=question, table=table.title, row=row)


def _measure(
    arguments: argparse.Namespace, directory: Path, environment: Environment, lines: Lines
) -> None:
    settings = _settings(arguments, directory, environment)
    print("\n".join(environment.lines()))
    print(f"- {settings.rounds} rounds, {settings.seconds:g} s each")
    lines.add(environment=environment, settings=msgspec.to_builtins(settings, enc_hook=str))
    _probe("before", settings, lines)
    bounds: list[Bound] = []
    for question in arguments.only or QUESTIONS:
        print(f"\n## {question}\n", flush=True)
        answer: Answer = importlib.import_module(f"benchmarks.bench_{question}").run(settings)
        for table in answer.tables:
            print(f"{markdown(table)}\n", flush=True)
            lines.add_table(question, table)
        bounds += answer.bounds
    if bounds:
        table = Table("Bounds", [bound.row() for bound in bounds])
        print(f"{markdown(table)}\n")
        lines.add_table("bounds", table)
    _probe("after", settings, lines)


def _settings(arguments: argparse.Namespace, directory: Path, environment: Environment) -> Settings:
    quick = arguments.quick
    return Settings(
        directory=directory,
        rounds=arguments.rounds or (1 if quick else 5),
        seconds=arguments.seconds or (0.02 if quick else 3.0),
        sustained_seconds=arguments.sustained_seconds or (0.05 if quick else 30.0),
        size_bytes=round(arguments.kilobytes * KB),
        # There, a new file gets slow for minutes after many were removed.
        keeps_files=environment.file_system.is_journaled is False,
        is_quick=quick,
    )


def _probe(moment: str, settings: Settings, lines: Lines) -> None:
    found = probe(settings.directory, 20 if settings.is_quick else 500)
    print(probe_line(moment, found), flush=True)
    lines.add(moment=moment, disk=found)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed
    sys.exit(main())
