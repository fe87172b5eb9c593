"""What a conversation store promises beyond what the framework documents."""

from __future__ import annotations

import asyncio
import copy
import math
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from pydantic_ai import (
    Agent,
    BinaryContent,
    Conversation,
    ModelMessage,
    ModelRequest,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    InMemoryConversationStore,
)
from pydantic_ai.models.test import TestModel as ScriptedModel

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointError,
)
from aiocheckpoint.adapters.pydantic_ai import (
    ConversationHead,
    ConversationStore,
    UnreadableConversation,
)
from aiocheckpoint.adapters.pydantic_ai.records import ConversationStoreRecord
from aiocheckpoint.testing import MemoryStore
from tests.adapters.apart import ApartStore
from tests.adapters.pydantic_ai.talk import chain, messages, record, saved, texts


class Mood(Enum):
    GOOD = "good"


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            10**20,
            (1, [2.5]),
            b"\xff\x00",
            {1: "int"},
            {1, 2},
            math.inf,
            "\ud83d",
            Decimal("1.50"),
            datetime(2026, 1, 2),  # noqa: DTZ001 - a value
            {"!tuple": [1]},
            None,
        ],
    )
    async def test_values_beyond_json_come_back(self, store: ConversationStore, value: Any) -> None:
        """What a tool returned is as it was, also where pydantic's JSON would change it."""
        part = ToolReturnPart("tool", {"deep": [value]}, "call")
        entry = ConversationEntry(parent_id=None, message=ModelRequest(parts=[part]))
        await store.write_record(record("c", [entry]), new_entries=[entry], expected_revision=None)

        assert await store.read_entry(entry.id) == entry

    async def test_not_a_number_and_enums(self, store: ConversationStore) -> None:
        """NaN is no null; an enum is its value, as pydantic would store it."""
        part = ToolReturnPart("tool", {"nan": math.nan, "mood": Mood.GOOD, "t": (1,)}, "call")
        entry = ConversationEntry(parent_id=None, message=ModelRequest(parts=[part]))
        await store.write_record(record("c", [entry]), new_entries=[entry], expected_revision=None)

        found: Any = (await store.read_entry(entry.id)).message.parts[0].content  # type: ignore[union-attr]
        assert math.isnan(found.pop("nan"))
        assert found == {"mood": "good", "t": (1,)}

    async def test_value_that_cannot_be_kept_is_refused(self, store: ConversationStore) -> None:
        """It is refused with its path, and what was stored stays."""
        conversation = await saved(store, "c", range(2))
        for value in (object(), {Mood.GOOD: 1, "good": 2}):  # of which one key would be left
            part = ToolReturnPart("tool", {"deep": value}, "call")
            conversation.messages = [*conversation.messages[:2], ModelRequest(parts=[part])]

            with pytest.raises(
                CheckpointEncodeError, match=r"entries\[0\].message.parts\[0\].content"
            ):
                await store.save(conversation)

        assert texts(await store.load("c")) == [0, 1]

    async def test_large_values(self, store: ConversationStore) -> None:
        """A picture of 4 MB comes back."""
        picture = BinaryContent(data=bytes(range(256)) * (1 << 14), media_type="image/png")
        asked = ModelRequest(parts=[UserPromptPart(["what is it?", picture])])
        await store.save(Conversation(conversation_id="c", messages=[asked]))

        found = await store.load("c")
        assert found is not None
        content: Any = found.messages[0].parts[0].content  # type: ignore[union-attr]
        assert content[1].data == picture.data

    async def test_entries_do_not_say_whose_they_are(self) -> None:
        """An entry as it is stored names neither its conversation nor the entry before it."""
        checkpoints = MemoryStore[Any](ConversationStoreRecord)
        store = ConversationStore(checkpoints)
        await saved(store, "secret-name", range(3))
        (head,) = (await checkpoints.load_newest(["pydantic_ai.secret-name"])).values()

        blobs = await checkpoints.load_blobs("pydantic_ai.secret-name", head.blob_digests)

        assert blobs
        assert not any(b"secret-name" in blob or b"parent_id" in blob for blob in blobs.values())


_CALLS = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from(["write", "write", "write", "delete"]),
    st.integers(0, 40),
    st.integers(0, 3),
    st.integers(0, 5),
)


