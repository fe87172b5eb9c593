"""What many sessions cost is reckoned from what was measured, and the page says what comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.report import markdown
from benchmarks.scaling import Measured, Prices, Use, directory, postgres, r2, s3, tables

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "explanation" / "scaling.md"


@pytest.mark.blocking
def test_the_page_says_what_the_script_reckons() -> None:
    """Whoever changes a figure or a price changes the page."""
    text = PAGE.read_text(encoding="utf-8")
    for table in tables(Use(), Measured(), Prices()):
        assert markdown(table) in text


@pytest.mark.blocking
def test_the_page_names_the_figures_and_the_prices() -> None:
    """Each figure that is reckoned with stands on the page, with where it is from."""
    text = PAGE.read_text(encoding="utf-8")
    measured, prices = Measured(), Prices()
    for figure in (
        f"{measured.directory_bytes:,.0f}",
        f"{measured.directory_session_bytes:,.0f} bytes",
        f"{measured.directory_session_inodes} inodes",
        f"{measured.directory_saves:,.0f}",
        f"{measured.postgres_bytes:,.0f}",
        f"{measured.postgres_log_bytes:,.0f} bytes",
        f"{measured.postgres_saves:,.0f}",
        f"{measured.bucket_bytes:,.0f}",
        f"{measured.bucket_waiting:.0f} a session",
        f"{measured.bucket_index_bytes:,.0f}",
        f"{measured.bucket_dear_a_save}, {measured.bucket_dear_a_visit}",
        f"{prices.machine_hour} an hour",
        f"{prices.disk_gb} a GB",
        f"{prices.database_hour} an hour",
        f"{prices.database_gb} a GB",
        f"{prices.s3_gb} a GB",
        f"{prices.s3_dear * 1e6:.2f}; {prices.s3_get * 1e6:.2f} a million",
        f"{prices.r2_gb} a GB; {prices.r2_dear * 1e6:.2f}; {prices.r2_get * 1e6:.2f} a million",
    ):
        assert f"| {figure} |" in text or f" {figure}" in text, figure


def test_a_small_case_by_hand() -> None:
    """With round figures the sums can be done in the head."""
    use = Use(kept=10, visits=2, saves=10, peak=1.0)
    measured = Measured(
        directory_bytes=100.0,
        directory_session_bytes=1000.0,
        directory_saves=1.0,
        postgres_bytes=100.0,
        postgres_saves=1.0,
        bucket_bytes=100.0,
        bucket_waiting=0.0,
        bucket_index_bytes=0.0,
        bucket_dear_a_save=1.0,
        bucket_dear_a_visit=1.0,
        bucket_gets_a_visit=4.0,
    )
    prices = Prices(
        machine_hour=1.0, disk_gb=1.0, database_hour=1.0, database_gb=1.0, s3_gb=1.0,
        s3_dear=1e-6, s3_get=1e-7, r2_gb=2.0, r2_dear=2e-6, r2_get=2e-7,
    )  # fmt: skip
    month = 1_000_000, use, measured, prices  # 10 million saves in 2.628 million seconds
    assert (directory(*month).gb, directory(*month).machines) == (2.0, 4)
    assert directory(*month).dollars == pytest.approx(4 * 730 + 2)
    assert (postgres(*month).gb, postgres(*month).machines) == (1.0, 4)
    assert postgres(*month).dollars == pytest.approx(2 * (4 * 730 + 1))
    assert s3(*month).dollars == pytest.approx(1 + 12 + 0.8)
    assert r2(*month).dollars == pytest.approx(2 * s3(*month).dollars)


def test_where_one_store_gets_cheaper_than_another() -> None:
    """The advice of the page is what comes out: about 100,000 and about 400,000 sessions."""
    rest = Use(), Measured(), Prices()
    assert s3(90_000, *rest).dollars < directory(90_000, *rest).dollars
    assert s3(110_000, *rest).dollars > directory(110_000, *rest).dollars
    assert s3(400_000, *rest).dollars < postgres(400_000, *rest).dollars
    assert s3(450_000, *rest).dollars > postgres(450_000, *rest).dollars


@pytest.mark.blocking
def test_the_command_reckons_with_what_it_is_told() -> None:
    """Twice the saves are twice the saves a second."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--saves"]

    def told(saves: int) -> str:
        done = subprocess.run(
            [*command, str(saves)], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        return next(line for line in done.stdout.splitlines() if "10,000,000" in line)

    assert "| 1,903 " in told(100)
    assert "| 3,805 " in told(200)
