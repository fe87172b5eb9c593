"""What a storage of checkpoints promises beyond the framework's own tests."""

from __future__ import annotations

import asyncio
import enum
import gc
import math
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip(
    "agent_framework", reason="needs the extra agent-framework: .ci/adapter agent-framework"
)

from agent_framework import (
    Executor,
    Message,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    register_checkpoint_type,
)
from agent_framework.exceptions import WorkflowCheckpointException

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointRecord,
    InvalidArgumentError,
)
from aiocheckpoint.adapters.agent_framework import (
    CheckpointStorage,
    StoredCheckpoint,
    UnreadableCheckpoint,
)
from aiocheckpoint.testing import MemoryStore
from tests.adapters.agent_framework.checkpoints import checkpoint, message


@dataclass
class Order:
    number: int
    at: tuple[int, ...]


class Color(enum.StrEnum):
    RED = "red"


class Plain(enum.StrEnum):
    BLUE = "blue"


@dataclass
class Unknown:
    number: int


class _Other(CheckpointRecord, tag="tests.Other"):
    """A record of something else."""


register_checkpoint_type(Order)
register_checkpoint_type(Color)

VALUES: dict[str, Any] = {
    "large int": 10**20,
    "infinity": -math.inf,
    "tuple": (1, (2, "three"), [4]),
    "bytes": b"\x00\xff" * 2000,
    "sets": [{1, 2}, frozenset({(1, 2)})],
    "keys": {1: "a", "1": "b", (2, 3): None, Color.RED: 1},
    "times": [datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1), Decimal("1.10")],
    "surrogate": ["\ud83d", {"\udc00": 1}],
    "collections": [defaultdict(list, {"a": [1]}), Counter("hello")],
    "objects": {"order": Order(7, (1, 2)), "in a tuple": (Order(8, ()), 1)},
    "large object": Order(9, tuple(range(2000))),
    "enum": [Color.RED, {"deep": Color.RED}],
    "marks": [{"!list": 0}, {"!text": 1}, {"!tuple": [1]}, {"!entries": 0}],
    "pickled look-alike": {"__pickled__": "gAR9lC4=", "__type__": "builtins:dict"},
    "one of its keys": {"__type__": "mine"},
    "long text": "ü\n" * 5000,
    "long list": [{"text": "x" * 100, "n": n, "t": (n,)} for n in range(200)],
    "many keys": {f"key {n}": {"text": "y" * 50, "big": 10**30} for n in range(200)},
    "empty": [[], {}, "", None, (), 0.0, -0.0, True],
}


