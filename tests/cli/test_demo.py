"""`aiocheckpoint demo`: that it kills for real, that it counts right, and how it looks."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from aiocheckpoint import CheckpointData
from aiocheckpoint.cli import demo, rehearsal
from aiocheckpoint.cli.agents import Saved, casting
from aiocheckpoint.cli.errors import CommandError
from aiocheckpoint.cli.json_files import JsonFiles
from aiocheckpoint.cli.oracle import JsonOracle
from tests.cli.conftest import Tool

BROKEN_AGENTS = Path(__file__).parent / "broken_agents.py"
# Where the tests run in the background the interrupt is ignored, and so it would be by the demo.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "import sys; from aiocheckpoint.cli import main; sys.exit(main())"
)
COMMAND = [sys.executable, "-c", PROGRAM, "demo"]
QUICK = ["--sessions", "8", "--kills", "1", "--pace", "0", "--seed", "7"]

# The parent prints while its loop runs; what must not block is the agents' loop, in the child.
pytestmark = pytest.mark.blocking


@pytest.mark.parametrize("url", ["s3://bucket/x", "postgresql://host/db", "s3:/bucket", ""])
def test_it_makes_no_directory_of_a_url(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """What is no directory is refused, not made under the name of a URL's beginning."""
    monkeypatch.chdir(tmp_path)
    outcome = tool("demo", *QUICK, "--directory", url)
    assert (outcome.status, outcome.output, outcome.errors.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


async def _nothing(*_: object) -> None:
    """Compare with nothing."""


def _break(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Let the agents have a fault; those with `json.dump` are left out."""
    command = (sys.executable, str(BROKEN_AGENTS), fault)
    monkeypatch.setattr(rehearsal, "AGENTS_COMMAND", command)
    monkeypatch.setattr(demo, "json_files_report", _nothing)


class Demo(NamedTuple):
    """A demo that has run, and where: its output is shared by the tests that only look."""

    directory: Path
    output: str


@pytest.fixture(name="shown", scope="module")
def _shown(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    directory = tmp_path_factory.mktemp("shown")
    done = subprocess.run(
        [*COMMAND, *QUICK], cwd=directory, capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    return Demo(directory, done.stdout)


class TestNothingIsLost:
    @pytest.mark.parametrize("durability", ["journal", "file", "none"])
    @pytest.mark.some(1)
    def test_over_real_kills_in_mid_work(
        self, tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch, durability: str
    ) -> None:
        """SIGKILL hits a working process with saves in flight, and no acknowledged save is lost."""
        count = 64 if durability == "journal" else 24
        if durability != "journal":  # compared once is enough
            monkeypatch.setattr(demo, "json_files_report", _nothing)
        outcome = tool(
            "demo", "--sessions", count, "--kills", "2", "--pace", "2", "--seed", "7",
            "--directory", root, "--durability", durability, "--json",
        )  # fmt: skip
        report = outcome.json
        *killed, last = report["runs"]

        assert outcome.status == 0
        assert [run["exit_status"] for run in killed] == [-signal.SIGKILL] * 2
        assert sum(run["in_flight"] > 0 for run in killed) > 0
        if durability == "journal":
            assert report["json_files"]["kills"] == 2
            assert report["json_files"]["acknowledged"] > 200
        assert (last["exit_status"], last["in_flight"]) == (0, 0)
        assert last["acknowledged"] > 0
        assert len({run["process_id"] for run in report["runs"]}) == 3
        assert all(run["verified"] == run["acknowledged_in_all"] for run in report["runs"])
        assert report["lost"] == 0
        assert report["verified"] == report["acknowledged"] > 3 * count

        scripts = casting(count)
        assert [session["session_id"] for session in report["sessions"]] == list(scripts)
        for session in report["sessions"]:
            newest = json.loads(Path(session["newest_file"]).read_text())
            assert newest["messages"] == scripts[session["session_id"]].messages
            assert session["resumed_at"] == sorted(session["resumed_at"])
        assert max(max(session["resumed_at"]) for session in report["sessions"]) > 0

        verified = tool("verify", root, "--json")
        assert verified.json["sessions"] == count
        # A kill in a session's last save may leave what the next save would put right.
        harmless = {"leftover", "stale-pointer"}
        assert {finding["kind"] for finding in verified.json["findings"]} <= harmless

    @pytest.mark.long
    def test_each_kill_that_catches_saves_says_so(
        self, tool: Tool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a save in flight at every kill, every line and the verdict tell how many."""
        _break(monkeypatch, "HoldsTheShortest")
        monkeypatch.setenv("LIVES", str(tmp_path / "lives"))
        monkeypatch.setenv("KILLS", "3")

        outcome = tool("demo", *QUICK, "--kills", "3", "--directory", root)

        assert outcome.status == 0, outcome.errors
        caught = re.findall(r"kill -9, (\d+) saves? in flight ", outcome.output)
        [in_all] = re.findall(r" lost in 3 kills \((\d+) more in flight\)", outcome.output)
        assert [int(count) > 0 for count in caught] == [True] * 3
        assert sum(map(int, caught)) == int(in_all)

    def test_no_kill_at_all(self, tool: Tool, root: Path) -> None:
        """With `--kills 0` the agents run once, to the end."""
        report = tool(
            "demo", "--sessions", "1", "--kills", "0", "--pace", "0", "--directory", root, "--json"
        ).json

        assert (report["kills"], len(report["runs"]), report["ok"]) == (0, 1, True)
        assert report["json_files"] is None


class TestTheOracle:
    @pytest.mark.parametrize(
        "fault",
        [
            "AcknowledgesBeforeSaving",
            "NeverSavesTheThirdStep",
            "DeletesWhatItSaved",
            "DamagesWhatItSaved",
            "SavesSomethingElse",
            "ResumesFromTheStart",
            "ResumesTwoStepsTooEarly",
        ],
    )
    @pytest.mark.some(3)
    @pytest.mark.few(1)
    def test_catches_a_broken_process(
        self, tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        """Agents that break their promise make the demo report lost saves and exit with 1."""
        _break(monkeypatch, fault)

        outcome = tool("demo", *QUICK, "--directory", root, "--no-keep", "--json")

        assert outcome.status == 1, outcome.errors
        assert outcome.json["lost"] > 0
        assert outcome.json["ok"] is False
        assert root.is_dir(), "the evidence must stay"

    def test_an_unfinished_conversation_is_no_success(
        self, tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Agents that lose nothing because they do nothing do not pass."""
        _break(monkeypatch, "DoesNothing")

        outcome = tool("demo", *QUICK, "--directory", root)

        assert outcome.status == 1
        assert "Not every conversation is complete" in outcome.output

    def test_a_failing_process_is_one_line(
        self, tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the agents' process fails by itself, the demo says why in one line."""
        _break(monkeypatch, "Refuses")

        outcome = tool("demo", *QUICK, "--directory", root)

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)
        assert "No space left on device" in outcome.errors

    def test_a_process_that_cannot_begin_is_one_line(
        self,
        tool: Tool,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Of a traceback, as of an import that fails, the demo shows what was raised, once."""
        command = (sys.executable, "-c", "import missing_module")
        monkeypatch.setattr(rehearsal, "AGENTS_COMMAND", command)

        outcome = tool("demo", *QUICK, "--directory", root)
        gc.collect()  # where a task with an error that nobody has taken tells of it

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)
        assert caplog.messages == []
        end = "status 1: ModuleNotFoundError: No module named 'missing_module'"
        assert outcome.errors.rstrip().endswith(end)

    @pytest.mark.timeout(60)
    @pytest.mark.parametrize("turns", range(6))
    def test_an_error_while_the_other_child_starts(
        self, tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch, turns: int
    ) -> None:
        """The demo ends with its error, whatever the agents with `json.dump` are about to do."""

        async def fail(*_: object) -> None:
            for _turn in range(turns):
                await asyncio.sleep(0)
            raise CommandError("no agents today")

        async def start(*_: object) -> None:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "input()", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            await child.communicate()

        monkeypatch.setattr(demo, "rehearse", fail)
        monkeypatch.setattr(demo, "json_files_report", start)

        outcome = tool("demo", *QUICK, "--directory", root)

        assert outcome.status == 2
        assert "no agents today" in outcome.errors


class TestWhatItIsComparedWith:
    """Files of `json.dump`, judged by the same rule."""

    async def test_a_torn_file_loses_all_of_its_session(self, tmp_path: Path) -> None:
        """What the file cannot give back is lost, also if the session begins anew later."""
        [(session_id, script)] = casting(1).items()
        oracle, files = JsonOracle({session_id: script}), JsonFiles(tmp_path)
        for step in (1, 2, 3):
            record = CheckpointData(session_id=session_id, iteration=step, messages=[step])
            oracle.note(Saved(session_id, step, await files.save(record)))
        await oracle.check(tmp_path)
        assert (oracle.verified, oracle.lost, oracle.torn) == (3, 0, 0)
        [file] = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:40])

        await oracle.check(tmp_path)
        assert (oracle.verified, oracle.lost, oracle.torn) == (0, 3, 1)
        assert await files.load(session_id) is None
        await files.save(CheckpointData(session_id=session_id, iteration=3))
        await oracle.check(tmp_path)
        assert (oracle.verified, oracle.lost, oracle.torn) == (3, 3, 1)

    @pytest.mark.long
    def test_stands_beside_ours(self, shown: Demo) -> None:
        """A row for each says what was killed, lost and torn, and what a kill cannot show."""
        rows = [line.split() for line in shown.output.splitlines()]

        [ours] = [row for row in rows if row[:1] == ["aiocheckpoint"]]
        [theirs] = [row for row in rows if row[:4] == ["json.dump", "to", "a", "file"]]
        assert ours[1] == theirs[4] == "1"
        assert ours[-2:] == ["0", "0"]
        assert "A kill shows nothing about missing fsyncs" in shown.output


class TestWhereTheFilesAre:
    def test_a_fresh_directory_each_time(
        self, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without --directory each demo gets a new one here, and says which."""
        monkeypatch.chdir(tmp_path)
        shortest = ["--sessions", "1", "--kills", "0", "--pace", "0"]

        first, second = tool("demo", *shortest), tool("demo", *shortest)

        assert f"to {tmp_path / 'aiocheckpoint-demo'} " in first.output
        assert f"to {tmp_path / 'aiocheckpoint-demo-2'} " in second.output
        assert len(list(tmp_path.iterdir())) == 2

    def test_where_nothing_can_be_made_the_temporary_directory_serves(
        self, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Started where it cannot write, the demo says which other place it took."""
        if not Path("/proc/self").exists():
            pytest.skip("needs /proc, in which nobody can make a directory")
        monkeypatch.chdir("/proc")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

        outcome = tool("demo", "--sessions", "1", "--kills", "0", "--pace", "0")

        assert outcome.status == 0
        assert f"to {tmp_path / 'aiocheckpoint-demo'} " in outcome.output

    def test_a_directory_in_use_is_refused(self, tool: Tool, store: Path) -> None:
        """A directory that holds anything is refused and stays as it is."""
        before = sorted(store.rglob("*"))

        outcome = tool("demo", *QUICK, "--directory", store)

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)
        assert sorted(store.rglob("*")) == before

    def test_no_keep_removes_them(self, tool: Tool, root: Path) -> None:
        """With --no-keep nothing is left behind by a demo that lost nothing."""
        report = tool(
            "demo", *QUICK, "--kills", "0", "--directory", root, "--no-keep", "--json"
        ).json

        assert report["kept"] is False
        assert not root.exists()

    def test_no_keep_removes_them_after_a_failure_too(
        self, tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A demo that could not be done leaves nothing behind, and a directory it did not make."""
        _break(monkeypatch, "Refuses")
        root.mkdir()

        assert tool("demo", *QUICK, "--directory", root, "--no-keep").status == 2
        assert list(root.iterdir()) == []

    def test_the_files_it_names_can_be_opened(
        self, tool: Tool, shown: Demo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The commands printed at the end work as they stand."""
        monkeypatch.chdir(shown.directory)

        [file] = re.findall(r"less (\S+)", shown.output)
        commands = re.findall(r"^(?:Look around|Check again): +(.*)", shown.output, re.MULTILINE)

        assert json.loads(Path(file).read_text())["_version"] == "1.0"
        assert len(commands) == 2
        for command in commands:
            _, _, verb = command.partition("aiocheckpoint ")
            assert tool(*verb.split()).status == 0


class TestTheScreen:
    def test_a_pipe_gets_plain_lines(self, shown: Demo) -> None:
        """Without a terminal: one line a run, a table within 80 columns, no escape sequences."""
        lines = [line.rstrip() for line in shown.output.splitlines()]

        assert "\x1b" not in shown.output
        [killed] = [line for line in lines if line.startswith("run 1 ")]
        [ended] = [line for line in lines if line.startswith("run 2 ")]
        assert re.search(r"kill -9, \d+ saves? in flight +(\d+) of \1 acknowledged", killed)
        assert re.search(r"all done +(\d+) of \1 acknowledged saves intact$", ended)
        assert any(
            line.startswith("0 of ") and "acknowledged saves lost in 1 kill " in line
            for line in lines
        )
        rows = [line for line in lines if re.match(r"\S+-1 ", line)]
        assert len(rows) == 8
        assert all(len(row) <= 80 for row in rows)

    @pytest.mark.parametrize("plain", [False, True], ids=["color", "NO_COLOR"])
    @pytest.mark.few(1)
    def test_a_terminal_sees_it_live(self, root: Path, plain: bool) -> None:
        """On a terminal progress is drawn in place; NO_COLOR takes the colours alone away."""
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        environment.pop("NO_COLOR", None)
        if plain:
            environment["NO_COLOR"] = "1"
        terminal, inner = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, *QUICK, "--kills", "0", "--directory", str(root)],
            stdin=inner, stdout=inner, stderr=inner, env=environment,
        ) as process:  # fmt: skip
            os.close(inner)
            output = _all_of(terminal)

        assert process.returncode == 0
        assert "\x1b[?25l" in output, "the cursor is hidden while frames are drawn"
        assert "\x1b[?25h" in output, "and shown again"
        assert re.search(r"saves acknowledged", output)
        assert bool(re.search(r"\x1b\[[\d;]*3\dm", output)) is not plain

    def test_interrupting_leaves_no_process(self, root: Path) -> None:
        """Ctrl-C ends parent and child, removes the files, and exits with 130, no traceback."""
        with subprocess.Popen(
            [*COMMAND, "--kills", "20", "--pace", "200", "--seed", "1", "--directory", str(root)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            next(line for line in process.stdout if line.startswith("run 1"))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()

        assert process.returncode == 130
        assert errors == ""
        assert _processes_on(root) == []
        assert not root.exists()


def _all_of(terminal: int) -> str:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            piece = b""
        if not piece:
            os.close(terminal)
            return b"".join(pieces).decode()
        pieces.append(piece)


def _processes_on(root: Path) -> list[str]:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs /proc to look for processes")
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_text(errors="replace")
        except OSError:
            continue
        if str(root) in text:
            found.append(text)
    return found
