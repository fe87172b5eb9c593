"""What a saver promises beyond the conformance kit, each promise a test of any saver."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    empty_checkpoint,
)
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from aiocheckpoint import CheckpointCorruptError, InvalidArgumentError, StorageError
from aiocheckpoint.adapters.langgraph import CheckpointSaver
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.langgraph import graphs
from tests.langgraph.graphs import thread

Make = Callable[..., CheckpointSaver]

ODD_THREAD_IDS = (
    "", ".", "..", "../x", "a/b", "a", "A", "ab", "a.b", "a|b", "\0", "*", "x" * 300, "дерево", 7,
)  # fmt: skip
DEEP_NAMESPACE = "|".join(f"eighteen_chars_node:{number:036}" for number in range(10))


def checkpoint(values: dict[str, Any] | None = None, **more: Any) -> Checkpoint:
    """Return a checkpoint of channel values."""
    found = empty_checkpoint()
    found["id"] = str(uuid6())
    found["channel_values"] = {} if values is None else values
    found["channel_versions"] = dict.fromkeys(found["channel_values"], "1")
    return cast("Checkpoint", {**found, **more})


def metadata(step: int = 0, **more: Any) -> CheckpointMetadata:
    """Return a checkpoint's metadata."""
    found: Any = {"source": "loop", "step": step, "parents": {}, **more}
    return cast("CheckpointMetadata", found)


async def put(
    saver: CheckpointSaver, config: Any, values: dict[str, Any] | None = None, **more: Any
) -> Any:
    """Put a checkpoint after another and return its config."""
    config = {**config, "configurable": {"checkpoint_ns": "", **config["configurable"]}}
    return await saver.aput(config, checkpoint(values), metadata(**more), {})


async def got(saver: CheckpointSaver, config: Any) -> CheckpointTuple:
    """Return a checkpoint that is there."""
    found = await saver.aget_tuple(config)
    assert found is not None
    return found


async def outcome_of(reading: Awaitable[Any]) -> Any:
    """Return what a read returns, or as what damage it raises."""
    try:
        return await reading
    except CheckpointCorruptError as error:
        return error


async def listed(saver: CheckpointSaver, *args: Any, **options: Any) -> list[CheckpointTuple]:
    """Return what a listing yields."""
    return [found async for found in saver.alist(*args, **options)]


