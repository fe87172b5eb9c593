"""The demo for the eye: live while it runs on a terminal, lines elsewhere, a table in the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aiocheckpoint.cli.agents import Task, conversations
from aiocheckpoint.cli.demo_report import DemoReport, JsonFilesReport, Run
from aiocheckpoint.cli.oracle import Oracle, SessionTally
from aiocheckpoint.cli.terminal import (
    cell,
    command_line,
    counted,
    plain_table,
    print_line,
    quoted,
)

_SESSION_WIDTH = 38
_NAME_WIDTH = 20
_LINES_BESIDE_SESSIONS = 8
_FRAMES_PER_SECOND = 12
_UNACKNOWLEDGED = (
    "A step that is not acknowledged was on disk when the kill came, but its save had not returned."
)
_NO_POWER_CUT = (
    "A kill shows nothing about missing fsyncs: what a process has written outlives it. "
    "Only a power cut tells, and the tests of this library try those."
)


class DemoScreen:
    """
    Shows what the oracle hears.

    Args:
        console: where to; a quiet one shows nothing.
        oracle: what to show.
        task: what the agents do.
    """

    def __init__(self, console: Console, oracle: Oracle, task: Task) -> None:
        self._console = console
        self._oracle = oracle
        self._task = task
        self._runs = 0
        self._process_id = 0
        self._live = Live(
            self, console=console, refresh_per_second=_FRAMES_PER_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        task = self._task
        agents = counted(task.sessions, "agent")
        scripts = counted(min(task.sessions, len(conversations())), "conversation")
        print_line(self._console, f"{agents} in one process, {scripts}, every step saved")
        how = f"durability {task.durability}, seed {task.seed}"
        print_line(self._console, f"to {task.directory} ({how})")
        self._console.print()
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def started(self, process_id: int) -> None:
        """Show that a child has started."""
        self._runs += 1
        self._process_id = process_id

    def ran(self, run: Run) -> None:
        """Show how a child ended and what was found on disk afterwards."""
        end = (
            f"kill -9, {counted(run.in_flight, 'save')} in flight" if run.was_killed else "all done"
        )
        found = f"{run.verified:>4} of {run.acknowledged_in_all} acknowledged saves intact"
        style = "green" if run.verified == run.acknowledged_in_all else "bold red"
        line = Text(f"run {self._runs:<2} ")
        line.append(f"{end:<27} ", "yellow" if run.was_killed else "")
        line.append(found, style)
        self._console.print(line)

    def __rich_console__(
        self,
        console: Console,
        options: ConsoleOptions,
    ) -> RenderResult:
        """Render one frame of the live display."""
        oracle = self._oracle
        yield Text()
        yield Text.assemble(
            (f"run {self._runs}", "bold"), f", process {self._process_id}: ",
            (f"{oracle.acknowledged}", "bold"), " saves acknowledged, ",
            (f"{oracle.in_flight}", "bold"), " in flight",
        )  # fmt: skip
        yield ProgressBar(oracle.steps, oracle.steps_done, width=min(options.max_width, 120))
        yield Text()
        yield self._sessions(options)

    def _sessions(self, options: ConsoleOptions) -> Table:
        columns = max(options.max_width // _SESSION_WIDTH, 1)
        rows = max(options.size.height - _LINES_BESIDE_SESSIONS - self._runs, 1)
        shown = list(self._oracle.tallies.items())[: columns * rows]
        cells = [_session_line(session_id, tally) for session_id, tally in shown]
        grid = Table.grid(padding=(0, 2, 0, 0))
        for start in range(0, len(cells), columns):
            grid.add_row(*cells[start : start + columns])
        if len(shown) < len(self._oracle.tallies):
            grid.add_row(Text(f"and {len(self._oracle.tallies) - len(shown)} more", "dim"))
        return grid

    @staticmethod
    def print_report(console: Console, report: DemoReport) -> None:
        """Print the table of sessions, the verdict and where the files are."""
        table = plain_table(
            "Session", ">Steps", ">Acknowledged", "Resumed at", ">Verified", ">Lost"
        )
        for session in report.sessions:
            table.add_row(
                cell(session.session_id, "cyan"),
                str(session.steps),
                str(session.acknowledged),
                ", ".join(map(str, session.resumed_at)) or "-",
                str(session.verified),
                Text(str(session.lost), "bold red" if session.lost else "green"),
            )
        console.print()
        console.print(table)
        console.print()
        if report.ok and any(session.acknowledged < session.steps for session in report.sessions):
            console.print(Text(_UNACKNOWLEDGED, "dim"))
        _print_verdict(console, report)
        if report.json_files is not None:
            _print_comparison(console, report, report.json_files)
        if report.kept:
            _print_places(console, report)
        else:
            print_line(console, f"Removed: {report.directory}", "dim")


def _session_line(session_id: str, tally: SessionTally) -> Table:
    done = tally.step == tally.steps
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=_NAME_WIDTH, no_wrap=True)
    line.add_column(width=8)
    line.add_column(justify="right", width=5)
    line.add_row(
        Text(session_id, "yellow" if tally.saving is not None else "", overflow="ellipsis"),
        ProgressBar(tally.steps, tally.step, width=8),
        Text(f"{tally.step}/{tally.steps}", "green" if done else ""),
    )
    return line


def _print_verdict(console: Console, report: DemoReport) -> None:
    text = (
        f"{report.lost} of {counted(report.acknowledged, 'acknowledged save')} lost in "
        f"{counted(report.kills, 'kill')} ({report.in_flight} more in flight), "
        f"{report.seconds:.1f} s"
    )
    console.print(Text(text, "bold green" if report.ok else "bold red"))
    if report.ok and report.kills < report.kills_wanted:
        missed = counted(report.kills_wanted - report.kills, "kill")
        console.print(f"The agents were done before {missed} of {report.kills_wanted}.")
    for finding in report.damage:
        print_line(console, f"{finding.kind}: {finding.path}: {finding.detail}", "red")
    if not report.ok and report.lost == 0 and not report.damage:
        console.print(Text("Not every conversation is complete.", "bold red"))


def _print_comparison(console: Console, report: DemoReport, files: JsonFilesReport) -> None:
    table = plain_table("Saved by", ">Kills", ">In flight", ">Acknowledged", ">Lost", ">Torn files")
    for name, of, torn in (
        ("aiocheckpoint", report, len(report.damage)),
        ("json.dump to a file", files, files.torn),
    ):
        table.add_row(
            name,
            *map(str, (of.kills, of.in_flight, of.acknowledged)),
            Text(str(of.lost), "bold red" if of.lost else "green"),
            Text(str(torn), "bold red" if torn else "green"),
        )
    console.print()
    console.print(table)
    console.print()
    console.print(Text(_NO_POWER_CUT, "dim"))


def _print_places(console: Console, report: DemoReport) -> None:
    session = report.sessions[0]
    directory = _short(report.directory)
    console.print()
    print_line(console, f"Files: {report.directory}/SESSION/checkpoints/")
    if session.newest_file is not None:
        newest = _short(session.newest_file.with_name("latest.json"))
        print_line(console, f"Open one:      less {quoted(newest)}", "dim")
    show = command_line("show", directory, session.session_id)
    print_line(console, f"Look around:   {show}", "dim")
    print_line(console, f"Check again:   {command_line('verify', directory)}", "dim")


def _short(path: Path) -> str:
    """Return a path as one would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
