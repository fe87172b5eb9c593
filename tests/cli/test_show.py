"""`aiocheckpoint show`."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointRecord
from aiocheckpoint.cli import terminal
from tests.cli.conftest import Tool, damaged, saved


class Level(CheckpointRecord):
    name: str
    inventory: tuple[str, ...] = ()


CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "find_order", "arguments": '{"id": 7}'},
}


def test_the_newest_is_shown_by_default(tool: Tool, store: Path) -> None:
    """Without an id, the checkpoint saved last is shown, with its whole conversation."""
    output = tool("show", store, "support-42").output

    assert "step3" in output
    assert "message 2" in output
    assert "verified" in output


def test_one_is_shown_by_its_id(tool: Tool, store: Path) -> None:
    """With an id, that checkpoint is shown."""
    output = tool("show", store, "support-42", "step2").output

    assert "message 1" in output
    assert "message 2" not in output


def test_json_is_the_file_byte_for_byte(tool: Tool, store: Path) -> None:
    """`--json` prints the file as it is."""
    path = Path(tool("list", store, "support-42", "--json").json[0]["path"])

    assert tool("show", store, "support-42", "--json").output == path.read_text()


def test_a_pipe_gets_no_padding(tool: Tool, root: Path) -> None:
    """No line is filled with spaces up to the width of the longest value, in tables neither."""
    saved(root, CheckpointData(session_id="s", resume_hint="x" * 1000))
    for arguments in (("show", root, "s"), ("list", root, "s"), ("sessions", root)):
        lines = tool(*arguments).output.splitlines()
        assert [line for line in lines if line.endswith(" ")] == []


def test_a_pipe_gets_long_lines_whole(tool: Tool, root: Path) -> None:
    """Where no terminal reads it a line of a text is a line, whatever its length."""
    lines = ["x" * 30_000, "", "second"]
    hint = "h" * 20_000
    record = CheckpointData(
        session_id="s", messages=[{"role": "user", "content": "\n".join(lines)}], resume_hint=hint
    )
    saved(root, record)

    printed = tool("show", root, "s").output.splitlines()

    assert f"resume_hint         {hint}" in printed
    start = printed.index(f"user  {lines[0]}")
    assert printed[start : start + 3] == [f"user  {lines[0]}", "", "      second"]


@given(st.text("ab \u00e9\u6f22\n", max_size=300), st.integers(35, 60))
def test_a_terminal_gets_all_of_a_long_text(text: str, width: int) -> None:
    """What is too long to be laid out is folded: nothing of it is lost, no line is too wide."""
    out = io.StringIO()
    screen = Console(file=out, force_terminal=True, width=width, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "LONG_TEXT", -1)
        terminal.print_pairs(screen, [(Text("name", "bold"), Text(text)), (Text("b"), Text("c"))])
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("name  ")
    assert lines[-1] == "b     c"
    assert all(line.startswith("      ") for line in lines[1:-1])
    assert all(cell_len(line) <= width for line in lines)
    found = "".join(line[6:] for line in lines[:-1])
    assert re.sub(r"\s", "", found) == re.sub(r"\s", "", text)


def test_what_turns_text_around_is_spelled_out(tool: Tool, root: Path) -> None:
    """An id cannot look like another one by characters that change the direction."""
    saved(root, CheckpointData(session_id="a\u202egnp", checkpoint_id="b\u2066"))
    for arguments in (("show", root, "a\u202egnp"), ("sessions", root)):
        output = tool(*arguments).output
        assert r"$'a\xe2\x80\xaegnp'" in output
        assert "\u202e" not in output


def test_a_conversation_reads_like_one(tool: Tool, root: Path) -> None:
    """Each message stands beside its role, and tool calls beside their arguments."""
    messages = [
        {"role": "user", "content": "Where is my order? 📦"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, "odd"]},
        {"role": "tool", "tool_call_id": "call_1", "content": "shipped"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is on its way."}]},
        "not a message",
    ]
    saved(root, CheckpointData(session_id="s", messages=messages))

    lines = [line.rstrip() for line in tool("show", root, "s").output.splitlines()]

    assert "user       Where is my order? 📦" in lines
    assert 'assistant  → find_order {"id": 7}' in lines
    assert "tool       shipped" in lines
    assert any('"It is on its way."' in line for line in lines)
    assert any("not a message" in line for line in lines)


def test_a_record_of_an_applications_own_type_is_shown(tool: Tool, root: Path) -> None:
    """Every field of a record of any type is shown."""

    async def save() -> None:
        async with AsyncCheckpointWriter(root, record_type=Level) as writer:
            await writer.save(Level(session_id="s", name="cellar", inventory=("lamp", "rope")))

    asyncio.run(save())

    output = tool("show", root, "s").output

    assert "cellar" in output
    assert '"rope"' in output


def test_text_from_a_file_cannot_drive_the_terminal(tool: Tool, root: Path) -> None:
    """Escape sequences in any field are spelled out, and markup is not taken for markup."""
    evil = "[bold red]\x1b]0;owned\x07\x9b2J"
    message = {"role": evil, "content": evil, "tool_calls": [{"x\x1b": evil}]}
    record = CheckpointData(
        session_id="s", trigger=evil, messages=[message], tool_results={evil: [evil]}
    )
    saved(root, record)

    output = tool("show", root, "s").output

    assert not set(output) & {"\x1b", "\x07", "\x9b"}
    assert "[bold red]\\x1b]0;owned\\x07\\x9b2J" in output


def test_an_unknown_checkpoint_is_an_error(tool: Tool, store: Path) -> None:
    """An id that is not there gives one line and exit status 2."""
    outcome = tool("show", store, "support-42", "step9")

    assert (outcome.status, outcome.errors.count("\n")) == (2, 1)
    assert "step9" in outcome.errors


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_damaged_checkpoint_is_never_shown(tool: Tool, store: Path, flags: list[str]) -> None:
    """A damaged newest checkpoint gives exit status 1, and nothing older in its place."""
    path = damaged(store.joinpath("support-42/checkpoints/latest.json").resolve())

    outcome = tool("show", store, "support-42", *flags)

    assert outcome.status == 1
    assert outcome.output == ""
    assert outcome.errors.count("\n") == 1
    assert path.name in outcome.errors
    assert "'step2'" in outcome.errors