class TestValues:
    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    async def test_comes_back(self, place: Any, value: Any) -> None:
        """A value of each kind is in another process what it was, types included."""
        saved = checkpoint({"value": value, "again": [value]})
        async with CheckpointStorage(place) as storage:
            await storage.save(saved)
        async with CheckpointStorage(place) as storage:
            found = await storage.get_latest(workflow_name="w")

        assert found is not None
        assert found.state == saved.state
        assert repr(found.state["value"]) == repr(value) or isinstance(value, (set, list))

    @pytest.mark.parametrize("number", [1, 10**20], ids=["plain", "escaped"])
    async def test_equal_values_are_several(self, place: Any, number: int) -> None:
        """A list, or a dict of many keys, that is in two places comes back as two."""
        items = [{"text": "x" * 100, "n": number} for _ in range(20)]
        keys = {f"key {n}": {"text": "y" * 50, "n": number} for n in range(200)}
        saved = checkpoint({"one": items, "other": items, "many": keys, "again": keys})
        async with CheckpointStorage(place) as storage:
            await storage.save(saved)
        async with CheckpointStorage(place) as storage:
            found = await storage.load(saved.checkpoint_id)

        assert found.state == saved.state
        found.state["one"].clear()
        found.state["many"].clear()
        found.state["other"][0]["n"] = "changed"
        assert (len(found.state["other"]), len(found.state["again"])) == (20, 200)

    async def test_not_a_number(self, storage: Any) -> None:
        """NaN is one again."""
        await storage.save(checkpoint({"nan": [math.nan]}))
        latest = await storage.get_latest(workflow_name="w")
        assert math.isnan(latest.state["nan"][0])

    async def test_keys_keep_their_order(self, storage: Any) -> None:
        """A dict has the order of its keys, small or large, in a list too."""
        keys = [f"{n * 7 % 100}" for n in range(100)]
        saved = checkpoint({"z": 1, "a": {"c": 1, "b": [{"y": 1, "x": 2}]}, **dict.fromkeys(keys)})
        saved.state["large"] = [{"y": "y" * 1000, "x": 1}]
        await storage.save(saved)

        found = await storage.load(saved.checkpoint_id)
        assert repr(found.state) == repr(saved.state)

    async def test_text_of_an_enum(self, storage: Any) -> None:
        """An enum of texts whose class is not registered is its text, as for the framework."""
        await storage.save(checkpoint({"enum": Plain.BLUE}))
        latest = await storage.get_latest(workflow_name="w")
        assert type(latest.state["enum"]) is str
        assert latest.state["enum"] == "blue"

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            ({"deep": [1, Unknown(1)]}, "state.value.deep[1]"),
            ([lambda: None], "state.value[0]"),
            ({"deep": ({}, Unknown(1))}, "state.value.deep"),
        ],
    )
    async def test_what_would_not_come_back_is_refused(
        self, storage: Any, value: Any, path: str
    ) -> None:
        """A class that is not allowed, or cannot be pickled, is refused at save, by its path."""
        with pytest.raises(CheckpointEncodeError) as refused:
            await storage.save(checkpoint({"value": value}))

        assert refused.value.path == path
        assert await storage.get_latest(workflow_name="w") is None
        with pytest.raises(ExceptionGroup):
            storage.require_saved()

    async def test_value_without_end_is_refused(self, storage: Any) -> None:
        """A value that contains itself is refused by name."""
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(CheckpointEncodeError):
            await storage.save(checkpoint({"value": endless}))
        (failed,) = storage.failed_saves
        assert failed.error.__traceback__ is None  # which would keep the state
        with pytest.raises(ExceptionGroup):
            storage.require_saved()

    async def test_allowed_types(self, place: Any) -> None:
        """A class that this storage was told of is allowed by it, and by no other."""
        allowed = f"{Unknown.__module__}:{Unknown.__qualname__}"
        async with CheckpointStorage(place, allowed_checkpoint_types=[allowed]) as storage:
            await storage.save(checkpoint({"value": Unknown(1)}))
            latest = await storage.get_latest(workflow_name="w")
            assert latest is not None
            assert latest.state == {"value": Unknown(1)}
        async with CheckpointStorage(place) as storage:
            with pytest.raises(WorkflowCheckpointException, match="blocked"):
                await storage.get_latest(workflow_name="w")


class _Counting(MemoryStore[Any]):
    """Counts the bytes that are saved."""

    bytes_saved = 0

    async def save(
        self, data: Any, /, *, blobs: Mapping[str, bytes] | None = None, **options: Any
    ) -> str:
        self.bytes_saved += len(data.text) + sum(map(len, (blobs or {}).values()))
        return await super().save(data, blobs=blobs or {}, **options)


