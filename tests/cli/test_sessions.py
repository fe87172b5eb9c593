"""`aiocheckpoint sessions`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData, StoreUnavailableError
from tests.cli.conftest import Tool, saved, tree


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


def test_an_emptied_store_has_none(tool: Tool, root: Path) -> None:
    """A store whose sessions were all removed is said to have none."""
    saved(root, CheckpointData(session_id="s"))
    shutil.rmtree(root / "s")

    outcome = tool("sessions", root)

    assert outcome.status == 0
    assert "no sessions" in outcome.output
    assert tool("sessions", root, "--json").json == []


@pytest.mark.parametrize("verb", ["sessions", "flush", "verify"])
@pytest.mark.parametrize("where", ["..", "support-42", "support-42/checkpoints"])
def test_a_directory_that_is_no_store_is_an_error(
    tool: Tool, store: Path, verb: str, where: str
) -> None:
    """One above or below the store gives one line, exit status 2, and nothing new in it."""
    before = tree(store)

    outcome = tool(verb, store / where)

    assert (outcome.status, outcome.output, outcome.errors.count("\n")) == (2, "", 1)
    assert "give the directory that holds the sessions" in outcome.errors
    assert tree(store) == before


def test_a_session_with_nothing_readable_is_named_too(tool: Tool, root: Path) -> None:
    """A session whose files are all unreadable is not hidden."""
    [path] = saved(root, CheckpointData(session_id="s"))
    path.write_bytes(b"")

    outcome = tool("sessions", root, "--json")
    [found] = outcome.json
    assert (found["session_id"], found["checkpoints"], outcome.status) == ("s", 1, 1)
    assert path.name in found["problem"]
    outcome = tool("sessions", root)
    assert "s " in outcome.output
    assert path.name in outcome.errors


def test_what_cannot_be_looked_into_hides_no_other(tool: Tool, store: Path) -> None:
    """A session that cannot be listed, and a directory nobody may enter, are told at the end."""
    (store / "aside").symlink_to(store / "support-42")
    (store / "bad" / "checkpoints").mkdir(parents=True)
    (store / "bad" / "checkpoints" / "cp_20260101_000000_000001_x.json").mkdir()

    outcome = tool("sessions", store)

    assert outcome.status == tool("sessions", store, "--json").status == 1
    assert all(name in outcome.output for name in ("support-42", "a/b 客服", "bad"))
    assert "aside" in outcome.errors
    assert "x.json" in outcome.errors
    found = {finding["session_id"] for finding in tool("verify", store, "--json").json["findings"]}
    assert found == {"aside", "bad"}


def test_a_store_that_does_not_answer_is_not_called_empty(
    tool: Tool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody knows what there is, only the error is told."""
    (root / ".aiocheckpoint").mkdir(parents=True)

    async def refused(_: object, **options: str) -> AsyncIterator[str]:
        if not options:
            raise StoreUnavailableError("redis", "read", "no answer")
        yield ""

    monkeypatch.setattr(AsyncCheckpointWriter, "sessions", refused)

    outcome = tool("sessions", root)

    assert (outcome.output, outcome.status) == ("", 2)
    assert "no answer" in outcome.errors


def test_what_is_over_the_limit(tool: Tool, store: Path) -> None:
    """A checkpoint over the limit of size is named, with the way to see it."""
    outcome = tool("sessions", store, "--max-bytes", "400", "--json")
    assert outcome.status == 1
    newest = {one["session_id"]: one["newest"] for one in outcome.json}["support-42"]
    assert (newest["checkpoint_id"], newest["iteration"]) == ("step3", 3)
    assert "max_bytes" in newest["problem"]
    for verb in (("list", store, "support-42"), ("show", store, "support-42"), ("verify", store)):
        outcome = tool(*verb, "--max-bytes", "400")
        assert outcome.status in (1, 2)
        assert "raise --max-bytes" in outcome.errors + outcome.output
        assert tool(*verb, "--max-bytes", "100000").status == 0


def _long(store: Path) -> Path:
    [file] = saved(store, CheckpointData(session_id="x" * 300, resume_hint="y" * 3000))
    return file


def test_a_session_that_is_too_large_to_tell_its_id(tool: Tool, store: Path) -> None:
    """It has a row with its file in the place of the id, and the error says what to do."""
    file = _long(store)
    outcome = tool("sessions", store, "--max-bytes", "1000")
    assert outcome.status == 1
    assert "support-42" in outcome.output
    assert file.name in outcome.output
    assert f"{file} has " in outcome.errors
    assert "raise --max-bytes" in outcome.errors


def test_a_damaged_session_of_a_long_id(tool: Tool, store: Path) -> None:
    """Where the damage is not in the id, it is named as any other, and `recover` has it."""
    file = _long(store)
    file.write_bytes(file.read_bytes().replace(b"yyy", b"zzz"))
    assert "x" * 300 in tool("sessions", store).output
    outcome = tool("verify", store)
    assert outcome.status == 1
    assert f"`aiocheckpoint recover {store} {'x' * 300}`" in outcome.output
    assert tool("recover", store, "x" * 300).status == 1  # nothing intact is left
    assert tool("verify", store).status == 0


def test_a_session_whose_id_is_lost(tool: Tool, store: Path) -> None:
    """It has a row by its location, with its damage; `verify` names a command that works."""
    files = _long(store), *saved(store, CheckpointData(session_id="z" * 300))
    places = [str(file.parents[1]) for file in files]
    for file in files:
        file.write_bytes(b"\0" * 100)
    outcome = tool("sessions", store)
    assert outcome.status == 1
    assert all(place in outcome.output for place in ("support-42", *places))
    for place, file in zip(places, files, strict=True):
        assert f"aiocheckpoint: {place}: nobody can tell the id" in outcome.errors
        assert str(file) in outcome.errors
    assert "session_id" not in outcome.errors
    outcome = tool("sessions", store, "--json")
    assert outcome.status == 1
    rows = [row for row in outcome.json if row["session_id"] is None]
    assert sorted(row["location"] for row in rows) == sorted(places)
    assert all(row["checkpoints"] is None and "cp_" in row["problem"] for row in rows)
    told = tool("verify", store)
    assert told.status == 1
    assert f"`aiocheckpoint recover {store} SESSION`" in told.output
    commands = re.findall(r"`(mv .*?)`", told.output)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(["bash", "-c", command], check=True)
    assert tool("verify", store).status == tool("sessions", store).status == 0
    assert len([*store.parent.glob(f"{store.name}-~sha256-*/checkpoints/cp_*.json")]) == 2
