"""What sessions promise beyond the framework's own tests, by its real agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands", reason="needs the extra strands: .ci/adapter strands")

from strands import Agent, tool
from strands.multiagent import GraphBuilder
from strands.types.exceptions import StorageError

from aiocheckpoint import CheckpointCorruptError, CheckpointError
from aiocheckpoint.adapters.strands import SessionConflictError, SessionManager, StoredValue
from aiocheckpoint.testing import MemoryStore
from tests.adapters.strands.shop import ScriptedModel, quiet_agent

pytestmark = pytest.mark.blocking  # to make an agent blocks, by the framework's own design

_made: list[SessionManager] = []


@pytest.fixture(name="storage", params=["directory", "memory"])
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    yield root if request.param == "directory" else MemoryStore(StoredValue)
    while _made:
        await _made.pop().aclose()


def sessions_of(storage: Any, session_id: str = "ann", **options: Any) -> SessionManager:
    """Return a manager that is closed after the test."""
    _made.append(SessionManager(session_id, storage, save_latest_on="message", **options))
    return _made[-1]


def agent_on(storage: Any, session_id: str = "ann", **options: Any) -> Agent:
    return quiet_agent(sessions_of(storage, session_id), ScriptedModel(), **options)


def texts(agent: Agent) -> list[str]:
    return [part["text"] for message in agent.messages for part in message["content"]]


class TestSessions:
    async def test_next_agent_goes_on(self, storage: Any) -> None:
        """Each next agent has all messages and the state of those before."""
        for number in range(5):
            agent = agent_on(storage)
            agent.state.set("turns", number)
            await agent.invoke_async(f"hello {number}")

        again = agent_on(storage)
        assert texts(again) == [
            text for number in range(5) for text in (f"hello {number}", "Done.")
        ]
        assert again.state.get("turns") == 4

    async def test_large_tool_result(self, storage: Any) -> None:
        """A tool result of 4 MB is there for the next agent."""

        @tool
        def read() -> str:
            """Read."""
            return "word " * 800_000

        model = ScriptedModel(("read", {}))
        await quiet_agent(sessions_of(storage), model, tools=[read]).invoke_async("read it")

        found = [part for message in agent_on(storage).messages for part in message["content"]]
        (result,) = [part["toolResult"] for part in found if "toolResult" in part]
        assert result["content"] == [{"text": "word " * 800_000}]

    async def test_branch(self, storage: Any) -> None:
        """An agent goes back to a snapshot, and on from there; the snapshot stays."""
        sessions = sessions_of(storage)
        agent = quiet_agent(sessions, ScriptedModel())
        await agent.invoke_async("one")
        snapshot_id = await sessions.save_snapshot(agent, is_latest=False)
        await agent.invoke_async("two")

        assert await sessions.restore_snapshot(agent, snapshot_id=snapshot_id)
        await agent.invoke_async("three")

        assert texts(agent_on(storage)) == ["one", "Done.", "three", "Done."]
        assert await sessions.list_snapshot_ids(agent) == [snapshot_id]

    async def test_graph_goes_on_where_it_was(self, storage: Any) -> None:
        """A graph whose node fails goes on with that node, and does not repeat the one before."""
        ran: list[str] = []

        def graph(model: Any) -> Any:
            builder = GraphBuilder()
            builder.add_node(Agent(model=_Told(ran, "one"), callback_handler=None), "one")
            builder.add_node(Agent(model=model, callback_handler=None), "two")
            builder.add_edge("one", "two")
            builder.set_max_node_executions(9)
            builder.set_session_manager(sessions_of(storage))
            return builder.build()

        with pytest.raises(RuntimeError, match="no model today"):
            await graph(_Failing()).invoke_async("go")
        await graph(_Told(ran, "two")).invoke_async("go")

        assert ran == ["one", "two"]

    async def test_deleted_session_is_new(self, storage: Any) -> None:
        """After a delete nothing is left of a session, and its agent may write anew."""
        sessions = sessions_of(storage)
        agent = quiet_agent(sessions, ScriptedModel())
        await agent.invoke_async("one")

        await sessions.delete_session()

        assert agent_on(storage).messages == []
        await agent.invoke_async("two")
        assert texts(agent_on(storage))[-2:] == ["two", "Done."]


class _Told(ScriptedModel):
    def __init__(self, ran: list[str], name: str) -> None:
        super().__init__()
        self._ran = ran
        self._name = name

    async def stream(self, messages: Any, *args: Any, **options: Any) -> Any:
        self._ran.append(self._name)
        async for event in super().stream(messages):
            yield event


class _Failing(ScriptedModel):
    def stream(self, messages: Any, *args: Any, **options: Any) -> Any:
        raise RuntimeError("no model today")


class TestTwoAgents:
    async def test_later_one_is_told(self, storage: Any) -> None:
        """Of two agents on one session the one that has not read what the other wrote is told."""
        one, two = agent_on(storage), agent_on(storage)
        await one.invoke_async("from one")

        with pytest.raises(SessionConflictError, match="another agent") as raised:
            await two.invoke_async("from two")

        assert isinstance(raised.value, StorageError)
        assert isinstance(raised.value, CheckpointError)
        assert texts(agent_on(storage)) == ["from one", "Done."]
        await one.invoke_async("again")
        assert texts(agent_on(storage)) == ["from one", "Done.", "again", "Done."]

    async def test_told_one_goes_on_after_reading(self, storage: Any) -> None:
        """By reading what is there, the one that was told goes on."""
        one, sessions = agent_on(storage), sessions_of(storage)
        two = quiet_agent(sessions, ScriptedModel())
        await one.invoke_async("from one")
        with pytest.raises(SessionConflictError):
            await two.invoke_async("from two")

        await sessions.restore_snapshot(two)
        await two.invoke_async("from two")

        assert texts(agent_on(storage)) == ["from one", "Done.", "from two", "Done."]

    async def test_at_once(self, storage: Any) -> None:
        """Of agents that run on one session at once one goes through, and no message is mixed."""
        agents = [agent_on(storage) for _ in range(6)]

        ended = await asyncio.gather(
            *(agent.invoke_async(f"from {n}") for n, agent in enumerate(agents)),
            return_exceptions=True,
        )

        whole = [n for n, result in enumerate(ended) if not isinstance(result, BaseException)]
        assert len(whole) == 1
        assert all(isinstance(ended[n], SessionConflictError) for n in range(6) if n not in whole)
        assert texts(agent_on(storage)) == [f"from {whole[0]}", "Done."]

    async def test_sessions_at_once(self, storage: Any) -> None:
        """Agents on sessions of their own do not see one another."""
        agents = {f"s{n}": agent_on(storage, f"s{n}") for n in range(12)}
        for turn in range(3):
            await asyncio.gather(
                *(agent.invoke_async(f"{name} {turn}") for name, agent in agents.items())
            )

        for name in agents:
            assert texts(agent_on(storage, name))[::2] == [f"{name} {turn}" for turn in range(3)]

    async def test_session_that_others_deleted_is_told(self, storage: Any) -> None:
        """An agent whose session was deleted does not bring it back in silence."""
        agent = agent_on(storage)
        await agent.invoke_async("one")
        await sessions_of(storage).delete_session()

        with pytest.raises(SessionConflictError):
            await agent.invoke_async("two")
        assert agent_on(storage).messages == []


async def test_cancelled_turn_leaves_a_whole_session(storage: Any) -> None:
    """Wherever a turn is cancelled, the next agent has messages of it in order, none torn."""
    for suspensions in range(0, 60, 7):
        name = f"s{suspensions}"
        task = asyncio.ensure_future(agent_on(storage, name).invoke_async("hello"))
        for _ in range(suspensions):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        again = agent_on(storage, name)
        assert texts(again) in ([], ["hello"], ["hello", "Done."])
        await again.invoke_async("more")
        assert texts(agent_on(storage, name))[-2:] == ["more", "Done."]


class TestLoop:
    @pytest.mark.blocking
    async def test_a_turn_blocks_no_loop(self, root: Path) -> None:
        """A turn does no I/O on its loop, and what it acknowledged is synced by then."""
        agent = await asyncio.to_thread(agent_on, root)
        await agent.invoke_async("first")  # the framework reads files of its own at first
        from tests.conftest import guarded

        guard = guarded()
        next(guard)
        try:
            await agent.invoke_async("second")
        finally:
            next(guard, None)
        assert len(texts(agent)) == 4
        while _made:
            await _made.pop().aclose()


@pytest.mark.damages_store
async def test_damaged_session_is_not_taken_for_a_new_one(root: Path) -> None:
    """Whichever file is damaged, the next agent is refused by name, or has all messages."""
    async with SessionManager("ann", root) as sessions:
        agent = quiet_agent(sessions, ScriptedModel(answer="word " * 4_000))
        for number in range(4):
            await agent.invoke_async(f"hello {number}")
    whole, raised = texts(agent), 0
    for path in sorted(root.rglob("*")):
        inside = path.is_file() and not path.is_symlink() and ".aiocheckpoint" not in path.parts
        if not inside or path.suffix == ".backup":
            continue
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        async with SessionManager("ann", root) as sessions:
            try:
                assert texts(quiet_agent(sessions, ScriptedModel())) == whole
            except CheckpointCorruptError:
                raised += 1
        path.write_bytes(content)
    assert raised > 2


@pytest.mark.damages_store
async def test_damaged_session_can_be_deleted(root: Path) -> None:
    """The framework's own call lets go of a session that cannot be read, and it begins anew."""
    async with SessionManager("ann", root) as sessions, SessionManager("bob", root) as others:
        await quiet_agent(sessions, ScriptedModel()).invoke_async("hello")
        other = quiet_agent(others, ScriptedModel())
        await other.invoke_async("hello")
    whole = texts(other)
    path = next(it for it in root.rglob("cp_*latest*.json") if "ann" in str(it))
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])

    async with SessionManager("ann", root) as sessions:
        with pytest.raises(CheckpointCorruptError, match="remove it by `SessionManager"):
            quiet_agent(sessions, ScriptedModel())
        await sessions.delete_session()
        agent = quiet_agent(sessions, ScriptedModel())
        assert texts(agent) == []
        await agent.invoke_async("anew")
    async with SessionManager("ann", root) as sessions, SessionManager("bob", root) as others:
        assert texts(quiet_agent(sessions, ScriptedModel())) == texts(agent) != []
        assert texts(quiet_agent(others, ScriptedModel())) == whole