class TestSharing:
    @pytest.mark.parametrize(
        ("kind", "times"),
        [("list", 3.2), ("dict", 5.5), ("objects", 6), ("last changes", 8), ("deep", 3.2)],
    )
    async def test_step_costs_what_it_adds(self, kind: str, times: float) -> None:
        """200 steps that add to a state cost little more than what they add, not 100 times that."""
        store = _Counting(StoredCheckpoint)
        last: Any = None
        storage = CheckpointStorage(store)
        for count in range(1, 201):
            last = checkpoint(_state(kind, count), last)
            await storage.save(last)
            if count == 100:  # goes on in another process
                storage = CheckpointStorage(store)

        found = await CheckpointStorage(store).get_latest(workflow_name="w")
        assert found is not None
        if kind == "objects":
            for state in (found.state, last.state):
                state["texts"] = [it.to_dict() for it in state["texts"]]
        assert found == last
        assert store.bytes_saved < 200 * 1000 * times

    async def test_equal_parts_cost_once(self) -> None:
        """The same list at several places is stored once."""
        store = _Counting(StoredCheckpoint)
        items = [message(n) for n in range(100)]
        saved = checkpoint({"one": items, "two": items, "text": "x" * 50_000, "same": "x" * 50_000})
        await CheckpointStorage(store).save(saved)

        assert saved == await CheckpointStorage(store).get_latest(workflow_name="w")
        assert store.bytes_saved < 170_000 * 2

    async def test_long_text_costs_once(self) -> None:
        """A text that stays is not stored again with each checkpoint, also in another process."""
        store = _Counting(StoredCheckpoint)
        last: Any = None
        for number in range(50):
            storage = CheckpointStorage(store)
            await storage.get_latest(workflow_name="w")
            last = checkpoint({"n": number, "text": "x" * 50_000, "bytes": b"y" * 50_000}, last)
            await storage.save(last)

        assert last == await CheckpointStorage(store).get_latest(workflow_name="w")
        assert store.bytes_saved < 150_000

    async def test_forks_go_on_from_one_checkpoint(self, storage: Any) -> None:
        """Two that follow one checkpoint have what it had, and each its own."""
        first = checkpoint({"texts": [message(n) for n in range(50)]})
        await storage.save(first)
        forks = [
            checkpoint({"texts": [*first.state["texts"], message(n)]}, first) for n in (100, 200)
        ]
        await asyncio.gather(*map(storage.save, forks))

        for saved in (first, *forks):
            assert await storage.load(saved.checkpoint_id) == saved

    @pytest.mark.parametrize("kept", [0, 1, 3])
    async def test_deleted_checkpoint_is_not_needed(self, place: Any, kept: int) -> None:
        """Whatever was deleted before, the next checkpoint is whole."""
        saved: list[Any] = []
        async with CheckpointStorage(place) as storage, CheckpointStorage(place) as other:
            for count in range(1, 60):
                previous = saved[-1] if saved else None
                saved.append(checkpoint({"texts": [message(n) for n in range(count)]}, previous))
                await storage.save(saved[-1])
                for old in saved[: len(saved) - kept]:
                    await other.delete(old.checkpoint_id)
            assert storage.failed_saves == ()
            ids = [it.checkpoint_id for it in saved[len(saved) - kept :]]
            assert await other.list_checkpoint_ids(workflow_name="w") == ids
            for each in saved[len(saved) - kept :]:
                assert await other.load(each.checkpoint_id) == each

    async def test_what_is_known_of_checkpoints_is_bounded(self, root: Path) -> None:
        """Of the items that checkpoints share, what a process knows is held once for all."""
        items: list[Any] = [{"n": n} for n in range(3000)]
        saved = None
        async with AsyncCheckpointWriter[Any](root, record_type=StoredCheckpoint) as writer:
            storage = CheckpointStorage(writer)
            tracemalloc.start()
            try:
                for number in range(60):
                    items = [*items, {"n": number}]
                    saved = checkpoint({"items": items}, saved)
                    await storage.save(saved)
                    if number == 9:
                        await writer.flush()  # until then the writer holds what it has saved
                        gc.collect()
                        first_bytes = tracemalloc.get_traced_memory()[0]
                await writer.flush()
                gc.collect()
                held_bytes = tracemalloc.get_traced_memory()[0] - first_bytes
            finally:
                tracemalloc.stop()

        assert held_bytes < 50 * 3000 * 16

    async def test_retention_of_the_store(self, root: Path) -> None:
        """A store that keeps the newest few alone keeps them whole."""
        async with AsyncCheckpointWriter[Any](
            root, record_type=StoredCheckpoint, max_checkpoints=2
        ) as writer:
            storage = CheckpointStorage(writer)
            last = None
            for count in range(1, 100):
                last = checkpoint({"texts": [message(n) for n in range(count)]}, last)
                await storage.save(last)
            assert len(await storage.list_checkpoints(workflow_name="w")) == 2
            assert await storage.get_latest(workflow_name="w") == last

    @settings(max_examples=40)
    @given(
        st.lists(
            st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(0, 5), st.booleans()),
            max_size=25,
        )
    )
    def test_any_changes_of_lists(self, steps: list[tuple[int, int, int, bool]]) -> None:
        """However a list is cut and grows, each checkpoint has the one it was saved with."""
        asyncio.run(_compare_lists(steps))


async def _compare_lists(steps: list[tuple[int, int, int, bool]]) -> None:
    store: MemoryStore[Any] = MemoryStore(StoredCheckpoint)
    storage = CheckpointStorage(store)
    items: list[Any] = []
    saved: list[Any] = []
    for number, (keep, add, back, anew) in enumerate(steps):
        items = items[:keep] + [message(number * 100 + n, 700) for n in range(add)]
        previous = saved[-1 - back] if len(saved) > back else None
        saved.append(checkpoint({"items": items, "texts": "z" * (add * 100)}, previous))
        if anew:
            storage = CheckpointStorage(store)
            await storage.list_checkpoints(workflow_name="w")
        await storage.save(saved[-1])
    assert await CheckpointStorage(store).list_checkpoints(workflow_name="w") == saved


