"""Histories: every version reads as the list that it stands for, and costs what was added to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobNode,
    CheckpointData,
    CheckpointDecodeError,
    CheckpointEncodeError,
    InvalidArgumentError,
    MissingBlobError,
    blob_digest,
    exact,
)
from aiocheckpoint.history import History, HistoryRecord, LoadBlobs, load_history
from aiocheckpoint.store import BlobStore
from aiocheckpoint.testing import MemoryStore
from tests import exact_values
from tests.conftest import MakeWriter
from tests.exact_values import described
from tests.on_disk import on_disk

Store: TypeAlias = BlobStore["Chat"]


class Chat(HistoryRecord):
    """A record of a conversation."""

    note: str = ""


def _loader(store: Store) -> LoadBlobs:
    return partial(store.load_blobs, "s")


async def _save(store: Store, checkpoint_id: str, history: History) -> History:
    record = history.into(Chat(session_id="s", checkpoint_id=checkpoint_id))
    await store.save(record, blobs=history.new_blobs)
    return history.stored()


async def _load(store: Store, checkpoint_id: str | None = None) -> History:
    record = await store.load("s", checkpoint_id)
    assert record is not None
    return await load_history(_loader(store), record)


def _messages(count: int, size: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": f"{number} ".ljust(size, "x"), "cost": number / 7}
        for number in range(first, first + count)
    ]


_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=3),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
_additions = st.one_of(
    st.lists(st.one_of(_values, st.lists(_values, max_size=2)), max_size=3),
    st.integers(1, 40).map(lambda count: _messages(count, 900)),
    st.just(_messages(1, 17_000)),
    st.just(_messages(150, 900)),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), _additions),
        st.tuples(st.just("many"), st.integers(1, 70)),
        st.tuples(st.just("truncate"), st.floats(0, 1)),
        st.tuples(st.just("go back"), st.floats(0, 1)),
        st.tuples(st.just("load"), st.none()),
        st.tuples(st.just("forget"), st.floats(0, 1)),
    ),
    max_size=14,
)


class Model:
    """Saved versions of a history beside the lists that they stand for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.saved: dict[str, list[Any]] = {}
        self.count = 0

    async def run(self, steps: Iterable[tuple[str, Any]]) -> None:
        history, items = History(_loader(self.store)), list[Any]()
        for kind, value in steps:
            if kind == "extend":
                history, items = history.extend(value), [*items, *value]
            elif kind == "many":
                for number in range(value):
                    history, items = history.append(number), [*items, number]
                    history = await self.save(history, items)
            elif kind == "truncate":
                length = int(value * (len(items) + 1))
                history, items = await history.truncate(length), items[:length]
            elif kind == "load" and self.saved:
                history = await _load(self.store)
                items = self.saved[[*self.saved][-1]]
            elif kind == "go back" and self.saved:
                key = [*self.saved][int(value * (len(self.saved) - 1))]
                history, items = await _load(self.store, key), self.saved[key]
            elif kind == "forget" and self.saved:
                key = [*self.saved][int(value * (len(self.saved) - 1))]
                await self.store.delete("s", key)
                del self.saved[key]
                history, items = History(_loader(self.store)), []
                continue
            assert len(history) == len(items)
            history = await self.save(history, items)
        await self.require_right()

    async def save(self, history: History, items: list[Any]) -> History:
        self.count += 1
        history = await _save(self.store, f"{self.count}", history)
        self.saved[f"{self.count}"] = items
        return history

    async def require_right(self) -> None:
        for key, items in self.saved.items():
            history = await _load(self.store, key)
            assert await history.items() == items
            third = len(items) // 3
            assert await history.items(third, 2 * third) == items[third : 2 * third]
            assert await history.last(3) == items[-3:]
        assert await self.store.check() == ()


class TestModel:
    async def test_long_histories(self) -> None:
        """With an index of several heights every range is right, and so is every cut."""
        store: Store = MemoryStore(Chat)
        items = list(range(40_000))
        history = History(_loader(store))
        for start in range(0, len(items), 25):  # 32 of these are a page, 32 pages an index
            history = history.extend(items[start : start + 25])
        history = await _save(store, "a", history)
        history = await _load(store)
        for start, stop in ((0, 1), (799, 801), (25_599, 25_603), (39_990, 40_000), (0, 40_000)):
            assert await history.items(start, stop) == items[start:stop]
        for length in (0, 1, 800, 25_600, 30_001, 39_999):
            shorter = await history.truncate(length)
            longer = await _save(store, f"{length}", shorter.extend([-1, -2]))
            assert await longer.items() == [*items[:length], -1, -2]
            assert await (await _load(store)).items(max(length - 2, 0)) == [
                *items[max(length - 2, 0) : length], -1, -2
            ]  # fmt: skip


