"""The benchmarks run and report; what they measure is no matter here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.disk import DiskError, empty_directory
from benchmarks.documents import KB, MB, documents
from benchmarks.environment import FileSystem, file_system
from benchmarks.report import Bound, Spread, Table, markdown, quantile, ratios
from benchmarks.rounds import (
    ChildFailedError,
    Settings,
    UnavailableError,
    in_child,
    in_children,
    interleaved,
    start_together,
)
from benchmarks.savers import JOURNAL
from benchmarks.ticker import Ticker

from aiocheckpoint import AsyncCheckpointWriter
from tests.directories import open_directory

PROJECT = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(600)  # all of it runs in the first test that asks for it


class Outcome:
    def __init__(self, printed: str, lines: list[dict[str, Any]], directory: Path) -> None:
        self.printed = printed
        self.lines = lines
        self.directory = directory

    def rows(self, question: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("question") == question]


of_a_run = pytest.mark.long  # all benchmarks are run once for these tests


@pytest.fixture(scope="module", name="outcome")
def _outcome() -> Iterator[Outcome]:
    with open_directory("benchmarks-") as parent:  # its PostgreSQL has a user of its own
        directory, report = parent / "disk", parent / "report.jsonl"
        command = [
            sys.executable, "-m", "benchmarks", "--quick", "--allow-memory",
            "--disk", str(directory), "--json", str(report),
        ]  # fmt: skip
        finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        lines = [json.loads(line) for line in report.read_bytes().splitlines()]
        yield Outcome(finished.stdout, lines, directory)


@pytest.mark.parametrize("question", [*QUESTIONS, "bounds"])
@pytest.mark.some(6)
@of_a_run
def test_each_question_is_answered_by_tables_and_by_the_same_rows_in_json(
    outcome: Outcome, question: str
) -> None:
    """What is printed is what `--json` keeps, with numbers in every row."""
    lines = outcome.rows(question)
    if question == "postgres" and "Not measured: " in outcome.printed:
        pytest.skip("PostgreSQL's server cannot be started here")
    assert lines
    headings: dict[str, set[tuple[str, ...]]] = {}
    for line in lines:
        assert f"### {line['table']}\n" in outcome.printed
        assert any(_is_positive(cell) for cell in line["row"].values())
        headings.setdefault(line["table"], set()).add(tuple(line["row"]))
    assert all(len(different) == 1 for different in headings.values())


def _is_positive(cell: Any) -> bool:
    value = cell["median"] if isinstance(cell, dict) else cell
    return isinstance(value, (int, float)) and value > 0


@of_a_run
@pytest.mark.parametrize("question", ["save", "sustained", "latency", "processes", "stall"])
def test_this_library_stands_beside_others(outcome: Outcome, question: str) -> None:
    """No number of a save stands alone."""
    contenders = {line["row"].get("contender") for line in outcome.rows(question)}
    assert JOURNAL in contenders
    assert len(contenders - {None, JOURNAL}) >= 1


@of_a_run
def test_every_contender_says_what_is_durable(outcome: Outcome) -> None:
    """Nobody compares what a power cut would leave with what it would not."""
    assert all(line["row"]["durable on return"] for line in outcome.rows("others"))


@of_a_run
def test_the_report_says_where_it_was_measured(outcome: Outcome) -> None:
    """A reader learns machine, kernel, file system, versions and the state of the disk."""
    environment = outcome.lines[0]["environment"]
    assert environment["cpus"] >= 1
    assert environment["file_system"]["kind"] in outcome.printed
    assert environment["packages"]["msgspec"] in outcome.printed
    moments = {line["moment"]: line["disk"] for line in outcome.lines if "moment" in line}
    assert set(moments) == {"before", "after"}
    assert all(disk["floor"] > 0 for disk in moments.values())


@of_a_run
def test_the_disk_is_given_back(outcome: Outcome) -> None:
    """Nothing is left of a run but its report."""
    assert not outcome.directory.exists()


@pytest.mark.blocking
def test_a_file_system_in_memory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody takes numbers of a tmpfs for those of a disk by mistake."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and os.access(memory, os.W_OK) and file_system(memory).is_in_memory):
        pytest.skip("needs a writable tmpfs at /dev/shm")
    directory = memory / f"aiocheckpoint-benchmark-{os.getpid()}"
    assert main(["--only", "save", "--disk", str(directory)]) == 2
    assert "in memory" in capsys.readouterr().err
    assert not directory.exists()


def test_only_memory_counts_as_memory() -> None:
    """A disk is never refused."""
    assert FileSystem("tmpfs", "tmpfs", "", None).is_in_memory
    assert not FileSystem("ext4", "/dev/sda", "", is_journaled=True).is_in_memory


@pytest.mark.blocking
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_on_a_loop_device_is_given_back(kind: str) -> None:
    """It is mounted with a journal, empty, and gone with its image after an error as well."""
    disk = empty_directory(kind)
    try:
        directory = disk.__enter__()
    except DiskError as error:
        pytest.skip(str(error))
    found = file_system(directory)
    (directory / "file").touch()
    assert not disk.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert found.kind == kind
    assert found.is_journaled in (True, None)
    assert not directory.parent.parent.exists()


def _settings(tmp_path: Path, rounds: int) -> Settings:
    return Settings(
        directory=tmp_path,
        rounds=rounds,
        seconds=0,
        sustained_seconds=0,
        size_bytes=8 * KB,
        is_quick=True,
    )


@pytest.mark.blocking
def test_rounds_are_interleaved_and_begin_with_another_contender_each(tmp_path: Path) -> None:
    """No contender always comes first, and each has an empty directory every time."""
    order: list[str] = []

    def measure(contender: str, directory: Path) -> int:
        assert not any(directory.iterdir())
        (directory / "file").touch()
        order.append(contender)
        return len(order)

    results = interleaved(_settings(tmp_path, 3), "abc", measure)
    assert "".join(order) == "abcbcacab"
    assert results == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}
    assert not any(tmp_path.iterdir())


@pytest.mark.blocking
def test_a_contender_that_cannot_run_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """A missing package costs its row, not the run."""

    def measure(contender: str, directory: Path) -> str:
        return in_child(_refuse_b, contender)

    results = interleaved(_settings(tmp_path, 2), "ab", measure)
    assert results == {"a": ["a", "a"]}
    assert results.notes() == ["b: not installed"]


def _refuse_b(contender: str) -> str:
    if contender == "b":
        raise UnavailableError("not installed")
    return contender


@pytest.mark.blocking
def test_children_are_processes_of_their_own_that_begin_together() -> None:
    """Nothing is left in memory from one contender to the next."""
    first, second = in_children(_meet, [1, 2])
    assert len({os.getpid(), first, second}) == 3


def _meet(_: int) -> int:
    start_together()
    return os.getpid()


@pytest.mark.blocking
def test_a_child_that_fails_ends_its_siblings_and_the_run() -> None:
    """What is wrong is told at once, with the traceback."""
    with pytest.raises(ExceptionGroup) as raised:
        in_children(_fail_or_wait, [0, 1])
    texts = [str(error) for error in raised.value.exceptions]
    assert all(isinstance(error, ChildFailedError) for error in raised.value.exceptions)
    assert any("ZeroDivisionError" in text for text in texts)


def _fail_or_wait(number: int) -> float:
    if number == 0:
        return 1 / number
    start_together()
    return number


@pytest.mark.blocking
async def test_the_ticker_counts_a_stall_for_every_tick_it_delays() -> None:
    """A stall of 20 ms is seen in full, and weighs more than one late tick."""
    import time

    ticker = Ticker()
    async with ticker:
        time.sleep(0.02)
    assert 0.018 <= max(ticker.lateness_seconds) < 5
    assert sum(lateness > 0.005 for lateness in ticker.lateness_seconds) >= 10


@pytest.mark.parametrize("size", [1 * KB, 8 * KB, 100 * KB, 1 * MB])
def test_documents_have_the_size_they_are_measured_by(size: int) -> None:
    """A size of 8 KB means 8 KB for every contender, and the documents differ."""
    made = documents(size, 3)
    assert all(len(document.text) == size for document in made)
    assert len({document.text for document in made}) == 3


async def test_documents_come_back_as_they_are(root: Path) -> None:
    """The measured documents are ones that the library takes and gives back."""
    (document,) = documents(8 * KB, 1)
    async with AsyncCheckpointWriter(root) as writer:
        await writer.save(document.checkpoint("s", 1))
        loaded = await writer.load("s")
    assert loaded is not None
    assert loaded.messages == document.messages


def test_spread_quantiles_and_ratios() -> None:
    """The numbers in the tables are what their headings say."""
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([0, 10], 0.99) == pytest.approx(9.9)
    assert Spread.of([1, 5, 3]) == Spread(3, 1, 5, [1, 5, 3])
    assert ratios([2, 9, 4], [1, 3, 4]) == Spread(2, 1, 3, [2, 3, 1])


def test_bounds_are_met_by_the_median_from_the_right_side() -> None:
    """A bound says yes only where the number is good enough."""
    found = Spread.of([1, 2, 3])
    assert Bound("x", found, 2.0, 4.0).row()["met"] == "yes"
    assert Bound("x", found, 2.1).row()["met"] == "NO"
    assert Bound("x", found, 2.0, is_least=False).row()["met"] == "yes"
    assert Bound("x", found, 1.9, is_least=False).row()["met"] == "NO"


def test_tables_are_markdown() -> None:
    """A printed table can be pasted into the documentation."""
    table = Table(
        "T", [{"who": "a", "n": 1234.5}, {"who": "bb", "n": Spread(1, 0.5, 2, [])}], ["x"]
    )
    assert markdown(table).splitlines() == [
        "### T",
        "",
        "| who | n                |",
        "|-----|------------------|",
        "| a   | 1,234            |",
        "| bb  | 1.00 (0.50-2.00) |",
        "",
        "- x",
    ]