def _state(kind: str, count: int) -> dict[str, Any]:
    messages = [message(n) for n in range(count)]
    match kind:
        case "list":
            return {"texts": messages}
        case "dict":
            return {"results": {f"step {n}": messages[n] for n in range(count)}}
        case "objects":
            return {"texts": [Message("user", [it["text"]]) for it in messages]}
        case "last changes":
            return {"texts": [*messages, {"typing": "x" * (count % 7) * 100}]}
        case _:
            return {"_executor_state": {"one": {"session": {"state": {"texts": messages}}}}}


class TestAtOnce:
    async def test_parallel_runs_of_a_workflow(self, place: Any) -> None:
        """Runs that save at once, by several storages, each keep what they saved."""

        async def run(name: int) -> list[Any]:
            saved: list[Any] = []
            async with CheckpointStorage(place) as storage:
                for count in range(1, 30):
                    texts = [message(name * 1000 + n) for n in range(count)]
                    previous = saved[-1] if saved else None
                    saved.append(checkpoint({"texts": texts}, previous))
                    await storage.save(saved[-1])
            return saved

        runs = await asyncio.gather(*map(run, range(4)))

        async with CheckpointStorage(place) as storage:
            found = await storage.list_checkpoints(workflow_name="w")
            assert len(found) == 4 * 29
            for saved in runs:
                assert [it for it in found if it in saved] == saved
            assert await storage.get_latest(workflow_name="w") == found[-1]

    async def test_read_while_others_delete(self, storage: Any) -> None:
        """A checkpoint that is deleted amid a read is missing, not damaged."""
        last = None
        for count in range(1, 40):
            last = checkpoint({"texts": [message(n) for n in range(count)]}, last)
            await storage.save(last)
        ids = await storage.list_checkpoint_ids(workflow_name="w")

        reads = [storage.load(each) for each in (*ids, *ids)]
        done = await asyncio.gather(
            *reads[:39], *map(storage.delete, ids), *reads[39:], return_exceptions=True
        )

        for error in filter(lambda it: isinstance(it, BaseException), done):
            assert isinstance(error, WorkflowCheckpointException)
            assert "No checkpoint found" in str(error)
        assert await storage.get_latest(workflow_name="w") is None


class Counts(Executor):
    """Counts up to a number, a step each; its state holds what it was given."""

    def __init__(self, last: int, kept: Any = None) -> None:
        super().__init__(id="counts")
        self.last = last
        self.kept = kept

    @handler
    async def count(self, number: int, context: WorkflowContext[int, int]) -> None:
        if number == self.last:
            await context.yield_output(number)
        else:
            await context.send_message(number + 1, target_id=self.id)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"kept": self.kept}


def counting(storage: Any, name: str, last: int = 5, kept: Any = None) -> Any:
    counts = Counts(last, kept)
    builder = WorkflowBuilder(name=name, start_executor=counts, checkpoint_storage=storage)
    return builder.add_edge(counts, counts).build()


class _Full(MemoryStore[Any]):
    """Fails by a full disk while it is told to."""

    is_full = False

    async def save(self, data: Any, /, **options: Any) -> str:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return await super().save(data, **options)


@pytest.mark.blocking  # the first run of a process reads files of the framework itself
class TestFailedSaves:
    async def test_run_with_values_that_json_lacks(self, storage: Any) -> None:
        """A run whose state holds what JSON lacks has a checkpoint of each step."""
        result = await counting(storage, "w", kept={"big": 10**20, "nan": math.nan}).run(0)

        assert result.get_outputs() == [5]
        assert len(await storage.list_checkpoint_ids(workflow_name="w")) == 7
        storage.require_saved()

    async def test_failed_save_is_told(self) -> None:
        """The framework's run goes on when a save fails; who asks is told of each, once."""
        store = _Full(StoredCheckpoint)
        storage = CheckpointStorage(store)
        await counting(storage, "good").run(0)
        storage.require_saved()

        store.is_full = True
        await counting(storage, "one", 2).run(0)
        await counting(storage, "two", 0).run(0)

        assert {failed.workflow_name for failed in storage.failed_saves} == {"one", "two"}
        storage.require_saved("good")
        with pytest.raises(ExceptionGroup) as told:
            storage.require_saved("one")
        assert len(told.value.exceptions) == 4
        assert isinstance(told.value.exceptions[0], OSError)
        assert "workflow 'one', iteration 0" in told.value.exceptions[0].__notes__[0]
        storage.require_saved("one")
        with pytest.raises(ExceptionGroup):
            await storage.aclose()

    async def test_leaving_the_block_tells(self) -> None:
        """Leaving `async with` raises what nobody asked for; another error gets it as a note."""
        store = _Full(StoredCheckpoint)
        store.is_full = True
        with pytest.raises(ExceptionGroup, match="checkpoints were not saved"):
            async with CheckpointStorage(store) as storage:
                await counting(storage, "one", 0).run(0)

        async def fail() -> None:
            async with CheckpointStorage(store) as storage:
                await counting(storage, "one", 0).run(0)
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine") as mine:
            await fail()
        assert all("was not saved: [Errno 28]" in note for note in mine.value.__notes__)
        assert len(mine.value.__notes__) == 2

    async def test_next_checkpoint_has_all(self) -> None:
        """A save after one that failed is whole, and so is its checkpoint."""
        store = _Full(StoredCheckpoint)
        storage = CheckpointStorage(store)
        last = None
        for count in range(1, 30):
            store.is_full = count % 3 == 0
            new = checkpoint({"texts": [message(n) for n in range(count)]}, last)
            if store.is_full:
                with pytest.raises(OSError, match="space"):
                    await storage.save(new)
            else:
                await storage.save(new)
                last = new
        assert await CheckpointStorage(store).get_latest(workflow_name="w") == last


