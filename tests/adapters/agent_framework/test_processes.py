"""Workflows of processes that are killed, or wait for a human over a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from aiocheckpoint.adapters.agent_framework import CheckpointStorage, StoredCheckpoint
from aiocheckpoint.testing import MemoryStore
from tests.adapters.agent_framework.adding import SHARED, texts
from tests.adapters.agent_framework.shop import NAME, shop
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of, started

SHOP = "tests.adapters.agent_framework.shop"
ADDING = "tests.adapters.agent_framework.adding"
DONE = "Your 40 euros are on their way."

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def stored(root: Path, name: str) -> list[Any]:
    """Return the checkpoints of a workflow."""

    async def read() -> list[Any]:
        async with CheckpointStorage(root) as storage:
            return await storage.list_checkpoints(workflow_name=name)

    return asyncio.run(read())


@pytest.mark.parametrize("acknowledged", [3, 80])
def test_checkpoints_of_racing_and_killed_processes(root: Path, acknowledged: int) -> None:
    """Each acknowledged checkpoint is there as it was saved, and at most one more of a process."""
    with started(ADDING, root, "beside") as beside:
        assert beside.stdout is not None
        first = beside.stdout.readline()
        lines = {"killed": killed_after(f"killed-{acknowledged}", ADDING, root, "killed")}
        beside.kill()
        lines["beside"] = [line.rstrip("\n") for line in (first, *beside.stdout)]

    found = stored(root, SHARED)

    for name in ("killed", "beside"):
        own = [it for it in found if it.checkpoint_id.startswith(name)]
        assert len(own) - len(lines[name]) in (0, 1)
        for count, each in enumerate(own, 1):
            assert each.checkpoint_id == f"{name}-{count}"
            assert each.state == {"texts": texts(name, count)}


@pytest.mark.parametrize("line", ["looking up", "model reads 2", "waiting"])
def test_run_goes_on_in_a_new_process(root: Path, tmp_path: Path, line: str) -> None:
    """A run that was killed amid a step goes on; no step that was acknowledged runs twice."""
    log = tmp_path / "log"
    killed_at(line, SHOP, root, log)

    assert lines_of(SHOP, root, log)[-1] == "waiting"
    approved = lines_of(SHOP, root, log, "approve")

    assert approved[-1] == DONE
    assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
    state = stored(root, NAME)[-1].state
    assert state["order"]["number"] == 10**20
    assert len(state["order"]["text"]) > 100_000


@pytest.mark.parametrize("line", ["refunding", "model reads 4"])
def test_approval_survives_a_kill(root: Path, tmp_path: Path, line: str) -> None:
    """An approval waits over restarts; once it was given, a killed run goes on without asking."""
    log = tmp_path / "log"
    assert lines_of(SHOP, root, log)[-1] == "waiting"
    assert lines_of(SHOP, root, log) == ["waiting"]
    killed_at(line, SHOP, root, log, "approve")

    assert lines_of(SHOP, root, log)[-1] == DONE

    refunds = 1 if line == "refunding" else 2  # the tool is a part of the step that was killed
    assert log.read_text().splitlines() == ["look_up 7", *["refund 40"] * refunds]
    assert stored(root, NAME)[-1].pending_request_info_events == {}


async def test_two_runs_at_once(tmp_path: Path) -> None:
    """Two runs on one storage, of one workflow or of two, do not meet."""
    storage = CheckpointStorage(MemoryStore[Any](StoredCheckpoint))
    names = ("one", "one", "two")
    logs = [tmp_path / f"{number}" for number in range(3)]
    runs = [shop(log, storage, name) for log, name in zip(logs, names, strict=True)]
    results = await asyncio.gather(*(run.run(f"run {n}") for n, run in enumerate(runs)))

    for number, (run, result) in enumerate(zip(runs, results, strict=True)):
        (request,) = result.get_request_info_events()
        answer = request.data.to_function_approval_response(approved=True)
        done = await run.run(responses={request.request_id: answer})
        assert [output.text for output in done.get_outputs()][-1] == DONE
        assert logs[number].read_text().splitlines() == ["look_up 7", "refund 40"]
    counts = [len(await storage.list_checkpoint_ids(workflow_name=n)) for n in ("one", "two")]
    assert counts[0] == 2 * counts[1]
    storage.require_saved()


async def test_cancelled_run_goes_on(tmp_path: Path) -> None:
    """A run that was cancelled amid a step goes on from its last checkpoint, in a new workflow."""
    storage = CheckpointStorage(MemoryStore[Any](StoredCheckpoint))
    log = tmp_path / "log"
    run = asyncio.ensure_future(shop(log, storage).run("My lamp arrived broken."))
    while len(await storage.list_checkpoint_ids(workflow_name=NAME)) < 2:
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    latest = await storage.get_latest(workflow_name=NAME)
    assert latest is not None
    result = await shop(log, storage).run(checkpoint_id=latest.checkpoint_id)

    assert result.get_request_info_events()
    assert log.read_text().splitlines() == ["look_up 7"]


async def test_run_forks(tmp_path: Path) -> None:
    """From one checkpoint two answers lead to two ends; the other one is not touched by either."""
    storage = CheckpointStorage(MemoryStore[Any](StoredCheckpoint))
    log = tmp_path / "log"
    first = await shop(log, storage).run("My lamp arrived broken.")
    (request,) = first.get_request_info_events()
    waiting = await storage.get_latest(workflow_name=NAME)
    assert waiting is not None

    ends = []
    for approved in (False, True):
        answer = request.data.to_function_approval_response(approved=approved)
        workflow = shop(log, storage)
        await workflow.run(
            checkpoint_id=waiting.checkpoint_id, responses={request.request_id: answer}
        )
        ends.append(await storage.get_latest(workflow_name=NAME))

    assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
    again = await storage.load(waiting.checkpoint_id)
    assert list(again.pending_request_info_events) == [request.request_id]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].checkpoint_id != ends[1].checkpoint_id
