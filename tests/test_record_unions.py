"""Records of several types in one store, each file saying of which it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, Union, assert_type

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobRecord,
    CheckpointCorruptError,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointRecord,
    RecordTypeError,
    blob_digest,
)
from aiocheckpoint.kit import RecordKit
from aiocheckpoint.testing import MemoryStore
from tests import json_documents
from tests.conftest import MakeWriter
from tests.on_disk import on_disk, path_of


class Event(CheckpointRecord, tag="event"):
    text: str = ""
    extra: Any = None


class Head(CheckpointRecord, tag="head"):
    seen: int = 0


class Picture(BlobRecord, tag="picture"):
    text: str = ""


class Draft(CheckpointRecord, tag="draft"):
    text: str = ""


class Plain(CheckpointRecord):
    text: str = ""
    parts: Any = None


class Tagged(CheckpointData, tag="agent"):
    extra: int = 0


Kept: TypeAlias = Event | Head | Picture
Agent: TypeAlias = CheckpointData | Event


@pytest.fixture(name="make_store", params=["local", "memory"])
def _make_store(
    request: pytest.FixtureRequest, make_writer: MakeWriter
) -> Callable[..., AsyncCheckpointWriter[Any] | MemoryStore[Any]]:
    """Make clients of one storage, by a record type."""
    first: MemoryStore[Any] = MemoryStore(CheckpointRecord)

    def make(record_type: Any) -> AsyncCheckpointWriter[Any] | MemoryStore[Any]:
        if request.param == "local":
            return make_writer(record_type=record_type)
        return MemoryStore(record_type, beside=first)

    return make


MakeStore = Callable[[Any], Any]


class TestRoundTrip:
    async def test_each_comes_back_as_what_it_is(self, make_store: MakeStore) -> None:
        """A session holds records of all the types, and each comes back of its own."""
        store = make_store(Kept)
        pixels = b"pixels"
        digest = blob_digest(pixels)
        saved = (
            Event(session_id="s", text="hello", extra={"type": "head"}),
            Head(session_id="s", seen=1),
            Picture(session_id="s", text="sea", blob_digests=(digest,)),
        )
        for record in saved:
            await store.save(record, blobs={digest: pixels} if record is saved[-1] else {})

        again = make_store(Kept)
        loaded = await again.load_many("s", [record.checkpoint_id for record in saved])

        assert loaded == saved
        assert [type(record) for record in loaded] == [Event, Head, Picture]
        assert await again.load("s") == saved[-1]
        assert await again.load_blobs("s", [digest]) == {digest: pixels}

    @given(
        st.lists(
            st.builds(
                Event,
                session_id=st.just("s"),
                text=json_documents.texts,
                extra=json_documents.values
                | st.dictionaries(st.just("type"), json_documents.values),
            )
            | st.builds(Head, session_id=st.just("s"), seen=json_documents.integers)
            | st.builds(
                CheckpointData, session_id=st.just("s"), tool_results=json_documents.values
            ),
            max_size=4,
        )
    )
    def test_whatever_they_hold(self, records: list[Any]) -> None:
        """Whatever stands in them, records come back equal and of their types."""
        kit: RecordKit[Any] = RecordKit(CheckpointData | Event | Head, 1 << 20)

        for record in records:
            body = kit.encode(record).body
            loaded = kit.decode(body, "there", "s", record.checkpoint_id)
            assert type(loaded) is type(record)
            assert loaded == record

    async def test_large_ones_come_back_too(self, make_store: MakeStore) -> None:
        """So does one that is large enough to be decoded in pieces."""
        store = make_store(Kept)
        data = Event(session_id="s", extra=["x" * 1000] * 400)

        await store.save(data)

        assert await store.load("s") == data

    async def test_update_and_ownership_take_them(self, make_store: MakeStore) -> None:
        """One step stages records of several types."""
        store = make_store(Kept)

        async def work(session: Any) -> None:
            newest = await session.load()
            assert newest is None
            session.save(Event(session_id="s", checkpoint_id="1"))
            session.save(Head(session_id="s", checkpoint_id="2", seen=1))

        await store.update("s", work)

        assert [type(record) for record in await store.load_many("s", ["1", "2"])] == [Event, Head]

    async def test_file_says_what_it_is(self, make_writer: MakeWriter) -> None:
        """The tag stands in the file, under the key that the types name."""

        class Sown(CheckpointRecord, tag_field="kind", tag="sown"):
            pass

        class Reaped(CheckpointRecord, tag_field="kind", tag="reaped"):
            pass

        writer = make_writer(record_type=Sown | Reaped)
        await writer.save(Reaped(session_id="s"))
        await on_disk(writer)

        (meta,) = await writer.list("s")
        text = await asyncio.to_thread(path_of(meta).read_bytes)

        assert json.loads(text)["kind"] == "reaped"

    async def test_trigger_may_be_the_tag(self, make_store: MakeStore) -> None:
        """Where the tag's key is `trigger`, listings show of which type each is."""

        class Asked(CheckpointRecord, tag_field="trigger", tag="asked"):
            pass

        class Answered(CheckpointRecord, tag_field="trigger", tag="answered"):
            pass

        store = make_store(Asked | Answered)
        await store.save(Asked(session_id="s"))
        await store.save(Answered(session_id="s"))

        assert [meta.trigger for meta in await store.list("s")] == ["answered", "asked"]

    async def test_invalid_value_is_refused(self, make_store: MakeStore) -> None:
        """What is invalid in a record is refused by its path, as with one type."""
        store = make_store(Kept)

        with pytest.raises(CheckpointEncodeError) as refused:
            await store.save(Event(session_id="s", extra={"deep": object()}))

        assert refused.value.path == "extra.deep"