class Promises:
    """Each method takes a function that makes a saver on the test's directory."""

    # Writes

    async def test_writes_come_in_the_order_in_which_they_apply(self, make: Make) -> None:
        """Pending writes are sorted by task path, then task, then position, however they came."""
        saver = make()
        config = await put(saver, thread("t"))
        for task_id, path in (("b", "~1"), ("a", "~2"), ("c", "~1"), ("d", "")):
            await saver.aput_writes(
                config, [("x", f"{task_id}0"), ("y", f"{task_id}1")], task_id, path
            )
        found = await got(saver, config)
        order = ["d0", "d1", "b0", "b1", "c0", "c1", "a0", "a1"]
        assert [value for _, _, value in found.pending_writes or ()] == order

    async def test_of_equal_writes_the_first_counts(self, make: Make) -> None:
        """A task that is run again does not change what it wrote, and adds what is new."""
        saver = make()
        config = await put(saver, thread("t"))
        await saver.aput_writes(config, [("x", 1)], "task")
        await saver.aput_writes(config, [("x", 2), ("y", 3)], "task")
        found = await got(saver, config)
        assert found.pending_writes == [("task", "x", 1), ("task", "y", 3)]

    async def test_of_errors_and_interrupts_the_last_counts(self, make: Make) -> None:
        """An error, an interrupt and a resume value are replaced by later ones."""
        for number, channel in enumerate(("__error__", "__interrupt__", "__resume__")):
            saver = make()
            config = await put(saver, thread(f"t{number}"))
            await saver.aput_writes(config, [(channel, "first")], "task")
            await saver.aput_writes(config, [(channel, "second")], "task")
            assert (await got(saver, config)).pending_writes == [("task", channel, "second")]

    async def test_writes_may_come_before_their_checkpoint(self, make: Make) -> None:
        """Writes that arrive first are there when the checkpoint is, and harmless until then."""
        saver = make()
        first = await put(saver, thread("t"))
        coming = checkpoint()
        config = thread("t", checkpoint_ns="", checkpoint_id=coming["id"])
        await saver.aput_writes(config, [("x", 1)], "task")
        assert await saver.aget_tuple(config) is None
        assert [found.config for found in await listed(saver, thread("t"))] == [first]
        await saver.aput(first, coming, metadata(), {})
        assert (await got(saver, thread("t"))).pending_writes == [("task", "x", 1)]

    async def test_delta_channels_are_rebuilt_in_the_order_of_the_run(self, make: Make) -> None:
        """A delta channel written by six nodes side by side reads as in memory."""
        for durability in ("sync", "async", "exit"):
            config = thread(f"t-{durability}")
            saver = make()
            states = []
            for each in (saver, InMemorySaver()):
                graph = graphs.delta_graph(6).compile(checkpointer=each)
                for number in range(2):
                    await graph.ainvoke({"numbers": [100 + number]}, config, durability=durability)
                states.append((await graph.aget_state(config)).values)
            assert states[0] == states[1]
            assert len(states[0]["numbers"]) == 16

    # Values

    async def test_values_come_back_with_their_types(self, make: Make) -> None:
        """Messages, bytes, sets, None and large values come back equal and of their types."""
        values = {
            "messages": [HumanMessage("hello", id="1"), AIMessage("dear", id="2")],
            "bytes": b"\0\xff" * 9000,
            "none": None,
            "set": {1, 2},
            "keys": {1: "x", (2, 3): "y"},
            "large": [f"{number} " * 40 for number in range(2000)],
            "text": "naïve 日本語 🪵",
        }
        saver = make()
        config = await put(saver, thread("t"), values)
        found = (await got(saver, config)).checkpoint["channel_values"]
        assert found == values
        assert {key: type(value) for key, value in found.items()} == {
            key: type(value) for key, value in values.items()
        }
        assert [type(message) for message in found["messages"]] == [HumanMessage, AIMessage]

    async def test_the_whole_checkpoint_comes_back(self, make: Make) -> None:
        """All keys of a checkpoint come back, also those nobody knows yet."""
        saver = make()
        saved = checkpoint(
            {"x": 1},
            updated_channels=["x"],
            pending_sends=[HumanMessage("later", id="1")],
            versions_seen={"node": {"x": "1"}, "__input__": {}},
            from_the_future={"a": {1}},
        )
        config = await saver.aput(thread("t", checkpoint_ns=""), saved, metadata(), {})
        assert (await got(saver, config)).checkpoint == saved

    async def test_odd_metadata_come_back(self, make: Make) -> None:
        """Metadata nested as deep as the serializer goes, or with a step that is none, are kept."""
        saver = make()
        deep: Any = "bottom"
        for _ in range(100):
            deep = {"in": [deep]}
        for more in ({"deep": deep}, {"step": True}, {"step": "three"}):
            odd: Any = {**metadata(), **more}
            stored = await saver.aput(thread("t", checkpoint_ns=""), checkpoint({"x": 1}), odd, {})
            assert (await got(saver, stored)).metadata == odd

    async def test_metadata_have_what_the_config_adds(self, make: Make) -> None:
        """Plain values in the config's metadata are stored, unknown and odd metadata too."""
        saver = make()
        config = {**thread("t", checkpoint_ns="", user="ann"), "metadata": {"run_id": "r", "n": 3}}
        odd = metadata(2, parents={"": "p"}, tags={"a"}, counters=(1, 2))
        stored = await saver.aput(config, checkpoint(), odd, {})  # type: ignore[arg-type]
        found: Any = (await got(saver, stored)).metadata
        assert found == {
            "source": "loop", "step": 2, "parents": {"": "p"}, "tags": {"a"}, "counters": [1, 2],
            "run_id": "r", "n": 3, "user": "ann",
        }  # fmt: skip

    async def test_later_changes_of_a_value_are_not_stored(self, make: Make) -> None:
        """What is put is what was there when the call was started."""
        saver = make()
        numbers = [1]
        saving = asyncio.create_task(put(saver, thread("t"), {"numbers": numbers}))
        await asyncio.sleep(0)
        numbers.append(2)
        config = await saving
        writing = asyncio.create_task(saver.aput_writes(config, [("x", numbers)], "task"))
        await asyncio.sleep(0)
        numbers.append(3)
        await writing
        found = await got(saver, config)
        assert found.checkpoint["channel_values"] == {"numbers": [1]}
        assert found.pending_writes == [("task", "x", [1, 2])]

    async def test_versions_are_new_each_time(self, make: Make) -> None:
        """Each version sorts after the one before, and two forks never have the same."""
        saver = make()
        first = saver.get_next_version(None, None)
        second, fork = (saver.get_next_version(first, None) for _ in range(2))
        assert first < second
        assert first < fork
        assert second != fork
        assert saver.get_next_version(9, None) > second

    # Ids

    async def test_any_thread_id_names_its_own_thread(self, make: Make) -> None:
        """Every thread id and depth of namespace has checkpoints of its own, in the directory."""
        saver = make()
        places = [(each, "") for each in ODD_THREAD_IDS]
        places += [("a", "b"), ("a", ".b"), ("a", DEEP_NAMESPACE), ("a", DEEP_NAMESPACE + "x")]
        for number, (thread_id, namespace) in enumerate(places):
            await put(saver, thread(thread_id, checkpoint_ns=namespace), {"x": number})
        for number, (thread_id, namespace) in enumerate(places):
            found = await got(saver, thread(thread_id, checkpoint_ns=namespace))
            assert found.checkpoint["channel_values"] == {"x": number}
            assert found.config["configurable"]["thread_id"] == thread_id
        assert len(await listed(saver, None)) == len(places)
        await saver.adelete_thread("a")
        names = {found.config["configurable"]["thread_id"] for found in await listed(saver, None)}
        assert names == {str(each) for each in ODD_THREAD_IDS} - {"a"}

    async def test_any_checkpoint_id_will_do(self, make: Make) -> None:
        """Checkpoints of odd ids are found by them; the newest is the one that was stored last."""
        saver = make()
        ids = ["b", " ", "../x", "a" * 300, "B", "c é"]
        for each in ids:
            config = thread("t", checkpoint_ns="")
            await saver.aput(config, checkpoint({"id": each}, id=each), metadata(), {})
            place = thread("t", checkpoint_ns="", checkpoint_id=each)
            await saver.aput_writes(place, [("x", each)], "task")
        found = await listed(saver, thread("t", checkpoint_ns=""))
        assert [each.checkpoint["id"] for each in found] == ids[::-1]
        for one in found:
            assert one.pending_writes == [("task", "x", one.checkpoint["id"])]
        assert (await got(saver, thread("t"))).checkpoint["id"] == "c é"
        await saver.aprune(["t"])
        assert [each.checkpoint["id"] for each in await listed(saver, thread("t"))] == ["c é"]

    # Lists

    async def test_lists_are_exact(self, make: Make) -> None:
        """Threads, namespaces, ids, bounds, limits and filters pick what they say, in order."""
        saver = make()
        configs = []
        config = thread("t")
        for step in range(5):
            config = await put(saver, config, step=step, parity=step % 2)
            configs.append(config)
        other = await put(saver, thread("t", checkpoint_ns="inner:1"), step=9)
        await put(saver, thread("u"), step=9)

        async def steps(*args: Any, **options: Any) -> list[int]:
            return [found.metadata["step"] for found in await listed(saver, *args, **options)]

        root = thread("t", checkpoint_ns="")
        assert await steps(root) == [4, 3, 2, 1, 0]
        assert sorted(await steps(None)) == [0, 1, 2, 3, 4, 9, 9]
        assert sorted(await steps(thread("t"))) == [0, 1, 2, 3, 4, 9]
        assert await steps(configs[2]) == [2]
        assert await steps(other) == [9]
        assert await steps(root, before=configs[3]) == [2, 1, 0]
        assert await steps(root, before=configs[3], limit=2) == [2, 1]
        assert await steps(root, limit=0) == []
        assert await steps(root, filter={"parity": 1}) == [3, 1]
        assert await steps(root, filter={"parity": 1, "step": 3}) == [3]
        assert await steps(None, filter={"missing": None}) == []
        parents = [found.parent_config for found in await listed(saver, root)]
        assert parents == [*configs[3::-1], None]

    async def test_a_list_holds_nothing_between_two_items(self, make: Make) -> None:
        """While a list is paused one may read, write and delete; it may be left at any item."""
        saver = make()
        config = thread("t")
        for step in range(6):
            config = await put(saver, config, step=step)
        steps = []
        async for found in saver.alist(thread("t", checkpoint_ns="")):
            steps.append(found.metadata["step"])
            assert await got(saver, found.config) == found
            config = await put(saver, config, step=len(steps) + 10)
            if len(steps) == 3:
                await saver.adelete_thread("t")
        assert steps[:3] == [5, 4, 3]
        await put(saver, thread("t"))
        async for _ in saver.alist(thread("t", checkpoint_ns="")):
            break
        assert await saver.aget_tuple(thread("t")) is not None

    # Threads as a whole

    async def test_deleting_a_thread_deletes_that_one_alone(self, make: Make) -> None:
        """All namespaces and writes of a thread go, and no other thread does."""
        saver = make()
        for each in ("1", "10", "11"):
            config = await put(saver, thread(each))
            await saver.aput_writes(config, [("x", 1)], "task")
            await put(saver, thread(each, checkpoint_ns="inner"))
        await saver.adelete_thread("1")
        await saver.adelete_thread("unknown")
        with contextlib.suppress(InvalidArgumentError):  # is no wildcard
            await saver.adelete_thread(cast("Any", None))
        found = [each.config["configurable"]["thread_id"] for each in await listed(saver, None)]
        assert sorted(found) == ["10", "10", "11", "11"]
        again = await put(saver, thread("1"))
        assert (await got(saver, again)).pending_writes == []

    async def test_a_copy_is_whole_and_stands_alone(self, make: Make) -> None:
        """A copy has every checkpoint, write and namespace, also after the source is deleted."""
        saver = make()
        graph = graphs.delta_graph(3).compile(checkpointer=saver)
        for number in range(3):
            await graph.ainvoke({"numbers": [number]}, thread("old"))
        await put(saver, thread("old", checkpoint_ns="inner"), {"large": "x" * 50_000})
        before = await listed(saver, thread("old"))
        state = (await graph.aget_state(thread("old"))).values
        await saver.acopy_thread("old", "new")
        await saver.adelete_thread("old")
        after = await listed(saver, thread("new"))
        assert [(f.checkpoint, f.metadata, f.pending_writes) for f in after] == [
            (f.checkpoint, f.metadata, f.pending_writes) for f in before
        ]
        assert {f.config["configurable"]["thread_id"] for f in after} == {"new"}
        assert (await graph.aget_state(thread("new"))).values == state
        assert await listed(saver, thread("old")) == []

    async def test_runs_are_deleted_by_their_metadata(self, make: Make) -> None:
        """All checkpoints of a run go, with their writes, and those of other runs stay."""
        saver = make()
        for each in ("t", "u"):
            config: Any = thread(each)
            for step in range(4):
                run: Any = {**config, "metadata": {"run_id": f"run{step // 2}"}}
                config = await put(saver, run, step=step)
                await saver.aput_writes(config, [("x", step)], "task")
        await saver.adelete_for_runs([])
        await saver.adelete_for_runs(["run1", "unknown"])
        for each in ("t", "u"):
            found = await listed(saver, thread(each))
            assert [f.metadata["step"] for f in found] == [1, 0]
            assert [f.pending_writes for f in found] == [[("task", "x", 1)], [("task", "x", 0)]]

    async def test_pruning_keeps_the_state_of_delta_channels(self, make: Make) -> None:
        """Only the newest stays and what delta channels need; the state reads as before."""
        for frequency, durability in itertools.product((1, 2, 1000), ("async", "exit")):
            saver = make()
            thread_id = f"{frequency} {durability}"
            graph: Any = graphs.delta_graph(2, frequency).compile(checkpointer=saver)
            for number in range(4):
                inputs = {"numbers": [number]}
                await graph.ainvoke(inputs, thread(thread_id), durability=durability)
            before = (await graph.aget_state(thread(thread_id))).values
            count = len(await listed(saver, thread(thread_id)))
            await saver.aprune([thread_id])
            left = len(await listed(saver, thread(thread_id)))
            assert (await graph.aget_state(thread(thread_id))).values == before
            assert left == 1 if frequency == 1 else left <= count
            await graph.ainvoke({"numbers": [9]}, thread(thread_id))
            after = (await graph.aget_state(thread(thread_id))).values["numbers"]
            assert after[: len(before["numbers"])] == before["numbers"]

    async def test_every_state_that_is_left_is_whole(self, make: Make) -> None:
        """What pruning keeps for the delta channels of others is no state of the thread."""
        for durability, keep_last in itertools.product(("sync", "async", "exit"), (None, 3)):
            saver, memory = make(keep_last=keep_last), InMemorySaver()
            config: Any = thread(f"{durability} {keep_last}")
            own, usual = (
                graphs.two_deltas_graph(5).compile(checkpointer=s) for s in (saver, memory)
            )
            for turn in range(17):
                for graph in (own, usual):
                    await graph.ainvoke({"text": str(turn)}, config, durability=durability)
            if keep_last is None:
                await saver.aprune([config["configurable"]["thread_id"]], keep_last=3)
            whole = {s.metadata["step"]: s.values async for s in usual.aget_state_history(config)}
            left = {s.metadata["step"]: s.values async for s in own.aget_state_history(config)}
            assert left == {step: whole[step] for step in sorted(whole)[-3:]}

    async def test_no_state_is_rebuilt_in_part(self, make: Make) -> None:
        """A state whose delta channels lack an ancestor is refused by name; others can be read."""
        saver = make()
        graph: Any = graphs.delta_graph(1, 6).compile(checkpointer=saver)
        for turn in range(5):
            run: Any = {**thread("t"), "metadata": {"run_id": f"run{turn}"}}
            await graph.ainvoke({"numbers": [turn]}, run, durability="sync")
        found = await listed(saver, thread("t"))
        whole = [(await graph.aget_state(each.config)).values for each in found]
        await saver.adelete_for_runs(["run1"])
        gone = {
            each.checkpoint["id"]
            for each in found
            if cast("Any", each.metadata)["run_id"] == "run1"
        }
        left = [each.checkpoint["id"] for each in await listed(saver, thread("t"))]
        assert left == [e.checkpoint["id"] for e in found if e.checkpoint["id"] not in gone]
        refused: list[str] = []
        for each, values in zip(found, whole, strict=True):
            if each.checkpoint["id"] in gone:
                continue
            outcome = await outcome_of(graph.aget_state(each.config))
            if isinstance(outcome, CheckpointCorruptError):
                refused.append(str(outcome))
                assert f"thread 't': checkpoint {each.checkpoint['id']!r}" in refused[-1]
                assert any(repr(missing) in refused[-1] for missing in gone)
            else:
                assert outcome.values == values
        assert 0 < len(refused) < len(left)

    async def test_pruning_keeps_writes_whose_checkpoint_is_to_come(self, make: Make) -> None:
        """In "async" the writes of a step come before its checkpoint, and the one before it."""
        saver = make(keep_last=1)
        # Made half a minute apart: what a saver tells of ids is coarse.
        first, *coming = [
            checkpoint(id=f"1f00000{number}-0000-6000-8000-000000000000") for number in range(4)
        ]
        over = metadata(run_id="over")
        config = await saver.aput(thread("t", checkpoint_ns=""), first, over, {})
        for number, each in enumerate(coming):
            place = thread("t", checkpoint_ns="", checkpoint_id=each["id"])
            await saver.aput_writes(place, [("x", number)], "task")
        for number, each in enumerate(coming):
            config = await saver.aput(config, each, metadata(number), {})
            await saver.aprune(["t"])
            await saver.adelete_for_runs(["over"])
            (found,) = await listed(saver, thread("t"))
            assert found.config == config
            assert found.pending_writes == [("task", "x", number)]

    async def test_pruning_loses_no_answer_of_a_run(self, make: Make) -> None:
        """With keep_last, in each durability, a question is there and its neighbour ran once."""
        for durability, inside in itertools.product(("sync", "async", "exit"), (False, True)):
            ran: list[str] = []
            saver = make(keep_last=1)
            graph: Any = graphs.side_by_side_graph(4, ran, inside=inside)
            graph = graph.compile(checkpointer=saver)
            config: Any = {**thread(f"{durability} {inside}"), "recursion_limit": 50}
            await graph.ainvoke({"numbers": []}, config, durability=durability)
            state = await graph.aget_state(config)
            assert [interrupt.value for interrupt in state.interrupts] == ["go on?"]
            ended = await graph.ainvoke(Command(resume=9), config, durability=durability)
            assert ended["numbers"] == [1, 1, 1, 1, 9, 2]
            assert ran == ["charged"]

    # Damage and faults

    async def test_damage_is_never_taken_for_nothing(self, make: Make, root: Path) -> None:
        """A changed byte in any file of a thread is an error by name, not None and not older."""
        saver = make()
        config = await put(saver, thread("t"), {"x": "small", "large": [*range(5000)]})
        await saver.aput_writes(config, [("x", 1)], "task")
        await saver.aclose()
        files = [*root.glob("*/checkpoints/cp_*.json"), *root.glob("*/blobs/*")]
        assert len(files) >= 4
        for path in files:
            intact = path.read_bytes()
            at = len(intact) // 2
            path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
            assert await _is_corrupt(make(), thread("t")), path
            path.unlink()
            if path.parent.name == "blobs":
                assert await _is_corrupt(make(), thread("t")), path
            path.write_bytes(intact[: len(intact) // 2])
            assert await _is_corrupt(make(), thread("t")), path
            path.write_bytes(intact)
        assert await make().aget_tuple(thread("t")) is not None

    async def test_a_failed_put_leaves_what_was_there(self, make: Make, root: Path) -> None:
        """Whichever system call of a put fails, the old or the new checkpoint is there, whole."""
        disk = FaultyFiles()
        saver = make(files=disk)
        config = await put(saver, thread("t"), {"x": 0, "large": "0" * 9000})
        # Files are written while others go on, so only the journal's calls have a fixed order.
        for operation in ("sync data", "write", None):
            for nth in itertools.count():
                with contextlib.suppress(StorageError):  # of what was tried while the disk failed
                    await saver.aflush()
                await saver.aflush()
                disk.arm(Fault(errno.EIO, operation, nth=nth))
                try:
                    await put(saver, config, {"x": nth, "large": f"{nth}" * 9000})
                    await saver.aflush()  # or some of its calls would come later
                except (StorageError, OSError):
                    pass
                finally:
                    was_hit = bool(disk.failed)
                    disk.arm(None)
                if not was_hit:
                    break
                found = await got(saver, thread("t"))
                config = found.config
                assert found.checkpoint["channel_values"].keys() == {"x", "large"}
        await saver.aclose()
        assert len(await listed(make(), thread("t"))) >= 2

    async def test_interrupts_go_on_where_they_were(self, make: Make) -> None:
        """A run that asked goes on with the answer, by another saver, in each durability."""
        for durability in ("sync", "async", "exit"):
            config = thread(durability)
            first = make()
            graph: Any = graphs.asking_graph().compile(checkpointer=first)
            inputs: Any = {"messages": [HumanMessage("hello")]}
            await graph.ainvoke(inputs, config, durability=durability)
            await first.aclose()
            graph = graphs.asking_graph().compile(checkpointer=make())
            state = await graph.aget_state(config)
            assert [interrupt.value for interrupt in state.interrupts] == ["go on?"]
            ended = await graph.ainvoke(Command(resume="yes"), config)
            assert [m.content for m in ended["messages"]] == ["hello", "counted 1", "yes"]


async def _is_corrupt(saver: CheckpointSaver, config: Any) -> bool:
    try:
        await saver.aget_tuple(config)
    except CheckpointCorruptError:
        return True
    finally:
        await saver.aclose()
    return False


def names() -> Sequence[str]:
    """Return the names of all promises."""
    return [name for name in vars(Promises) if name.startswith("test_")]
