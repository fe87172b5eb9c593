"""What the manager saves and restores without copying the messages is what the framework does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from strands import Agent, Snapshot
from strands.session import SnapshotSessionManager
from strands.storage import InMemoryStorage

from aiocheckpoint.adapters.strands import SessionManager, Storage, StoredValue
from aiocheckpoint.testing import MemoryStore
from tests.adapters.strands.shop import ScriptedModel

pytestmark = pytest.mark.blocking  # to make an agent blocks, by the framework's own design

_KEY = "session/ann/scopes/agent/a/snapshots/snapshot_latest.json"
_IMAGE = {"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}


class _Discreet(Agent):
    """An agent that stores no messages, and takes none."""

    def take_snapshot(self, **options: Any) -> Snapshot:
        snapshot = super().take_snapshot(**options)
        snapshot.data["messages"] = []
        return snapshot

    def load_snapshot(self, snapshot: Snapshot) -> None:
        super().load_snapshot(snapshot)
        self.messages = [_said("restored")]


def _said(text: str) -> Any:
    return {"role": "user", "content": [{"text": text}, _IMAGE]}


def _agent(agent_type: type[Agent] = Agent, **options: Any) -> Agent:
    return agent_type(
        ScriptedModel(), agent_id="a", callback_handler=None, system_prompt="Be kind.", **options
    )


def _without_time(document: bytes | None) -> list[tuple[str, Any]]:
    """Return what is in a snapshot, in its order."""
    assert document is not None
    return [(name, value) for name, value in json.loads(document).items() if name != "created_at"]


@pytest.mark.parametrize("agent_type", [Agent, _Discreet])
async def test_what_is_stored_is_what_the_framework_stores(agent_type: type[Agent]) -> None:
    """Of any agent, one with snapshots of its own included, the same is stored, in one order."""
    ours, theirs = MemoryStore(StoredValue), InMemoryStorage()
    agent = _agent(agent_type)
    agent.messages = [_said("hello"), _said("there")]
    agent.state.set("language", "French")

    await SessionManager("ann", ours).save_snapshot(agent, is_latest=True)
    await SnapshotSessionManager("ann", storage=theirs).save_snapshot(agent, is_latest=True)

    found, expected = await Storage(ours).read(_KEY), await theirs.read(_KEY)
    assert _without_time(found) == _without_time(expected)
    assert json.dumps(_without_time(found)) == json.dumps(_without_time(expected))


async def test_what_is_restored_is_what_was_saved() -> None:
    """Saving leaves an agent as it was, and who restores it has messages that are nobody else's."""
    sessions = SessionManager("ann", MemoryStore(StoredValue))
    agent, one, two = _agent(), _agent(), _agent()
    agent.messages = [_said("hello")]
    before = agent.messages

    await sessions.save_snapshot(agent, is_latest=True)
    assert await sessions.restore_snapshot(one)
    assert await sessions.restore_snapshot(two)
    one.messages[0]["content"].append({"text": "mine"})

    assert agent.messages is before
    assert before == two.messages == [_said("hello")]


async def test_snapshots_of_its_own_are_asked_for(root: Path) -> None:
    """An agent that loads snapshots in a way of its own does so when it is made, and later."""
    async with SessionManager("ann", root) as sessions:
        await sessions.save_snapshot(_agent(), is_latest=True)

        agent = _agent(_Discreet, session_manager=sessions)
        assert agent.messages == [_said("restored")]
        agent.messages = []
        await sessions.restore_snapshot(agent)
        assert agent.messages == [_said("restored")]


async def test_a_snapshot_that_is_refused_changes_no_messages() -> None:
    """An agent that cannot take what was stored has the messages that it had."""
    store = MemoryStore(StoredValue)
    storage, sessions = Storage(store), SessionManager("ann", store)
    agent = _agent()
    await sessions.save_snapshot(agent, is_latest=True)
    agent.messages = [_said("here")]
    whole = json.loads(await storage.read(_KEY) or b"")
    whole["data"]["conversation_manager_state"]["__name__"] = "Another"
    await storage.write(_KEY, json.dumps(whole).encode())

    with pytest.raises(ValueError, match="conversation manager"):
        await sessions.restore_snapshot(agent)
    assert agent.messages == [_said("here")]