@settings(max_examples=6)
@given(steps=_steps)
@pytest.mark.long
def test_versions_read_as_lists_on_disk(
    steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same on disk, in a writer that knows all and in one that knows nothing."""
    root = tmp_path_factory.mktemp("history")

    async def run() -> None:
        async with AsyncCheckpointWriter(root, record_type=Chat) as writer:
            model = Model(writer)
            await model.run(steps)
        async with AsyncCheckpointWriter(root, record_type=Chat) as writer:
            model.store = writer
            await model.require_right()

    asyncio.run(run())


class TestCost:
    async def test_a_step_costs_what_it_adds(self) -> None:
        """However long the history is, the blobs of a step are its items and a few links."""
        history = History(_no_blobs).stored()
        most = total = 0
        for number in range(3000):
            history = history.extend(_messages(1, 800, number))
            size = sum(map(len, history.new_blobs.values()))
            most, total = max(most, size), total + size
            history = history.stored()
        assert most < 40_000  # a page, now and then
        assert total < 3000 * (2 * 860 + 300)

    async def test_the_newest_are_read_without_the_rest(self) -> None:
        """Loads are few, and of the blobs that hold what is asked for alone."""
        store: Store = MemoryStore(Chat)
        history = History(_loader(store))
        for number in range(1000):
            history = await _save(store, "a", history.extend(_messages(1, 800, number)))
        loads: list[int] = []

        async def load(digests: Iterable[str]) -> Mapping[str, bytes]:
            wanted = [*digests]
            loads.append(len(wanted))
            return await store.load_blobs("s", wanted)

        record = await store.load("s")
        assert record is not None
        history = await load_history(load, record)
        assert len(loads) <= 3
        assert sum(loads) <= 34
        loads.clear()
        assert [m["content"].split()[0] for m in await history.last(5)] == [
            f"{number}" for number in range(995, 1000)
        ]
        assert sum(loads) <= 1
        loads.clear()
        assert len(await history.items()) == 1000
        assert len(loads) == 1

    async def test_pages_are_neither_small_nor_bound_to_a_large_item(self) -> None:
        """What little is left beyond a page goes into it, but not to a large item."""
        history = History(_no_blobs)
        for number in range(200):
            history = history.extend(_messages(1, 3400, number))
        assert min(map(len, (await history.pages())[:10])) > 60_000
        large, small = b'"%b"' % bytes(10**6).replace(b"\0", b"x"), [b"%d" % it for it in range(9)]
        history = History(_no_blobs).extend_json([large, *small])
        assert [*map(len, await history.pages())] == [len(large) + 2, 2 * len(small) + 1]

    async def test_a_deleted_version_leaves_nothing(
        self, make_writer: MakeWriter, root: Path
    ) -> None:
        """Where only the newest is kept, no more blobs are there than it leads to."""
        writer = make_writer(record_type=Chat, max_checkpoints=1)
        history = History(_loader(writer))
        for number in range(100):
            history = await _save(writer, f"{number}", history.extend(_messages(1, 300, number)))
        assert len(await (await _load(writer)).items()) == 100
        await on_disk(writer)
        stored = await asyncio.to_thread(lambda: len([*(root / "s" / "blobs").iterdir()]))
        assert stored <= 3 + 1 + 31

    async def test_blobs_of_one_commit_need_no_save_between(self) -> None:
        """Many steps may be saved at once: what was put together meanwhile is not given."""
        store: Store = MemoryStore(Chat)
        history = History(_loader(store))
        for number in range(500):
            history = history.extend(_messages(1, 300, number))
        assert len(history.new_blobs) < 60
        await _save(store, "a", history)
        assert await (await _load(store)).items() == _messages(500, 300)


async def _no_blobs(digests: Iterable[str]) -> Mapping[str, bytes]:
    raise AssertionError(f"nothing is to be loaded: {[*digests]}")


class TestValues:
    @pytest.mark.parametrize("bad", [(1, 2), {1}, b"x", math.nan, 2**64, "\ud800", object()])
    async def test_what_would_not_come_back_is_refused(self, bad: object) -> None:
        """By its place; the history stays as it was."""
        history = History(_no_blobs).append("first")
        with pytest.raises(CheckpointEncodeError, match=r"history\[1\]\.deep"):
            history.extend([None, {"deep": bad}])
        assert await history.items() == ["first"]

    async def test_items_are_taken_as_they_are(self) -> None:
        """What is changed after the call, or after reading, is changed for nobody else."""
        message = {"content": ["a"]}
        history = History(_no_blobs).append(message)
        message["content"].append("b")
        assert await history.items() == [{"content": ["a"]}]
        (await history.items())[0]["content"].clear()
        assert await history.items() == [{"content": ["a"]}]

    @given(st.lists(exact_values.values, max_size=6), st.integers(0, 200), st.integers(0, 210))
    async def test_what_exact_wrote_comes_back(
        self, values: list[Any], plain: int, start: int
    ) -> None:
        """Of values that JSON lacks, in pages or not, beside texts that look like one."""
        likely = ['{"!int":"1"}', {'{"!': "!int"}, {"!": 1, "b": 2}]
        whole = [*_messages(plain, 900), *values, *likely]
        history = History(_no_blobs).extend([exact.to_json(value) for value in whole])
        assert described(await history.items(start, exact=True)) == described(whole[start:])
        assert described(await history.last(2, exact=True)) == described(whole[-2:])

    @pytest.mark.parametrize("marks", [0, 1, 63, 64, 65, 1000])
    async def test_an_escape_is_found_behind_any_text(self, marks: int) -> None:
        """However many of its marks stand in texts before it; where there is none, none is seen."""
        loud: list[Any] = [{"content": "!" * marks}, '{"!']
        history = History(_no_blobs).extend(loud)
        assert await history.items(exact=True) == loud
        longer = history.append(exact.to_json((1, 2)))
        assert await longer.items(exact=True) == [*loud, (1, 2)]

    async def test_made_of_items_a_part_at_a_time(self) -> None:
        """What is made of items comes back in their order, and never are all of them decoded."""
        whole = _messages(400, 1200)
        sizes: list[int] = []

        def make(items: list[Any]) -> list[tuple[Any]]:
            sizes.append(len(items))
            return [(item,) for item in items]

        history = History(_no_blobs).extend(whole)
        made = [(item,) for item in whole]
        assert await history.items(5, 390, make=make) == made[5:390]
        assert sum(sizes) == 385
        assert max(sizes) < 200
        assert await history.last(7, exact=True, make=make) == made[-7:]
        with pytest.raises(InvalidArgumentError, match="make"):
            await history.items(make="list")  # type: ignore[arg-type]

    async def test_nothing_added_is_the_same(self) -> None:
        """An empty history has no blobs, and adding nothing makes none."""
        history = History(_no_blobs)
        assert history.extend([]) is history
        assert history.new_blobs == {}
        record = history.into(Chat(session_id="s", blob_digests=(blob_digest(b"own"),)))
        assert (record.history_length, record.blob_digests) == (0, (blob_digest(b"own"),))
        assert len(await load_history(_no_blobs, record)) == 0
        longer = history.append(1).into(record)
        assert longer.blob_digests[1:] == record.blob_digests
        assert history.append(2).into(longer).blob_digests[1:] == record.blob_digests
        assert history.into(longer).blob_digests == record.blob_digests

    @pytest.mark.parametrize("bad", [-1, 1.0, True, "1"])
    async def test_positions_are_counts(self, bad: Any) -> None:
        """Negative positions would mean something else to everybody."""
        history = History(_no_blobs).append(1)
        for call in (history.last, history.truncate, history.items):
            with pytest.raises(InvalidArgumentError):
                await call(bad)
        with pytest.raises(InvalidArgumentError):
            await history.items(0, bad)

    @pytest.mark.parametrize("bad", ["abc", b"abc", {"role": "user"}, None, 5])
    def test_one_item_is_not_taken_for_several(self, bad: Any) -> None:
        """Of a message that is given without its list, not only the keys are kept."""
        with pytest.raises(InvalidArgumentError, match="append"):
            History(_no_blobs).extend(bad)

    @pytest.mark.parametrize("bad", [None, CheckpointData(session_id="s"), Chat])
    async def test_only_its_records_have_a_history(self, bad: Any) -> None:
        """What `load` returns where there is nothing, and any other record, is refused by name."""
        with pytest.raises(InvalidArgumentError, match="HistoryRecord"):
            History(_no_blobs).into(bad)
        with pytest.raises(InvalidArgumentError, match="HistoryRecord"):
            await load_history(_no_blobs, bad)


class TestJson:
    """Items that are JSON already."""

    async def test_items_are_kept_to_the_byte(self) -> None:
        """Keys keep their order, in pages or not, after a load and a cut, beside other items."""
        store: Store = MemoryStore(Chat)
        items = [b'{"z":"%b","a":1.0}' % (b"x" * (number % 50 * 40)) for number in range(300)]
        history = History(_loader(store)).extend_json(items[:250])
        for item in items[250:]:
            history = history.extend_json([item])
        history = (await _save(store, "a", history)).append({"z": 1, "a": 2})
        loaded = await _load(store)
        cut = await loaded.truncate(131)

        assert _joined(await history.pages()) == [*items, b'{"a":2,"z":1}']
        assert _joined(await loaded.pages()) == items
        assert _joined(await cut.pages()) == items[:131]
        assert await loaded.items(3, 5) == [msgspec.json.decode(item) for item in items[3:5]]
        assert list((await loaded.items())[0]) == ["z", "a"]

    async def test_a_history_without_items_has_no_pages(self) -> None:
        """And adding none is the same."""
        history = History(_no_blobs)
        assert history.extend_json([]) is history
        assert await history.pages() == []

    @pytest.mark.parametrize(
        "bad",
        [b"", b"1,2", b" 1", b"1 ", b"[", b'"\xff"', b"nan", b"1e999", b'"\\ud800"', b"01", b"],["],
    )
    async def test_what_could_not_be_read_again_is_refused(self, bad: bytes) -> None:
        """By its place; the history stays as it was."""
        history = History(_no_blobs).append("first")
        with pytest.raises(CheckpointEncodeError, match=r"history\[1\]"):
            history.extend_json([b"1", bad, bad])
        assert await history.items() == ["first"]

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (b"[NaN]", "invalid character"),
            (b"1e999", "out of range"),
            (b'"\xff"', "utf-8"),
            (b"1,2", "trailing characters"),
            (b" 1", "white space"),
        ],
    )
    async def test_what_is_wrong_with_it_is_told(self, bad: bytes, reason: str) -> None:
        """By the reason, and not only by the place."""
        with pytest.raises(CheckpointEncodeError, match=reason):
            History(_no_blobs).extend_json([bad])

    async def test_a_json_array_is_not_taken_for_its_items(self) -> None:
        """The error says that each item is to be bytes of its own: an array looks like a list."""
        with pytest.raises(
            InvalidArgumentError, match="a list of bytes, each the JSON of one item"
        ):
            History(_no_blobs).extend_json(b"[NaN]")  # type: ignore[arg-type]

    @pytest.mark.parametrize("bad", [b"[1]", "1", ["1"], [1], None])
    def test_only_lists_of_bytes_are_taken(self, bad: Any) -> None:
        """One item is not taken for several, and text not for bytes."""
        with pytest.raises(InvalidArgumentError):
            History(_no_blobs).extend_json(bad)


def _joined(pages: list[bytes]) -> list[bytes]:
    return [bytes(it) for page in pages for it in msgspec.json.decode(page, type=list[msgspec.Raw])]


class TestDamage:
    @pytest.mark.parametrize(
        "blob",
        [
            b"",
            b"[]",
            b'[1,0,"x"]',
            b"[1,9,[1]]",
            b"[9,0,[1]]",
            BlobNode([blob_digest(b"")] * 3, b"[1,0,[1]]"),
            BlobNode([blob_digest(b"")], b"[1,0,[1]]"),
        ],
    )
    async def test_other_blobs_are_no_history(self, blob: bytes) -> None:
        """A blob that is intact and no history is told by a named error."""
        store: Store = MemoryStore(Chat)
        record = Chat(session_id="s", history_length=1, blob_digests=(blob_digest(blob),))
        below = [b""] if isinstance(blob, BlobNode) else []
        await store.save(record, blobs={blob_digest(each): each for each in (blob, *below)})
        with pytest.raises(CheckpointDecodeError):
            await load_history(_loader(store), record)

    async def test_a_record_without_its_root_is_told(self) -> None:
        """A record that says it has a history, and names none."""
        with pytest.raises(CheckpointDecodeError, match="names no history"):
            await load_history(_no_blobs, Chat(session_id="s", history_length=3))

    async def test_going_on_from_what_was_deleted_is_refused(self) -> None:
        """By name, and nothing is saved."""
        store: Store = MemoryStore(Chat)
        history = await _save(store, "a", History(_loader(store)).append(1))
        await store.delete("s", "a")
        with pytest.raises(MissingBlobError):
            await _save(store, "b", history.append(2))
        assert await store.ids("s") == ()


async def test_a_transaction_goes_on_from_what_it_reads() -> None:
    """In `update`, two that append at once both get their message in."""
    store = MemoryStore(Chat)

    async def add(text: str) -> None:
        async def work(session: Any) -> None:
            record = await session.load() or Chat(session_id="s", checkpoint_id="head")
            history = (await load_history(session.load_blobs, record)).append(text)
            session.save(history.into(record), blobs=history.new_blobs)

        await store.update("s", work)

    await asyncio.gather(*(add(f"{number}") for number in range(50)))
    assert sorted(await (await _load(store)).items(), key=int) == [f"{n}" for n in range(50)]