class TestModel:
    @settings(max_examples=80)
    @given(calls=st.lists(_CALLS, max_size=25), apart=st.booleans())
    def test_does_what_the_store_in_memory_does(self, calls: list[Any], apart: bool) -> None:
        """Whatever is written and deleted, it holds and refuses what the framework's own does."""
        asyncio.run(
            _compare(calls, (ApartStore if apart else MemoryStore)(ConversationStoreRecord))
        )


async def _compare(calls: list[Any], checkpoints: MemoryStore[Any]) -> None:
    ours, theirs = ConversationStore(checkpoints), InMemoryConversationStore()
    entries: list[str] = []
    for name, call, position, count, choice in calls:
        known = await theirs.read_record(name)
        expected = "another" if choice == 5 else None if known is None else known.revision
        if call == "delete":
            revision = expected or "none"
            told = [
                await _outcome(store.delete_record(name, expected_revision=revision))
                for store in (ours, theirs)
            ]
        else:
            after = entries[position] if position < len(entries) else None
            if count and after is not None and await _history(theirs, after) is None:
                after = None  # theirs would store entries that follow nothing
            new = chain(*range(count), after=after)
            tips = [] if known is None else [*known.branches, known.head_id]
            left = [tip for tip in dict.fromkeys(tips) if tip is not None and choice % 2]
            written = record(name, new, branches=left)
            written.head_id = new[-1].id if new else after
            told = [
                await _outcome(
                    store.write_record(written, new_entries=new, expected_revision=expected)
                )
                for store in (ours, theirs)
            ]
            entries += [entry.id for entry in new]
        assert told[0] == told[1]
        await theirs.write_record(record("swept", []), expected_revision=None)
        await theirs.delete("swept")  # its deletes remove what no conversation has
    for store in (ours, ConversationStore(checkpoints)):
        assert await store.read_records() == await theirs.read_records()
        for entry_id in entries:
            assert await _history(store, entry_id) == await _history(theirs, entry_id)


async def _outcome(call: Any) -> str:
    try:
        await call
    except ConversationConflict:
        return "refused"
    return "done"


async def _history(store: Any, entry_id: str) -> list[ConversationEntry] | None:
    try:
        history: list[ConversationEntry] = await store.read_history(entry_id)
    except LookupError:
        return None
    return history


