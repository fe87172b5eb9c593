"""
What many sessions cost a month on each store: `python -m benchmarks.scaling --help`.

It measures nothing. It multiplies what was measured, in `Measured`, by list prices, in `Prices`.
Change either and run it again.
"""

from __future__ import annotations

import argparse
from math import ceil

from msgspec import Struct

from benchmarks.report import Row, Table, markdown

_HOURS = 730
_SECONDS = _HOURS * 3600
_GB = 1e9
_SESSIONS = (10_000, 100_000, 1_000_000, 10_000_000)


class Use(Struct, frozen=True, kw_only=True):
    """
    What the sessions do, each in a month.

    Attributes:
        kept: checkpoints of a session, `max_checkpoints`.
        visits: how often a process takes it up anew: a load of the newest, and then saves.
        saves: in all visits together.
        peak: how many times the average the busiest hour has.
    """

    kept: int = 20
    visits: int = 4
    saves: int = 100
    peak: float = 5.0


class Measured(Struct, frozen=True, kw_only=True):
    """
    Figures of this project, for documents of 8 KB; `docs/explanation/scaling.md` says whence.

    Attributes:
        directory_bytes: blocks of ext4 that a checkpoint takes.
        directory_session_bytes: and a session beside them, for its two directories.
        directory_session_inodes: of a session beside one a checkpoint.
        directory_saves: a second, one process, files included, where each is of a new session.
        postgres_bytes: that a kept checkpoint takes, with dead rows that wait for vacuum.
        postgres_log_bytes: of a save that also drops the oldest.
        postgres_saves: a second, one process beside the server on 2 cores, each drops the oldest.
        bucket_bytes: of the object of a save.
        bucket_waiting: objects of a session that wait for their removal, on the average.
        bucket_index_bytes: of a session.
        bucket_dear_a_save: creates and puts.
        bucket_dear_a_visit: LISTs.
        bucket_gets_a_visit: to look up and to load.
    """

    directory_bytes: float = 12_288
    directory_session_bytes: float = 8_192
    directory_session_inodes: int = 3
    directory_saves: float = 2_236
    postgres_bytes: float = 3_180
    postgres_log_bytes: float = 3_370
    postgres_saves: float = 2_243
    bucket_bytes: float = 8_630
    bucket_waiting: float = 34
    bucket_index_bytes: float = 25_000
    bucket_dear_a_save: float = 1.03
    bucket_dear_a_visit: float = 2.5
    bucket_gets_a_visit: float = 22


class Prices(Struct, frozen=True, kw_only=True):
    """
    US dollars, Amazon's in us-east-1 on demand; the page says where each was read.

    Attributes:
        machine_hour: of 2 cores and 8 GB, m7g.large.
        disk_gb: a month, gp3.
        database_hour: of RDS, 2 cores and 8 GB, db.m7g.large, one zone.
        database_gb: a month, gp3, one zone.
        s3_gb: a month, the first 50 TB.
        s3_dear: a PUT or a LIST.
        s3_get: a GET.
        r2_gb: a month, of Cloudflare's R2.
        r2_dear: an operation of class A there.
        r2_get: an operation of class B.
    """

    machine_hour: float = 0.0816
    disk_gb: float = 0.08
    database_hour: float = 0.168
    database_gb: float = 0.115
    s3_gb: float = 0.023
    s3_dear: float = 5e-6
    s3_get: float = 0.4e-6
    r2_gb: float = 0.015
    r2_dear: float = 4.5e-6
    r2_get: float = 0.36e-6


class Month(Struct, frozen=True, kw_only=True):
    """
    A month of a store.

    Attributes:
        gb: that are stored.
        machines: that saves at the peak need, by what one did.
        dollars: for everything.
    """

    gb: float
    machines: int
    dollars: float


def per_second(sessions: int, use: Use) -> float:
    """Return the saves a second at the peak."""
    return sessions * use.saves * use.peak / _SECONDS


