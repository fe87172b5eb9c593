"""Sessions of processes that are killed, or wait for a human over a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents", reason="needs the extra openai-agents: .ci/adapter openai-agents")

from aiocheckpoint.adapters.openai_agents import Session
from tests.adapters.openai_agents.adding import batch
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of, started

SHOP = "tests.adapters.openai_agents.shop"
ADDING = "tests.adapters.openai_agents.adding"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def items_of(session_id: str, root: Path) -> list[Any]:
    async def read() -> list[Any]:
        async with Session(session_id, root) as session:
            return await session.get_items()

    return asyncio.run(read())


class TestKill:
    @pytest.mark.parametrize("acknowledged", [1, 16, 33])
    def test_batches_of_killed_processes_are_whole(self, root: Path, acknowledged: int) -> None:
        """Each batch is there as a whole; what was acknowledged is there, at most one more."""
        with started(ADDING, root, "beside") as beside:
            assert beside.stdout is not None
            beside.stdout.readline()
            lines = killed_after(str(acknowledged), ADDING, root, "killed")
            beside.kill()
            last_beside = [*beside.stdout][-1:]

        items = items_of("shared", root)

        batches = [items[start : start + 5] for start in range(0, len(items), 5)]
        for name, least in (("killed", int(lines[-1])), ("beside", int((last_beside or ["0"])[0]))):
            own = [found for found in batches if found[0]["content"].startswith(name)]
            assert own == [batch(name, number) for number in range(len(own))]
            assert len(own) >= least + 1

    @pytest.mark.parametrize("line", ["model reads 1", "model reads 3", "waiting"])
    def test_run_goes_on_in_a_new_process(self, root: Path, tmp_path: Path, line: str) -> None:
        """A run that was killed amid a turn goes on; no tool that was answered runs twice."""
        log = tmp_path / "log"
        killed_at(line, SHOP, root, log)

        assert lines_of(SHOP, root, log)[-1] == "waiting"
        approved = lines_of(SHOP, root, log, "approve")

        assert approved[-1] == "Your 40 euros are on their way."
        assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
        items = items_of("ann", root)
        assert [item["role"] for item in items if "role" in item] == ["user", "assistant"]
        large = next(item for item in items if item.get("type") == "function_call_output")
        assert len(json.dumps(large)) > 100_000

    def test_approval_waits_over_restarts(self, root: Path, tmp_path: Path) -> None:
        """A run that waits for an approval is there after restarts, and forgotten when it ended."""
        log = tmp_path / "log"

        assert lines_of(SHOP, root, log)[-1] == "waiting"
        assert lines_of(SHOP, root, log) == ["waiting"]
        assert lines_of(SHOP, root, log, "approve")[-1] == "Your 40 euros are on their way."
        assert log.read_text().splitlines() == ["look_up 7", "refund 40"]

        async def kept() -> object:
            async with Session("ann", root) as session:
                return await session.delete_run()

        assert asyncio.run(kept()) is False
