"""`aiocheckpoint verify`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, CheckpointRecord
from aiocheckpoint.cli.place import Place, open_writer
from tests.cli.conftest import Tool, damaged, saved, tree
from tests.promises.places import holding


def newest_file(store: Path) -> Path:
    return store.joinpath("support-42/checkpoints/latest.json").resolve()


def test_a_healthy_directory(tool: Tool, store: Path) -> None:
    """A store without damage gives exit status 0 and says how much was read."""
    outcome = tool("verify", store)

    assert outcome.status == 0
    assert "2 sessions, 4 checkpoints, intact" in outcome.output
    assert tool("verify", store, "--json").json["ok"] is True


def test_damage_in_a_directory_is_found(tool: Tool, store: Path) -> None:
    """A damaged file gives exit status 1, its path and what is wrong, and is left as it is."""
    path = damaged(newest_file(store))
    before = tree(store)

    outcome = tool("verify", store)
    found = tool("verify", store, "--json")

    assert outcome.status == found.status == 1
    assert f"damaged: {path}\n" in outcome.output
    assert [finding["path"] for finding in found.json["findings"]] == [str(path)]
    assert tree(store) == before


def test_one_file(tool: Tool, store: Path) -> None:
    """An intact file gives exit status 0, also by its hint `latest.json`."""
    before = tree(store)

    for path in (newest_file(store), newest_file(store).with_name("latest.json")):
        assert tool("verify", path).status == 0
        assert tool("verify", path, "--json").json["ok"] is True
    assert tree(store) == before


def test_one_damaged_file(tool: Tool, store: Path) -> None:
    """A damaged file gives exit status 1."""
    path = damaged(newest_file(store))

    assert tool("verify", path).status == 1
    assert tool("verify", path, "--json").json["findings"][0]["path"] == str(path)


def test_a_file_that_is_no_checkpoint(tool: Tool, tmp_path: Path) -> None:
    """Any other file gives exit status 1, and nothing is made beside it."""
    path = tmp_path / "notes.txt"
    path.write_text("milk, eggs")

    assert tool("verify", path).status == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_a_checkpoint_is_an_error(tool: Tool, tmp_path: Path) -> None:
    """A FIFO gives one line and exit status 2, and is not waited for."""
    os.mkfifo(tmp_path / "pipe")

    outcome = tool("verify", tmp_path / "pipe")

    assert (outcome.status, outcome.errors.count("\n")) == (2, 1)


@pytest.mark.parametrize("where", [".", "support-42", "support-42/checkpoints"])
def test_a_directory_without_sessions_is_not_called_intact(
    tool: Tool, store: Path, tmp_path: Path, where: str
) -> None:
    """Where nothing was verified, nothing is said to be intact: exit status 2."""
    directory = tmp_path if where == "." else store / where
    outcome = tool("verify", directory)

    assert (outcome.status, outcome.output) == (2, "")
    assert f"no store at {directory}" in outcome.errors


def test_a_leftover_is_gone_after_the_next_save(tool: Tool, store: Path) -> None:
    """What `verify` says of a leftover holds: the next save of the session removes it."""
    newest_file(store).with_name(".tmp_cp_0123456789abcdef").touch()
    assert tool("verify", store, "--json").json["findings"][0]["kind"] == "leftover"

    async def go_on() -> None:
        async with AsyncCheckpointWriter(store) as writer:
            latest = await writer.load("support-42")
            assert latest is not None
            await writer.save(CheckpointData(session_id="support-42", iteration=4))

    asyncio.run(go_on())

    assert tool("verify", store).status == 0


def test_what_a_killed_process_leaves_is_no_damage(tool: Tool, store: Path) -> None:
    """A temporary file and a hint that is behind are told, and the exit status stays 0."""
    newest_file(store).with_name(".tmp_cp_0123456789abcdef").touch()
    latest = store / "support-42/checkpoints/latest.json"
    [oldest, *_] = sorted(latest.parent.glob("cp_*.json"))
    latest.unlink()
    latest.symlink_to(oldest.name)

    outcome = tool("verify", store)

    assert outcome.status == 0
    assert "leftover: " in outcome.output
    assert "stale-pointer: " in outcome.output
    assert "2 sessions, 4 checkpoints, no damage, 2 findings\n" in outcome.output


def test_what_is_missing_is_not_called_intact(tool: Tool, store: Path) -> None:
    """A `latest.json` whose file is gone is told with its reasons, and nothing is called intact."""
    newest_file(store).unlink()

    outcome = tool("verify", store)

    assert outcome.status == 0
    assert "dangling-pointer: " in outcome.output
    assert "2 sessions, 3 checkpoints, no damage, 1 finding\n" in outcome.output
    assert "intact" not in outcome.output


def test_a_directory_whose_name_is_no_text(tool: Tool, tmp_path: Path) -> None:
    """What is wrong under a path that is not UTF-8 is printed, as JSON too."""
    root = tmp_path / os.fsdecode(b"st\xe4te")
    try:
        root.mkdir()
    except OSError:
        pytest.skip("names have to be UTF-8 here")
    [path] = saved(root, CheckpointData(session_id="s"))
    path.unlink()
    path.mkdir()
    assert r"st\udce4te" in tool("verify", root).output
    [finding] = tool("verify", root, "--json").json["findings"]
    assert (finding["kind"], finding["session_id"]) == ("unreadable", "s")
    assert path.name in finding["detail"]
    for verb in (("sessions", root), ("list", root, "s")):
        assert tool(*verb).status == tool(*verb, "--json").status == 1


def test_a_file_of_the_journal_is_not_called_damaged(tool: Tool, store: Path) -> None:
    """It is no checkpoint; the verify of the directory reads it."""
    for path in (store / ".aiocheckpoint").glob("log.*"):
        outcome = tool("verify", path)
        assert (outcome.status, outcome.output) == (2, "")
        assert f"`aiocheckpoint verify {store}` reads it, too" in outcome.errors
    assert path.exists()


def test_a_journal_that_is_locked(tool: Tool, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a process that is stopped the exit status is 2; it is 1 where damage was found."""

    def hasty(place: Place, max_bytes: int | None) -> AsyncCheckpointWriter[CheckpointRecord]:
        return open_writer(place.path or store, max_bytes, 0.1)

    monkeypatch.setattr("aiocheckpoint.cli.verify.open_store", hasty)
    with holding(store, "lock"):
        outcome, found = tool("verify", store), tool("verify", store, "--json")
        damaged(newest_file(store))
        worse = tool("verify", store)

    assert (outcome.status, found.status, worse.status) == (2, 2, 1)
    assert f"busy-journal: {store}/.aiocheckpoint/lock\n" in outcome.output
    assert outcome.output.endswith(f"{store}, not looked at in full\n")
    assert outcome.errors.startswith(f"aiocheckpoint: {store} could not be looked at in full")
    assert outcome.errors.count("\n") == 1
    assert (found.json["ok"], found.json["checkpoints"]) == (False, None)
    assert "busy-journal: " in worse.output
    assert worse.output.endswith(f"{store}, 1 not intact\n")
