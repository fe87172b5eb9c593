"""`aiocheckpoint recover`."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiocheckpoint import CheckpointData
from tests.cli.conftest import Tool, damaged, saved


def test_damage_is_moved_aside(tool: Tool, store: Path) -> None:
    """The damaged file is kept elsewhere, and the session goes on from the one before."""
    path = damaged(store.joinpath("support-42/checkpoints/latest.json").resolve())

    outcome = tool("recover", store, "support-42")

    assert outcome.status == 0
    assert "goes on from step2" in outcome.output
    assert not path.exists()
    moved = Path(outcome.output.splitlines()[0].removeprefix("moved aside to "))
    assert moved.is_file()
    assert tool("verify", store).status == 0
    assert "step2" in tool("show", store, "support-42").output


def test_a_healthy_session_is_left_alone(tool: Tool, store: Path) -> None:
    """Recovering a healthy session says that nothing was damaged."""
    outcome = tool("recover", store, "support-42")

    assert outcome.status == 0
    assert "nothing was damaged" in outcome.output
    assert tool("recover", store, "support-42", "--json").json == {
        "session_id": "support-42",
        "newest_valid_id": "step3",
        "quarantined": [],
        "uncertain_ids": [],
        "given_up": [],
    }


def test_nothing_intact_left_is_said(tool: Tool, root: Path) -> None:
    """Where no intact checkpoint is left the exit status is 1, and nothing was deleted."""
    [path] = saved(root, CheckpointData(session_id="s"))
    damaged(path)

    outcome = tool("recover", root, "s", "--json")

    assert outcome.status == 1
    assert outcome.json["newest_valid_id"] is None
    [moved] = outcome.json["quarantined"]
    assert Path(moved).is_file()


@pytest.mark.parametrize("session", ["openai_agents.ann", 'claude_agent.["p","s"]', "strands.a/b/"])
def test_what_a_framework_needs_is_not_moved(tool: Tool, root: Path, session: str) -> None:
    """Of a session that is of use as a whole alone nothing is moved, unless that is asked for."""
    saved(root, CheckpointData(session_id=session, checkpoint_id="older"))
    [path] = saved(root, CheckpointData(session_id=session, checkpoint_id="newest"))
    damaged(path)

    refused = tool("recover", root, session)
    assert refused.status == 1
    assert "nothing was moved" in refused.errors
    assert "restore it from a backup" in refused.errors
    assert "recover --anyway" in refused.errors
    assert "restore it from a backup" in tool("verify", root).output
    assert path.exists()

    outcome = tool("recover", "--anyway", root, session)
    assert outcome.status == 1
    assert "is lost to" in outcome.output
    assert "goes on" not in outcome.output
    assert not path.exists()


def test_healthy_session_of_a_framework(tool: Tool, root: Path) -> None:
    """Nothing is damaged, and the command does not say that the session goes on."""
    saved(root, CheckpointData(session_id="crewai.f"))

    outcome = tool("recover", root, "crewai.f")

    assert outcome.status == 0
    assert "nothing was damaged" in outcome.output
    assert "goes on" not in outcome.output


def test_a_damaged_backup_costs_a_session_of_a_framework_nothing(tool: Tool, root: Path) -> None:
    """A second name of an intact file is moved aside, and nobody is told to remove the session."""
    session = "pydantic_harness.r"
    [path] = saved(root, CheckpointData(session_id=session, checkpoint_id="newest"))
    backup = path.with_name(f"{path.name}.backup")
    backup.write_bytes(b"rot")

    told = tool("verify", root)
    assert told.status == 1
    assert "recover" in told.output
    assert "delete_session" not in told.output

    outcome = tool("recover", root, session)
    assert outcome.status == 0
    assert "is lost to" not in outcome.output
    assert "goes on from newest" in outcome.output
    assert not backup.exists()
    assert tool("verify", root).status == 0


@pytest.mark.parametrize("what", ["checkpoint", "backup", "both"])
def test_what_verify_says_of_a_backup_holds(tool: Tool, root: Path, what: str) -> None:
    """Of a second name a command is told where that moves it, whatever else is damaged."""
    session = "openai_agents.ann"
    saved(root, CheckpointData(session_id=session, checkpoint_id="older"))
    [path] = saved(root, CheckpointData(session_id=session, checkpoint_id="newest"))
    backup = path.with_name(f"{path.name}.backup")
    backup.write_bytes(path.read_bytes() if what == "checkpoint" else b"rot")
    if what != "backup":
        damaged(path)

    told = tool("verify", root).output

    command = f"`aiocheckpoint recover {root} {session}` moves it aside"
    assert (command in told) == (what == "backup")
    assert ("it is a second name of a checkpoint" in told) == (what != "checkpoint")
    assert ("restore it from a backup" in told) == (what != "backup")
    assert tool("recover", root, session).status == (0 if what == "backup" else 1)
    assert tool("recover", "--anyway", root, session).status == (0 if what == "backup" else 1)
    assert tool("verify", root).status == 0


@pytest.mark.parametrize("session", ["pydantic_ai.c", "strands.a/b/"])
def test_what_is_said_of_a_damaged_session_of_a_framework_is_done(
    tool: Tool, root: Path, session: str
) -> None:
    """The command by which damage may be given up is the one that gives it up."""
    saved(root, CheckpointData(session_id=session, checkpoint_id="older"))
    [path] = saved(root, CheckpointData(session_id=session, checkpoint_id="newest"))
    damaged(path)
    command = f"`aiocheckpoint recover --anyway {root} {session}`"

    assert command in tool("verify", root).output
    assert command in tool("show", root, session).errors
    tool("recover", "--anyway", root, session)

    assert not path.exists()
    assert tool("verify", root).status == 0


def test_session_of_a_framework_whose_id_is_lost(tool: Tool, root: Path) -> None:
    """One whose id is too long for a name, and that nothing intact tells, is not moved either."""
    session = f"openai_agents.{'x' * 300}"
    [path] = saved(root, CheckpointData(session_id=session))
    path.write_bytes(b"{}")

    assert "nothing was moved" in tool("recover", root, session).errors
    assert path.exists()


def test_what_a_kill_left_is_put_right(tool: Tool, store: Path) -> None:
    """A temporary file and a pointer that is behind, as a kill may leave them, are put right."""
    directory = store / "support-42" / "checkpoints"
    (directory / ".tmp_cp_0123456789abcdef").touch()
    pointer = directory / "latest.json"
    older = next(directory.glob("cp_*_step1.json"))
    pointer.unlink()
    pointer.symlink_to(older.name)
    findings = tool("verify", store, "--json").json["findings"]
    assert {finding["kind"] for finding in findings} == {"leftover", "stale-pointer"}

    assert tool("recover", store, "support-42").status == 0

    assert tool("verify", store).status == 0
