"""The tool as a whole: errors, exit statuses, the missing extra."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData
from aiocheckpoint.cli import main
from aiocheckpoint.cli.terminal import command_line as shell_command
from aiocheckpoint.cli.terminal import one_line
from tests.cli.conftest import Tool, damaged, saved, tree

ON_A_DIRECTORY = ["list", "show", "sessions", "verify", "recover"]
ON_A_SESSION = ["list", "show", "recover"]


def command_line(verb: str, directory: Path, session: str = "s") -> list[object]:
    return [verb, directory, session] if verb in ON_A_SESSION else [verb, directory]


@contextmanager
def closed_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let standard output be a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield
        sys.stdout.close()
    with suppress(BrokenPipeError):
        stream.close()


class TestAdvice:
    """What the tool says to type can be typed."""

    @pytest.mark.parametrize("verb", ["list", "show", "recover"])
    def test_names_directory_and_session(self, tool: Tool, root: Path, verb: str) -> None:
        """Damage is told with the command that mends it, in a shell's words, not Python's."""
        [path] = saved(root, CheckpointData(session_id="it's a/b"))
        path.write_bytes(b"{}" if verb == "recover" else b"")

        outcome = tool(verb, root, "it's a/b")

        assert outcome.status == 1
        assert "recover(" not in outcome.errors
        if verb != "recover":
            command = shlex.join(["aiocheckpoint", "recover", str(root), "it's a/b"])
            assert f"`{command}`" in outcome.errors

    @pytest.mark.parametrize(
        "arguments",
        [("sessions", "file://server/state"), ("demo", "--durability", "bad")],
        ids=["location", "choice"],
    )
    def test_of_a_wrong_value_is_our_text_alone(
        self, tool: Tool, arguments: tuple[str, ...]
    ) -> None:
        """What is wrong with a value is not preceded by the name of an exception."""
        outcome = tool(*arguments)

        assert outcome.status == 2
        assert "Invalid value for" in outcome.errors
        assert "Value error" not in outcome.errors

    def test_of_verify_stands_beside_each_finding(self, tool: Tool, store: Path) -> None:
        """`verify` says what can be done about each, and does not promise that it comes back."""
        damaged(store.joinpath("support-42/checkpoints/latest.json").resolve())

        output = tool("verify", store).output

        assert f"`aiocheckpoint recover {store} support-42` moves it aside" in output
        assert "2 sessions, 4 checkpoints, 1 not intact" in output

    @pytest.mark.parametrize(
        ("called", "on_path", "program"),
        [
            ("{bin}/aiocheckpoint", True, "aiocheckpoint"),
            ("{bin}/aiocheckpoint", False, "{bin}/aiocheckpoint"),
            ("{bin}/__main__.py", True, f"{sys.executable} -m aiocheckpoint"),
        ],
    )
    def test_calls_the_tool_as_it_was_called(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        called: str,
        on_path: bool,
        program: str,
    ) -> None:
        """Outside of PATH the tool names itself by the path it was called by."""
        script = tmp_path / "aiocheckpoint"
        script.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path) if on_path else "/nowhere")
        monkeypatch.setattr(sys, "argv", [called.format(bin=tmp_path)])

        assert shell_command("flush", "a b") == f"{program.format(bin=tmp_path)} flush 'a b'"

    @pytest.mark.parametrize(
        "argument", ["a\tb", "two\nlines", "it's\\\x1b[0m1", "\u202egnp", "-x", "\udce4e"]
    )
    def test_is_pasted_as_it_was(self, argument: str) -> None:
        """Arguments of any text are printed in one line, and bash makes of it what they were."""
        command = shell_command("show", argument)
        assert one_line(command) == command
        words = command[command.index(" show ") :]
        program = "import sys; print(ascii(sys.argv[1:]))"
        ran = subprocess.run(
            ["bash", "-c", f'"$0" -c "$1" {words}', sys.executable, program],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        assert ran.stdout.strip().endswith(f"{argument!a}]")


class TestWrongInput:
    @pytest.mark.parametrize(("word", "verb"), [("check", "verify"), ("load", "show")])
    def test_a_method_that_has_another_name_here(self, tool: Tool, word: str, verb: str) -> None:
        """Who types the name that the writer's method has is told the verb that does it."""
        outcome = tool(word, "state")

        assert outcome.status == 2
        assert outcome.errors == (
            f"aiocheckpoint: No such command '{word}'; `aiocheckpoint {verb}` does that\n"
        )

    @pytest.mark.parametrize("verb", ON_A_DIRECTORY)
    def test_an_empty_directory_argument_is_none(self, tool: Tool, verb: str) -> None:
        """A variable of the shell that is not set is not taken for the current directory."""
        outcome = tool(
            *("" if word == Path("DIR") else word for word in command_line(verb, Path("DIR")))
        )

        assert outcome.status == 2
        assert "Invalid value for 'DIR" in outcome.errors
        assert "it is an empty text" in outcome.errors

    @pytest.mark.parametrize(
        ("line", "argument"),
        [
            (("copy", "", "target"), "SOURCE"),
            (("copy", "source", ""), "TARGET"),
            (("flush", ""), "DIR"),
            (("demo", "--directory", ""), "--directory"),
        ],
    )
    def test_an_empty_path_is_named(self, tool: Tool, line: tuple[str, ...], argument: str) -> None:
        """Of several arguments it is told which one is empty; nothing is made anywhere."""
        outcome = tool(*line)

        assert (outcome.status, outcome.output) == (2, "")
        assert f"Invalid value for '{argument}': it is an empty text" in outcome.errors

    @pytest.mark.parametrize("verb", ON_A_DIRECTORY)
    def test_a_missing_directory_is_an_error_and_is_not_made(
        self, tool: Tool, root: Path, verb: str
    ) -> None:
        """A mistyped directory gives one line, exit status 2, and no new directory."""
        outcome = tool(*command_line(verb, root))

        assert outcome.status == 2
        assert outcome.output == ""
        assert outcome.errors.count("\n") == 1
        assert f"{root} does not exist" in outcome.errors
        assert not root.exists()

    @pytest.mark.parametrize("verb", ["list", "show", "sessions", "recover"])
    def test_a_file_in_place_of_the_directory_is_an_error(
        self, tool: Tool, tmp_path: Path, verb: str
    ) -> None:
        """A file where a directory is wanted gives one line and exit status 2."""
        file = tmp_path / "file"
        file.write_text("not a store")

        outcome = tool(*command_line(verb, file))

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)
        assert "is a file" in outcome.errors

    @pytest.mark.parametrize("verb", ON_A_SESSION)
    @pytest.mark.parametrize("session", ["support-43", "", "..", "*", "\udcff", "x\n\x1b[31my"])
    @pytest.mark.some(6)
    def test_an_unknown_session_is_an_error_and_changes_nothing(
        self, tool: Tool, store: Path, verb: str, session: str
    ) -> None:
        """A session that is not there gives one safe line, exit status 2, and changes nothing."""
        before = tree(store)

        outcome = tool(*command_line(verb, store, session))

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)
        assert "\x1b" not in outcome.errors
        assert tree(store) == before

    @pytest.mark.parametrize(
        "arguments",
        [
            ["frobnicate"],
            ["list"],
            ["list", "a", "b", "c"],
            ["show", "--jsn", "a", "b"],
            ["demo", "--sessions", "many"],
            ["demo", "--kills", "-1"],
            ["demo", "--durability", "hope"],
        ],
        ids=" ".join,
    )
    def test_a_wrong_command_line_is_one_line(self, tool: Tool, arguments: list[str]) -> None:
        """A misuse of the tool gives one line on standard error and exit status 2."""
        outcome = tool(*arguments)

        assert outcome.status == 2
        assert outcome.output == ""
        assert outcome.errors.count("\n") == 1
        assert outcome.errors.startswith("aiocheckpoint: ")
        verb = "" if arguments == ["frobnicate"] else f" {arguments[0]}"
        assert outcome.errors.endswith(f"`aiocheckpoint{verb} --help` explains it\n")

    def test_an_unreadable_directory_is_one_line(self, tool: Tool, tmp_path: Path) -> None:
        """What the system refuses is told in one line, with exit status 2."""
        loop = tmp_path / "loop"
        loop.symlink_to(loop)

        outcome = tool("sessions", loop)

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)


