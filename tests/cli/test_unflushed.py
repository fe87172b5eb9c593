"""The verbs on a directory whose last process died before it wrote any file."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from aiocheckpoint._engine import check_journal
from tests.cli.conftest import Tool, saved, tree
from tests.trees import checkpoint_files


@pytest.fixture(name="unflushed")
def _unflushed(
    root: Path, tmp_path: Path, no_flushing: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What a power cut leaves of three saves: the journal alone."""
    monkeypatch.setattr(check_journal, "_MOMENTS_SECONDS", 0.0)
    copy = tmp_path / "after"

    async def save() -> None:
        async with AsyncCheckpointWriter(root) as writer:
            for number in range(3):
                await writer.save(CheckpointData(session_id="s", checkpoint_id=f"step{number}"))
            await asyncio.to_thread(shutil.copytree, root, copy)

    asyncio.run(save())
    assert [path.name for path in copy.iterdir()] == [".aiocheckpoint"]
    return copy


def test_all_is_listed(tool: Tool, unflushed: Path) -> None:
    """Every acknowledged checkpoint is in the lists, and nothing is written to show them."""
    before = tree(unflushed)

    assert [found["session_id"] for found in tool("sessions", unflushed, "--json").json] == ["s"]
    listed = tool("list", unflushed, "s", "--json").json
    assert [found["checkpoint_id"] for found in listed] == ["step2", "step1", "step0"]
    assert tree(unflushed) == before


def test_what_writes_the_files_is_said(tool: Tool, unflushed: Path) -> None:
    """`show` and `list` name a file, or a directory of them, and say that it is not there yet."""
    hint = f"not there yet: the journal has it; `aiocheckpoint flush {unflushed}` writes it"
    shown = tool("show", unflushed, "s").output
    assert re.search(
        rf"^file {unflushed}/s/checkpoints/cp_.*\.json: {re.escape(hint)}$", shown, re.MULTILINE
    )
    several = re.sub(r"\bit\b", "them", hint)
    assert f"3 {several}" in tool("list", unflushed, "s").output.splitlines()

    tool("flush", unflushed)
    assert "yet" not in tool("show", unflushed, "s").output
    assert "yet" not in tool("list", unflushed, "s").output


def test_it_is_no_damage(tool: Tool, unflushed: Path) -> None:
    """`verify` says that files are not written yet, and that nothing is wrong."""
    outcome = tool("verify", unflushed)

    assert outcome.status == 0
    assert "unflushed-journal" in outcome.output
    assert f"`aiocheckpoint flush {unflushed}` writes them" in outcome.output
    assert "3 checkpoints, no damage, 1 finding" in outcome.output


def test_what_has_no_file_is_shown(tool: Tool, unflushed: Path) -> None:
    """`show` needs no file, and makes none: the journal has the text."""
    before = tree(unflushed)

    assert "step2" in tool("show", unflushed, "s").output
    document = tool("show", unflushed, "s", "--json").json
    assert tree(unflushed) == before

    assert tool("flush", unflushed).status == 0
    assert "step2" in tool("show", unflushed, "s").output
    written = tool("show", unflushed, "s", "--json").json
    assert {key: written[key] for key in document} == document
    assert len(checkpoint_files(unflushed, "s")) == 3
    assert tool("verify", unflushed, "--json").json["findings"] == []


def test_flush_of_what_cannot_be_written_is_named(tool: Tool, unflushed: Path) -> None:
    """Where files cannot be written, `flush` fails with the error, and nothing is lost."""
    (unflushed / "s").write_text("in the way")

    refused = tool("flush", unflushed)

    assert refused.status == 2
    assert str(unflushed / "s") in refused.errors
    (unflushed / "s").unlink()
    assert tool("flush", unflushed).status == 0
    assert len(checkpoint_files(unflushed, "s")) == 3


