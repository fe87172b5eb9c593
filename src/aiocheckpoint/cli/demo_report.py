"""What the demo found out, as data: printed as a table or as JSON."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from aiocheckpoint import Finding
from aiocheckpoint.cli.agents import Task
from aiocheckpoint.cli.oracle import Oracle

KILLED_STATUS = -9


class Run(Struct, kw_only=True):
    """
    One life of the agents' process.

    Attributes:
        process_id: of the process.
        exit_status: -9 when SIGKILL ended it, 0 when all agents had finished.
        acknowledged: saves that returned in this life.
        in_flight: saves that had been called and had not returned when it ended.
        acknowledged_in_all: saves that returned in this life and those before.
        verified: how many of these were there and intact afterwards.
    """

    process_id: int
    exit_status: int
    acknowledged: int
    in_flight: int
    acknowledged_in_all: int
    verified: int

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.exit_status == KILLED_STATUS


class SessionReport(Struct, kw_only=True):
    """
    One session over all runs.

    Attributes:
        session_id: the session.
        conversation: title of the conversation it replayed.
        steps: how many the conversation has.
        acknowledged: steps whose save returned.
        resumed_at: the step at which it went on, once for each restart it lived to see.
        verified: acknowledged steps that were there and intact in the end.
        lost: acknowledged steps that were not there, or not as saved, at any check.
        newest_file: its newest checkpoint.
    """

    session_id: str
    conversation: str
    steps: int
    acknowledged: int
    resumed_at: list[int]
    verified: int
    lost: int
    newest_file: Path | None


class JsonFilesReport(Struct, kw_only=True):
    """
    What became of the same agents where each session was a file written by `json.dump`.

    Attributes:
        kills: how often SIGKILL ended their process.
        in_flight: saves that had not returned when a kill came, over all kills.
        acknowledged: saves that returned.
        lost: acknowledged saves that were not there at any check.
        torn: files that nobody could read any more.
    """

    kills: int
    in_flight: int
    acknowledged: int
    lost: int
    torn: int


class DemoReport(Struct, kw_only=True):
    """
    The outcome of a demo.

    Attributes:
        ok: whether nothing was lost, nothing is damaged and every conversation is complete.
        lost: acknowledged saves that were not there, or not as saved, at any check.
        acknowledged: saves that returned.
        verified: those there and intact in the end.
        in_flight: saves that had not returned when a kill came, over all kills.
        kills: how often SIGKILL ended the process.
        kills_wanted: how often it should have.
        directory: where the files are.
        kept: whether they still are.
        durability: of the writer.
        seed: of the kills and the pace.
        seconds: how long it took.
        runs: in their order.
        sessions: by their names.
        damage: what `check` found damaged, besides.
        json_files: the same with `json.dump`; None where nothing was killed.
    """

    ok: bool
    lost: int
    acknowledged: int
    verified: int
    in_flight: int
    kills: int
    kills_wanted: int
    directory: Path
    kept: bool
    durability: str
    seed: int
    seconds: float
    runs: list[Run]
    sessions: list[SessionReport]
    damage: tuple[Finding, ...]
    json_files: JsonFilesReport | None


def demo_report(
    task: Task,
    kills_wanted: int,
    oracle: Oracle,
    *,
    runs: list[Run],
    damage: tuple[Finding, ...],
    json_files: JsonFilesReport | None,
    seconds: float,
) -> DemoReport:
    """Put together what the oracle and the runs say."""
    return DemoReport(
        ok=oracle.lost == 0 and not damage and oracle.is_complete,
        lost=oracle.lost,
        acknowledged=oracle.acknowledged,
        verified=oracle.verified,
        in_flight=sum(run.in_flight for run in runs),
        kills=sum(run.was_killed for run in runs),
        kills_wanted=kills_wanted,
        directory=Path(task.directory),
        kept=True,
        durability=task.durability,
        seed=task.seed,
        seconds=round(seconds, 3),
        runs=runs,
        sessions=[
            SessionReport(
                session_id=session_id,
                conversation=tally.script.title,
                steps=tally.steps,
                acknowledged=len(tally.acknowledged),
                resumed_at=tally.resumed_at,
                verified=tally.verified,
                lost=len(tally.lost),
                newest_file=tally.newest_file,
            )
            for session_id, tally in oracle.tallies.items()
        ],
        damage=damage,
        json_files=json_files,
    )
