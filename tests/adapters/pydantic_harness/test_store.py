"""What a step store promises beyond what the framework documents."""

from __future__ import annotations

import asyncio
import math
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip(
    "pydantic_ai_harness", reason="needs the extra pydantic-harness: .ci/adapter pydantic-harness"
)

from pydantic_ai import Agent, ModelRequest, ToolReturnPart
from pydantic_ai.models.test import TestModel as ScriptedModel
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    InMemoryStepStore,
    StepPersistence,
)

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    InvalidArgumentError,
    blob_links,
)
from aiocheckpoint.adapters.pydantic_harness import (
    HarnessRecord,
    StepRecord,
    StepStore,
    UnreadableRun,
)
from aiocheckpoint.kit import encode_id
from aiocheckpoint.testing import MemoryStore
from tests.adapters.pydantic_harness.steps import (
    START,
    effect,
    event,
    kept,
    messages,
    run,
    snapshot,
)


class TestValues:
    async def test_values_beyond_json_come_back(self, storage: Any) -> None:
        """What a tool returned is as it was, also where pydantic's JSON would change it."""
        odd = {"n": 10**20, "t": (1, [2.5]), "b": b"\xff\x00", 1: {2}, "d": Decimal("1.50")}
        odd |= {"s": "\ud83d", "inf": math.inf, "!tuple": []}
        part = ToolReturnPart("tool", odd, "call")
        given = snapshot(0)
        given.messages = [ModelRequest(parts=[part])]
        async with StepStore(storage) as store, StepStore(storage) as other:
            await store.save_snapshot(given)

            assert await other.latest_snapshot(run_id="r") == given

    async def test_changes_of_a_type_alone_are_kept(self, storage: Any) -> None:
        """A message that differs from the one before by a type alone is no shared one."""
        async with StepStore(storage) as store:
            for value in ((1, 2), [1, 2], "1", 1, 1.0, True, math.nan, None):
                part = ToolReturnPart("tool", {"value": value}, "call")
                given = snapshot(0)
                given.messages = [ModelRequest(parts=[part]), *messages([1])]
                await store.save_snapshot(given)

                found = await store.latest_snapshot(run_id="r")
                assert found is not None
                returned: Any = found.messages[0].parts[0]
                assert repr(returned.content["value"]) == repr(value)

    async def test_value_that_cannot_be_kept_is_refused(self, storage: Any) -> None:
        """It is refused with its path, and the snapshot before it is the newest."""
        async with StepStore(storage) as store:
            await store.save_snapshot(snapshot(0))
            given = snapshot(1)
            given.messages.append(ModelRequest(parts=[ToolReturnPart("tool", object(), "call")]))

            with pytest.raises(CheckpointEncodeError, match=r"messages\[2\].parts\[0\].content"):
                await store.save_snapshot(given)

            assert await kept(store) == [0]

    async def test_what_is_given_may_change_at_once(self, storage: Any) -> None:
        """What the caller changes after the call was made is not stored."""
        async with StepStore(storage) as store:
            given = snapshot(1)
            saving = asyncio.ensure_future(store.save_snapshot(given))
            await asyncio.sleep(0)
            given.messages.clear()
            given.state = "interrupted"
            await saving

            assert await store.latest_snapshot(run_id="r") is not None
            assert await kept(store) == [1]


