"""
What the framework documents of a conversation store, in words of our own.

The framework's own store, which is in memory, has to hold it as well.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="needs the extra pydantic-ai: .ci/adapter pydantic-ai")

from pydantic_ai import (
    Conversation,
    DeferredToolRequests,
    RunUsage,
    ToolCallPart,
    UserError,
)
from pydantic_ai.conversation_store import ConversationConflict

from tests.adapters.pydantic_ai.talk import chain, message, messages, record, saved, texts

_START = datetime(2026, 1, 1, tzinfo=UTC)


class TestRecords:
    async def test_what_was_never_saved_is_none(self, any_store: Any) -> None:
        """A conversation that nobody saved is None, is in no list, and its delete is nothing."""
        assert await any_store.read_record("c") is None
        assert await any_store.load("c") is None
        assert await any_store.load_entries("c") is None
        assert [*await any_store.read_records()] == []
        await any_store.delete("c")

    @pytest.mark.parametrize("name", ["c", "", "ä/../x", 'with "quotes"', "x" * 1000])
    async def test_record_comes_back(self, any_store: Any, name: str) -> None:
        """All its fields come back, and so do the entries, whatever its name."""
        entries = chain(0, 1, 2)
        whole = record(
            name,
            entries,
            usage=RunUsage(requests=3, input_tokens=7, details={"cached": 2}),
            deferred_tool_requests=DeferredToolRequests(
                approvals=[ToolCallPart("pay", {"euros": 40}, "call")],
                metadata={"call": {"why": ["a", None]}},
            ),
            scope="ann",
            forked_from="elsewhere",
            forked_at="long-gone",
            updated_at=_START,
        )

        await any_store.write_record(whole, new_entries=entries, expected_revision=None)

        assert await any_store.read_record(name) == whole
        assert [*await any_store.read_records()] == [whole]
        assert await any_store.read_history(whole.head_id) == entries
        assert [await any_store.read_entry(entry.id) for entry in entries] == entries

    async def test_what_is_returned_and_given_is_apart(self, any_store: Any) -> None:
        """Changes of what was given or returned do not reach what is stored."""
        entries: Any = chain(0)
        given = record("c", entries)
        await any_store.write_record(given, new_entries=entries, expected_revision=None)
        given.usage.requests = 99
        given.branches.append("x")
        entries[0].message.parts[0].content = "changed"
        found = await any_store.read_record("c")
        found.scope = "changed"

        stored = await any_store.read_record("c")
        assert (stored.usage.requests, stored.branches, stored.scope) == (0, [], None)
        (entry,) = await any_store.read_history(stored.head_id)
        assert entry.message.parts[0].content == "000000 "

    async def test_list_is_by_time_and_scope(self, any_store: Any) -> None:
        """The one that was saved last comes first; of one scope, and at most so many."""
        for number, scope in ((3, "ann"), (1, "bob"), (2, "ann"), (4, None)):
            new = record(str(number), [], scope=scope, updated_at=_START + timedelta(days=number))
            await any_store.write_record(new, expected_revision=None)

        async def listed(**options: Any) -> list[str]:
            return [found.conversation_id for found in await any_store.read_records(**options)]

        assert await listed() == ["4", "3", "2", "1"]
        assert await listed(scope="ann") == ["3", "2"]
        assert await listed(scope="ann", limit=1) == ["3"]
        assert await listed(limit=0) == []
        assert await listed(scope="nobody") == []


class TestConditions:
    async def test_only_the_expected_revision_is_replaced(self, any_store: Any) -> None:
        """Any other one than is stored is refused, and so is a new one where there is one."""
        entries = chain(0, 1)
        first = record("c", entries[:1])
        with pytest.raises(ConversationConflict):
            await any_store.write_record(first, new_entries=entries[:1], expected_revision="no")
        await any_store.write_record(first, new_entries=entries[:1], expected_revision=None)
        second = record("c", entries)
        for wrong in (None, "no", second.revision):
            with pytest.raises(ConversationConflict) as caught:
                await any_store.write_record(
                    second, new_entries=entries[1:], expected_revision=wrong
                )
            assert caught.value.conversation_id == "c"

        assert await any_store.read_record("c") == first
        with pytest.raises(LookupError):
            await any_store.read_entry(entries[1].id)
        await any_store.write_record(
            second, new_entries=entries[1:], expected_revision=first.revision
        )
        assert await any_store.read_history(second.head_id) == entries

    async def test_only_the_expected_revision_is_deleted(self, any_store: Any) -> None:
        """Another revision is refused; what was deleted is gone with its entries."""
        entries = chain(0)
        with pytest.raises(ConversationConflict):
            await any_store.delete_record("c", expected_revision="no")
        first = record("c", entries)
        await any_store.write_record(first, new_entries=entries, expected_revision=None)
        with pytest.raises(ConversationConflict):
            await any_store.delete_record("c", expected_revision="no")

        await any_store.delete_record("c", expected_revision=first.revision)

        assert await any_store.read_record("c") is None
        with pytest.raises(LookupError):
            await any_store.read_history(entries[0].id)

    async def test_deleted_and_made_anew_is_another(self, any_store: Any) -> None:
        """Who loaded a conversation before it was deleted and made anew cannot save over it."""
        await saved(any_store, "c", [0])
        old = await any_store.load("c")
        await any_store.delete("c")
        await saved(any_store, "c", [2])
        old.messages += messages([1])

        with pytest.raises(ConversationConflict):
            await any_store.save(old)

        assert texts(await any_store.load("c")) == [2]

    async def test_entry_that_is_nowhere_is_refused(self, any_store: Any) -> None:
        """A record that ends at an entry which nobody has is a conflict."""
        with pytest.raises(ConversationConflict):
            await any_store.write_record(record("c", chain(0)), expected_revision=None)
        assert await any_store.read_record("c") is None
        await saved(any_store, "c", [0])
        stored = await any_store.read_record("c")
        stored.head_id = "nowhere"

        with pytest.raises(ConversationConflict):
            await any_store.write_record(stored, expected_revision=stored.revision)

        assert texts(await any_store.load("c")) == [0]

    async def test_other_scope_is_not_there(self, any_store: Any) -> None:
        """Whoever names another scope neither reads, changes, forks nor deletes a conversation."""
        conversation = await saved(any_store, "c", [0], scope="ann")

        assert await any_store.load("c", scope="bob") is None
        await any_store.delete("c", scope="bob")
        with pytest.raises(ConversationConflict):
            await any_store.save(conversation, scope="bob")
        with pytest.raises(UserError):
            await any_store.fork("c", source_scope="bob")
        assert texts(await any_store.load("c", scope="ann")) == [0]


class TestHistories:
    async def test_saves_add_what_is_new(self, any_store: Any) -> None:
        """Each message is stored once, under an entry that keeps its id, over many saves."""
        conversation = Conversation(conversation_id="c")
        ids: list[str] = []
        for number in range(0, 60, 2):
            conversation.messages += messages([number, number + 1])
            ids += [entry.id for entry in await any_store.save(conversation)]
            assert await any_store.save(conversation) == []

        entries = await any_store.load_entries("c")
        assert [entry.id for entry in entries] == ids
        assert [entry.parent_id for entry in entries] == [None, *ids[:-1]]
        assert texts(await any_store.load("c")) == [*range(60)]

    @pytest.mark.parametrize("limit", [0, 1, 5, 40, 41, 100])
    async def test_limit_is_of_the_newest(self, any_store: Any, limit: int) -> None:
        """Only the last are loaded, with their parents; a save of them adds to the whole."""
        await saved(any_store, "c", range(40))

        window = await any_store.load("c", limit=limit)
        entries = await any_store.load_entries("c", limit=limit)
        window.messages += messages([40])
        await any_store.save(window)

        whole = await any_store.load_entries("c")
        assert texts(await any_store.load("c")) == [*range(41)]
        assert entries == whole[:-1][max(40 - limit, 0) :]
        with pytest.raises(UserError):
            await any_store.load("c", limit=-1)

    async def test_rewritten_history_leaves_a_branch(self, any_store: Any) -> None:
        """Messages that differ branch off the last one that is shared; the old ones stay."""
        await saved(any_store, "c", range(6))
        before = await any_store.load_entries("c")
        loaded = await any_store.load("c")
        rewritten = Conversation(
            conversation_id="c",
            messages=[*loaded.messages[:2], message(12), message(13)],
            revision=loaded.revision,
        )

        await any_store.save(rewritten)

        after = await any_store.load_entries("c")
        assert [entry.id for entry in after[:2]] == [entry.id for entry in before[:2]]
        assert texts(await any_store.load("c")) == [0, 1, 12, 13]
        assert (await any_store.read_record("c")).branches == [before[-1].id]
        assert await any_store.read_history(before[-1].id) == before
        assert await any_store.read_entry(before[4].id) == before[4]

    async def test_branch_and_back(self, any_store: Any) -> None:
        """A conversation goes on from an earlier message, and back to the branch that it left."""
        conversation = await saved(any_store, "c", range(6))
        old = await any_store.load_entries("c")

        branched = await any_store.branch("c", at=2, expected_revision=conversation.revision)
        branched.messages += messages([12, 13])
        await any_store.save(branched)
        assert texts(await any_store.load("c")) == [0, 1, 12, 13]
        new = await any_store.load_entries("c")
        assert await any_store.read_history(old[-1].id) == old

        back = await any_store.branch(
            "c", from_entry=old[-1].id, expected_revision=branched.revision
        )
        assert texts(back) == [*range(6)]
        assert (await any_store.read_record("c")).branches == [new[-1].id]
        between = await any_store.branch("c", from_entry=new[2].id, expected_revision=back.revision)
        assert texts(between) == [0, 1, 12]
        with pytest.raises(ConversationConflict):
            await any_store.branch("c", at=0, expected_revision=back.revision)
        emptied = await any_store.branch("c", at=0, expected_revision=between.revision)
        assert texts(await any_store.load("c")) == []
        emptied.messages += messages([0])
        await any_store.save(emptied)
        assert texts(await any_store.load("c")) == [0]

    async def test_delete_keeps_what_others_have(self, any_store: Any) -> None:
        """Entries that no other conversation has go with the last that has them, and no others."""
        await saved(any_store, "c", range(6))
        entries = await any_store.load_entries("c")
        await any_store.fork("c", at=4, new_conversation_id="f")

        await any_store.delete("c")

        assert await any_store.read_entry(entries[3].id) == entries[3]
        for entry in entries[4:]:
            with pytest.raises(LookupError):
                await any_store.read_entry(entry.id)
        await any_store.delete("f")
        with pytest.raises(LookupError):
            await any_store.read_entry(entries[3].id)


class TestForks:
    async def test_fork_shares_and_goes_its_own_way(self, any_store: Any) -> None:
        """A fork begins with the very entries; what either adds the other does not have."""
        conversation = await saved(any_store, "c", range(6), scope="ann")
        fork = await any_store.fork("c", at=3, new_conversation_id="f", scope="bob")
        assert texts(fork) == [0, 1, 2]
        entries = await any_store.load_entries("c")
        assert await any_store.load_entries("f") == entries[:3]

        fork.messages += messages([13])
        await any_store.save(fork)
        conversation.messages += messages([6])
        await any_store.save(conversation)

        assert texts(await any_store.load("f")) == [0, 1, 2, 13]
        assert texts(await any_store.load("c")) == [*range(7)]
        stored = await any_store.read_record("f")
        assert (stored.forked_from, stored.forked_at) == ("c", entries[2].id)
        assert [found.conversation_id for found in await any_store.read_records()] == ["c", "f"]
        assert [found.conversation_id for found in await any_store.read_records(scope="bob")] == [
            "f"
        ]

    async def test_fork_of_a_fork_of_a_branch(self, any_store: Any) -> None:
        """A fork may begin at a branch that was left, and be forked itself."""
        conversation = await saved(any_store, "c", range(4))
        left = await any_store.load_entries("c")
        await any_store.branch("c", at=1, expected_revision=conversation.revision)

        await any_store.fork("c", from_entry=left[2].id, new_conversation_id="f")
        await any_store.fork("f", at=2, new_conversation_id="g")
        await any_store.delete("f")
        await any_store.delete("c")

        assert texts(await any_store.load("g")) == [0, 1]
        assert [found.conversation_id for found in await any_store.read_records()] == ["g"]

    async def test_name_that_is_taken_is_refused(self, any_store: Any) -> None:
        """A fork takes the name of no conversation, fork or not, and leaves nothing behind."""
        await saved(any_store, "c", range(4))
        await saved(any_store, "d", [10])
        await any_store.fork("c", new_conversation_id="f")

        for name in ("c", "d", "f"):
            with pytest.raises(ConversationConflict):
                await any_store.fork("c", at=1, new_conversation_id=name)
        with pytest.raises(ConversationConflict):
            await saved(any_store, "f", [20])

        assert texts(await any_store.load("d")) == [10]
        assert texts(await any_store.load("f")) == [*range(4)]
        assert len(await any_store.read_records()) == 3

    async def test_names_may_be_used_again(self, any_store: Any) -> None:
        """The names of a source and a fork that were deleted are free again."""
        await saved(any_store, "c", range(4))
        await any_store.fork("c", new_conversation_id="f")
        await any_store.delete("c")

        await any_store.fork("f", at=2, new_conversation_id="c")
        assert texts(await any_store.load("c")) == [0, 1]
        await any_store.delete("f")
        await saved(any_store, "f", [20])
        assert texts(await any_store.load("f")) == [20]
        assert texts(await any_store.load("c")) == [0, 1]
        assert len(await any_store.read_records()) == 2

    async def test_entries_of_others_may_be_gone_on_from(self, any_store: Any) -> None:
        """A record may go on from an entry of any conversation, also one that is there already."""
        await saved(any_store, "c", range(4))
        other = await saved(any_store, "d", [10])
        entries = await any_store.load_entries("c")
        more = chain(14, after=entries[1].id)
        await any_store.write_record(record("e", more), new_entries=more, expected_revision=None)
        assert await any_store.read_history(more[0].id) == [*entries[:2], *more]

        moved = record("d", entries, revision="moved")
        await any_store.write_record(moved, expected_revision=other.revision)
        await any_store.delete("c")

        assert texts(await any_store.load("d")) == [*range(4)]
        assert texts(await any_store.load("e")) == [0, 1, 14]