def directory(sessions: int, use: Use, measured: Measured, prices: Prices) -> Month:
    """Return the month of directories, each on the disk of a machine."""
    session_bytes = use.kept * measured.directory_bytes + measured.directory_session_bytes
    gb = sessions * session_bytes / _GB
    machines = ceil(per_second(sessions, use) / measured.directory_saves)
    dollars = machines * _HOURS * prices.machine_hour + gb * prices.disk_gb
    return Month(gb=gb, machines=machines, dollars=dollars)


def postgres(sessions: int, use: Use, measured: Measured, prices: Prices) -> Month:
    """Return the month of RDS in two zones, which doubles both of its prices."""
    gb = sessions * use.kept * measured.postgres_bytes / _GB
    machines = ceil(per_second(sessions, use) / measured.postgres_saves)
    dollars = machines * _HOURS * prices.database_hour + gb * prices.database_gb
    return Month(gb=gb, machines=machines, dollars=2 * dollars)


def requests(sessions: int, use: Use, measured: Measured) -> tuple[float, float]:
    """Return the dear requests and the GETs of a month in a bucket."""
    dear = use.saves * measured.bucket_dear_a_save + use.visits * measured.bucket_dear_a_visit
    return sessions * dear, sessions * use.visits * measured.bucket_gets_a_visit


def bucket_gb(sessions: int, use: Use, measured: Measured) -> float:
    """Return what is stored in a bucket."""
    commits = use.kept + measured.bucket_waiting
    return sessions * (commits * measured.bucket_bytes + measured.bucket_index_bytes) / _GB


def s3(sessions: int, use: Use, measured: Measured, prices: Prices) -> Month:
    """Return the month of Amazon S3, without what machines cost and traffic out of the region."""
    gb = bucket_gb(sessions, use, measured)
    dear, gets = requests(sessions, use, measured)
    dollars = gb * prices.s3_gb + dear * prices.s3_dear + gets * prices.s3_get
    return Month(gb=gb, machines=0, dollars=dollars)


def r2(sessions: int, use: Use, measured: Measured, prices: Prices) -> Month:
    """Return the month of Cloudflare's R2, without what machines cost and what is free."""
    gb = bucket_gb(sessions, use, measured)
    dear, gets = requests(sessions, use, measured)
    dollars = gb * prices.r2_gb + dear * prices.r2_dear + gets * prices.r2_get
    return Month(gb=gb, machines=0, dollars=dollars)


_STORES = {
    "directory": directory,
    "PostgreSQL (RDS, two zones)": postgres,
    "Amazon S3": s3,
    "Cloudflare R2": r2,
}


def tables(use: Use, measured: Measured, prices: Prices) -> list[Table]:
    """Return what is stored, and what it costs, by the number of sessions."""
    amounts: list[Row] = []
    costs: list[Row] = []
    for sessions in _SESSIONS:
        months = {name: month(sessions, use, measured, prices) for name, month in _STORES.items()}
        inodes = sessions * (use.kept + measured.directory_session_inodes)
        log_bytes = sessions * use.saves * measured.postgres_log_bytes
        dear, gets = requests(sessions, use, measured)
        amounts.append(
            {
                "sessions": f"{sessions:,}",
                "saves/s, peak": f"{per_second(sessions, use):,.0f}",
                "directory": f"{months['directory'].gb:,.0f} GB, {inodes / 1e6:,.1f} M inodes",
                "PostgreSQL": f"{months['PostgreSQL (RDS, two zones)'].gb:,.0f} GB,"
                f" {log_bytes / _GB:,.0f} GB of log",
                "bucket": f"{months['Amazon S3'].gb:,.0f} GB, {dear / 1e6:,.1f} M dear requests,"
                f" {gets / 1e6:,.1f} M GETs",
            }
        )
        cost: Row = {"sessions": f"{sessions:,}"}
        cost |= {name: f"{month.dollars:,.0f}" for name, month in months.items()}
        costs.append(cost)
    return [Table("In a month", amounts), Table("US dollars a month", costs)]


def main(words: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    for name in ("kept", "visits", "saves"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Use(), name))
    parser.add_argument("--peak", type=float, default=Use().peak)
    use = Use(**vars(parser.parse_args(words)))
    print("\n\n".join(markdown(table) for table in tables(use, Measured(), Prices())))


if __name__ == "__main__":
    main()
