"""Ids and triggers of any text in what the command line prints."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from aiocheckpoint import CheckpointData
from aiocheckpoint.cli.terminal import shown_words, word
from tests.cli.conftest import Tool, damaged, saved

_ALIKE = [
    "a b", "a\nb", "a\tb", "a\rb", r"a\nb", "a  b", " a b", "a b ", "a\xa0b", "a\u2003b",
    "a\u200bb", "a\x1b[2Kb", "a\x9b2Kb", "'a b'", "$'a\\nb'", "\u202eb a", "é", "e\u0301", "-", "",
]  # fmt: skip
_MARKS = st.sampled_from([*"ab \t\n\\'$\"-xe", "\u0301", "é", "\xa0", "\x1b", "n", "0"])


def _drives(text: str) -> set[str]:
    return {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def test_no_two_look_alike(tool: Tool, root: Path) -> None:
    """Each stands in a line of its own, in the tables of sessions and of checkpoints."""
    saved(root, *(CheckpointData(session_id=f"s{text}", trigger=text) for text in _ALIKE))
    saved(root, *(CheckpointData(session_id="one", checkpoint_id=text) for text in _ALIKE))

    outputs = [tool("sessions", root).output, tool("list", root, "one").output]

    for output, count in zip(outputs, (len(_ALIKE) + 1, len(_ALIKE)), strict=True):
        lines = [line.partition("  ")[0] for line in output.splitlines()[2:] if "20" in line]
        assert len(set(lines)) == len(lines) == count
        assert _drives(output) == {"\n"}
        assert "\u0301" not in output
    found = tool("list", root, "one", "--json").json
    assert [meta["checkpoint_id"] for meta in found] == _ALIKE[::-1]


def test_no_two_look_alike_in_a_narrow_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that standard output lacks is spelled out in the words of a shell."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert [word("é"), word(r"\xe9")] == [r"$'\xc3\xa9'", r"\xe9"]


@given(st.lists(st.text(_MARKS, max_size=6), min_size=2, max_size=2, unique=True))
def test_a_text_is_shown_as_itself_alone(texts: list[str]) -> None:
    """Of two texts none is shown as the other one is, in one line that drives nothing."""
    shown = [word(text) for text in texts]
    assert shown[0] != shown[1]
    assert not _drives("".join(shown))
    assert unicodedata.is_normalized("NFC", "".join(shown))


@pytest.mark.parametrize("text", [text for text in _ALIKE if word(text)[:2] in ("$'", "''")])
def test_what_is_quoted_is_what_a_shell_takes(text: str) -> None:
    """It can be pasted into a command."""
    ran = subprocess.run(["bash", "-c", f"printf %s {word(text)}"], capture_output=True, check=True)
    assert ran.stdout.decode() == text


_LONG = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["a" * 30, "客" * 20, ""]),
    st.text("abc…客", max_size=30),
    st.sampled_from(["b" * 60, "服" * 40, ""]),
)


@given(st.lists(_LONG, max_size=4, unique=True), st.integers(20, 140))
def test_long_ids_are_cut_at_a_terminal_and_differ(texts: list[str], width: int) -> None:
    """No two look alike there; whole is what is short, or what would be like another one."""
    shown = shown_words(Console(force_terminal=True, width=width), texts)

    assert [*shown] == texts
    assert len({*shown.values()}) == len(texts)
    most = max(40, width - 60)
    for text, cut in shown.items():
        if cut != word(text):
            assert cell_len(word(text)) > most >= cell_len(cut) >= most - 2
            ends = (cut.split("…")[0], cut.split("…")[-1])
            assert word(text).startswith(ends[0])
            assert word(text).endswith(ends[1])
    assert shown_words(Console(file=io.StringIO(), width=width), texts) == {
        text: word(text) for text in texts
    }


def test_tables_of_long_ids(tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal they have few lines, and times are not broken; in a pipe all is whole."""
    ids = ["x" * 120 + "a", "x" * 120 + "b", "y" * 60 + "z" + "y" * 60]
    trigger = "trigger_" * 20
    saved(root, *(CheckpointData(session_id=it, checkpoint_id=it, trigger=trigger) for it in ids))
    lines = [("sessions", root), *(("list", root, it) for it in ids)]
    whole = "".join(tool(*line).output for line in lines)
    assert [whole.count(it) for it in (*ids, trigger)] == [3, 3, 3, 6]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    for line in lines:
        output = tool(*line).output.partition("files:")[0]
        rows = 3 if line[0] == "sessions" else 1
        assert output.count("…") == 2 * rows
        assert len(output.splitlines()) <= 2 + 3 * rows
        assert all(len(each) <= 80 for each in output.splitlines())
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", output)) == rows
    assert "…" not in "".join(tool(*line, "--json").output for line in lines)


