"""Run the benchmarks: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.contenders import import_rivals
from benchmarks.environment import Environment, file_system, probe, probe_line
from benchmarks.harness import Settings
from benchmarks.report import Table, markdown

QUESTIONS = ("save", "load", "list", "growth", "stall", "langgraph")
_DEFAULT_DIRECTORY = ".benchmark"


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=QUESTIONS, help="may be given more than once"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(_DEFAULT_DIRECTORY),
        help="on the disk to measure; what is made in it is removed afterwards (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, help="how often every contender runs (5)")
    parser.add_argument("--seconds", type=float, help="how long in a round (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it works; no results"
    )
    parser.add_argument(
        "--allow-memory", action="store_true", help="run on tmpfs, where nothing is durable"
    )
    return parser.parse_args(words)


async def _answers(question: str, settings: Settings) -> list[Table]:
    tables: list[Table] = await importlib.import_module(f"benchmarks.bench_{question}").run(
        settings
    )
    print(f"## {question}\n")
    for table in tables:
        print(f"{markdown(table)}\n", flush=True)
    return tables


def main(words: list[str] | None = None) -> int:
    """Run what was asked for and return an exit status."""
    arguments = _arguments(words)
    was_there = arguments.directory.exists()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.directory.resolve()))
    try:
        return _run(arguments, directory)
    finally:
        shutil.rmtree(directory)
        if not was_there:
            arguments.directory.rmdir()


def _run(arguments: argparse.Namespace, directory: Path) -> int:
    disk = file_system(directory)
    if disk.is_in_memory and not arguments.allow_memory:
        print(
            f"{directory} is on {disk.kind}, in memory: nothing there is durable and every fsync"
            " is free. Give --directory on a real disk, or --allow-memory.",
            file=sys.stderr,
        )
        return 2
    quick = arguments.quick
    settings = Settings(
        directory=directory,
        rounds=arguments.rounds or (2 if quick else 5),
        seconds=arguments.seconds or (0.02 if quick else 1.0),
        is_quick=quick,
    )
    import_rivals()
    gc.collect()
    gc.freeze()  # nobody's pauses shall depend on how much somebody else has imported
    environment = Environment.of(directory)
    probes = 20 if quick else 200
    before = probe(directory, probes)
    print("\n".join([*environment.lines(), probe_line("before", before)]))
    print(f"- {settings.rounds} rounds, {settings.seconds:g} s each\n", flush=True)
    answers = {
        question: asyncio.run(_answers(question, settings))
        for question in arguments.only or QUESTIONS
    }
    after = probe(directory, probes)
    print(probe_line("after", after))
    if arguments.json is not None:
        report = {
            "environment": environment,
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "is_quick": quick,
            "probes": {"before": before, "after": after},
            "questions": answers,
        }
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=2)
        arguments.json.write_bytes(encoded + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