@pytest.mark.damages_store
@pytest.mark.blocking
class TestDamage:
    async def test_follower_of_a_damaged_checkpoint_is_whole(self, root: Path) -> None:
        """What follows a damaged checkpoint in another process is saved whole."""
        damaged = checkpoint({"texts": [message(n) for n in range(50)]})
        async with CheckpointStorage(root) as storage:
            await storage.save(damaged)
        (path,) = root.rglob(f"*_{damaged.checkpoint_id}.json")
        path.write_bytes(path.read_bytes().replace(b"graph", b"graph!"))

        follower = checkpoint({"texts": [message(n) for n in range(51)]}, damaged)
        async with CheckpointStorage(root) as storage:
            await storage.save(follower)
            assert await storage.load(follower.checkpoint_id) == follower
            with pytest.raises(CheckpointCorruptError):
                await storage.load(damaged.checkpoint_id)

    async def test_session_of_something_else(self) -> None:
        """A session that something else has, in a store of several, is not one without any."""
        store: MemoryStore[Any] = MemoryStore(StoredCheckpoint | _Other)
        await store.save(_Other(session_id="agent_framework.w", checkpoint_id="theirs"))
        storage = CheckpointStorage(store)

        with pytest.raises(CheckpointDecodeError, match=r"agent_framework\.w/theirs"):
            await storage.get_latest(workflow_name="w")
        with pytest.raises(WorkflowCheckpointException):
            await storage.load("theirs")

    @pytest.mark.parametrize(
        ("text", "lengths"),
        [
            ('{"state":{"!list":0}}', ()),
            ('{"state":{"!text":1}}', ()),
            ('{"state":{"!packed":"x"}}', ()),
            ('{"!rest":0}', ()),
            ('{"state":', ()),
            ("1", ()),
            ("{}", (1,)),
        ],
    )
    async def test_record_that_does_not_fit(self, text: str, lengths: tuple[int, ...]) -> None:
        """A record that is intact and no checkpoint is told by a named error."""
        store: MemoryStore[Any] = MemoryStore(StoredCheckpoint)
        await store.save(
            StoredCheckpoint(
                session_id="agent_framework.w", checkpoint_id="c", text=text, lengths=lengths
            )
        )
        with pytest.raises(CheckpointDecodeError):
            await CheckpointStorage(store).load("c")

    async def test_newest_damaged_checkpoint_is_never_an_older_one(self, root: Path) -> None:
        """While the newest is damaged, it is what raises; a list leaves no damaged one out."""
        async with CheckpointStorage(root) as storage:
            saved = [checkpoint({"n": n}) for n in range(3)]
            for each in saved:
                await storage.save(each)
        (path,) = root.rglob(f"*_{saved[-1].checkpoint_id}.json")
        path.write_bytes(path.read_bytes().replace(b'\\"n\\":2', b'\\"n\\":3'))

        async with CheckpointStorage(root) as storage:
            with pytest.raises(CheckpointCorruptError):
                await storage.get_latest(workflow_name="w")
            listed = await storage.list_checkpoints(workflow_name="w")
            assert listed[:2] == saved[:2]
            assert isinstance(listed[2], UnreadableCheckpoint)
            assert listed[2].checkpoint_id == saved[2].checkpoint_id
            assert "is damaged" in listed[2].problem
            with pytest.raises(InvalidArgumentError, match="is damaged"):
                await storage.save(listed[2])
            with pytest.raises(CheckpointCorruptError):
                await storage.load(saved[-1].checkpoint_id)
            assert await storage.load(saved[0].checkpoint_id) == saved[0]
