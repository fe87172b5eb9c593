"""What a session store promises, with the framework's own kit and helpers."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import re
import threading
import tracemalloc
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip(
    "claude_agent_sdk", reason="needs the extra claude-agent: .ci/adapter claude-agent"
)

import claude_agent_sdk
from claude_agent_sdk import (
    InMemorySessionStore,
    fork_session_via_store,
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
)
from claude_agent_sdk.testing import run_session_store_conformance

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointCorruptError,
    CheckpointEncodeError,
    CheckpointError,
    DurabilityUnknownError,
    ErasureIncompleteError,
    InvalidArgumentError,
    StorageError,
    StorageFullError,
    Transaction,
    UnsupportedOperationError,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.adapters.claude_agent import ClaudeRecord, SessionStore
from aiocheckpoint.testing import MemoryStore
from tests.children import run_in_child

KEY: Any = {"project_key": "shop", "session_id": "order-7"}
AGENT: Any = {**KEY, "subpath": "subagents/agent-1"}


class ApartStore(MemoryStore[Any]):
    """A store that commits one session at a time, as a bucket does."""

    async def update_many(
        self,
        session_ids: Iterable[str],
        work: Callable[[Mapping[str, Transaction[Any]]], Any],
        /,
    ) -> Any:
        """Refuse."""
        raise UnsupportedOperationError("update_many", "this store", "for the test")


class SlowToErase(ApartStore):
    """A bucket that refuses to erase what it has deleted, as often as it is told."""

    def __init__(self, refusals: int) -> None:
        super().__init__(ClaudeRecord)
        self.refusals = refusals
        self.asked: list[str] = []

    async def delete_session(self, session_id: str) -> bool:
        """Delete, and tell that bytes stay."""
        self.asked.append(session_id)
        was_there = await super().delete_session(session_id)
        if self.refusals:
            self.refusals -= 1
            raise ErasureIncompleteError(session_id, (session_id,), "refused")
        return was_there


@pytest.fixture(name="storage", params=["directory", "url", "open store", "memory", "apart"])
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    match request.param:
        case "directory":
            yield root
        case "url":
            yield root.as_uri()
        case "open store":
            store: BlobStore[Any] = open_store(root, record_type=ClaudeRecord)
            async with store:
                yield store
        case "memory":
            yield MemoryStore(ClaudeRecord)
        case _:
            yield ApartStore(ClaudeRecord)


_made: list[SessionStore] = []


def opened(storage: Any) -> SessionStore:
    """Return a session store that is closed after the test."""
    _made.append(SessionStore(storage))
    return _made[-1]


@pytest.fixture(autouse=True)
async def _closing() -> AsyncIterator[None]:
    yield
    while _made:
        await _made.pop().aclose()


def entry(number: int, size: int = 10) -> Any:
    """Return an entry with a uuid."""
    return {
        "type": "user",
        "uuid": str(uuid.UUID(int=number)),
        "message": {"role": "user", "content": f"{number:06} " + "x" * size},
    }


def entries(numbers: Iterable[int], size: int = 10) -> list[Any]:
    return [entry(number, size) for number in numbers]


class TestContract:
    async def test_kit_of_the_framework(self, tmp_path: Path, storage: Any) -> None:
        """The framework's own kit passes, all optional parts included."""
        numbers = iter(range(1000))

        def make() -> SessionStore:
            if isinstance(storage, MemoryStore):
                return opened(type(storage)(ClaudeRecord))
            return opened(tmp_path / f"kit-{next(numbers)}")

        await run_session_store_conformance(make)
        for name in ("list_sessions", "list_session_summaries", "delete", "list_subkeys"):
            default = getattr(claude_agent_sdk.SessionStore, name)
            assert getattr(SessionStore, name) is not default

    async def test_values_beyond_json_come_back(self, storage: Any) -> None:
        """Values that JSON lacks, as one half of a pair of surrogates, are as they were."""
        odd: Any = {
            "type": "x",
            "n": 10**20,
            "s": "cut \ud83d",
            "customTitle": "\ud83d",
            "f": 1e300,
        }
        not_a_number: Any = {"type": "x", "nan": math.nan}
        escaped: Any = {"type": "x", "!tuple": [], "!": {"!": 1}}
        store = opened(storage)
        await store.append(KEY, entries([1]))
        await store.append(KEY, [odd, escaped, not_a_number])
        await store.append(KEY, entries([2]))

        loaded = await opened(storage).load(KEY) or []
        before, first, second, third, after = loaded

        assert [before, after] == entries([1, 2])
        assert second == escaped
        assert first == odd
        assert math.isnan(third["nan"])  # type: ignore[typeddict-item]
        (summary,) = await store.list_session_summaries("shop")
        assert summary["data"]["custom_title"] == "\ud83d"

    @pytest.mark.parametrize(
        ("key", "named"),
        [
            ({"session_id": "s"}, "project_key"),
            ({"project_key": "p"}, "session_id"),
            ({"project_key": "p", "session_id": ""}, "session_id"),
            ({"project_key": "p", "session_id": 7}, "session_id"),
            ({**KEY, "subpath": ""}, "subpath"),
            ({**KEY, "subpath": None}, "subpath"),
        ],
    )
    async def test_bad_key_is_refused(self, storage: Any, key: Any, named: str) -> None:
        """A key without one of its parts is refused by the part's name, and nothing stored."""
        store = opened(storage)
        for call in (store.append(key, entries([1])), store.load(key), store.delete(key)):
            with pytest.raises(InvalidArgumentError, match=named):
                await call

        assert await store.list_sessions("p") == []

    async def test_bad_entries_are_refused_and_nothing_appended(self, storage: Any) -> None:
        """A value of no kind is refused by its path; the entries beside it are not appended."""
        bad: Any = {"type": "x", "deep": [object()]}
        not_a_dict: Any = "text"
        store = opened(storage)
        with pytest.raises(CheckpointEncodeError) as refused:
            await store.append(KEY, [entry(1), bad])
        with pytest.raises(InvalidArgumentError, match=r"entries\[1\]"):
            await store.append(KEY, [entry(1), not_a_dict])

        assert refused.value.path == "entries[1].deep[0]"
        assert await store.load(KEY) is None

    async def test_later_change_by_the_caller_is_not_stored(self, storage: Any) -> None:
        """Entries are what they were when the call was made."""
        given = entry(1)
        store = opened(storage)
        task = asyncio.ensure_future(store.append(KEY, [given]))
        await asyncio.sleep(0)
        given["message"]["content"] = "changed"
        await task

        assert await store.load(KEY) == [entry(1)]

    async def test_closed_store_refuses(self, storage: Any) -> None:
        """Every call of a closed store is refused, one without entries too."""
        store = opened(storage)
        await store.append(KEY, entries([1]))
        await store.aclose()

        for call in (
            store.append(KEY, []),
            store.load(KEY),
            store.delete(KEY),
            store.list_sessions("shop"),
            store.list_session_summaries("shop"),
            store.list_subkeys(KEY),
        ):
            with pytest.raises(WriterClosedError):
                await call

    async def test_odd_names_are_kept_apart(self, storage: Any) -> None:
        """Projects, sessions and subpaths of any text are each a transcript of its own."""
        texts = ['a"b', 'a","b', "a/b", "..", "é" * 120, "a b", "[", "A" * 300]
        keys: list[Any] = [
            {"project_key": project, "session_id": session}
            for project in texts
            for session in texts
        ]
        keys += [{**key, "subpath": f"subagents/{key['project_key']}"} for key in keys[::9]]
        store = opened(storage)
        await asyncio.gather(*(store.append(key, entries([n])) for n, key in enumerate(keys)))

        for number, key in enumerate(keys):
            assert await store.load(key) == entries([number])
        for project in texts:
            found = [one["session_id"] for one in await store.list_sessions(project)]
            assert sorted(found) == sorted(texts)


