"""Savers that go on with the same thread: who is overtaken is told, and nobody else is."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointCorruptError,
    SessionChangedError,
    StorageError,
)
from aiocheckpoint._disk.files import Directory
from aiocheckpoint.adapters.langgraph import ThreadChangedError
from aiocheckpoint.testing import Fault, FaultyFiles
from tests.faults import Hold
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.graphs import chain_graph, chat, thread
from tests.langgraph.promises import checkpoint, got, listed, metadata, put


def _noted(name: str, looks: list[str]) -> Any:
    method = getattr(AsyncCheckpointWriter, name)

    async def noted(*args: Any, **options: Any) -> Any:
        looks.append(name)
        return await method(*args, **options)

    return noted


class _RacingFiles(FaultyFiles):
    """Files between whose listing and first reading something happens."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__()
        self._happenings = [happen]

    def read(self, directory: Directory, name: str, max_bytes: int) -> bytes | None:
        if name.startswith("cp_") and self._happenings:
            self._happenings.pop()()
        return super().read(directory, name, max_bytes)


class TestForks:
    async def test_the_second_of_two_is_told(self, make: MakeSaver) -> None:
        """Of two savers that go on from one checkpoint the second is refused, and may look anew."""
        one, two = make(), make()
        start = await put(one, thread("t"), step=0)
        for saver in (one, two):
            assert (await got(saver, thread("t"))).config == start
        await put(one, start, step=1)
        with pytest.raises(SessionChangedError) as caught:
            await put(two, start, step=1)
        assert "thread 't': another saver has gone on" in str(caught.value)
        newest = await got(two, thread("t"))
        await put(two, newest.config, step=2)
        with pytest.raises(SessionChangedError):
            await put(one, newest.config, step=2)
        assert [f.metadata["step"] for f in await listed(one, thread("t"))] == [2, 1, 0]

    async def test_who_was_told_is_told_until_it_looks(self, make: MakeSaver) -> None:
        """A refused put is refused again, also beside another, until its saver looks anew."""
        one, two = make(), make()
        start = await put(one, thread("t"), step=0)
        await got(two, thread("t"))
        await put(one, start, step=1)
        late = checkpoint()
        for _ in range(2):
            with pytest.raises(SessionChangedError):
                await two.aput(start, late, metadata(1), {})
        outcomes = await asyncio.gather(
            *(put(two, start, step=1) for _ in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [ThreadChangedError] * 3
        await put(two, (await got(two, thread("t"))).config, step=2)
        assert [f.metadata["step"] for f in await listed(one, thread("t"))] == [2, 1, 0]

    async def test_who_was_shown_the_newest_in_the_midst_of_a_run(self, make: MakeSaver) -> None:
        """Somebody else who looks, as a page that shows the state, lets no older run hide it."""
        one, two = make(), make()
        start = await put(one, thread("t"), step=0)
        await got(one, thread("t"))
        await got(two, thread("t"))
        under_way = await put(one, start, step=1)
        theirs = await put(two, (await got(two, thread("t"))).config, step=2)
        assert (await got(one, thread("t"))).config == theirs
        for _ in range(2):
            with pytest.raises(ThreadChangedError):
                await put(one, under_way, step=2)
        assert (await got(make(), thread("t"))).config == theirs
        await put(one, theirs, step=3)

    async def test_one_saver_may_put_side_by_side(self, make: MakeSaver) -> None:
        """What one saver puts at the same time is no conflict with itself."""
        saver = make()
        start = await put(saver, thread("t"))
        await got(saver, thread("t"))
        await asyncio.gather(*(put(saver, start, step=n) for n in range(100)))
        assert len(await listed(saver, thread("t"))) == 101

    async def test_the_newest_is_found_while_others_prune(self, make: MakeSaver) -> None:
        """Whoever looks while another puts a checkpoint and prunes the one before finds one."""
        other = make()
        config = await put(other, thread("t"), step=1)

        await other.aflush()

        def go_on() -> None:
            other.put(config, checkpoint(), metadata(2), {})
            other.prune(["t"])
            other.flush()

        reader = make(files=_RacingFiles(go_on))
        assert (await got(reader, thread("t"))).metadata["step"] == 2

    async def test_two_that_begin_a_thread(self, make: MakeSaver) -> None:
        """Of two savers that found no thread the second is refused."""
        one, two = make(), make()
        assert await one.aget_tuple(thread("t")) is None
        assert await two.aget_tuple(thread("t")) is None
        await put(one, thread("t"))
        with pytest.raises(SessionChangedError):
            await put(two, thread("t"))

    async def test_who_asks_for_a_checkpoint_may_fork(self, make: MakeSaver) -> None:
        """Going back to an older checkpoint by its id is no conflict, nor are runs in turn."""
        one, two = make(), make()
        first = await put(one, thread("t"), step=0)
        await got(two, thread("t"))
        await put(one, first, step=1)
        await got(two, first)
        await put(two, first, step=1)
        for saver in (one, two, one, two):
            newest = await got(saver, thread("t"))
            await put(saver, newest.config, step=2)

    async def test_writes_hide_nobody(self, make: MakeSaver) -> None:
        """Who was overtaken is told also when it has stored writes meanwhile, as nodes do."""
        one, two = make(), make()
        start = await put(one, thread("t"), step=0)
        await got(two, thread("t"))
        await put(one, start, step=1)
        for task in ("first", "second"):
            await two.aput_writes(start, [("x", 1)], task)
        with pytest.raises(SessionChangedError):
            await put(two, start, step=1)
        assert [f.metadata["step"] for f in await listed(one, thread("t"))] == [1, 0]

    async def test_a_fork_hides_nobody(self, make: MakeSaver) -> None:
        """Who has forked on purpose is told when somebody goes on with the thread after that."""
        one, two = make(), make()
        first = await put(one, thread("t"), step=0)
        await put(one, first, step=1)
        await got(two, first)
        fork = await put(two, first, step=1)
        await put(one, (await got(one, thread("t"))).config, step=2)
        with pytest.raises(SessionChangedError):
            await put(two, fork, step=2)

    async def test_writes_of_others_are_no_conflict(self, make: MakeSaver) -> None:
        """What another saver wrote after the same checkpoint does not refuse the next one."""
        one, two = make(), make()
        config = await put(one, thread("t"), step=0)
        for step in range(1, 5):
            await two.aput_writes(config, [("x", step)], "another's")
            if step % 2:
                await one.aput_writes(config, [("x", step)], "own")
                await two.aput_writes(config, [("y", step)], "another's too")
            config = await put(one, config, step=step)
        found = await listed(one, thread("t"))
        assert [len(f.pending_writes or ()) for f in found] == [0, 1, 3, 1, 3]

    async def test_writes_of_others_hold_up_nobody(self, make: MakeSaver) -> None:
        """A hundred puts and writes side by side are all stored while another saver writes."""
        one, two = make(), make()
        start = await put(one, thread("t"), step=0)

        async def disturb() -> None:
            for number in range(20):
                await two.aput_writes(start, [("x", number)], f"another's {number}")

        writes = [one.aput_writes(start, [("x", n)], f"own {n}") for n in range(50)]
        puts = [put(one, start, step=n) for n in range(1, 51)]
        await asyncio.gather(*puts, disturb(), *writes)
        assert len(await listed(one, thread("t"))) == 51
        assert len((await got(one, start)).pending_writes or ()) == 70

    async def test_threads_of_one_saver_are_no_conflict(self, make: MakeSaver) -> None:
        """What threads put by one saver at the same time is no conflict, nor what its loops do."""
        saver = make()
        start = await put(saver, thread("t"), step=0)

        def put_some() -> None:
            for _ in range(5):
                stored = saver.put(start, checkpoint(), metadata(1), {})
                saver.put_writes(stored, [("x", 1)], "task")

        others = [asyncio.to_thread(put_some) for _ in range(4)]
        others += [asyncio.to_thread(asyncio.run, put(saver, start, step=1)) for _ in range(4)]
        await asyncio.gather(*others, *(put(saver, start, step=1) for _ in range(20)))
        found = await listed(saver, thread("t"))
        assert len(found) == 1 + 4 * 5 + 4 + 20
        assert sum(len(f.pending_writes or ()) for f in found) == 4 * 5

    async def test_what_failed_hides_nobody(self, make: MakeSaver) -> None:
        """A put that failed is not taken for stored: who was overtaken by then is told."""
        disk = FaultyFiles()
        one, two = make(), make(files=disk)
        start = await put(one, thread("t"), step=0)
        await got(two, thread("t"))
        early = checkpoint()
        disk.arm(Fault(errno.EIO, "sync data"))
        with pytest.raises(StorageError):
            await put(two, start, step=1)
        await one.aput(start, early, metadata(1), {})  # its id is below that of the failed one
        with pytest.raises(SessionChangedError):
            await put(two, start, step=1)

    async def test_what_was_cancelled_is_no_conflict(self, make: MakeSaver) -> None:
        """A put that was cancelled, stored or not, does not refuse those that come later."""
        disk = FaultyFiles()
        saver = make(files=disk)
        start = await put(saver, thread("t"), step=0)
        hold = Hold()
        disk.at("before_publish", hold)
        begun, waiting = (asyncio.create_task(put(saver, start, step=1)) for _ in range(2))
        await asyncio.to_thread(hold.wait_arrived)
        for each in (begun, waiting):
            each.cancel()
        hold.release()
        outcomes = await asyncio.gather(begun, waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
        await put(saver, start, step=2)
        steps = [f.metadata["step"] for f in await listed(saver, thread("t"))]
        assert steps[0] == 2
        assert steps[-1] == 0

    @pytest.mark.damages_store
    async def test_damage_elsewhere_hides_nothing(self, make: MakeSaver, root: Path) -> None:
        """The newest checkpoint loads while what was stored after an older one is damaged."""
        one = make()
        first = await put(one, thread("t"), step=0)
        newest = await put(one, first, step=1)
        await one.aput_writes(first, [("x", 1)], "late")
        await one.aclose()

        def damage() -> None:
            last = max(root.glob("*/checkpoints/cp_*.json"))
            last.write_bytes(last.read_bytes().replace(b"late", b"lame"))

        await asyncio.to_thread(damage)
        two = make()
        assert (await got(two, thread("t"))).config == newest
        with pytest.raises(CheckpointCorruptError):
            await got(two, first)

    async def test_a_clock_behind_loses_nothing(self, make: MakeSaver) -> None:
        """The newest is what was stored last, also by a process whose ids are smaller."""
        one, two = make(), make()
        early, late = checkpoint(), checkpoint()
        late_config = await one.aput(thread("t", checkpoint_ns=""), late, metadata(1), {})
        assert (await got(two, thread("t"))).config == late_config
        early_config = await two.aput(late_config, early, metadata(2), {})
        await two.aput_writes(early_config, [("x", 1)], "task")
        with pytest.raises(SessionChangedError):
            await put(one, late_config, step=3)
        for saver in (one, two, make()):
            newest = await got(saver, thread("t"))
            assert newest.config == early_config
            assert newest.pending_writes == [("task", "x", 1)]
            found = await listed(saver, thread("t"))
            assert [each.config for each in found] == [early_config, late_config]
            found = await listed(saver, thread("t"), before=early_config)
            assert [each.config for each in found] == [late_config]
        await one.acopy_thread("t", "u")
        assert (await got(one, thread("u"))).checkpoint["id"] == early["id"]
        await one.aprune(["t"])
        assert (await got(one, thread("t"))) == newest
        after = await put(one, early_config, step=3)
        assert (await got(two, thread("t"))).config == after

    async def test_a_clock_behind_is_not_pruned(self, make: MakeSaver) -> None:
        """With keep_last what stays is what was stored last, with writes that came before it."""
        saver = make(keep_last=1)
        early, coming, late = checkpoint(), checkpoint(), checkpoint()
        config = await saver.aput(thread("t", checkpoint_ns=""), late, metadata(1), {})
        config = await saver.aput(config, early, metadata(2), {})
        place = thread("t", checkpoint_ns="", checkpoint_id=coming["id"])
        await saver.aput_writes(place, [("x", 1)], "task")
        await saver.aprune(["t"])
        assert (await got(saver, thread("t"))).config == config
        config = await saver.aput(config, coming, metadata(3), {})
        (left,) = await listed(saver, thread("t"))
        assert left.config == config
        assert left.pending_writes == [("task", "x", 1)]

    @pytest.mark.parametrize(("options", "hops"), [({}, 1), ({"keep_last": 100}, 2)])
    async def test_a_run_in_peace_looks_once(
        self,
        make: MakeSaver,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
        hops: int,
    ) -> None:
        """Only the first step of a run reads, and counts what is kept, whatever comes after it."""
        looks: list[str] = []
        for name in ("read", "ids", "load", "load_many", "list"):
            monkeypatch.setattr(AsyncCheckpointWriter, name, _noted(name, looks))
        graph: Any = chain_graph(20).compile(checkpointer=make(**options))
        await graph.ainvoke({"numbers": []}, thread("t"))
        assert len(looks) == hops, looks

    async def test_it_can_be_allowed(self, make: MakeSaver) -> None:
        """With refuse_forks=False two savers fork a thread as LangGraph's own savers do."""
        one, two = make(refuse_forks=False), make(refuse_forks=False)
        start = await put(one, thread("t"))
        await got(two, thread("t"))
        await put(one, start)
        await put(two, start)
        assert len(await listed(one, thread("t"))) == 3

    async def test_graphs_of_two_processes(self, make: MakeSaver) -> None:
        """Runs that alternate between savers go on from one another's state."""
        savers = (make(), make())
        for number in range(4):
            state = await chat(savers[number % 2], thread("t"), 1)
            assert len(state["messages"]) == 2 * (number + 1)