def test_a_session_whose_files_could_not_be_written_is_no_damage(
    tool: Tool, unflushed: Path
) -> None:
    """Also when the disk is sound again `verify` says what was noted, which harms no checkpoint."""
    (unflushed / "s").write_text("in the way")
    assert tool("flush", unflushed).status == 2
    (unflushed / "s").unlink()

    outcome = tool("verify", unflushed)
    assert outcome.status == 0
    assert f"unwritten-session: {unflushed / 's'}\n    its saves wait in" in outcome.output
    assert f"`aiocheckpoint flush {unflushed}` tries again" in outcome.output
    assert "1 session, 3 checkpoints, no damage, 2 findings" in outcome.output
    [stuck, _] = tool("verify", unflushed, "--json").json["findings"]
    assert (stuck["kind"], stuck["session_id"]) == ("unwritten-session", "s")

    assert tool("flush", unflushed).status == 0
    assert "3 checkpoints, intact" in tool("verify", unflushed).output


def test_module_is_the_tool(unflushed: Path) -> None:
    """`python -m aiocheckpoint flush DIR` does the same."""
    done = subprocess.run(
        [sys.executable, "-m", "aiocheckpoint", "flush", str(unflushed)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert str(unflushed) in done.stdout
    assert len(checkpoint_files(unflushed, "s")) == 3


def test_what_the_journal_has_lost_is_named_beside_the_rest(tool: Tool, unflushed: Path) -> None:
    """One damaged save in the journal hides no other, and what mends it can be typed."""
    log = unflushed / ".aiocheckpoint" / "log.0"
    body = log.read_bytes()
    log.write_bytes(body.replace(b'"checkpoint_id":"step1"', b'"checkpoint_id":"step9"'))
    assert log.read_bytes() != body

    listed = tool("list", unflushed, "s")
    assert [f"step{number}" in listed.output for number in range(3)] == [True] * 3
    assert "neither the journal nor a file holds what was saved" in listed.output + listed.errors
    assert "keep vanishing" not in listed.errors
    refused = tool("flush", unflushed)
    assert refused.status == 1
    assert f"`aiocheckpoint verify {unflushed}` says what to do" in refused.errors
    output = tool("verify", unflushed).output
    assert f"`aiocheckpoint recover {unflushed} s` moves it aside" in output
    assert tool("recover", unflushed, "s").status == 0
    assert tool("flush", unflushed).status == 0
    assert len(checkpoint_files(unflushed, "s")) == 2


def test_what_to_do_about_a_lost_part_of_the_journal_can_be_typed(
    tool: Tool, unflushed: Path
) -> None:
    """Where nobody can tell what the journal held, a command goes on, keeps that part, and says."""
    log = unflushed / ".aiocheckpoint" / "log.0"
    body = bytearray(log.read_bytes())
    begin = body.index(b'"checkpoint_id":"step0"') // 4096 * 4096
    body[begin : begin + 4096] = b"\xa5" * 4096
    log.write_bytes(body)

    listed = tool("list", unflushed, "s")
    assert listed.status == 1
    assert "look in a backup for what was saved last; then `aiocheckpoint recover" in listed.errors
    sessions = tool("sessions", unflushed)
    assert [line.split()[:2] for line in sessions.output.splitlines()[2:]] == [["s", "-"]]
    assert "look in a backup for what was saved last" in sessions.errors
    assert tool("sessions", unflushed, "--json").json[0]["checkpoints"] is None
    assert tool("flush", unflushed).status == 1
    outcome = tool("verify", unflushed)
    assert outcome.status == 1
    assert f"damaged-journal: {log}\n" in outcome.output
    assert "look in a backup for what was saved last" in outcome.output
    assert f"{unflushed}: 1 session, checkpoints unknown, 1 not intact" in outcome.output
    command = outcome.output.partition("; then `aiocheckpoint ")[2].partition("`")[0]
    assert command == f"recover {unflushed} s"
    outcome = tool(*command.split())
    assert outcome.status == 0
    assert "nothing was damaged" not in outcome.output
    [kept] = [path for path in unflushed.glob(".aiocheckpoint/quarantine/*") if path.is_file()]
    assert f"went on without a part of the journal; a copy is {kept}\n" in outcome.output
    assert outcome.output.endswith("the session goes on from step2\n")
    assert tool("flush", unflushed).status == 0
    outcome = tool("list", unflushed, "s", "--json")
    assert [meta["checkpoint_id"] for meta in outcome.json] == ["step2", "step1"]
    outcome = tool("verify", unflushed)
    assert outcome.status == 0
    assert (
        f"given-up-journal: {kept}\n    a part of the journal that could not be" in outcome.output
    )
    assert tool("recover", unflushed, "s", "--json").json["given_up"] == []


def _change_saved(root: Path, checkpoint_id: str) -> None:
    """Change a letter of what the journal holds of a checkpoint: its id, in the body alone."""
    log = root / ".aiocheckpoint" / "log.0"
    text = f'"checkpoint_id":"{checkpoint_id}"'.encode()
    body = log.read_bytes()
    assert body.count(text) == 1
    log.write_bytes(body.replace(text, text.replace(b"_id", b"_iD")))


@pytest.fixture(name="two_damaged")
def _two_damaged(root: Path, tmp_path: Path, no_flushing: None) -> Path:
    """What a kill leaves of two sessions: the newest of both is damaged in the journal."""
    copy = tmp_path / "two"

    async def save() -> None:
        async with AsyncCheckpointWriter(root) as writer:
            for session in "ac":
                for step in ("old", "new"):
                    checkpoint_id = f"{session}-{step}"
                    await writer.save(
                        CheckpointData(session_id=session, checkpoint_id=checkpoint_id)
                    )
            await writer.save(CheckpointData(session_id="z"))  # or the last one were a torn end
            await asyncio.to_thread(shutil.copytree, root, copy)

    asyncio.run(save())
    for session in "ac":
        _change_saved(copy, f"{session}-new")
    return copy


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_recover_tells_what_it_did_beside_the_damage_of_another_session(
    tool: Tool, two_damaged: Path, options: tuple[str, ...]
) -> None:
    """The report comes first, then what is damaged, with the command for the session of that."""
    outcome = tool("recover", two_damaged, "a", *options)

    assert outcome.status == 0  # as the session goes on
    [moved] = two_damaged.glob(".aiocheckpoint/quarantine/a/*_a-new.json.*")
    if options:
        assert outcome.json["newest_valid_id"] == "a-old"
        assert outcome.json["quarantined"] == [str(moved)]
    else:
        assert outcome.output == f"moved aside to {moved}\nthe session goes on from a-old\n"
    [told] = outcome.errors.splitlines()
    assert "_c-new.json is damaged (session 'c')" in told
    command = f"recover {two_damaged} c"
    assert told.endswith(f"; `aiocheckpoint {command}` moves damaged files to the quarantine")

    outcome = tool(*command.split())
    assert (outcome.status, outcome.errors) == (0, "")
    assert tool("verify", two_damaged).status == 0


def test_a_copy_that_is_done_is_not_called_incomplete(
    tool: Tool, two_damaged: Path, tmp_path: Path
) -> None:
    """What else is damaged in the target is told of the target, beside how much was copied."""
    source = tmp_path / "source"
    saved(source, CheckpointData(session_id="s"), CheckpointData(session_id="t"))

    outcome = tool("copy", source, two_damaged)

    assert outcome.status == 1
    assert outcome.output.startswith(f"{two_damaged}: 2 sessions, 2 checkpoints copied and read")
    assert "incomplete" not in outcome.output
    [told] = outcome.errors.splitlines()
    assert "is damaged (session 'a')" in told
    assert told.endswith(f"; `aiocheckpoint verify {two_damaged}` says what to do")


def test_what_is_damaged_in_a_target_is_told_of_the_target(
    tool: Tool, two_damaged: Path, tmp_path: Path
) -> None:
    """Where the target's session is damaged, what to do is told of the target."""
    source = tmp_path / "source"
    saved(source, CheckpointData(session_id="a", checkpoint_id="a-old"))

    outcome = tool("copy", source, two_damaged)

    assert outcome.status == 1
    assert f"verify {two_damaged}`" in outcome.errors
    assert str(source) not in outcome.errors
    assert "recover(session_id)" not in outcome.errors
