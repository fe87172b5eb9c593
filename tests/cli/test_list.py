"""`aiocheckpoint list`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData
from tests.cli.conftest import Tool, damaged, saved, tree


def test_the_newest_stands_first(tool: Tool, store: Path) -> None:
    """One line for each checkpoint, saved last first, and where the files are."""
    outcome = tool("list", store, "support-42")

    assert outcome.status == 0
    ids = [line.split()[0] for line in outcome.output.splitlines() if line.startswith("step")]
    assert ids == ["step3", "step2", "step1"]
    assert str(store / "support-42" / "checkpoints") in outcome.output


def test_json_holds_every_field(tool: Tool, store: Path) -> None:
    """`--json` gives what `list` of the library gives."""
    metas = tool("list", store, "support-42", "--json").json

    assert [meta["checkpoint_id"] for meta in metas] == ["step3", "step2", "step1"]
    assert [meta["iteration"] for meta in metas] == [3, 2, 1]
    assert all(Path(meta["path"]).is_file() for meta in metas)
    assert {meta["trigger"] for meta in metas} == {"tool_result"}


def test_generated_ids_fit_a_line_of_80_columns(tool: Tool, root: Path) -> None:
    """On a terminal of 80 columns an id can be copied in one piece."""
    record = CheckpointData(session_id="s", trigger="user_message", iteration=12345)
    saved(root, record)

    lines = tool("list", root, "s").output.splitlines()

    assert any(record.checkpoint_id in line and len(line.rstrip()) <= 80 for line in lines)


def test_any_session_id_can_be_asked_for(tool: Tool, store: Path) -> None:
    """An id that is no file name is found as well."""
    assert tool("list", store, "a/b 客服", "--json").json[0]["checkpoint_id"] == "only"


def test_markup_and_control_characters_are_inert(tool: Tool, root: Path) -> None:
    """Text from a file neither drives the terminal nor is taken for markup."""
    saved(root, CheckpointData(session_id="s", checkpoint_id="[red]\x1b[2Jx", trigger="[/b]\x9b"))

    output = tool("list", root, "s").output

    assert "\x1b" not in output
    assert "\x9b" not in output
    assert "[red]\\x1b[2Jx" in output


@pytest.mark.parametrize("verb", ["list", "show"])
def test_nothing_but_damage_is_told_from_an_unknown_session(
    tool: Tool, root: Path, verb: str
) -> None:
    """A session whose only checkpoint is unreadable gives exit status 1 and names the file."""
    [path] = saved(root, CheckpointData(session_id="s"))
    path.write_bytes(b"")

    outcome = tool(verb, root, "s")

    assert (outcome.status, outcome.errors.count("\n")) == (1, 1)
    assert path.name in outcome.errors


def test_listing_changes_nothing(tool: Tool, store: Path) -> None:
    """Looking leaves every file as it was, a damaged one too."""
    damaged(store.joinpath("support-42/checkpoints/latest.json").resolve())
    before = tree(store)

    tool("list", store, "support-42")

    assert tree(store) == before


def test_a_pipe_gets_one_line_for_each(
    tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no terminal reads it no line is wrapped, whatever its length and COLUMNS."""
    monkeypatch.setenv("COLUMNS", "40")
    record = CheckpointData(session_id="s" * 100, checkpoint_id="c" * 100, trigger="t" * 300)
    saved(root, record)

    [line] = [line for line in tool("list", root, "s" * 100).output.splitlines() if "ccc" in line]
    assert line.split()[0] == "c" * 100
    assert "t" * 300 in line
    [line] = [line for line in tool("sessions", root).output.splitlines() if "sss" in line]
    assert line.split()[:2] == ["s" * 100, "1"]


def test_times_are_those_of_the_saves(tool: Tool, root: Path) -> None:
    """`list`, `show` and `sessions` tell when a checkpoint was saved, not when it was made."""
    made = datetime(2001, 2, 3, tzinfo=UTC)
    saved(root, CheckpointData(session_id="s", checkpoint_id="old", created_at=made))

    (meta,) = tool("list", root, "s", "--json").json

    assert meta["created_at"].startswith("2001-02-03")
    assert not meta["saved_at"].startswith("2001")
    for verb in ("list", "sessions"):
        where = ("s",) if verb == "list" else ()
        output = tool(verb, root, *where).output
        assert "2001-02-03" not in output
        assert meta["saved_at"][:10] in output
