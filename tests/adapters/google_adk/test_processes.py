"""Sessions of processes that are killed, or wait for a human over a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

pytest.importorskip("google.adk", reason="needs the extra google-adk: .ci/adapter google-adk")

from google.adk.sessions import Session

from aiocheckpoint.adapters.google_adk import SessionService
from tests.adapters.google_adk.adding import SHARED
from tests.adapters.google_adk.shop import ORDER, asked
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of, started

SHOP = "tests.adapters.google_adk.shop"
ADDING = "tests.adapters.google_adk.adding"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def stored(root: Path, **place: str) -> Session:
    """Return a session as it is stored."""

    async def read() -> Session | None:
        async with SessionService(root) as service:
            return await service.get_session(
                app_name=place["app_name"], user_id=place["user_id"], session_id=place["session_id"]
            )

    found = asyncio.run(read())
    assert found is not None
    return found


@pytest.mark.parametrize("acknowledged", [3, 40])
def test_events_of_racing_and_killed_processes(root: Path, acknowledged: int) -> None:
    """Each acknowledged event is there once, and counted once in each state; at most one more."""

    async def create() -> None:
        async with SessionService(root) as service:
            await service.create_session(**SHARED)

    asyncio.run(create())
    with started(ADDING, root, "beside") as beside:
        assert beside.stdout is not None
        first = beside.stdout.readline()
        lines = killed_after(str(acknowledged), ADDING, root, "killed")
        beside.kill()
        last_beside = [first, *beside.stdout][-1]

    session = stored(root, **SHARED)

    for name, least in (("killed", int(lines[-1])), ("beside", int(last_beside))):
        own = [event.invocation_id for event in session.events if event.author == name]
        assert own == [str(number) for number in range(len(own))]
        assert least + 1 <= len(own) <= least + 2
    count = len(session.events)
    assert session.state == {"count": count, "user:count": count, "app:count": count}


@pytest.mark.parametrize("line", ["model reads 1", "event", "model reads 3", "waiting"])
def test_run_goes_on_in_a_new_process(root: Path, tmp_path: Path, line: str) -> None:
    """A run that was killed amid a turn goes on; no tool that was answered runs twice."""
    log = tmp_path / "log"
    killed_at(line, SHOP, root, log)

    assert lines_of(SHOP, root, log)[-1] == "waiting"
    confirmed = lines_of(SHOP, root, log, "confirm")

    assert confirmed[-1] == "Your 40 euros are on their way."
    assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
    session = stored(root, **ORDER)
    assert session.state == {"app:looked_up": 1, "user:order": 7}
    assert len(json.dumps(session.model_dump(mode="json"))) > 100_000


def test_confirmation_waits_over_restarts(root: Path, tmp_path: Path) -> None:
    """What waits for a human is there after restarts, and no more once it was answered."""
    log = tmp_path / "log"

    assert lines_of(SHOP, root, log)[-1] == "waiting"
    assert lines_of(SHOP, root, log) == ["waiting"]
    assert asked(stored(root, **ORDER)) is not None
    assert lines_of(SHOP, root, log, "confirm")[-1] == "Your 40 euros are on their way."

    assert asked(stored(root, **ORDER)) is None
    assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