class TestTheUntagged:
    """One of the types may be without a tag: files that have none are its."""

    async def test_files_of_one_type_stay_when_others_join(self, make_store: MakeStore) -> None:
        """A store of `CheckpointData`, Rust's or ours, takes further types from then on."""
        before = CheckpointData(session_id="s", messages=["hello"])
        await make_store(CheckpointData).save(before)
        store = make_store(Agent)
        event = Event(session_id="s", text="more")

        await store.save(event)
        after = before.next(messages=["hello", "more"])
        await store.save(after)

        ids = [record.checkpoint_id for record in (before, event, after)]
        assert await store.load_many("s", ids) == (before, event, after)
        assert await make_store(CheckpointData).load("s") == after
        assert await make_store(Event).load("s", event.checkpoint_id) == event

    async def test_what_is_neither_is_refused(self, make_store: MakeStore) -> None:
        """A file without a tag that is not of the untagged type is of no type."""
        await make_store(Plain).save(Plain(session_id="s", text="x"))

        with pytest.raises(CheckpointDecodeError) as refused:
            await make_store(Agent).load("s")

        assert not isinstance(refused.value, CheckpointCorruptError)


class TestAnotherType:
    """A file of a type that the store does not have is no damage."""

    @pytest.mark.parametrize(
        ("record", "record_type", "named"),
        [
            (Draft(session_id="s"), Kept, "it has 'draft' as its 'type'"),
            (Plain(session_id="s"), Kept, "it has no 'type'"),
            (CheckpointData(session_id="s"), Kept, "it has no 'type'"),
            (Draft(session_id="s"), Agent, "it has 'draft' as its 'type'"),
            (Head(session_id="s"), Event, "head"),
            (Event(session_id="s"), Head, "event"),
            (Event(session_id="s"), CheckpointData, "missing"),
            (Event(session_id="s", extra=1), Plain, "it has 'event' as its 'type'"),
            (Plain(session_id="s"), Event, "it has no 'type'"),
            (Tagged(session_id="s"), CheckpointData, "it has 'agent' as its 'type'"),
            (CheckpointData(session_id="s"), Tagged, "it has no 'type'"),
            (Plain(session_id="s", text="x" * 600_000), Event, "it has no 'type'"),
            (Event(session_id="s", text="x" * 600_000), Plain, "it has 'event' as its 'type'"),
            (Plain(session_id="s", parts=[{"type": "event"}]), Event, "it has no 'type'"),
        ],
        ids=lambda given: getattr(given, "__name__", str(given)[:20]),
    )
    @pytest.mark.some(12)
    async def test_is_told(
        self, make_store: MakeStore, record: CheckpointRecord, record_type: Any, named: str
    ) -> None:
        """It raises that it is intact and of another type; nothing moves it."""
        owner, store = make_store(type(record)), make_store(record_type)
        await owner.save(record)

        with pytest.raises(CheckpointDecodeError, match=named) as refused:
            await store.load("s")

        assert not isinstance(refused.value, CheckpointCorruptError)
        assert await store.verify("s", record.checkpoint_id) is True
        assert await store.check() == ()
        assert (await store.recover("s")).quarantined == ()
        assert await owner.load("s") == record

    async def test_what_is_no_tag_is_a_field(self, make_store: MakeStore) -> None:
        """A type without a tag reads a file that holds the word elsewhere, or no tag there."""

        class Odd(CheckpointRecord):
            type: Any = None
            text: str = ""

        parts = [{"type": "event"}]
        await make_store(Plain).save(Plain(session_id="s", parts=parts))
        await make_store(Odd).save(Odd(session_id="t", type=None))
        await make_store(Odd).save(Odd(session_id="u", type="event"))

        assert (await make_store(Plain).load("s")).parts == parts
        assert (await make_store(Plain).load("t")).text == ""
        assert (await make_store(Odd).load("u")).type == "event"

    async def test_members_alone_and_together_read_each_other(self, make_store: MakeStore) -> None:
        """A store of one of the types reads what one of all saved, and the other way round."""
        await make_store(Event).save(Event(session_id="s", checkpoint_id="1", text="alone"))
        await make_store(Kept).save(Event(session_id="s", checkpoint_id="2", text="together"))

        assert (await make_store(Kept).load("s", "1")).text == "alone"
        assert (await make_store(Event).load("s", "2")).text == "together"
        assert await make_store(CheckpointRecord).load("s", "2") is not None

    @pytest.mark.parametrize("tag", [[1], {"a": 1}, True, 1.0, None, ""])
    def test_strange_tags_are_no_damage_either(self, tag: Any) -> None:
        """Whatever stands where the tag should, the error says that it is of none of the types."""

        class Strange(CheckpointRecord):
            type: Any

        class One(CheckpointRecord, tag=1):
            pass

        class Two(CheckpointRecord, tag=2):
            pass

        body = RecordKit(Strange, 1 << 20).encode(
            Strange(session_id="s", checkpoint_id="x", type=tag)
        )
        kit: RecordKit[Any] = RecordKit(One | Two, 1 << 20)

        with pytest.raises(CheckpointDecodeError):
            kit.decode(body.body, "there", "s", "x")

    async def test_record_of_none_of_the_types_is_refused(self, make_store: MakeStore) -> None:
        """So is a subclass of one, as with one type."""

        class More(Event, tag="more"):
            pass

        store = make_store(Kept)

        for record in (Draft(session_id="s"), More(session_id="s"), Plain(session_id="s")):
            with pytest.raises(RecordTypeError, match=r"Event \| Head \| Picture"):
                await store.save(record)
        assert await store.list("s") == ()


