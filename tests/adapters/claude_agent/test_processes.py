"""Sessions of processes that are killed, or wait for a human over a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

from aiocheckpoint.adapters.claude_agent import SessionStore
from tests.adapters.claude_agent.adding import KEY, batch
from tests.adapters.claude_agent.scripted import needs_program, parts_of
from tests.adapters.claude_agent.shop import key_in
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of, started

SHOP = "tests.adapters.claude_agent.shop"
ADDING = "tests.adapters.claude_agent.adding"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def loaded(key: Any, root: Path) -> list[Any]:
    async def load() -> Any:
        async with SessionStore(root) as store:
            return await store.load(key)

    return asyncio.run(load()) or []


@pytest.mark.parametrize("acknowledged", [1, 16, 60])
def test_appends_of_racing_and_killed_processes(root: Path, acknowledged: int) -> None:
    """Each acknowledged batch is there once and whole; at most one more of each process."""
    with started(ADDING, root, "beside") as beside:
        assert beside.stdout is not None
        first = beside.stdout.readline()
        lines = killed_after(str(acknowledged), ADDING, root, "killed")
        beside.kill()
        last_beside = [first, *beside.stdout][-1]

    entries = loaded(KEY, root)

    batches = [entries[start : start + 5] for start in range(0, len(entries), 5)]
    for name, least in (("killed", int(lines[-1])), ("beside", int(last_beside))):
        own = [found for found in batches if found[0]["text"].startswith(name)]
        assert own == [batch(name, number) for number in range(len(own))]
        assert least + 1 <= len(own) <= least + 2


@needs_program
@pytest.mark.parametrize("line", ["model reads 0", "looked up", "stored tool_result", "waiting"])
def test_run_goes_on_in_a_new_process(root: Path, tmp_path: Path, line: str) -> None:
    """A run that was killed amid a turn goes on; no tool runs twice, an unknown outcome is told."""
    log = tmp_path / "log"
    killed_at(line, SHOP, root, log)
    stored = {entry["uuid"] for entry in loaded(key_in(tmp_path), root) if "uuid" in entry}

    assert lines_of(SHOP, root, log)[-1] == "waiting"
    approved = lines_of(SHOP, root, log, "approve")

    assert approved[-1] == "Your 40 euros are on their way."
    transcript = loaded(key_in(tmp_path), root)
    assert stored <= {entry.get("uuid") for entry in transcript}
    assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
    messages = [entry["message"] for entry in transcript if entry["type"] == "user"]
    results = parts_of({"messages": messages}, "tool_result")
    assert len(results) == 2
    if line == "looked up":  # which its result, that nobody was told, does not say
        assert "its outcome is unknown" in results[0]["content"]
    else:
        assert len(json.dumps(results[0])) > 100_000


@needs_program
def test_approval_waits_over_restarts(root: Path, tmp_path: Path) -> None:
    """A call that waits for an approval is there after restarts, and no more once it was made."""
    log = tmp_path / "log"

    assert lines_of(SHOP, root, log)[-1] == "waiting"
    assert lines_of(SHOP, root, log) == ["waiting"]
    assert lines_of(SHOP, root, log, "approve")[-1] == "Your 40 euros are on their way."

    assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
    assert "waiting" not in lines_of(SHOP, root, log)