class TestAtOnce:
    async def test_snapshots_saved_at_once_are_all_there(self, storage: Any) -> None:
        """30 saves at once by many stores are all there, each with its messages."""
        stores = [StepStore(storage) for _ in range(3)]
        await asyncio.gather(*(stores[n % 3].save_snapshot(snapshot(n)) for n in range(30)))

        found = await stores[0].list_snapshots(run_id="r")
        assert sorted(one.step_index for one in found) == [*range(30)]
        assert all(len(one.messages) == one.step_index + 1 for one in found)
        for store in stores:
            await store.aclose()

    async def test_stores_by_turns_rewrite_the_history(self, storage: Any) -> None:
        """What another store has saved meanwhile is what a snapshot is compared with."""
        async with StepStore(storage) as one, StepStore(storage) as two:
            whole, other = messages(range(8)), messages(range(20, 24))
            given = [whole[:6], other[:2], whole[:7], other, whole, whole[:1]]
            for step, history in enumerate(given):
                changed = snapshot(step)
                changed.messages = [*history]
                await (one, two)[step % 2].save_snapshot(changed)

            found = await one.list_snapshots(run_id="r")
            assert [snapshot.messages for snapshot in found] == given

    async def test_key_counts_once_at_once(self, storage: Any) -> None:
        """Of 20 calls at once with one key one counts, for events and for snapshots."""
        stores = [StepStore(storage) for _ in range(4)]
        await asyncio.gather(
            *(
                call
                for number in range(20)
                for store in [stores[number % 4]]
                for call in (
                    store.append_event(event(number, idempotency_key="k")),
                    store.save_snapshot(snapshot(number, idempotency_key="k")),
                )
            )
        )

        assert len(await stores[0].list_events(run_id="r")) == 1
        assert len(await kept(stores[0])) == 1
        for store in stores:
            await store.aclose()

    async def test_bound_holds_at_once(self, storage: Any) -> None:
        """Saves at once by stores with a bound keep it, and each key counts once afterwards."""
        stores = [StepStore(storage, max_snapshots_per_run=2) for _ in range(3)]
        for _ in range(2):
            await asyncio.gather(
                *(
                    stores[number % 3].save_snapshot(snapshot(number, idempotency_key=str(number)))
                    for number in range(24)
                )
            )

            assert len(await kept(stores[0])) == 2
        for store in stores:
            await store.aclose()

    async def test_key_counts_once_after_a_restart(self, root: Path) -> None:
        """A key whose snapshot was pruned is known to the next process that opens the directory."""
        async with StepStore(root, max_snapshots_per_run=1) as store:
            for step in range(5):
                await store.save_snapshot(snapshot(step, idempotency_key=f"{step}"))
        async with StepStore(root) as store:
            for step in range(5):
                await store.save_snapshot(snapshot(step + 10, idempotency_key=f"{step}"))
            assert await kept(store) == [4]

    async def test_bound_may_come_later(self, root: Path) -> None:
        """A store with a bound prunes what one without has kept."""
        async with StepStore(root) as store:
            for step in range(10):
                await store.save_snapshot(snapshot(step, idempotency_key=f"{step}"))
        async with StepStore(root, max_snapshots_per_run=3) as store:
            await store.save_snapshot(snapshot(10))
            assert await kept(store) == [8, 9, 10]

    async def test_one_of_many_registers(self, storage: Any) -> None:
        """A run is registered once; the same registration may be made again."""
        async with StepStore(storage) as store:

            async def register(number: int) -> bool:
                try:
                    await store.register_run(run(1, registration_id=str(number)))
                except ValueError:
                    return False
                return True

            won = await asyncio.gather(*map(register, range(10)))

            assert won.count(True) == 1
            registered = await store.get_run(run_id="r1")
            assert registered is not None
            assert registered.registration_id == str(won.index(True))
            await store.register_run(registered)
            await store.register_run(run(2))
            with pytest.raises(ValueError, match="'r2' is already in the store"):
                await store.register_run(run(2))

    @pytest.mark.blocking
    def test_threads_with_loops_of_their_own(self, root: Path) -> None:
        """Everything that threads store at once in one run is there, in order for each."""

        async def talk(name: int) -> None:
            async with StepStore(root) as store:
                for number in range(10):
                    await store.append_event(event(number, agent_name=str(name)))
                    await store.record_tool_effect(effect(f"{name}-{number}", "started"))
                    await store.save_snapshot(snapshot(number, agent_name=str(name)))

        threads = [
            threading.Thread(target=lambda name=name: asyncio.run(talk(name))) for name in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def read() -> tuple[list[Any], ...]:
            async with StepStore(root) as store:
                return (
                    await store.list_events(run_id="r"),
                    await store.list_snapshots(run_id="r"),
                    await store.list_unresolved_tool_effects(run_id="r"),
                )

        events, snapshots, effects = asyncio.run(read())
        assert len(effects) == 30
        for found in (events, snapshots):
            for name in range(3):
                own = [one.step_index for one in found if one.agent_name == str(name)]
                assert own == [*range(10)]


_CALLS = st.tuples(
    st.sampled_from(["event", "snapshot", "snapshot", "snapshot", "effect"]),
    st.integers(0, 9),
    st.booleans(),
    st.integers(0, 12),
)


class TestModel:
    @settings(max_examples=60)
    @given(calls=st.lists(_CALLS, max_size=30), keep=st.sampled_from([None, 1, 2, 4]))
    def test_does_what_the_store_in_memory_does(self, calls: list[Any], keep: int | None) -> None:
        """Whatever is stored, with and without keys, it holds what the framework's own does."""
        asyncio.run(_compare(calls, keep))


async def _compare(calls: list[Any], keep: int | None) -> None:
    checkpoints = MemoryStore[Any](HarnessRecord)
    theirs = InMemoryStepStore(max_snapshots_per_run=keep)
    for number, (call, choice, flag, length) in enumerate(calls):
        ours = StepStore(checkpoints, max_snapshots_per_run=keep)
        # Theirs forgets a key that was pruned, unless it begins with a number that grows.
        key = f"{number if call == 'snapshot' else choice}:" if flag else None
        begun = event(number, idempotency_key=key, timestamp=START)
        known = effect(str(choice), "started" if flag else "completed", started_at=START)
        state = "interrupted" if choice % 3 == 0 else "complete"
        given = snapshot(number, length, state=state, idempotency_key=key)
        for store in (ours, theirs):
            if call == "event":
                await store.append_event(begun)
            elif call == "effect":
                await store.record_tool_effect(known)
            else:
                for _ in range(2 if flag else 1):
                    await store.save_snapshot(given)
    ours = StepStore(checkpoints)
    for include in (False, True):
        options: Any = {"run_id": "r", "include_interrupted": include}
        assert await ours.latest_snapshot(**options) == await theirs.latest_snapshot(**options)
        assert await ours.list_snapshots(**options) == await theirs.list_snapshots(**options)
    assert await ours.list_events(run_id="r") == await theirs.list_events(run_id="r")
    unresolved = await ours.list_unresolved_tool_effects(run_id="r")
    expected = await theirs.list_unresolved_tool_effects(run_id="r")
    assert sorted(unresolved, key=repr) == sorted(expected, key=repr)


class TestSize:
    async def test_history_is_stored_once(self) -> None:
        """50 snapshots of a history that grows take little more than the last of them alone."""
        checkpoints = MemoryStore[Any](HarnessRecord)
        store = StepStore(checkpoints)
        for step in range(50):
            await store.save_snapshot(
                ContinuableSnapshot(
                    run_id="r", step_index=step, messages=messages(range(2 * step), 3000)
                )
            )
        assert len(await kept(store)) == 50

        async def stored() -> int:
            records = await checkpoints.load_many("r", await checkpoints.ids("r"))
            found: dict[str, bytes] = {}
            waiting = [digest for record in records for digest in record.blob_digests]
            while waiting:
                loaded = await checkpoints.load_blobs("r", waiting)
                found |= loaded
                waiting = [
                    link
                    for blob in loaded.values()
                    for link in blob_links(blob)
                    if link not in found
                ]
            return sum(map(len, found.values()))

        assert await stored() < 3 * 98 * 3300


class TestRunner:
    @pytest.mark.blocking  # the first run of a process reads files of the framework itself
    async def test_two_runs_at_once(self, storage: Any) -> None:
        """Two agents at once on one storage keep apart; a delegate knows who has begun it."""
        async with StepStore(storage) as store:
            inner = Agent(ScriptedModel(), capabilities=[StepPersistence(store=store)])

            async def outer(name: str) -> None:
                agent = Agent(
                    ScriptedModel(),
                    name=name,
                    capabilities=[StepPersistence(store=store, run_id=name)],
                )

                @agent.tool_plain
                async def ask() -> str:
                    return (await inner.run("hello")).output

                await agent.run("hello")

            await asyncio.gather(outer("one"), outer("two"))

            for name in ("one", "two"):
                (delegate,) = await store.list_runs(parent_run_id=name)
                for run_id in (name, delegate.run_id):
                    kinds = [found.kind for found in await store.list_events(run_id=run_id)]
                    assert kinds[0] == "run_started"
                    assert kinds[-1] == "run_completed"
                    assert await store.latest_snapshot(run_id=run_id) is not None
                    assert await store.list_unresolved_tool_effects(run_id=run_id) == []


@pytest.mark.damages_store
@pytest.mark.blocking
class TestDamage:
    @pytest.mark.parametrize(
        ("begin", "call"),
        [
            ("event=1", "list_events"),
            ("snapshot=1", "latest_snapshot"),
            ("snapshot=0", "list_snapshots"),
            ("tool-1", "list_unresolved_tool_effects"),
        ],
    )
    async def test_records_that_something_removed_are_missed(
        self, root: Path, begin: str, call: str
    ) -> None:
        """What was removed behind the store's back is never an older state, or fewer of them."""
        async with StepStore(root) as store:
            for number in range(2):
                await store.save_snapshot(snapshot(number, idempotency_key=f"{number}"))
            for number in range(3):
                await store.append_event(event(number, idempotency_key=f"{number}"))
                await store.record_tool_effect(effect(f"{number}", "started"))
        async with AsyncCheckpointWriter[Any](root, record_type=HarnessRecord) as writer:
            assert await writer.delete("pydantic_harness.r", begin)

        async with StepStore(root) as store:
            with pytest.raises(CheckpointCorruptError):
                await getattr(store, call)(run_id="r")
            if begin.startswith("tool"):
                with pytest.raises(CheckpointCorruptError):
                    await store.get_tool_effect(run_id="r", tool_call_id="1")

    async def test_record_of_another_version_is_told(self, root: Path) -> None:
        """What is intact and no event of this version of the framework is told by name."""
        async with StepStore(root) as store:
            await store.append_event(event(0))
            async with AsyncCheckpointWriter[Any](root, record_type=HarnessRecord) as writer:
                record = await writer.load("pydantic_harness.r")
                assert isinstance(record, StepRecord)
                assert record.value is not None
                record.value["kind"] = "of another version"
                await writer.save(record)

            with pytest.raises(CheckpointDecodeError, match="kind"):
                await store.list_events(run_id="r")

    async def test_run_that_cannot_be_read_is_of_its_conversation(self, root: Path) -> None:
        """Its events tell of which it is; where none do, a list of one says that it may lack it."""
        async with StepStore(root) as store:
            for number, name in enumerate(["ann", "bob", "ann"]):
                await store.register_run(run(number, conversation_id=name))
                if number == 2:
                    await store.append_event(event(0, run_id="r2", conversation_id=name))
        self._damage(root, "r2", "run")

        async with StepStore(root) as store:
            for wanted, runs in (
                ("ann", ["r0", "r2"]),
                ("bob", ["r1"]),
                (None, ["r0", "r1", "r2"]),
            ):
                listed = await store.list_runs(conversation_id=wanted)
                assert [found.run_id for found in listed] == runs
            odd = listed[-1]
            assert isinstance(odd, UnreadableRun)
            assert (odd.conversation_id, "is damaged" in odd.problem) == ("ann", True)
            with pytest.raises(InvalidArgumentError, match="is damaged"):
                await store.register_run(odd)

        self._damage(root, "r1", "run")
        async with StepStore(root) as store:
            with pytest.raises(CheckpointCorruptError, match="r1") as raised:
                await store.list_runs(conversation_id="ann")
            assert [found.run_id for found in raised.value.listed] == ["r0", "r2"]
            assert len(await store.list_runs()) == 3

    @pytest.mark.parametrize(
        ("begin", "call"),
        [
            ("event=1", "list_events"),
            ("snapshot=1", "list_snapshots"),
            ("tool-1", "list_unresolved_tool_effects"),
        ],
    )
    async def test_one_of_a_run_hides_no_other(self, root: Path, begin: str, call: str) -> None:
        """A list of what is in a run raises where it is not whole; the error has the rest."""
        async with StepStore(root) as store:
            for number in range(3):
                await store.save_snapshot(snapshot(number, idempotency_key=f"{number}"))
                await store.append_event(event(number, idempotency_key=f"{number}"))
                await store.record_tool_effect(effect(f"{number}", "started"))
            whole = await getattr(store, call)(run_id="r")
        self._damage(root, "r", begin)

        async with StepStore(root) as store:
            with pytest.raises(CheckpointCorruptError) as raised:
                await getattr(store, call)(run_id="r")
            assert raised.value.listed == [whole[0], whole[2]]

    def _damage(self, root: Path, run_id: str, checkpoint_id: str) -> None:
        name = encode_id(checkpoint_id, "")
        (path,) = (root / f"pydantic_harness.{run_id}").glob(f"checkpoints/cp_*_{name}.json")
        path.write_bytes(path.read_bytes().replace(b"totals", b"totbls"))
