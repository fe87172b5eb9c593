"""Messages of sessions of agents, over restarts, retries and racing writers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import Agent, BaseChatClient, ChatResponse, Content, Message

from aiocheckpoint import InvalidIdError, open_store
from aiocheckpoint.adapters.agent_framework import (
    CheckpointStorage,
    HistoryProvider,
    StoredCheckpoint,
    StoredMessages,
)
from aiocheckpoint.testing import MemoryStore
from tests.adapters.case import OddCall
from tests.adapters.contract import AdapterContract


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def _saying(text: Any) -> Message:
    message = Message("user", [""])
    message.contents[0].text = text
    return message


class TestContract(AdapterContract):
    record_type = StoredMessages
    allows_retention = True

    def opened(self, storage: Any) -> HistoryProvider:
        return HistoryProvider(storage)

    def stored_as(self, odd: Any) -> list[Any]:
        """Return what the framework itself gives back: it leaves out what is no JSON."""
        found: Any = Message.from_dict(_saying(odd).to_dict())
        return [found.contents[0].text]

    def odd_calls(self, adapter: Any, session: str) -> Iterator[OddCall]:
        odd: Any
        for odd in (None, 5, "text", [5], {"a": 1}, Message("user", ["text"])):
            yield partial(adapter.save_messages, session, odd)

    async def give_up(self, root: Path, session: str) -> None:
        async with open_store(root) as store:
            await store.delete_session(f"agent_framework_history.{session}")

    async def add(self, adapter: HistoryProvider, session: str, text: str) -> None:
        await adapter.save_messages(session, [_saying(text)])

    async def texts(self, adapter: HistoryProvider, session: str) -> list[str]:
        found: Any = await adapter.get_messages(session)
        return [message.contents[0].text for message in found]


class Client(BaseChatClient[Any]):
    """Says how many messages it was given."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], **_more: Any
    ) -> Awaitable[ChatResponse[Any]]:
        async def answer() -> ChatResponse[Any]:
            return ChatResponse(messages=[Message("assistant", [f"{len(messages)} messages"])])

        return answer()


@pytest.fixture(name="history")
async def _history() -> AsyncIterator[HistoryProvider]:
    store: MemoryStore[Any] = MemoryStore(StoredMessages)
    async with HistoryProvider(store) as history:
        yield history


async def test_an_agent_goes_on_where_it_was(root: Path) -> None:
    """Each turn reads all turns before it, by whatever agent and session object they were made."""
    for turn in range(3):
        async with HistoryProvider(root) as history:
            agent = Agent(client=Client(), context_providers=[history])
            session = agent.create_session(session_id="ann")
            answer = await agent.run(f"question {turn}", session=session)
            assert answer.text == f"{2 * turn + 1} messages"


async def test_contents_of_every_kind_come_back(history: HistoryProvider) -> None:
    """Calls, results and integers beyond 64 bits are as they were."""
    call = Content.from_function_call("call", "refund", arguments={"euros": 40})
    result = Content.from_function_result("call", result="x" * 300_000)
    properties = {"number": 10**20, "text": "\ud800"}
    messages = [
        Message("assistant", [call], message_id="m1"),
        Message("tool", [result]),
        Message("user", ["thanks"], additional_properties=properties),
    ]
    await history.save_messages("s", messages)

    found = await history.get_messages("s")
    assert [message.to_dict() for message in found] == [it.to_dict() for it in messages]
    assert found[2].additional_properties == properties


async def test_what_is_saved_again_is_there_once(history: HistoryProvider) -> None:
    """A call that is repeated adds nothing; a whole conversation adds what is new in it."""
    turn = [Message("user", ["hi"]), Message("assistant", ["hello"])]
    await history.save_messages("s", turn)
    await history.save_messages("s", turn)
    await history.save_messages("s", [*turn, Message("user", ["bye"])])
    await history.save_messages("s", [])

    assert texts(await history.get_messages("s")) == ["hi", "hello", "bye"]


async def test_of_racing_writers_none_is_lost(root: Path) -> None:
    """Providers that add at once add all that they were given, each turn in one piece."""
    providers = [HistoryProvider(root) for _ in range(4)]

    async def add(writer: int, turn: int) -> None:
        pair = [Message("user", [f"{writer} {turn}"]), Message("assistant", [f"{writer} {turn}"])]
        await providers[writer].save_messages("s", pair)

    await asyncio.gather(*(add(writer, turn) for turn in range(5) for writer in range(4)))
    found = texts(await providers[0].get_messages("s"))
    assert found[::2] == found[1::2]
    assert sorted(found[::2]) == [f"{writer} {turn}" for writer in range(4) for turn in range(5)]
    for provider in providers:
        await provider.aclose()


async def test_excluded_messages_may_be_left_out() -> None:
    """What compaction has excluded stays stored."""
    store: MemoryStore[Any] = MemoryStore(StoredMessages)
    messages = [
        Message("user", ["old"], additional_properties={"_excluded": True}),
        Message("user", ["new"]),
    ]
    await HistoryProvider(store).save_messages("s", messages)

    assert texts(await HistoryProvider(store, skip_excluded=True).get_messages("s")) == ["new"]
    assert texts(await HistoryProvider(store).get_messages("s")) == ["old", "new"]


async def test_a_session_without_a_name_is_refused(history: HistoryProvider) -> None:
    """Callers that name none do not share one conversation, as in `FileHistoryProvider`."""
    with pytest.raises(InvalidIdError, match="create_session"):
        await history.get_messages(None)
    with pytest.raises(InvalidIdError, match="create_session"):
        await history.save_messages(None, [Message("user", ["hi"])])


async def test_shares_a_storage_with_checkpoints() -> None:
    """A workflow and a session of one name do not meet."""
    store: MemoryStore[Any] = MemoryStore(StoredCheckpoint | StoredMessages)
    await HistoryProvider(store).save_messages("order-7", [Message("user", ["hi"])])

    assert await CheckpointStorage(store).get_latest(workflow_name="order-7") is None
    assert not await CheckpointStorage(store).delete("messages")
    assert texts(await HistoryProvider(store).get_messages("order-7")) == ["hi"]


async def test_dicts_keep_the_order_of_their_keys(root: Path) -> None:
    """What a model is given after a restart is, to the letter, what it was given before."""
    arguments = {"zone": 1, "age": {"b": [{"y": 1, "x": 2}], "a": None}}
    message = Message("user", ["text"], additional_properties={"z": 1, "a": arguments})
    wanted = json.dumps(message.to_dict())
    async with HistoryProvider(root) as history:
        await history.save_messages("s", [message])
    async with HistoryProvider(root) as history:
        (found,) = await history.get_messages("s")
    assert json.dumps(found.to_dict()) == wanted
