"""The framework's real runner on the store: runs at once, forks, cancellation, damage."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

from claude_agent_sdk import (
    ClaudeAgentOptions,
    MirrorErrorMessage,
    ResultMessage,
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
    query,
)

from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from aiocheckpoint.testing import MemoryStore
from tests.adapters.claude_agent.scripted import environment, needs_program, serve

pytestmark = [
    needs_program,
    pytest.mark.blocking,  # the framework makes directories and starts its program on the loop
]


async def at_once(conversation: Any) -> None:
    """Let the model answer at once."""


class Shop:
    """A directory to work in, a store, and runs of the real runner."""

    def __init__(self, directory: Path, storage: Any) -> None:
        self.directory = directory
        self.store = SessionStore(storage)
        self.asked: Callable[[Any], Awaitable[None]] = at_once

    def key(self, session_id: str) -> Any:
        return {
            "project_key": project_key_for_directory(self.directory),
            "session_id": session_id,
        }

    async def run(self, prompt: str, **options: Any) -> ResultMessage:
        """Run one turn to its end and return its result; each run as on a machine of its own."""
        local = self.directory / f"local-{uuid.uuid4()}"
        given = ClaudeAgentOptions(
            session_store=self.store,
            cwd=self.directory,
            tools=[],
            setting_sources=[],
            env=environment(await serve(self.asked), local),
            **options,
        )
        results = []
        async for message in query(prompt=prompt, options=given):
            assert not isinstance(message, MirrorErrorMessage), message
            if isinstance(message, ResultMessage):
                results.append(message)
        (result,) = results
        return result

    async def prompts(self, session_id: str) -> list[Any]:
        """Return what a session was asked, as the framework reads it from the store."""
        messages = await get_session_messages_from_store(
            self.store, session_id, directory=str(self.directory)
        )
        return [one.message["content"] for one in messages if one.type == "user"]


@pytest.fixture(name="shop", params=["directory", "memory"])
def _shop(tmp_path: Path, root: Path, request: pytest.FixtureRequest) -> Shop:
    directory = tmp_path / "work"
    directory.mkdir()
    return Shop(directory, root if request.param == "directory" else MemoryStore(ClaudeRecord))


async def test_turns_of_many_machines_are_one_conversation(shop: Shop) -> None:
    """A session goes on where it was, on a machine that has none of its files."""
    first = await shop.run("one")
    second = await shop.run("two", resume=first.session_id)
    third = await shop.run("three", continue_conversation=True)

    assert {first.session_id} == {second.session_id, third.session_id}
    assert third.result == "It is on its way, for turn 3."
    assert await shop.prompts(first.session_id) == ["one", "two", "three"]
    (listed,) = await list_sessions_from_store(shop.store, directory=str(shop.directory))
    assert (listed.session_id, listed.first_prompt) == (first.session_id, "one")
    await shop.store.aclose()


async def test_fork_leaves_its_source_as_it_is(shop: Shop) -> None:
    """A fork has the conversation so far, and its own from there."""
    first = await shop.run("one")
    source = await shop.store.load(shop.key(first.session_id))

    fork = await shop.run("two", resume=first.session_id, fork_session=True)

    assert fork.session_id != first.session_id
    assert fork.result == "It is on its way, for turn 2."
    assert await shop.store.load(shop.key(first.session_id)) == source
    await shop.store.delete(shop.key(first.session_id))
    assert await shop.prompts(fork.session_id) == ["one", "two"]
    await shop.store.aclose()


async def test_runs_at_once(shop: Shop) -> None:
    """Runs at once, two of them on one session, leave all that each was told is stored."""
    first = await shop.run("one")
    key = shop.key(first.session_id)
    before = await shop.store.load(key) or []

    others = await asyncio.gather(
        shop.run("two", resume=first.session_id),
        shop.run("three", resume=first.session_id),
        shop.run("of another session"),
    )

    after = await shop.store.load(key) or []
    assert after[: len(before)] == before
    uuids = [entry["uuid"] for entry in after if "uuid" in entry]
    assert len(uuids) == len({*uuids})
    asked = [entry["message"]["content"] for entry in after if entry["type"] == "user"]  # type: ignore[typeddict-item]
    assert sorted(asked) == ["one", "three", "two"]
    assert await shop.prompts(others[2].session_id) == ["of another session"]
    await shop.store.aclose()


async def test_cancelled_run_goes_on(shop: Shop) -> None:
    """A run that is cancelled while the model thinks leaves a session that goes on."""
    thinking, over = asyncio.Event(), asyncio.Event()

    async def never(conversation: Any) -> None:
        thinking.set()
        await over.wait()

    first = await shop.run("one")
    shop.asked = never
    run = asyncio.ensure_future(shop.run("two", resume=first.session_id))
    await thinking.wait()
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    over.set()

    shop.asked = at_once
    await shop.run("three", resume=first.session_id)

    prompts = await shop.prompts(first.session_id)
    assert (prompts[0], prompts[-1]) == ("one", "three")
    await shop.store.aclose()


@pytest.mark.damages_store
async def test_damaged_session_is_not_begun_anew(tmp_path: Path, root: Path) -> None:
    """A run on a session that is damaged fails by name, before the program is started."""
    shop = Shop(tmp_path, root)
    first = await shop.run("one")
    await shop.store.aclose()
    for path in root.rglob("*transcript*.json"):
        if not path.is_symlink():
            path.write_bytes(path.read_bytes().replace(b'"mtime": 1', b'"mtime": 2'))

    shop = Shop(tmp_path, root)
    for how in ({"resume": first.session_id}, {"continue_conversation": True}):
        with pytest.raises(RuntimeError, match="checksum"):
            await shop.run("two", **how)
    await shop.store.aclose()
