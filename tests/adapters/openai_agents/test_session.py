"""What a session promises beyond the framework's own tests."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("agents", reason="needs the extra openai-agents: .ci/adapter openai-agents")

from agents import Agent, Runner, SessionSettings
from agents.memory import Session as FrameworkSession
from agents.testing import ScriptedModel, assistant_message

from aiocheckpoint import (
    AsyncCheckpointWriter,
    BlobStore,
    CheckpointCorruptError,
    CheckpointEncodeError,
    CheckpointMeta,
    WriterClosedError,
    open_store,
)
from aiocheckpoint.adapters.openai_agents import Session, SessionRecord
from aiocheckpoint.testing import MemoryStore
from tests.adapters.openai_agents.shop import QUIET


def message(number: int, size: int = 10) -> Any:
    return {"role": "user", "content": f"{number:06} " + "x" * size}


def messages(numbers: Iterable[int]) -> list[Any]:
    return [message(number) for number in numbers]


@pytest.fixture(name="storage", params=["directory", "url", "open store", "memory"])
async def _storage(root: Path, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    match request.param:
        case "directory":
            yield root
        case "url":
            yield root.as_uri()
        case "open store":
            store: BlobStore[Any] = open_store(root, record_type=SessionRecord)
            async with store:
                yield store
        case _:
            yield MemoryStore(SessionRecord)


_made: list[Session] = []


def opened(session_id: str, storage: Any, **options: Any) -> Session:
    """Return a session that is closed after the test."""
    _made.append(Session(session_id, storage, **options))
    return _made[-1]


@pytest.fixture(autouse=True)
async def _closing() -> AsyncIterator[None]:
    yield
    while _made:
        await _made.pop().aclose()


class TestItems:
    async def test_is_what_the_framework_calls_a_session(self, storage: Any) -> None:
        """It has what the framework's protocol asks for."""
        async with opened("s", storage) as session:
            assert isinstance(session, FrameworkSession)

    @pytest.mark.parametrize("count", [5, 16, 17, 40, 200])
    @pytest.mark.parametrize(
        ("limit", "setting", "expected"),
        [
            (None, None, None),
            (3, None, 3),
            (0, None, 0),
            (0, 7, 0),
            (None, 7, 7),
            (3, 7, 3),
            (None, 0, 0),
            (1000, None, None),
            (-1, 7, None),
            (20, None, 20),
        ],
    )
    async def test_limit(
        self, count: int, limit: int | None, setting: int | None, expected: int | None
    ) -> None:
        """The newest of them, oldest first; an argument counts more than the settings."""
        settings = SessionSettings(limit=setting)
        session = opened("s", MemoryStore(SessionRecord), session_settings=settings)
        for number in range(count):
            await session.add_items(messages([number]))

        found = await session.get_items(limit)

        first = 0 if expected is None else max(count - expected, 0)
        assert found == messages(range(first, count))

    async def test_values_beyond_json_come_back(self, storage: Any) -> None:
        """Values that JSON lacks are as they were, also after they were moved to the history."""
        not_a_number: Any = {"nan": math.nan}
        odd: Any = {"n": 10**20, "t": (1, 2), "s": "\ud83d", "b": b"\x00", "!tuple": []}
        async with opened("s", storage) as session:
            await session.add_items([odd, not_a_number])
            for number in range(20):
                await session.add_items(messages([number]))

            items: list[Any] = await session.get_items()
            first, second = items[:2]
            assert first == odd
            assert math.isnan(second["nan"])

    async def test_value_of_no_kind_is_refused_and_nothing_added(self, storage: Any) -> None:
        """It is refused by its path; the items beside it are not added."""
        bad: Any = {"deep": [object()]}
        async with opened("s", storage) as session:
            with pytest.raises(CheckpointEncodeError) as refused:
                await session.add_items([message(1), bad])

            assert refused.value.path == "items[1].deep[0]"
            assert await session.get_items() == []

    async def test_later_change_by_the_caller_is_not_stored(self, storage: Any) -> None:
        """Items are what they were when the call was made."""
        item = message(1)
        async with opened("s", storage) as session:
            task = asyncio.ensure_future(session.add_items([item]))
            await asyncio.sleep(0)
            item["content"] = "changed"
            await task

            assert await session.get_items() == [message(1)]

    async def test_clear_leaves_nothing_but_the_paused_run(self, storage: Any) -> None:
        """After a clear the session is as a new one."""
        async with opened("s", storage) as session:
            for number in range(40):
                await session.add_items(messages([number]))
            await session.clear_session()

            assert await session.get_items() == []
            assert await session.pop_item() is None
            await session.add_items(messages([1]))
            assert await session.get_items() == messages([1])

    async def test_closed_session_refuses(self, storage: Any) -> None:
        """Every call of a closed session is refused, one without items too."""
        session = opened("s", storage)
        await session.add_items(messages([1]))
        await session.aclose()

        for call in (session.add_items([]), session.get_items(), session.pop_item()):
            with pytest.raises(WriterClosedError):
                await call

    @settings(max_examples=60)
    @given(
        st.lists(
            st.integers(1, 70).map(lambda count: ("add", count))
            | st.integers(1, 40).map(lambda count: ("pop", count))
            | st.integers(0, 90).map(lambda count: ("get", count))
            | st.just(("clear", 0)),
            max_size=40,
        )
    )
    def test_does_what_a_list_does(self, calls: list[tuple[str, int]]) -> None:
        """Whatever is added, popped and cleared, it holds what a list would."""
        asyncio.run(_compare_with_list(calls))