class TestAtOnce:
    async def test_of_racing_saves_one_wins(self, storage: Any) -> None:
        """Of saves of one revision by many stores one is stored; the others are told."""
        async with ConversationStore(storage) as store:
            await saved(store, "c", [0])

            async def race(number: int) -> list[int]:
                async with ConversationStore(storage) as other:
                    loaded = await other.load("c")
                    assert loaded is not None
                    loaded.messages += messages([number])
                    await asyncio.sleep(0)
                    return [number] if await _outcome(other.save(loaded)) == "done" else []

            won = [
                number
                for numbers in await asyncio.gather(*map(race, range(2, 22)))
                for number in numbers
            ]

            assert len(won) >= 1
            assert texts(await store.load("c")) == [0, *won]

    async def test_of_racing_forks_one_gets_the_name(self, storage: Any) -> None:
        """One fork and no other conversation has a name; what the losers wrote is gone."""
        async with ConversationStore(storage) as store:
            await saved(store, "c", range(8))

            async def race(number: int) -> str:
                async with ConversationStore(storage) as other:
                    if number % 2:
                        return await _outcome(saved(other, "f", [20 + number]))
                    return await _outcome(other.fork("c", at=number, new_conversation_id="f"))

            told = await asyncio.gather(*map(race, range(8)))

            assert told.count("done") == 1
            winner = told.index("done")
            expected = [20 + winner] if winner % 2 else [*range(winner)]
            assert texts(await store.load("f")) == expected
            assert len(await store.list_conversations()) == 2
            await store.delete("f")
            await store.delete("c")
            assert [name async for name in store._store.sessions()] == []

    async def test_fork_that_loses_its_name_leaves_nothing(self) -> None:
        """In two commits, too: a fork whose name is taken between them is told, and is gone."""
        checkpoints = _Overtaken(ConversationStoreRecord)
        store = ConversationStore(checkpoints)
        await saved(store, "c", range(4))
        checkpoints.then = lambda: saved(ConversationStore(checkpoints), "f", [20])

        with pytest.raises(ConversationConflict):
            await store.fork("c", new_conversation_id="f")

        assert texts(await store.load("f")) == [20]
        await store.delete("c")
        assert [name async for name in checkpoints.sessions()] == ["pydantic_ai.f"]

    async def test_fork_beside_deletes(self, storage: Any) -> None:
        """A fork of what is deleted at the same time is whole, or refused."""
        for _ in range(5):
            async with ConversationStore(storage) as store, ConversationStore(storage) as other:
                await saved(store, "c", range(4))

                forked, _ = await asyncio.gather(
                    _outcome(other.fork("c", at=3, new_conversation_id="f")),
                    store.delete("c"),
                    return_exceptions=True,
                )

                found = await other.load("f")
                assert (found is not None) == (forked == "done")
                assert found is None or texts(found) == [0, 1, 2]
                await store.delete("f")

    @pytest.mark.blocking
    def test_threads_with_loops_of_their_own(self, root: Path) -> None:
        """Saves by threads, each with its loop, are all there; who was told has tried again."""

        async def talk(number: int) -> None:
            async with ConversationStore(root) as store:
                for _ in range(10):
                    while True:
                        loaded = await store.load("c") or Conversation(conversation_id="c")
                        loaded.messages += messages([number])
                        if await _outcome(store.save(loaded)) == "done":
                            break

        threads = [
            threading.Thread(target=lambda number=number: asyncio.run(talk(number)))
            for number in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def read() -> list[int]:
            async with ConversationStore(root) as store:
                return texts(await store.load("c"))

        assert sorted(asyncio.run(read())) == sorted([0, 1, 2] * 10)

    @pytest.mark.parametrize("suspensions", range(0, 14, 2))
    @pytest.mark.parametrize("call", ["save", "fork", "delete"])
    async def test_cancelled_call_has_an_outcome(
        self, storage: Any, call: str, suspensions: int
    ) -> None:
        """Wherever it is cancelled, it took place as a whole or not at all once it has ended."""
        async with ConversationStore(storage) as store:
            conversation = await saved(store, "c", range(4))
            conversation.messages += messages([4])
            calling: Any
            if call == "save":
                calling = store.save(conversation)
            elif call == "fork":
                calling = store.fork("c", at=2, new_conversation_id="f")
            else:
                calling = store.delete("c")
            task = asyncio.ensure_future(calling)
            for _ in range(suspensions):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

            async with ConversationStore(storage) as other:
                found, fork = await other.load("c"), await other.load("f")
            assert found is None or texts(found) in ([*range(4)], [*range(5)])
            assert fork is None or texts(fork) == [0, 1]
            if not task.cancelled():
                assert (found is None) == (call == "delete")
                assert (fork is not None) == (call == "fork")
            await store.delete("c")
            await store.delete("f")
            assert await store.list_conversations() == []


class _Overtaken(ApartStore):
    """Does something once, right after a second record is in a session."""

    then: Callable[[], Awaitable[object]] | None = None

    async def update(self, session_id: str, work: Any, /) -> Any:
        result = await super().update(session_id, work)
        if self.then is not None and len(await self.ids(session_id)) == 2:
            then, self.then = self.then, None
            await then()
        return result


class TestSteps:
    @pytest.mark.blocking
    @pytest.mark.parametrize("stop", [2, 3, 4, 5, 9])
    @pytest.mark.parametrize("sent", ["all", "two", "copies", "copies of two"])
    async def test_what_the_model_is_sent_is_not_what_is_stored(
        self, storage: Any, sent: str, stop: int
    ) -> None:
        """
        A capability that trims or copies the history leaves the conversation whole, on one line.

        Wherever a run was killed, and went on.
        """

        def process(messages: list[ModelMessage]) -> list[ModelMessage]:
            kept = messages[-2:] if "two" in sent else messages
            return copy.deepcopy(kept) if "copies" in sent else kept

        agent = Agent(ScriptedModel(), capabilities=[ProcessHistory(process)])

        @agent.tool_plain
        def look() -> str:
            return "seen"

        async def step(store: ConversationStore, question: str | None, most: int) -> None:
            loaded = await store.load("c") or Conversation(conversation_id="c")
            async with agent.iter(question, conversation=loaded) as run:
                async for _ in run:
                    await store.save_step(loaded, run)
                    most -= 1
                    if not most:
                        break

        async with ConversationStore(storage) as store:
            for question in ("one", "two"):
                await step(store, question, stop)
                await step(store, None, 9)
            found, record = await store.load("c"), await store.read_record("c")

        assert found is not None
        assert record is not None
        assert [message.parts[0].part_kind for message in found.messages] == [
            "user-prompt", "tool-call", "tool-return", "text", "user-prompt", "text",
        ]  # fmt: skip
        assert record.branches == []


class TestRunner:
    @pytest.mark.blocking  # the first run of a process reads files of the framework itself
    async def test_two_runs_at_once(self, storage: Any) -> None:
        """Two runs on one conversation: who is told loads it again; no turn is lost or torn."""

        async def talk(text: str) -> None:
            async with ConversationStore(storage) as store:
                for number in range(3):
                    while True:
                        loaded = await store.load("c") or Conversation(conversation_id="c")
                        agent = Agent(ScriptedModel())
                        result = await agent.run(f"{text} {number}", conversation=loaded)
                        if await _outcome(store.save(result)) == "done":
                            break

        await asyncio.gather(talk("one"), talk("two"))

        async with ConversationStore(storage) as store:
            loaded = await store.load("c")
        assert loaded is not None
        asked: list[Any] = [message.parts[0] for message in loaded.messages[::2]]
        expected = [f"{text} {number}" for text in ("one", "two") for number in range(3)]
        assert sorted(part.content for part in asked) == expected
        assert loaded.usage.requests == 6


class TestCost:
    async def test_fork_costs_no_copy(self) -> None:
        """20 forks of a conversation take the room of their heads."""
        checkpoints = _Counting(ConversationStoreRecord)
        store = ConversationStore(checkpoints)
        await store.save(Conversation(conversation_id="c", messages=messages(range(100), 10_000)))
        checkpoints.bytes_saved = 0

        for _ in range(20):
            await store.fork("c")

        assert checkpoints.bytes_saved == 0
        assert len(await store.list_conversations()) == 21

    async def test_newest_few_of_many_are_not_all_read(self) -> None:
        """The newest 10 of 1,600 messages take few loads, of little more than what is asked for."""
        checkpoints = _Counting(ConversationStoreRecord)
        store = ConversationStore(checkpoints)
        conversation = Conversation(conversation_id="c")
        for start in range(0, 1600, 100):
            conversation.messages += messages(range(start, start + 100), 1000)
            await store.save(conversation)

        found = await ConversationStore(checkpoints).load("c", limit=10)

        assert texts(found) == [*range(1590, 1600)]
        assert checkpoints.bytes_loaded < 200_000


class _Counting(MemoryStore[Any]):
    """Counts what is loaded in blobs by transactions, and what is saved."""

    bytes_loaded = 0
    bytes_saved = 0

    async def update(self, session_id: str, work: Any, /) -> Any:
        return await super().update(session_id, lambda session: work(self._counted(session)))

    async def update_many(self, session_ids: Any, work: Any, /) -> Any:
        return await super().update_many(
            session_ids,
            lambda sessions: work(
                {name: self._counted(session) for name, session in sessions.items()}
            ),
        )

    def _counted(self, session: Any) -> Any:
        load_blobs, save = session.load_blobs, session.save

        async def counted_load(digests: Any) -> Any:
            found = await load_blobs(digests)
            self.bytes_loaded += sum(map(len, found.values()))
            return found

        def counted_save(data: Any, *, blobs: Any = {}) -> Any:  # noqa: B006 - as it is called
            self.bytes_saved += sum(map(len, blobs.values()))
            return save(data, blobs=blobs)

        session.load_blobs, session.save = counted_load, counted_save
        return session


@pytest.mark.damages_store
@pytest.mark.blocking
class TestDamage:
    def _files(self, root: Path) -> Iterator[Path]:
        for path in sorted(root.rglob("*")):
            inside = path.is_file() and not path.is_symlink()
            if inside and ".aiocheckpoint" not in path.parts and path.suffix != ".backup":
                yield path

    def _damage(self, root: Path, conversation_id: str) -> None:
        """Damage the record of a conversation, wherever it is."""
        said = re.compile(rb'"conversation_id":\s*"%b"' % conversation_id.encode())
        (path,) = [it for it in self._files(root) if said.search(it.read_bytes())]
        path.write_bytes(path.read_bytes().replace(b'"usage"', b'"usbge"'))

    async def _filled(self, root: Path) -> tuple[list[int], list[int]]:
        async with ConversationStore(root) as store:
            conversation = Conversation(conversation_id="c")
            for number in range(80):
                conversation.messages += messages([number], 3000)
                await store.save(conversation)
            fork = await store.fork("c", at=70, new_conversation_id="f")
            fork.messages += messages([99], 3000)
            await store.save(fork)
        return [*range(80)], [*range(70), 99]

    async def _read(self, root: Path, name: str) -> list[int] | None:
        async with ConversationStore(root) as store:
            found = await store.load(name)
        return None if found is None else texts(found)

    async def test_no_damaged_file_is_read_as_another_conversation(self, root: Path) -> None:
        """Whichever file is damaged, a read raises by name, or all is there."""
        whole = await self._filled(root)
        raised = 0
        for path in self._files(root):
            content = path.read_bytes()
            middle = len(content) // 2
            path.write_bytes(
                content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            )
            for name, expected in zip("cf", whole, strict=True):
                try:
                    assert await self._read(root, name) == expected, path
                except CheckpointError:
                    raised += 1
            path.write_bytes(content)

        assert (await self._read(root, "c"), await self._read(root, "f")) == whole
        assert raised > 6

    async def test_no_removed_file_is_read_as_a_shorter_conversation(self, root: Path) -> None:
        """Whichever file is removed, it raises, has all, or is not there at all."""
        whole = await self._filled(root)
        raised = 0
        for path in self._files(root):
            content = path.read_bytes()
            path.unlink()
            for name, expected in zip("cf", whole, strict=True):
                try:
                    assert await self._read(root, name) in (expected, None), path
                except CheckpointError:
                    raised += 1
            path.write_bytes(content)

        assert (await self._read(root, "c"), await self._read(root, "f")) == whole
        assert raised > 4

    async def test_record_of_another_version_is_told(self, root: Path) -> None:
        """What is intact and no record of this version of the framework is told by name."""
        async with ConversationStore(root) as store:
            await saved(store, "c", [0])
            async with AsyncCheckpointWriter[Any](
                root, record_type=ConversationStoreRecord
            ) as writer:
                head = await writer.load("pydantic_ai.c")
                assert isinstance(head, ConversationHead)
                head.record["format_version"] = 2
                await writer.save(head)

            with pytest.raises(CheckpointDecodeError, match="format_version"):
                await store.load("c")

    async def test_damaged_record_of_a_fork_stops_no_other(self, root: Path) -> None:
        """The conversations that share its entries are read as ever; a list names all."""
        async with ConversationStore(root) as store:
            await saved(store, "c", range(3))
            for name in "fgh":
                await store.fork("c", at=2, new_conversation_id=name)
        self._damage(root, "g")

        async with ConversationStore(root) as store:
            assert [texts(await store.load(name)) for name in "cfh"] == [[0, 1, 2], [0, 1], [0, 1]]
            with pytest.raises(CheckpointCorruptError):
                await store.load("g")
            listed = await store.list_conversations()
            assert sorted(found.conversation_id for found in listed) == [*"cfgh"]
            (odd,) = [found for found in listed if isinstance(found, UnreadableConversation)]
            assert odd.conversation_id == "g"
            assert "is damaged" in odd.problem
            with pytest.raises(CheckpointCorruptError):
                await store.read_history(odd.head_id)
            with pytest.raises(CheckpointCorruptError):
                await store.write_record(odd, expected_revision=odd.revision)

    async def test_entry_is_found_beside_what_cannot_be_read(self, root: Path) -> None:
        """A conversation that is damaged hides no entry of another; its own raise."""
        async with ConversationStore(root) as store:
            for name in "abc":
                await saved(store, name, range(3))
            heads = [(await store.load_entries(name) or [])[-1].id for name in "abc"]
        self._damage(root, "a")

        async with ConversationStore(root) as store:  # which has seen none of them
            assert [(await store.read_entry(it)).id for it in heads[1:]] == heads[1:]
            with pytest.raises(CheckpointCorruptError):
                await store.read_entry(heads[0])

    async def test_scope_that_nobody_can_tell(
        self, root: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No tenant is shown what may be another's; the log and a list of all name it."""
        async with ConversationStore(root) as store:
            for name in ("ann", "bob"):
                await saved(store, name, range(3), scope=name)
        self._damage(root, "bob")

        async with ConversationStore(root) as store:
            listed = await store.list_conversations(scope="ann")
            assert [found.conversation_id for found in listed] == ["ann"]
            assert "a list by scope lacks conversation 'bob'" in caplog.text
            assert len(await store.list_conversations()) == 2
            assert len(await store.list_conversations(limit=1)) == 1
