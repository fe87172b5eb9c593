"""The benchmarks run and report; what they measure is no matter here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.contenders import JOURNAL
from benchmarks.documents import KB, MB, documents
from benchmarks.environment import FileSystem, file_system
from benchmarks.harness import Settings, Ticker, UnavailableError, interleaved
from benchmarks.report import Spread, Table, markdown, quantile, ratios

from aiocheckpoint import AsyncCheckpointWriter

PROJECT = Path(__file__).parent.parent


class Outcome:
    def __init__(self, printed: str, report: dict[str, Any], directory: Path) -> None:
        self.printed = printed
        self.report = report
        self.directory = directory


@pytest.fixture(scope="module", name="outcome")
def _outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    directory = tmp_path_factory.mktemp("benchmarks")
    directory, report = directory / "disk", directory / "report.json"
    command = [
        sys.executable, "-m", "benchmarks", "--quick", "--allow-memory",
        "--directory", str(directory), "--json", str(report),
    ]  # fmt: skip
    finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return Outcome(finished.stdout, json.loads(report.read_bytes()), directory)


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_answered_by_a_table_and_by_the_same_rows_in_json(
    outcome: Outcome, question: str
) -> None:
    """What is printed is what `--json` keeps, with a row for this library in every table."""
    tables = outcome.report["questions"][question]
    assert tables
    for table in tables:
        assert f"### {table['title']}" in outcome.printed
        assert len({tuple(row) for row in table["rows"]}) == 1
        numbers = [cell for row in table["rows"] for cell in row.values() if _is_positive(cell)]
        assert len(numbers) >= len(table["rows"])
    rows = [row for table in tables for row in table["rows"]]
    if question in ("save", "stall"):
        assert JOURNAL in {row["contender"] for row in rows}


def _is_positive(cell: Any) -> bool:
    value = cell["median"] if isinstance(cell, dict) else cell
    return isinstance(value, (int, float)) and value > 0


def test_every_save_says_what_is_durable(outcome: Outcome) -> None:
    """No number of a save stands without what a power cut would leave."""
    rows = [row for table in outcome.report["questions"]["save"] for row in table["rows"]]
    assert all(row["durable on return"] for row in rows)


def test_the_report_says_where_it_was_measured(outcome: Outcome) -> None:
    """A reader learns machine, kernel, file system, versions and the state of the disk."""
    environment = outcome.report["environment"]
    assert environment["cpus"] >= 1
    assert environment["file_system"]["kind"] in outcome.printed
    assert environment["packages"]["msgspec"] in outcome.printed
    assert set(outcome.report["probes"]) == {"before", "after"}


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
    assert main(["--only", "save", "--directory", str(directory)]) == 2
    assert "in memory" in capsys.readouterr().err
    assert not directory.exists()


def test_only_memory_counts_as_memory() -> None:
    """A disk is never refused."""
    assert FileSystem("tmpfs", "tmpfs", "", None).is_in_memory
    assert not FileSystem("ext4", "/dev/sda", "", is_journaled=True).is_in_memory


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def _settings(tmp_path: Path, rounds: int) -> Settings:
    return Settings(directory=tmp_path, rounds=rounds, seconds=0, is_quick=True)


async def test_rounds_are_interleaved_and_begin_with_another_contender_each(tmp_path: Path) -> None:
    """No contender always comes first, or always after the same one's leftovers."""
    order: list[str] = []

    async def measure(contender: Named, round_number: int) -> int:
        order.append(contender.name)
        return round_number

    contenders = [Named("a"), Named("b"), Named("c")]
    results = await interleaved(_settings(tmp_path, 3), contenders, measure)
    assert "".join(order) == "abcbcacab"
    assert results == {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1, 2]}


async def test_a_contender_that_cannot_run_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """A missing package costs its row, not the run."""

    async def measure(contender: Named, round_number: int) -> int:
        if contender.name == "b":
            raise UnavailableError("not installed")
        return round_number

    results = await interleaved(_settings(tmp_path, 2), [Named("a"), Named("b")], measure)
    assert results == {"a": [0, 1]}
    assert results.unavailable == {"b": "not installed"}


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


def _rounded(spread: Spread) -> tuple[float, float, float, int]:
    return round(spread.median, 6), round(spread.p10, 6), round(spread.p90, 6), spread.rounds


def test_spread_quantiles_and_ratios() -> None:
    """The numbers in the tables are what their headings say."""
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([0, 10], 0.99) == pytest.approx(9.9)
    assert _rounded(Spread.of([1, 2, 3, 4, 5])) == (3, 1.4, 4.6, 5)
    assert _rounded(ratios([2, 9, 4], [1, 3, 4])) == (2, 1.2, 2.8, 3)


def test_tables_are_markdown() -> None:
    """A printed table can be pasted into the documentation."""
    table = Table("T", [{"who": "a", "n": 1234.5}, {"who": "bb", "n": Spread(1, 0.5, 2, 3)}], ["x"])
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
