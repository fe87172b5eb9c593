"""`aiocheckpoint sessions`."""

from __future__ import annotations

from pathlib import Path

from aiocheckpoint import CheckpointData
from tests.cli.conftest import Tool, saved


def test_every_session_is_named(tool: Tool, store: Path) -> None:
    """Each session stands with the number of its checkpoints, whatever its id."""
    output = tool("sessions", store).output

    lines = {tuple(line.split()[:2]) for line in output.splitlines() if line.strip()}
    assert ("support-42", "3") in lines
    assert "a/b 客服" in output


def test_json(tool: Tool, store: Path) -> None:
    """`--json` gives the ids, the counts and the newest checkpoint of each."""
    found = {one["session_id"]: one for one in tool("sessions", store, "--json").json}

    assert {name: one["checkpoints"] for name, one in found.items()} == {
        "support-42": 3,
        "a/b 客服": 1,
    }
    assert found["support-42"]["newest"]["checkpoint_id"] == "step3"


def test_an_empty_directory_has_none(tool: Tool, tmp_path: Path) -> None:
    """An empty directory is said to have no sessions, and stays empty."""
    outcome = tool("sessions", tmp_path)

    assert outcome.status == 0
    assert "no sessions" in outcome.output
    assert tool("sessions", tmp_path, "--json").json == []
    assert list(tmp_path.iterdir()) == []


def test_a_session_with_nothing_readable_is_named_too(tool: Tool, root: Path) -> None:
    """A session whose files are all unreadable is not hidden."""
    [path] = saved(root, CheckpointData(session_id="s"))
    path.write_bytes(b"")

    assert tool("sessions", root, "--json").json == [
        {"session_id": "s", "checkpoints": 0, "newest": None}
    ]
    assert "s " in tool("sessions", root).output
