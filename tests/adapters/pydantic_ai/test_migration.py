"""Moving conversations here from another store of the framework's kind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from pydantic_ai import Conversation, ModelRequest, ToolReturnPart
from pydantic_ai.conversation_store import InMemoryConversationStore

from aiocheckpoint.adapters.pydantic_ai import (
    ConversationStore,
    ConversationStoreRecord,
    Copied,
    CopyMismatchError,
    copy_conversations,
)
from aiocheckpoint.adapters.pydantic_ai.__main__ import main
from aiocheckpoint.testing import MemoryStore
from tests.adapters.damages import Place, fields
from tests.adapters.moving import MoverContract
from tests.adapters.pydantic_ai.talk import messages, saved

pytestmark = pytest.mark.blocking


@pytest.fixture(name="source")
async def _source() -> InMemoryConversationStore:
    source = InMemoryConversationStore()
    conversation = await saved(source, "c", range(6), scope="ann")
    fork = await source.fork("c", at=4, new_conversation_id="f")
    await source.fork("f", at=2, new_conversation_id="g")
    fork.messages += messages([20])
    await source.save(fork)
    branched = await source.branch("c", at=1, expected_revision=conversation.revision)
    branched.messages += messages([11])
    await source.save(branched)
    await saved(source, "gone", range(3))
    await source.fork("gone", new_conversation_id="orphan")
    await source.delete("gone")
    return source


async def test_all_conversations_come_and_may_come_again(source: InMemoryConversationStore) -> None:
    """All of them are there, with branches and forks; a second copy changes nothing."""
    checkpoints: MemoryStore[Any] = MemoryStore(ConversationStoreRecord)
    told: list[Copied] = []

    assert await copy_conversations(source, checkpoints, progress=told.append) == Copied(4, 11)
    assert await copy_conversations(source, checkpoints) == Copied(4, 11)

    assert [copied.sessions for copied in told] == [1, 2, 3, 4]
    target = ConversationStore(checkpoints)
    assert await target.read_records() == await source.read_records()
    for record in await source.read_records():
        name = record.conversation_id
        assert await target.load_entries(name) == await source.load_entries(name)
    assert sum([1 async for _ in checkpoints.sessions()]) == 4
    await target.delete("c")
    assert len((await target.load_entries("f")) or []) == 5


async def test_nothing_there_is_replaced(source: InMemoryConversationStore) -> None:
    """Another conversation of that name is refused by it, and stays."""
    checkpoints: MemoryStore[Any] = MemoryStore(ConversationStoreRecord)
    target = ConversationStore(checkpoints)
    mine = await saved(target, "f", [40])

    with pytest.raises(CopyMismatchError, match="'f'"):
        await copy_conversations(source, checkpoints)

    found = await target.load("f")
    assert found is not None
    assert found.messages == mine.messages


@pytest.mark.damages_store
async def test_damaged_one_is_named_and_stops_no_other(root: Path) -> None:
    """Of a source that lists what it cannot read, that is refused by name, and all else copied."""
    async with ConversationStore(root) as source:
        for name in "abc":
            await saved(source, name, range(3))
    (path,) = (root / "pydantic_ai.b").glob("checkpoints/cp_*.json")
    path.write_bytes(path.read_bytes().replace(b'"usage"', b'"usbge"'))
    checkpoints: MemoryStore[Any] = MemoryStore(ConversationStoreRecord)

    async with ConversationStore(root) as source:
        with pytest.raises(CopyMismatchError, match=r"'b': .*is damaged") as raised:
            await copy_conversations(source, checkpoints)

    assert raised.value.copied == Copied(2, 6)
    target = ConversationStore(checkpoints)
    assert sorted(it.conversation_id for it in await target.read_records()) == ["a", "c"]


def test_command(
    source: InMemoryConversationStore,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command copies a store of a module; what is none is told with what is wrong."""
    module: Any = ModuleType("shop_stores")
    module.conversations = source
    monkeypatch.setitem(sys.modules, "shop_stores", module)

    main(["shop_stores:conversations", str(root)])

    assert capsys.readouterr().out == "4 conversations, 11 entries copied and compared\n"
    for name in ("shop_stores:nothing", "no_such_module:x", "sys:path", "", ":"):
        with pytest.raises(SystemExit) as caught:
            main([name, str(root)])
        assert caught.value.code == 2
        assert "is no store in a module" in capsys.readouterr().err


class TestMover(MoverContract):
    record_type = ConversationStoreRecord
    main = main
    refused = "f"
    unit = "conversation"
    shares = True
    units: ClassVar = dict.fromkeys(("c", "f", "g", "orphan"), 1)

    def places(self, source: Any) -> Iterator[Place]:
        record = source._records["c"]
        yield from fields(record, "c")
        yield from fields(source._entries[record.head_id], "c")

    async def copy(self, source: Any, storage: Any) -> Copied:
        return await copy_conversations(source, storage)

    async def add_nan(self, source: Any) -> None:
        part = ToolReturnPart("rate", {"score": float("nan")}, tool_call_id="c")
        await source.save(Conversation(conversation_id="nan", messages=[ModelRequest([part])]))

    async def go_on(self, storage: Any) -> None:
        await saved(ConversationStore(storage), "f", [40])

    def arguments(self, source: Any) -> list[str]:
        module: Any = ModuleType("moved_stores")
        module.conversations = source
        sys.modules["moved_stores"] = module
        return ["moved_stores:conversations"]
