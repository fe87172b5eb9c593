"""The tool as a whole: errors, exit statuses, the missing extra."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import Tool, tree

ON_A_DIRECTORY = ["list", "show", "sessions", "verify", "recover"]
ON_A_SESSION = ["list", "show", "recover"]


def command_line(verb: str, directory: Path, session: str = "s") -> list[object]:
    return [verb, directory, session] if verb in ON_A_SESSION else [verb, directory]


class TestWrongInput:
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

    def test_an_unreadable_directory_is_one_line(self, tool: Tool, tmp_path: Path) -> None:
        """What the system refuses is told in one line, with exit status 2."""
        loop = tmp_path / "loop"
        loop.symlink_to(loop)

        outcome = tool("sessions", loop)

        assert (outcome.status, outcome.errors.count("\n")) == (2, 1)


class TestFrame:
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
        assert "pip install 'aiocheckpoint[cli]'" in done.stderr

    def test_a_reader_that_goes_away_is_no_error(self, store: Path) -> None:
        """`aiocheckpoint ... | head` ends quietly."""
        program = "from aiocheckpoint.cli import main; import sys; sys.exit(main())"
        line = f"'{sys.executable}' -c '{program}' show '{store}' support-42 --json | true"

        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)

        assert done.stderr == ""

    def test_a_terminal_that_cannot_show_an_id_still_works(self, store: Path) -> None:
        """Text that the terminal's encoding lacks is spelled out instead of failing."""
        program = "from aiocheckpoint.cli import main; import sys; sys.exit(main())"

        done = subprocess.run(
            [sys.executable, "-c", program, "sessions", store],
            env={"PYTHONIOENCODING": "ascii", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, "")
        assert "a/b \\u5ba2\\u670d" in done.stdout