async def _compare_with_list(calls: list[tuple[str, int]]) -> None:
    store = MemoryStore[SessionRecord](SessionRecord)
    sessions = [opened("s", store), opened("s", store)]
    model: list[Any] = []
    for number, (call, count) in enumerate(calls):
        session = sessions[number % 2]
        match call:
            case "add":
                added = [message(number * 100 + n, 2000 * (n % 3)) for n in range(count)]
                await session.add_items(added)
                model += added
            case "pop":
                for _ in range(count):
                    assert await session.pop_item() == (model.pop() if model else None)
            case "get":
                assert await session.get_items(count) == (model[-count:] if count else [])
            case _:
                await session.clear_session()
                model = []
    assert await sessions[0].get_items() == model


class TestAtOnce:
    async def test_no_item_is_popped_twice(self, storage: Any) -> None:
        """Objects that pop at once get different items, and all of them."""
        sessions = [opened("s", storage) for _ in range(4)]
        await sessions[0].add_items(messages(range(30)))
        for number in range(30, 40):
            await sessions[1].add_items(messages([number]))

        popped = await asyncio.gather(*(session.pop_item() for session in sessions * 11))

        found = [item for item in popped if item is not None]
        assert sorted(found, key=str) == messages(range(40))
        assert popped.count(None) == 4
        for session in sessions:
            await session.aclose()

    @pytest.mark.blocking
    def test_batches_are_whole_over_threads(self, root: Path) -> None:
        """Threads with a loop each add batches; each is whole, and in the order of its thread."""

        def add(name: int) -> None:
            async def run() -> None:
                async with opened("s", root) as session:
                    for number in range(25):
                        await session.add_items(_batch(name, number))

            asyncio.run(run())

        threads = [threading.Thread(target=add, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        items = asyncio.run(_items(root))
        batches = [items[start : start + 5] for start in range(0, len(items), 5)]
        assert len(batches) == 100
        for name in range(4):
            own = [batch for batch in batches if batch[0]["content"].startswith(f"{name} ")]
            assert own == [_batch(name, number) for number in range(25)]

    @pytest.mark.blocking
    # It shuts the generators of its loop down after each run, and then uses the loop again.
    @pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
    def test_run_sync_from_threads(self, root: Path) -> None:
        """`Runner.run_sync` works from any thread, with a loop of its own each time."""
        failures: list[Exception] = []

        def talk(name: str) -> None:
            asyncio.set_event_loop(asyncio.new_event_loop())
            try:
                agent = Agent("a", model=ScriptedModel([[assistant_message("yes")]] * 3))
                session = opened(name, root)
                for _ in range(3):
                    Runner.run_sync(agent, "hello", session=session, run_config=QUIET)
                asyncio.get_event_loop().run_until_complete(session.aclose())
            except Exception as error:  # noqa: BLE001 - raised by the test
                failures.append(error)
            finally:
                asyncio.get_event_loop().close()

        threads = [threading.Thread(target=talk, args=(str(name),)) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        for name in range(3):
            assert len(asyncio.run(_items(root, str(name)))) == 6

    @pytest.mark.parametrize("suspensions", range(0, 12, 2))
    @pytest.mark.parametrize("call", ["add", "pop"])
    async def test_cancelled_call_has_an_outcome(
        self, storage: Any, call: str, suspensions: int
    ) -> None:
        """Wherever it is cancelled, it took place as a whole or not at all once it has ended."""
        async with opened("s", storage) as session:
            await session.add_items(messages([1, 2]))
            changed = messages([1, 2, 3, 4]) if call == "add" else messages([1])
            calling: Any = session.add_items(messages([3, 4]))
            if call == "pop":
                calling.close()
                calling = session.pop_item()
            task = asyncio.ensure_future(calling)
            for _ in range(suspensions):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

            found = await opened("s", storage).get_items()
            assert found in (messages([1, 2]), changed)
            if not task.cancelled():
                assert found == changed
            await session.add_items([])
            assert await session.get_items() == found

    @pytest.mark.blocking  # the first run of a process reads files of the framework itself
    async def test_two_runs_at_once(self, storage: Any) -> None:
        """Two runs on one session leave the items of both, none torn and none lost."""

        async def talk(text: str) -> None:
            agent = Agent("a", model=ScriptedModel([[assistant_message(f"re: {text}")]] * 5))
            async with opened("s", storage) as session:
                for number in range(5):
                    given = f"{text} {number}"
                    await Runner.run(agent, given, session=session, run_config=QUIET)

        await asyncio.gather(talk("one"), talk("two"))

        items: list[Any] = await opened("s", storage).get_items()
        asked = [item["content"] for item in items if item.get("role") == "user"]
        assert len(items) == 20
        for text in ("one", "two"):
            assert [text_ for text_ in asked if str(text_).startswith(text)] == [
                f"{text} {number}" for number in range(5)
            ]


def _batch(name: int, number: int) -> list[Any]:
    return [{"role": "user", "content": f"{name} {number} {part}"} for part in range(5)]


async def _items(root: Path, session_id: str = "s") -> list[Any]:
    async with opened(session_id, root) as session:
        return await session.get_items()


class TestBehind:
    """An object that adds goes on from its own last add, by one save."""

    async def test_an_add_goes_on_from_what_others_left(self, root: Path) -> None:
        """Whatever another object does between two adds, no item is lost or there twice."""

        async def nothing(_other: Session) -> list[Any]:
            return messages(range(3))

        async def add(other: Session) -> list[Any]:
            await other.add_items(messages([3]))
            return messages(range(4))

        async def move(other: Session) -> list[Any]:
            await other.add_items(messages(range(3, 80)))
            return messages(range(80))

        async def pop(other: Session) -> list[Any]:
            await other.pop_item()
            return messages(range(2))

        async def pop_all(other: Session) -> list[Any]:
            while await other.pop_item() is not None:
                pass
            return []

        async def refill(other: Session) -> list[Any]:
            await other.clear_session()
            for number in (7, 8, 9):
                await other.add_items(messages([number]))
            return messages([7, 8, 9])

        async def refill_with_many(other: Session) -> list[Any]:
            await other.clear_session()
            await other.add_items(messages(range(80)))
            await other.add_items(messages([80]))
            await other.add_items(messages([81]))
            return messages(range(82))

        for change in (nothing, add, move, pop, pop_all, refill, refill_with_many):
            session, other = opened(change.__name__, root), opened(change.__name__, root)
            for number in range(3):
                await session.add_items(messages([number]))
            expected = await change(other)
            for number in (100, 101):
                await session.add_items(messages([number]))
                expected += messages([number])
                assert await other.get_items() == expected, change.__name__

    async def test_most_adds_are_one_save(self) -> None:
        """Of 33 adds three are updates: the first, the one that moves them, the one behind it."""
        store = _Counting(SessionRecord)
        session = opened("s", store)
        for number in range(33):
            await session.add_items(messages([number]))
        assert store.updates == 3
        assert await session.get_items() == messages(range(33))


class _Counting(MemoryStore[Any]):
    """Counts updates."""

    updates = 0

    async def update(self, session_id: str, work: Any, /) -> Any:
        self.updates += 1
        return await super().update(session_id, work)


class _Reads:
    """The reads of a session, each of its own moment."""

    def __init__(self, store: _Apart, session_id: str) -> None:
        self._store = store
        self.session_id = session_id

    async def ids(self, *, prefix: str) -> tuple[str, ...]:
        found = await self._store.ids(self.session_id, prefix=prefix)
        if self._store.after_ids:
            await self._store.after_ids.pop()()
        return found

    async def load_many(self, checkpoint_ids: Iterable[str], /) -> tuple[Any, ...]:
        return await self._store.load_many(self.session_id, checkpoint_ids)

    async def load_blobs(self, digests: Iterable[str], /) -> dict[str, bytes]:
        found = await self._store.load_blobs(self.session_id, digests)
        self._store.bytes_loaded += sum(map(len, found.values()))
        return found

    async def list(self) -> tuple[CheckpointMeta, ...]:
        return await self._store.list(self.session_id)


class _Apart(MemoryStore[Any]):
    """Counts what reads load in blobs, and does something between two of them."""

    bytes_loaded = 0

    def __init__(self) -> None:
        super().__init__(SessionRecord)
        self.after_ids: list[Callable[[], Awaitable[object]]] = []

    async def read(self, session_id: str, work: Any, /) -> Any:
        return await work(_Reads(self, session_id))


class TestBetween:
    """Somebody changes the conversation between two reads of one `get_items`."""

    @pytest.mark.parametrize("count", [3, 16, 17, 20])
    async def test_items_are_those_of_one_moment(self, count: int) -> None:
        """What is added, moved to the history, popped or cleared meanwhile is read whole."""
        store = _Apart()
        session, other = opened("s", store), opened("s", store)
        for number in range(count):
            await session.add_items(messages([number]))

        async def add() -> None:
            await other.add_items(messages([count]))

        async def move() -> None:
            await other.add_items(messages(range(count, count + 70)))

        async def pop() -> None:
            await other.pop_item()

        async def refill() -> None:
            await other.clear_session()
            moments.append([])
            await other.add_items(messages([1000, 1001]))

        for change in (add, pop, move, pop, refill, other.clear_session):
            moments = [await session.get_items()]
            store.after_ids.append(change)
            found = await opened("s", store).get_items()
            moments.append(await session.get_items())
            assert found in moments
            assert moments[0] != moments[-1]

    async def test_what_something_else_removes_is_missed(self) -> None:
        """A record that is gone when it is to be read is not left out of the items."""
        store = _Apart()
        session = opened("s", store)
        for number in range(3):
            await session.add_items(messages([number]))
        first = min(await store.ids("openai_agents.s"))
        store.after_ids.append(lambda: store.delete("openai_agents.s", first))

        with pytest.raises(CheckpointCorruptError, match="removed by something else"):
            await session.get_items()


class TestCost:
    async def test_newest_few_of_many_are_not_all_read(self) -> None:
        """Of the history little more is loaded than what is asked for: here 50 items of 850."""
        store = _Apart()
        session = opened("s", store)
        for start in range(0, 1600, 50):
            await session.add_items([message(n, 1000) for n in range(start, start + 50)])

        found = await opened("s", store).get_items(800)

        assert found == [message(n, 1000) for n in range(800, 1600)]
        assert 50_000 <= store.bytes_loaded < 200_000


@pytest.mark.damages_store
@pytest.mark.blocking
class TestDamage:
    async def test_records_that_something_removed_are_missed(self, root: Path) -> None:
        """A record that was removed behind the session's back is noticed by the next read."""
        async with opened("s", root) as session:
            for number in range(10):
                await session.add_items([message(number, 3000)])
        async with AsyncCheckpointWriter[Any](root, record_type=SessionRecord) as writer:
            first = min(await writer.ids("openai_agents.s"))
            await writer.delete("openai_agents.s", first)

        for call in ("get_items", "pop_item"):
            async with opened("s", root) as session:
                with pytest.raises(CheckpointCorruptError, match="removed by something else"):
                    await getattr(session, call)()

    async def test_retention_of_another_store_is_noticed(self, root: Path) -> None:
        """What a program beside removes, that keeps too few, is told and not lost in silence."""
        async with opened("s", root) as session:
            for number in range(5):
                await session.add_items(messages([number]))
            async with AsyncCheckpointWriter[Any](
                root, record_type=SessionRecord, max_checkpoints=3
            ) as beside:
                (newest,) = await beside.ids("openai_agents.s", limit=1)
                record = await beside.load("openai_agents.s", newest)
                await beside.save(record)

            with pytest.raises(CheckpointCorruptError, match="max_checkpoints"):
                await session.get_items()