def test_json_drives_no_terminal_and_is_exact(tool: Tool, root: Path) -> None:
    """Control characters are spelled as JSON spells them."""
    saved(root, CheckpointData(session_id="s", checkpoint_id="a\x9bb\x7f\u202ec\x1b"))
    outcome = tool("list", root, "s", "--json")
    assert outcome.json[0]["checkpoint_id"] == "a\x9bb\x7f\u202ec\x1b"
    assert _drives(outcome.output) == {"\n"}


def test_show_spells_names_out(tool: Tool, root: Path) -> None:
    """Ids are told exactly, and a message as it is."""
    saved(root, CheckpointData(session_id="s", checkpoint_id="a\tb", trigger="a\nb"))
    output = tool("show", root, "s").output
    assert "$'a\\tb'" in output
    assert "$'a\\nb'" in output


def test_an_iteration_that_is_not_known_is_not_shown(tool: Tool, root: Path) -> None:
    """Of a damaged checkpoint, and of a number that counts nothing, a dash is shown."""
    paths = saved(
        root,
        CheckpointData(session_id="pending", trigger="pending", iteration=-2),
        CheckpointData(session_id="bad", trigger="tool_result", iteration=7),
        CheckpointData(session_id="fine", trigger="tool_result", iteration=0),
    )
    paths[1].write_bytes(b"")
    for verb, session in (("sessions", ""), ("list", "pending"), ("list", "bad"), ("list", "fine")):
        lines = tool(verb, root, *filter(None, [session])).output.splitlines()
        ends = {line.split()[0]: line.split()[-2:] for line in lines if "20" in line}
        if verb == "sessions":
            assert ends == {
                "pending": ["pending", "-"], "bad": ["-", "-"], "fine": ["tool_result", "0"],
            }  # fmt: skip
        else:
            [end] = ends.values()
            wanted = {"pending": ["pending", "-"], "bad": ["-", "-"]}
            assert end == wanted.get(session, ["tool_result", "0"])
    assert tool("list", root, "pending", "--json").json[0]["iteration"] == -2


def test_what_is_over_the_limit_has_its_iteration(tool: Tool, root: Path) -> None:
    """It is known, although the checkpoint is not loaded; of a damaged digit nothing is noticed."""
    [path] = saved(root, CheckpointData(session_id="s", trigger="manual", iteration=7))
    damaged(path)
    line = tool("list", root, "s", "--max-bytes", "10").output.splitlines()[2]
    assert line.split()[-2:] == ["manual", "7"]


def test_ids_are_utf_8_in_any_locale(root: Path) -> None:
    """An id that the C locale has no letters for is found; what is no UTF-8 is refused by name."""
    saved(root, CheckpointData(session_id="s\u00e9", checkpoint_id="c\u00e9"))
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "aiocheckpoint", "show", "--json", str(root)]

    def run(*arguments: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, check=False
        )

    found = run("s\u00e9".encode(), "c\u00e9".encode())
    assert (found.returncode, found.stderr) == (0, b"")
    assert json.loads(found.stdout)["checkpoint_id"] == "c\u00e9"
    refused = run(b"s\xe9")
    assert refused.returncode == 2
    assert b"invalid session id" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