class TestUuids:
    async def test_each_counts_once(self, storage: Any) -> None:
        """What has a uuid that is there is left out, in a batch as well, by any object."""
        store = opened(storage)
        await store.append(KEY, [*entries([1, 2]), entry(1)])
        await opened(storage).append(KEY, entries([2, 3]))
        await store.append(KEY, entries([1, 2, 3, 4]))

        assert await store.load(KEY) == entries([1, 2, 3, 4])

    async def test_one_of_long_ago_counts_once(self, storage: Any) -> None:
        """A uuid is known also when its entry is far back, and was never read by this object."""
        store = opened(storage)
        for start in range(0, 300, 30):
            await store.append(KEY, entries(range(start, start + 30), 1000))
        await opened(storage).append(KEY, entries([0, 150, 300]))

        assert await store.load(KEY) == entries(range(300), 1000) + entries([300])

    async def test_entries_without_one_are_all_kept(self, storage: Any) -> None:
        """Titles, tags and modes, which have none, are appended as often as they come."""
        title: Any = {"type": "custom-title", "customTitle": "Lamps"}
        store = opened(storage)
        await store.append(KEY, [title, title])
        await store.append(KEY, [title])

        assert await store.load(KEY) == [title] * 3

    async def test_each_transcript_has_its_own(self, storage: Any) -> None:
        """A subagent may have the uuid of an entry of its session, and another session too."""
        other: Any = {"project_key": "shop", "session_id": "order-8"}
        store = opened(storage)
        for key in (KEY, AGENT, other):
            await store.append(key, entries([1]))

        for key in (KEY, AGENT, other):
            assert await store.load(key) == entries([1])

    async def test_are_forgotten_with_the_session(self, storage: Any) -> None:
        """After a delete, by whomever, the same entries can be appended again."""
        store = opened(storage)
        await store.append(KEY, entries([1, 2]))
        await opened(storage).delete(KEY)
        await store.append(KEY, entries([2, 1]))
        await opened(storage).delete(KEY)
        await opened(storage).append(KEY, entries([5]))
        await store.append(KEY, entries([1]))

        assert await store.load(KEY) == entries([5, 1])

    async def test_nothing_new_changes_nothing(self, storage: Any) -> None:
        """A batch that was stored already leaves the session's time as it is."""
        store = opened(storage)
        await store.append(KEY, entries([1]))
        before = await store.list_sessions("shop")
        await store.append(KEY, entries([1]))

        assert await store.list_sessions("shop") == before

    @settings(max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["append", "append", "append", "delete", "load"]),
                st.integers(0, 1),
                st.lists(st.integers(0, 60) | st.none(), max_size=30),
            ),
            max_size=25,
        )
    )
    def test_does_what_a_list_does(self, calls: list[tuple[str, int, list[int | None]]]) -> None:
        """Whatever is appended and deleted, by two objects in turn, it holds what a list would."""
        asyncio.run(_compare_with_list(calls))