class TestFrame:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
    def test_errors_that_cannot_be_written_are_no_damage(self, root: Path) -> None:
        """Where the log of a cron job is full, the status still says that nothing was done."""
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            command = [sys.executable, "-m", "aiocheckpoint", "sessions", str(root)]
            assert subprocess.run(command, stderr=full, check=False).returncode == 2

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
    def test_output_that_cannot_be_written_is_not_the_stores(self, store: Path) -> None:
        """Where the output has no room the error says so, and not that the store has none."""
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            command = [sys.executable, "-m", "aiocheckpoint", "recover", str(store), "support-42"]
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 2
        assert "cannot print: No space left on device; what else was to be done" in done.stderr

    @pytest.mark.parametrize(("session", "status"), [("s", 0), ("missing", 2)])
    @pytest.mark.few(1)
    def test_closed_errors_leave_the_status(self, root: Path, session: str, status: int) -> None:
        """Where standard error was closed before the start, the exit status tells all the same."""
        saved(root, CheckpointData(session_id="s"))
        command = shlex.join([sys.executable, "-m", "aiocheckpoint", "show", str(root), session])

        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} 2>&-"], capture_output=True, text=True, check=False
        )

        assert (done.returncode, done.stderr) == (status, "")
        assert bool(done.stdout) is (status == 0)

    @pytest.mark.parametrize("into", [">&-", "<&- >&- 2>errors", ">/dev/full"])
    @pytest.mark.few(1)
    def test_output_that_nobody_can_have_had_is_no_success(
        self, store: Path, tmp_path: Path, into: str
    ) -> None:
        """No verb exits with 0 where its output was closed before the start, or has no room."""
        if "full" in into and not Path("/dev/full").exists():
            pytest.skip("only Linux has a full device")
        lines = [command_line(verb, store, "support-42") for verb in ON_A_DIRECTORY]
        lines += [[*line, "--json"] for line in lines]
        lines += [["flush", store], ["copy", store, tmp_path / "copy"], ["--version"], ["--help"]]
        program = (
            "import sys; from aiocheckpoint.cli import main\n"
            f"print([main(line) for line in {[[*map(str, it)] for it in lines]}], file=sys.stderr)"
        )
        command = shlex.join([sys.executable, "-c", program])

        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} {into}"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip

        told = done.stderr or (tmp_path / "errors").read_text()
        assert told.count("aiocheckpoint: cannot print: ") == len(lines)
        assert f"{[2] * len(lines)}\n" in told

    def test_nothing_stands_where_an_output_was_closed(self, store: Path) -> None:
        """Files that are opened later have other numbers than the standard streams."""
        program = (
            "import os, sys; from aiocheckpoint.cli import main\n"
            "main(['--version'])\n"
            "os._exit(0 if [os.path.realpath(f'/dev/fd/{n}') for n in (0, 1)] == ['/dev/null'] * 2"
            " else 1)"
        )
        command = shlex.join([sys.executable, "-c", program])
        done = subprocess.run(["/bin/sh", "-c", f"{command} <&- >&-"], check=False, cwd=store)
        assert done.returncode == 0

    def test_version(self, tool: Tool) -> None:
        """`--version` names the installed version."""
        assert tool("--version").output == f"aiocheckpoint {version('aiocheckpoint')}\n"

    def test_help_names_every_verb(self, tool: Tool) -> None:
        """`--help` leads to every verb."""
        outcome = tool("--help")

        assert outcome.status == 0
        for verb in [*ON_A_DIRECTORY, "demo"]:
            assert verb in outcome.output

    @pytest.mark.parametrize("missing", ["typer", "rich"])
    def test_without_the_extra_a_hint_says_what_to_install(self, missing: str) -> None:
        """Without the extra, one line says how to get it."""
        program = (
            f"import sys; sys.modules[{missing!r}] = None; from aiocheckpoint.cli import main; "
            "sys.exit(main(['--help']))"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )

        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert f"{sys.executable} -m pip install rich typer" in done.stderr

    def test_a_reader_that_goes_away_is_no_error(self, store: Path) -> None:
        """`aiocheckpoint ... | head` ends quietly."""
        program = "from aiocheckpoint.cli import main; import sys; sys.exit(main())"
        line = f"'{sys.executable}' -c '{program}' show '{store}' support-42 | true"

        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False
        )

        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
    @pytest.mark.parametrize("verb", [*ON_A_DIRECTORY, "--help", "--version"])
    def test_a_closed_pipe_is_success(
        self, store: Path, monkeypatch: pytest.MonkeyPatch, verb: str, flags: list[str]
    ) -> None:
        """Whoever closes the pipe early has seen enough: exit status 0, from every verb."""
        line = [] if verb.startswith("--") else command_line(verb, store, "support-42")
        with closed_pipe(monkeypatch):
            assert main([str(word) for word in line or [verb]] + (flags if line else [])) == 0

    def test_a_closed_pipe_hides_no_damage(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`verify` of a damaged store exits with 1, whether anybody reads what it says or not."""
        damaged(store.joinpath("support-42/checkpoints/latest.json").resolve())

        with closed_pipe(monkeypatch):
            assert main(["verify", str(store)]) == 1

    def test_a_shell_can_complete_it(self, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
        """The script that a shell asks for completes the verbs."""
        monkeypatch.setenv("_AIOCHECKPOINT_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "aiocheckpoint se")
        monkeypatch.setenv("COMP_CWORD", "1")
        with pytest.raises(SystemExit) as ended:
            tool()

        assert ended.value.code == 0
        assert "--install-completion" in subprocess.run(
            [sys.executable, "-m", "aiocheckpoint", "--help"],
            capture_output=True, text=True, check=True,
            env={name: value for name, value in os.environ.items() if "COMP" not in name},
        ).stdout  # fmt: skip

    def test_a_terminal_that_cannot_show_an_id_still_works(self, store: Path) -> None:
        """Text that the terminal's encoding lacks is spelled out as a shell takes it."""
        program = "from aiocheckpoint.cli import main; import sys; sys.exit(main())"

        done = subprocess.run(
            [sys.executable, "-c", program, "sessions", store],
            env={"PYTHONIOENCODING": "ascii", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, "")
        assert r"$'a/b \xe5\xae\xa2\xe6\x9c\x8d'" in done.stdout
