"""Sessions of processes that are killed, or wait for a person over a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from aiocheckpoint.adapters.strands import SessionManager
from tests.adapters.processes import TAKES_LONG, killed_at, lines_of
from tests.adapters.strands.shop import ScriptedModel, quiet_agent

SHOP = "tests.adapters.strands.shop"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


@pytest.mark.parametrize("line", ["model reads 1", "looks up", "model reads 3"])
def test_run_goes_on_in_a_new_process(root: Path, tmp_path: Path, line: str) -> None:
    """A run that was killed amid a turn goes on; no tool that was answered runs twice."""
    log = tmp_path / "log"
    killed_at(line, SHOP, root, log)

    waiting, interrupt_id = lines_of(SHOP, root, log)[-1].split()
    assert waiting == "waiting"
    assert lines_of(SHOP, root, log, interrupt_id, "yes")[-1] == "40 euros are on their way."

    tools = log.read_text().splitlines()
    assert tools[-1] == "refund 40"
    # Of a tool that was killed nobody knows whether it ran: it runs again.
    assert tools[:-1] in (["look_up 7"], ["look_up 7"] * (2 if line == "looks up" else 1))
    sessions = SessionManager("ann", root)
    agent = quiet_agent(sessions, ScriptedModel())
    asyncio.run(sessions.aclose())
    kinds = [next(iter(message["content"][0])) for message in agent.messages]
    assert kinds == ["text", "toolUse", "toolResult", "toolUse", "toolResult", "text"]
    assert len(str(agent.messages[2])) > 100_000