async def _compare_with_list(calls: list[tuple[str, int, list[int | None]]]) -> None:
    memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
    stores = [SessionStore(memory), SessionStore(Beside(memory))]
    model: dict[int, Any] = {}
    keys = {0: KEY, 1: AGENT}
    for call, which, numbers in calls:
        store = stores[len(numbers) % 2]
        match call:
            case "append":
                given: list[Any] = [
                    {"type": "mode"} if number is None else entry(number, 3000 * (number % 3))
                    for number in numbers
                ]
                await store.append(keys[which], given)
                for one in given:
                    found = model.setdefault(which, [])
                    if "uuid" not in one or one not in found:
                        found.append(one)
            case "delete":
                await store.delete(keys[which])
                for gone in (0, 1) if which == 0 else (1,):
                    model.pop(gone, None)
            case _:
                assert await store.load(keys[which]) == model.get(which)
        assert len(await store.list_sessions("shop")) == (0 in model)
    for which, key in keys.items():
        assert await stores[0].load(key) == model.get(which)


class TestAtOnce:
    @pytest.mark.parametrize("objects", [1, 3])
    async def test_appends_keep_the_order_of_the_calls(self, storage: Any, objects: int) -> None:
        """Appends that are called at once are stored in the order of the calls, by many objects."""
        stores = [opened(storage) for _ in range(objects)]

        await asyncio.gather(
            *(stores[n % objects].append(KEY, entries([n], 50 * (n % 7))) for n in range(60))
        )

        found = await opened(storage).load(KEY) or []
        assert [one["uuid"] for one in found] == [entry(n)["uuid"] for n in range(60)]

    async def test_a_retried_batch_counts_once(self, storage: Any) -> None:
        """A batch that is sent again while the first call is under way is stored once."""
        stores = [opened(storage) for _ in range(8)]
        batch = [*entries(range(20)), {"type": "mode"}]

        await asyncio.gather(*(store.append(KEY, [*batch[:20]]) for store in stores))
        await stores[0].append(KEY, batch)

        assert await stores[0].load(KEY) == batch

    @pytest.mark.blocking
    def test_batches_are_whole_over_threads(self, root: Path) -> None:
        """Threads with a loop each append batches; each is whole, in the order of its thread."""

        def batch(name: int, number: int) -> list[Any]:
            return entries(range(name * 1000 + number * 5, name * 1000 + number * 5 + 5))

        def append(name: int) -> None:
            async def run() -> None:
                async with SessionStore(root) as store:
                    for number in range(25):
                        await store.append(KEY, batch(name, number))

            asyncio.run(run())

        threads = [threading.Thread(target=append, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        found = asyncio.run(_loaded(root)) or []
        batches = [found[start : start + 5] for start in range(0, len(found), 5)]
        assert len(batches) == 100
        for name in range(4):
            own = [one for one in batches if int(one[0]["message"]["content"][:6]) // 1000 == name]
            assert own == [batch(name, number) for number in range(25)]

    @pytest.mark.blocking
    def test_one_store_serves_many_loops(self, root: Path) -> None:
        """One object may be used from several loops in turn and at once."""
        store = SessionStore(root)

        def append(numbers: range) -> None:
            async def run() -> None:
                for number in numbers:
                    await store.append(KEY, entries([number]))

            asyncio.run(run())

        threads = [
            threading.Thread(target=append, args=(range(n * 20, n * 20 + 20),)) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        found = asyncio.run(store.load(KEY)) or []
        assert sorted(one["uuid"] for one in found) == [entry(n)["uuid"] for n in range(60)]
        asyncio.run(store.aclose())

    @pytest.mark.parametrize("suspensions", range(0, 12, 2))
    async def test_cancelled_delete_has_an_outcome(self, storage: Any, suspensions: int) -> None:
        """Wherever it is cancelled, all is there or nothing once it has ended."""
        store = opened(storage)
        for key in (KEY, AGENT):
            await store.append(key, entries([1, 2]))
        task = asyncio.ensure_future(store.delete(KEY))
        for _ in range(suspensions):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        main, agent = await store.load(KEY), await store.load(AGENT)
        assert main in (None, entries([1, 2]))
        if not isinstance(storage, ApartStore):
            assert agent == main
        if not task.cancelled():
            assert main is None
            assert agent is None


async def _loaded(root: Path, key: Any = KEY) -> list[Any] | None:
    async with SessionStore(root) as store:
        return await store.load(key)


class TestLists:
    async def test_are_those_of_the_framework(self, storage: Any) -> None:
        """Lists and summaries are what the framework's own store has, but for the times."""
        ours, theirs = opened(storage), InMemorySessionStore()
        for number in range(12):
            key: Any = {"project_key": f"p{number % 2}", "session_id": f"s{number % 5}"}
            if number % 3 == 0:
                key["subpath"] = f"subagents/agent-{number}"
            given: Any = [
                {**entry(number), "timestamp": "2026-11-25T00:00:00Z", "gitBranch": f"b{number}"}
            ]
            await ours.append(key, given)
            await theirs.append(key, given)

        for project in ("p0", "p1", "p2"):
            listed = [await store.list_sessions(project) for store in (ours, theirs)]
            newest_first = [
                [one["session_id"] for one in sorted(found, key=lambda one: -one["mtime"])]
                for found in listed
            ]
            assert newest_first[0] == newest_first[1]
            summaries = [await store.list_session_summaries(project) for store in (ours, theirs)]
            by_id = [{one["session_id"]: one["data"] for one in found} for found in summaries]
            assert by_id[0] == by_id[1]
            for session in ("s0", "s1", "s2", "s3"):
                key = {"project_key": project, "session_id": session}
                assert sorted(await ours.list_subkeys(key)) == sorted(
                    await theirs.list_subkeys(key)
                )

    async def test_delete_takes_the_subagents_along(self, storage: Any) -> None:
        """A session goes with its subagents, whatever store it is in; the next one stays."""
        neighbour: Any = {"project_key": "shop", "session_id": "order-70"}
        store = opened(storage)
        for key in (KEY, AGENT, neighbour):
            await store.append(key, entries([1]))
        await store.delete(KEY)

        assert await store.load(AGENT) is None
        assert await store.load(neighbour) == entries([1])

    async def test_deep_list_of_many_reads_no_entries(self) -> None:
        """150 sessions are listed without loading one blob."""
        memory = _Counting(ClaudeRecord)
        store = opened(memory)
        for number in range(150):
            key: Any = {"project_key": "shop", "session_id": f"s{number}"}
            await store.append(key, entries(range(3), 1000))
        memory.loads = 0

        assert len(await store.list_sessions("shop")) == 150
        assert len(await store.list_session_summaries("shop")) == 150
        assert memory.loads == 0

    async def test_append_loads_no_blob_that_it_knows(self) -> None:
        """Appends by the only writer load nothing; those of another process load what is new."""
        memory = _Counting(ClaudeRecord)
        store, other = opened(memory), opened(Beside(memory))
        for number in range(200):
            await store.append(KEY, entries([number], 1000))
        assert memory.loads == 0

        await other.load(KEY)
        memory.loads = 0
        await other.append(KEY, entries([200]))
        assert memory.loads <= 16  # the newest 64 KiB, in pieces


class _Counting(MemoryStore[Any]):
    """Counts the blobs that are loaded, and the calls."""

    loads = 0

    def __init__(self, record_type: Any) -> None:
        super().__init__(record_type)
        self.calls: Counter[str] = Counter()

    async def load_blobs(self, session_id: str, digests: Iterable[str], /) -> dict[str, bytes]:
        found = await super().load_blobs(session_id, digests)
        self.loads += len(found)
        return found

    async def save(self, *args: Any, **options: Any) -> str:
        self.calls["save"] += 1
        return await super().save(*args, **options)

    async def update(self, *args: Any) -> Any:
        self.calls["update"] += 1
        return await super().update(*args)

    async def read(self, *args: Any) -> Any:
        self.calls["read"] += 1
        return await super().read(*args)


class Beside:
    """A storage as another process has it: what is known of its transcripts is not shared."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Failing(MemoryStore[Any]):
    """Fails the next save, if it is told how: it is refused, or made and its answer lost."""

    failure = ""

    async def save(self, *args: Any, **options: Any) -> str:
        failure, self.failure = self.failure, ""
        if failure == "refused":
            raise StorageFullError("save", "memory", None, "for the test")
        saved = await super().save(*args, **options)
        if failure == "unknown":
            raise DurabilityUnknownError("save", "memory", None, "for the test")
        return saved


class TestKnown:
    async def test_append_is_one_save(self) -> None:
        """The only one who appends reads nothing after the first time."""
        memory = _Counting(ClaudeRecord)
        store = opened(memory)
        for number in range(100):
            await store.append(KEY, entries([number], 1000))

        assert memory.calls == {"update": 1, "save": 99}
        assert memory.loads == 0
        assert await store.load(KEY) == entries(range(100), 1000)

    async def test_append_is_one_save_beside_many_others(self) -> None:
        """So it is of hundreds of transcripts that this process appends to in turn."""
        memory = _Counting(ClaudeRecord)
        store = opened(memory)
        for number in range(6):
            for session in range(300):
                key: Any = {"project_key": "shop", "session_id": f"s{session}"}
                await store.append(key, entries([number], 100))

        assert memory.calls == {"update": 300, "save": 1500}
        assert memory.loads == 0

    async def test_what_is_known_of_them_is_bounded(self, root: Path) -> None:
        """
        A process that has appended to many does not keep what they hold, nor all of their uuids.

        Each still counts once.
        """
        keys: list[Any] = [{"project_key": "shop", "session_id": f"s{n}"} for n in range(40)]
        async with AsyncCheckpointWriter[Any](root, record_type=ClaudeRecord) as writer:
            store = opened(writer)
            tracemalloc.start()
            try:
                for key in keys:
                    await store.append(key, entries(range(1000), 3000))
                await writer.flush()  # until then the writer holds what it has saved
                gc.collect()
                held_bytes = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            assert held_bytes < len(keys) * 1000 * 3000 / 8

            await store.append(keys[0], entries(range(999, 1001), 3000))
            assert await store.load(keys[0]) == entries(range(1001), 3000)

    async def test_what_is_saved_each_time_is_bounded(self) -> None:
        """There are two small records, however long the session and its entries are."""
        memory: MemoryStore[Any] = MemoryStore(ClaudeRecord)
        store = opened(memory)
        for number in range(60):
            await store.append(KEY, entries([number], 3000 if number % 7 else 70_000))
            (name,) = [name async for name in memory.sessions()]
            assert len(await memory.list(name)) == 2
            record: Any = await memory.load(name)
            assert sum(len(line) for line in record.lines) <= 16_000
            assert record.history_length + len(record.lines) == number + 1

    @pytest.mark.parametrize("kind", [MemoryStore, ApartStore])
    async def test_others_in_turn_lose_nothing(self, kind: type[Any]) -> None:
        """Whoever appended last, the next one adds to that, and each uuid counts once."""
        storage = kind(ClaudeRecord)
        stores = [opened(Beside(storage)) for _ in range(3)]
        turns = random.Random(7).choices(range(3), k=120)
        for number, turn in enumerate(turns):
            again = entries([max(number - 2, 0)], 500)
            await stores[turn].append(KEY, [*again, *entries([number], 500)])
            if number % 9 == 0:
                assert await stores[number % 3].load(KEY) == entries(range(number + 1), 500)

        assert await opened(storage).load(KEY) == entries(range(120), 500)
        (name,) = [name async for name in storage.sessions()]
        assert len(await storage.list(name)) == 2

    @pytest.mark.parametrize("kind", [MemoryStore, ApartStore])
    async def test_others_at_once_lose_nothing(self, kind: type[Any]) -> None:
        """Appends at once by those that share nothing are all there, each in its order."""
        storage = kind(ClaudeRecord)
        stores = [opened(Beside(storage)) for _ in range(3)]
        await asyncio.gather(
            *(stores[n % 3].append(KEY, entries([n], 50 * (n % 7))) for n in range(60))
        )

        found = [entry["uuid"] for entry in await opened(storage).load(KEY) or []]
        for own in range(3):
            wanted = [entry(n)["uuid"] for n in range(own, 60, 3)]
            assert [uuid for uuid in found if uuid in wanted] == wanted
        assert len(found) == 60

    @pytest.mark.parametrize("failure", ["refused", "unknown"])
    async def test_what_has_failed_is_not_known(self, failure: str) -> None:
        """Entries whose append has failed are there once when they are sent again."""
        memory = _Failing(ClaudeRecord)
        store = opened(memory)
        for number in range(3):
            await store.append(KEY, entries([number]))
        memory.failure = failure
        with pytest.raises(StorageError):
            await store.append(KEY, entries([3]))
        await store.append(KEY, entries([4]))
        await store.append(KEY, entries([3]))

        wanted = [0, 1, 2, 4, 3] if failure == "refused" else [0, 1, 2, 3, 4]
        assert await store.load(KEY) == entries(wanted)

    @pytest.mark.parametrize("suspensions", range(6))
    async def test_cancelled_append_has_an_outcome(self, storage: Any, suspensions: int) -> None:
        """Wherever it is cancelled, it took place or not; what is sent again counts once."""
        store = opened(storage)
        await store.append(KEY, entries([0]))
        task = asyncio.ensure_future(store.append(KEY, entries([1, 2])))
        waiting = asyncio.ensure_future(store.append(KEY, entries([3])))
        for _ in range(suspensions):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task, waiting])

        assert await store.load(KEY) in (entries([0, 1, 2, 3]), entries([0, 3]))
        await store.append(KEY, entries([1, 2, 3]))
        found = await store.load(KEY) or []
        assert sorted(one["uuid"] for one in found) == [entry(n)["uuid"] for n in range(4)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
    @pytest.mark.blocking
    def test_forked_process_knows_nothing(self, root: Path) -> None:
        """A child that was forked and its parent append in turn, and nothing is lost."""
        store = SessionStore(root)

        def append(number: int) -> None:
            async def run() -> None:
                await store.append(KEY, entries([number]))
                await store.aclose()

            asyncio.run(run())

        async def begin() -> None:
            await store.append(KEY, entries([0]))
            await store.append(KEY, entries([1]))

        asyncio.run(begin())
        assert run_in_child(lambda: append(2)) == "None"
        append(3)

        assert asyncio.run(_loaded(root)) == entries(range(4))


class TestHelpersOfTheFramework:
    @pytest.mark.blocking  # the framework looks for the real path of the directory
    async def test_fork_leaves_its_source_alone(self, storage: Any, tmp_path: Path) -> None:
        """A fork has the messages up to one, under new uuids, and outlives its source."""
        store = opened(storage)
        project, session_id = project_key_for_directory(tmp_path), str(uuid.uuid4())
        key: Any = {"project_key": project, "session_id": session_id}
        talk: list[Any] = [
            {
                "type": "user" if number % 2 == 0 else "assistant",
                "uuid": str(uuid.UUID(int=number)),
                "parentUuid": str(uuid.UUID(int=number - 1)) if number else None,
                "sessionId": session_id,
                "timestamp": f"2026-11-25T00:00:{number:02}Z",
                "message": {"role": "user", "content": f"line {number}"},
            }
            for number in range(10)
        ]
        await store.append(key, talk)
        up_to = str(uuid.UUID(int=5))

        fork = await fork_session_via_store(
            store, session_id, directory=str(tmp_path), up_to_message_id=up_to
        )
        assert await store.load(key) == talk
        await store.delete(key)

        messages = await get_session_messages_from_store(
            store, fork.session_id, directory=str(tmp_path)
        )
        said = [message.message["content"] for message in messages]
        assert said == [f"line {number}" for number in range(6)]
        listed = await list_sessions_from_store(store, directory=str(tmp_path))
        assert [one.session_id for one in listed] == [fork.session_id]


@pytest.mark.damages_store
@pytest.mark.blocking
class TestDamage:
    def _files(self, root: Path) -> Iterator[Path]:
        for path in sorted(root.rglob("*")):
            inside = path.is_file() and not path.is_symlink()
            if inside and ".aiocheckpoint" not in path.parts and path.suffix != ".backup":
                yield path

    async def _filled(self, root: Path) -> list[Any]:
        async with SessionStore(root) as store:
            for number in range(80):
                await store.append(KEY, entries([number], 3000))
        whole = await _loaded(root)
        assert whole == entries(range(80), 3000)
        return whole

    @pytest.mark.parametrize("how", ["damaged", "cut", "empty", "removed"])
    async def test_no_file_is_missed_in_silence(self, root: Path, how: str) -> None:
        """Whichever file is damaged or removed, a read and an append raise by name, or have all."""
        whole = await self._filled(root)
        raised = 0
        for path in self._files(root):
            content = path.read_bytes()
            middle = len(content) // 2
            match how:
                case "damaged":
                    flipped = bytes([content[middle] ^ 1])
                    path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
                case "cut":
                    path.write_bytes(content[:middle])
                case "empty":
                    path.write_bytes(b"")
                case _:
                    path.unlink()
            try:
                assert await _loaded(root) == whole, path
            except CheckpointError:
                raised += 1
            path.write_bytes(content)

        assert await _loaded(root) == whole
        assert raised == len([*self._files(root)])

    @pytest.mark.parametrize("which", ["start", "transcript"])
    async def test_append_to_what_was_removed_is_refused(self, root: Path, which: str) -> None:
        """A record that was removed behind the store's back is noticed by each call."""
        await self._filled(root)
        async with AsyncCheckpointWriter[Any](root, record_type=ClaudeRecord) as writer:
            (name,) = [name async for name in writer.sessions()]
            (found,) = await writer.ids(name, prefix=which)
            await writer.delete(name, found)

        async with SessionStore(root) as store:
            for call in (store.load(KEY), store.append(KEY, entries([999]))):
                with pytest.raises(CheckpointCorruptError, match="removed by something else"):
                    await call
            listed = await store.list_sessions("shop")
            assert [found["session_id"] for found in listed] == [KEY["session_id"]]

    async def test_retention_of_another_store_is_noticed(self, root: Path) -> None:
        """What a program beside removes, that keeps too few, is told: it is no empty session."""
        async with (
            SessionStore(root) as store,
            AsyncCheckpointWriter[Any](root, record_type=ClaudeRecord, max_checkpoints=1) as beside,
        ):
            await store.append(KEY, entries([1]))
            (name,) = [name async for name in beside.sessions()]
            await beside.save(await beside.load(name))
            with pytest.raises(CheckpointCorruptError, match="max_checkpoints"):
                await store.load(KEY)

    async def test_damaged_session_is_not_left_out_of_lists(self, root: Path) -> None:
        """One that cannot be read is named behind the others, with the time of what is left."""
        await self._filled(root)
        async with SessionStore(root) as store:
            other: Any = {"project_key": "shop", "session_id": "other"}
            await store.append(other, entries([1]))
            await store.append(KEY, entries([100]))
        path = next(it for it in self._files(root) if re.search(r"order-7.*transcript", str(it)))
        content = bytearray(path.read_bytes())
        content[random.Random(1).randrange(len(content))] ^= 1
        path.write_bytes(content)

        async with SessionStore(root) as store:
            listed = await store.list_sessions("shop")
            assert [found["session_id"] for found in listed] == ["other", KEY["session_id"]]
            assert listed[1]["mtime"] > listed[0]["mtime"] - 60_000  # `continue` looks at that
            (summary,) = await store.list_session_summaries("shop")
            assert summary["session_id"] == "other"
            with pytest.raises(CheckpointCorruptError):
                await store.load(KEY)


async def test_what_could_not_be_erased_is_tried_again() -> None:
    """A delete that a bucket could not erase is told, and the same call again asks for all."""
    storage = SlowToErase(2)
    store = opened(storage)
    await store.append(KEY, [{"type": "user", "uuid": "1"}])
    await store.append(AGENT, [{"type": "user", "uuid": "2"}])
    with pytest.raises(ErasureIncompleteError) as told:
        await store.delete(KEY)
    assert len(told.value.others) == 1
    first = {*storage.asked}
    assert len(first) == 2
    assert await store.load(KEY) is None
    storage.asked.clear()
    await store.delete(KEY)
    assert {*storage.asked} == first
    storage.asked.clear()
    await store.delete(KEY)
    assert len(storage.asked) == 1
