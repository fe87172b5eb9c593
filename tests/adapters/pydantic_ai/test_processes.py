"""Conversations of processes that are killed, or wait for a human over a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from pydantic_ai import Conversation

from aiocheckpoint.adapters.pydantic_ai import ConversationStore
from tests.adapters.processes import TAKES_LONG, killed_after, killed_at, lines_of, started

SHOP = "tests.adapters.pydantic_ai.shop"
TALKING = "tests.adapters.pydantic_ai.talking"

pytestmark = [pytest.mark.blocking, TAKES_LONG]


def loaded(name: str, root: Path) -> Conversation:
    async def read() -> Conversation | None:
        async with ConversationStore(root) as store:
            return await store.load(name)

    found = asyncio.run(read())
    assert found is not None
    return found


def parts_of(conversation: Conversation) -> list[Any]:
    return [part for message in conversation.messages for part in message.parts]


class TestKill:
    @pytest.mark.parametrize("acknowledged", [1, 20])
    def test_turns_of_killed_processes_are_whole(self, root: Path, acknowledged: int) -> None:
        """Each turn is there as a whole, in order; what was acknowledged is there."""
        with started(TALKING, root, "beside") as beside:
            assert beside.stdout is not None
            beside.stdout.readline()
            lines = killed_after(str(acknowledged), TALKING, root, "killed")
            beside.kill()
            last_beside = [*beside.stdout][-1:]

        said = [part.content for part in parts_of(loaded("shared", root))]

        assert said[1::2] == [text.replace("asks", "answers") for text in said[::2]]
        for name, least in (("killed", int(lines[-1])), ("beside", int((last_beside or ["0"])[0]))):
            own = [text for text in said[::2] if text.startswith(name)]
            assert own == [f"{name} {number} asks" for number in range(len(own))]
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
        conversation = loaded("ann", root)
        kinds = ["user-prompt", "tool-call", "tool-return", "tool-call", "tool-return", "text"]
        assert [part.part_kind for part in parts_of(conversation)] == kinds
        assert len(parts_of(conversation)[2].content) > 100_000
        assert all(message.run_id and message.timestamp for message in conversation.messages)
        assert conversation.usage.tool_calls == 2

    def test_approval_waits_over_restarts(self, root: Path, tmp_path: Path) -> None:
        """What waits for an approval is in the store after restarts, and forgotten afterwards."""
        log = tmp_path / "log"

        assert lines_of(SHOP, root, log)[-1] == "waiting"
        waiting = loaded("ann", root).deferred_tool_requests
        assert waiting is not None
        assert [call.tool_call_id for call in waiting.approvals] == ["refund"]
        assert lines_of(SHOP, root, log) == ["waiting"]
        assert lines_of(SHOP, root, log, "approve")[-1] == "Your 40 euros are on their way."
        assert log.read_text().splitlines() == ["look_up 7", "refund 40"]
        assert loaded("ann", root).deferred_tool_requests is None
