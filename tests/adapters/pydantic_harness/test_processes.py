"""Runs of processes that are killed, or wait for a human over a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from aiocheckpoint.adapters.pydantic_harness import StepStore
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of, started
from tests.adapters.pydantic_harness.steps import snapshot

SHOP = "tests.adapters.pydantic_harness.shop"
STEPPING = "tests.adapters.pydantic_harness.stepping"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


async def _read(root: Path) -> tuple[list[Any], ...]:
    async with StepStore(root, max_snapshots_per_run=2) as store:
        return (
            await store.list_events(run_id="r"),
            await store.list_unresolved_tool_effects(run_id="r"),
            await store.list_snapshots(run_id="r"),
        )


async def _save_again(root: Path, keys: list[str]) -> None:
    async with StepStore(root, max_snapshots_per_run=2) as store:
        for key in keys:
            await store.save_snapshot(snapshot(99, idempotency_key=key))


class TestKill:
    @pytest.mark.parametrize("acknowledged", [1, 20])
    def test_steps_of_killed_processes_are_there(self, root: Path, acknowledged: int) -> None:
        """What was acknowledged is there, without gaps; the bound holds, and keys are known."""
        with started(STEPPING, root, "beside") as beside:
            assert beside.stdout is not None
            beside.stdout.readline()
            lines = killed_after(str(acknowledged), STEPPING, root, "killed")
            beside.kill()
            last_beside = [*beside.stdout][-1:]

        events, effects, snapshots = asyncio.run(_read(root))

        assert len(snapshots) == 2
        for name, least in (("killed", int(lines[-1])), ("beside", int((last_beside or ["0"])[0]))):
            steps = [found.step_index for found in events if found.agent_name == name]
            assert steps == [*range(len(steps))]
            assert len(steps) >= least + 1
            calls = {found.tool_call_id for found in effects}
            assert {f"{name} {number}" for number in range(least + 1)} <= calls
            asyncio.run(_save_again(root, [f"{name} {number}" for number in range(least + 1)]))
        assert asyncio.run(_read(root))[2] == snapshots

    @pytest.mark.parametrize("line", ["model reads 1", "model reads 3", "waiting"])
    def test_run_goes_on_in_a_new_process(self, root: Path, tmp_path: Path, line: str) -> None:
        """A run that was killed amid a turn goes on; no tool that was answered runs twice."""
        log = tmp_path / "log"
        killed_at(line, SHOP, root, log)

        goes_on = lines_of(SHOP, root, log)
        approved = lines_of(SHOP, root, log, "approve")

        assert goes_on[-1] == "waiting"
        assert approved[-1] == "Your 40 euros are on their way."
        assert not any(found.startswith("unknown") for found in [*goes_on, *approved])
        assert log.read_text().splitlines() == ["look_up 7", "refund 40"]

    def test_tool_in_flight_is_unknown(self, root: Path, tmp_path: Path) -> None:
        """A tool that was going on when its process died is told, and only that one."""
        log = tmp_path / "log"
        line = "look_up is going on"
        killed_at(line, SHOP, root, log)

        goes_on = lines_of(SHOP, root, log)

        assert [found for found in goes_on if found.startswith("unknown")] == ["unknown: look_up"]
        assert goes_on[-1] == "waiting"
        assert log.read_text().splitlines() == ["look_up 7", "look_up 7"]

    def test_approval_waits_over_restarts(self, root: Path, tmp_path: Path) -> None:
        """A run that waits for an approval is there after restarts."""
        log = tmp_path / "log"

        assert lines_of(SHOP, root, log)[-1] == "waiting"
        assert lines_of(SHOP, root, log) == ["waiting"]
        assert lines_of(SHOP, root, log, "approve")[-1] == "Your 40 euros are on their way."
        assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