class Twin(CheckpointRecord, tag="event"):
    pass


class Elsewhere(CheckpointRecord, tag_field="kind", tag="elsewhere"):
    pass


class Typed(CheckpointRecord):
    kind: str = msgspec.field(name="type", default="")


class Numbered(CheckpointRecord, tag=7):
    pass


class TestUnions:
    @pytest.mark.parametrize(
        ("record_type", "name", "reason"),
        [
            (Plain | CheckpointData, "CheckpointData", "tag"),
            (Event | Twin, "Twin", "same tag 'event'"),
            (Event | Elsewhere, "Elsewhere", "'kind'"),
            (Event | Typed, "Typed", "rename one"),
            (Typed | Event, "Event", "rename one"),
            (Event | None, "NoneType", "CheckpointRecord"),
            (Event | int, "int", "CheckpointRecord"),
            (Union[Event, "Head"], "Head", "CheckpointRecord"),
        ],
        ids=str,
    )
    def test_that_files_would_not_tell_apart_is_refused(
        self, tmp_path: Path, record_type: Any, name: str, reason: str
    ) -> None:
        """It is refused when the store is made, by the type and the reason."""
        for make in (
            lambda: AsyncCheckpointWriter(tmp_path, record_type=record_type),
            lambda: MemoryStore(record_type),
            lambda: RecordKit(record_type, 1000),
        ):
            with pytest.raises(RecordTypeError, match=reason) as refused:
                make()
            assert name in refused.value.record_type

    @pytest.mark.parametrize(
        "record_type",
        [
            Union[Event, Head],  # noqa: UP007 - what a user may write
            Event | Head,
            Event | Head | Event,
            Event | Numbered | Head,
            TypeAliasType("Alias", Event | Head),
            Event | TypeAliasType("Alias", Head | Picture),
        ],
        ids=str,
    )
    async def test_is_taken_however_it_is_written(self, record_type: Any) -> None:
        """A union from `typing`, of `|`, or by a name of its own is one."""
        store: MemoryStore[Any] = MemoryStore(record_type)
        record = Head(session_id="s", seen=1)

        await store.save(record)

        assert await store.load("s") == record

    async def test_union_of_one_is_that_type(self) -> None:
        """An alias of one type is that type, tagged or not."""
        alias: Any = TypeAliasType("Alias", Plain)
        store: MemoryStore[Any] = MemoryStore(alias)

        await store.save(Plain(session_id="s"))

        assert isinstance(await store.load("s"), Plain)

    def test_alias_that_cannot_be_read_is_refused(self) -> None:
        """An alias that leads to itself, or to nothing, is refused by name."""

        class Nothing:
            __qualname__ = "Nothing"

            @property
            def __value__(self) -> object:
                raise NameError("name 'Missing' is not defined")

        class Itself(Nothing):
            @property
            def __value__(self) -> object:
                return self

        for alias in (Nothing(), Itself()):
            with pytest.raises(RecordTypeError, match="cannot be read"):
                MemoryStore(alias)  # type: ignore[call-overload]

    async def test_type_is_known_to_the_type_checker(self, root: Path) -> None:
        """A writer of a union that stands in its brackets loads records of that union."""
        async with AsyncCheckpointWriter[Kept](root, record_type=Kept) as writer:
            loaded = await writer.load("s")
            assert_type(loaded, Event | Head | Picture | None)
        declared: MemoryStore[Kept] = MemoryStore(Kept)
        assert_type(declared, MemoryStore[Event | Head | Picture])
