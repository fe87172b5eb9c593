"""What the persistence promises beyond the framework's own tests."""

from __future__ import annotations

import asyncio
import copy
import faulthandler
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("crewai", reason="needs the extra crewai: .ci/adapter crewai")

from crewai.flow.async_feedback import PendingFeedbackContext
from crewai.flow.flow import Flow, FlowState, and_, listen, start
from crewai.flow.persistence import persist
from pydantic import BaseModel, Field, model_serializer

from aiocheckpoint import (
    BlobStore,
    CheckpointEncodeError,
    CheckpointError,
    open_store,
)
from aiocheckpoint.adapters.crewai import FlowPersistence, FlowRecord
from aiocheckpoint.testing import MemoryStore
from tests.adapters.crewai.shop import shop_flow
from tests.children import run_in_child

pytestmark = pytest.mark.blocking  # it is synchronous


@pytest.fixture(name="persistence", params=["directory", "memory"])
def _persistence(root: Path, request: pytest.FixtureRequest) -> Iterator[FlowPersistence]:
    storage: Any = root if request.param == "directory" else MemoryStore(FlowRecord)
    with FlowPersistence(storage) as persistence:
        yield persistence


def context_of(flow: str, output: object = "draft") -> PendingFeedbackContext:
    return PendingFeedbackContext(flow, "m.Flow", "ask", output, "Refund?")


class TestValues:
    def test_what_json_text_keeps_comes_back(self, persistence: FlowPersistence) -> None:
        """Large integers, infinity, lone surrogates and any text come back as they were."""
        state = {"id": "f", "n": 10**30, "inf": math.inf, "cut": "\ud800", "é": ["☃", None, 0.1]}

        persistence.save_state("f", "m", state)
        persistence.save_pending_feedback("g", context_of("g", [10**30, math.inf]), state)

        assert persistence.load_state("f") == state
        found = persistence.load_pending_feedback("g")
        assert found is not None
        assert found[0] == state
        assert found[1].method_output == [10**30, math.inf]

    @pytest.mark.parametrize(
        "value", [1e308 * 10, 2**64, -(2**70), -0.0, 5e-324, "\udc00", "\ufeff"]
    )
    def test_numbers_and_text_have_their_type(
        self, persistence: FlowPersistence, value: object
    ) -> None:
        """A value comes back with its type and its digits, whichever decoder reads it."""
        persistence.save_state("f", "m", {"id": "f", "value": value})

        assert repr(persistence.load_state("f")) == repr({"id": "f", "value": value})

    def test_state_may_be_changed_afterwards(self, persistence: FlowPersistence) -> None:
        """What was saved is the state as it was."""
        state: dict[str, Any] = {"id": "f", "list": [1]}
        persistence.save_state("f", "m", state)
        state["list"].append(2)

        assert persistence.load_state("f") == {"id": "f", "list": [1]}

    @pytest.mark.parametrize("wrong", [{("a", 1): 2}, 7, None, [1]])
    def test_what_is_no_json_is_refused_by_name(
        self, persistence: FlowPersistence, wrong: Any
    ) -> None:
        """A state that cannot be stored is refused, and the one before stays."""
        persistence.save_state("f", "m", {"id": "f"})
        with pytest.raises(CheckpointEncodeError, match="state"):
            persistence.save_state("f", "m", wrong)

        assert persistence.load_state("f") == {"id": "f"}

    def test_random_changes_of_a_long_state(self, persistence: FlowPersistence) -> None:
        """Whatever changes of a long state, and wherever, the newest comes back."""
        entries = [{"n": n, "text": f"{n} " + "words and " * (n % 97)} for n in range(800)]
        changes: list[Any] = [
            lambda: entries.insert(0, {"text": "first"}),
            lambda: entries.append({"text": "last"}),
            lambda: entries.__delitem__(slice(100, 300)),
            lambda: entries.__setitem__(250, {"text": "}" * 40_000}),
            lambda: entries.extend([{"text": "same " * 10_000}] * 5),
            entries.clear,
        ]
        for number, change in enumerate(changes):
            change()
            state = {"id": "f", "number": number, "entries": entries}
            persistence.save_state("f", "m", state)
            assert persistence.load_state("f") == state
            assert FlowPersistence(persistence.storage).load_state("f") == state


class TestRunner:
    async def test_fork(self, persistence: FlowPersistence) -> None:
        """A fork begins with the state of its source, which it does not change."""

        @persist(persistence)
        class Counting(Flow[dict[str, Any]]):
            @start()
            def count(self) -> None:
                self.state["count"] = self.state.get("count", 0) + 1

        await Counting().kickoff_async(inputs={"id": "source"})
        fork = Counting()
        await fork.kickoff_async(restore_from_state_id="source")

        assert fork.state["count"] == 2
        assert persistence.load_state("source") == {"id": "source", "count": 1}
        assert persistence.load_state(fork.state["id"]) == {"id": fork.state["id"], "count": 2}

    async def test_methods_at_once(self, persistence: FlowPersistence) -> None:
        """Of methods that end at once the newest state is the one that stays."""

        class Numbers(FlowState):
            numbers: list[int] = Field(default_factory=list)

        @persist(persistence)
        class Parallel(Flow[Numbers]):
            @start()
            def begin(self) -> None:
                pass

            @listen(begin)
            def one(self) -> None:
                self.state.numbers.append(1)

            @listen(begin)
            async def two(self) -> None:
                self.state.numbers.append(2)

            @listen(and_(one, two))
            def join(self) -> None:
                self.state.numbers.append(3)

        await asyncio.gather(*(Parallel().kickoff_async(inputs={"id": f"f{n}"}) for n in range(8)))

        for number in range(8):
            found = persistence.load_state(f"f{number}")
            assert found is not None
            assert sorted(found["numbers"]) == [1, 2, 3]

    async def test_cancelled_run_leaves_a_whole_state(
        self, persistence: FlowPersistence, tmp_path: Path
    ) -> None:
        """A run that is cancelled goes on from a state that it had stored."""
        begun, go_on = threading.Event(), threading.Event()

        @persist(persistence)
        class Slow(Flow[dict[str, Any]]):
            @start()
            def one(self) -> None:
                self.state["done"] = [*self.state.get("done", []), "one"]

            @listen(one)
            def two(self) -> None:
                if "two" not in self.state["done"]:
                    begun.set()
                    go_on.wait(30)
                    self.state["done"] = [*self.state["done"], "two"]

        running = asyncio.ensure_future(Slow().kickoff_async(inputs={"id": "f"}))
        await asyncio.to_thread(begun.wait, 30)
        running.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running

        found = persistence.load_state("f")
        assert found is not None
        assert found["done"] in (["one"], ["one", "two"])
        await Slow().kickoff_async(inputs={"id": "f"})
        found = persistence.load_state("f")
        assert found is not None
        assert found["done"][-1] == "two"

    def test_a_save_that_fails_is_seen(self, tmp_path: Path) -> None:
        """The run that cannot store its state ends with the reason."""
        (tmp_path / "file").write_text("")
        persistence = FlowPersistence(tmp_path / "file" / "beneath")
        flow = shop_flow(persistence, tmp_path / "log")(persistence=persistence)

        with pytest.raises(RuntimeError, match="Not a directory"):
            flow.kickoff()


class TestThreads:
    def test_from_any_thread_and_beside_a_loop(self, persistence: FlowPersistence) -> None:
        """Threads and a running loop that call at once get each what they saved."""

        def own(flow: str) -> None:
            for number in range(10):
                persistence.save_state(flow, "m", {"id": flow, "number": number})
                assert persistence.load_state(flow) == {"id": flow, "number": number}

        async def beside() -> None:
            own("loop")

        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(own, f"f{n}") for n in range(5)]
            calls.append(pool.submit(lambda: asyncio.run(beside())))
            for call in calls:
                call.result()

    def test_newest_looked_at_is_newest_stored(self, persistence: FlowPersistence) -> None:
        """Threads that save one growing state at once leave the longest, never a shorter one."""
        state: dict[str, Any] = {"id": "f", "list": []}

        def grow(number: int) -> None:
            state["list"].append(number)
            persistence.save_state("f", "m", state)

        with ThreadPoolExecutor(6) as pool:
            [*pool.map(grow, range(60))]

        found = persistence.load_state("f")
        assert found is not None
        assert sorted(found["list"]) == [*range(60)]

    def test_a_process_that_is_forked_amid_a_save(self, root: Path) -> None:
        """A child saves also the flow that a thread of its parent was saving when it was forked."""
        begun, go_on = threading.Event(), threading.Event()

        class Slow(BaseModel):
            @model_serializer
            def fields(self) -> dict[str, Any]:
                begun.set()
                go_on.wait(30)
                return {"by": "parent"}

        def in_child() -> object:
            faulthandler.dump_traceback_later(20, exit=True)  # rather than wait for ever
            persistence.save_state("f", "m", {"by": "child"})
            return persistence.load_state("f")

        with FlowPersistence(root) as persistence, ThreadPoolExecutor(1) as pool:
            saving = pool.submit(persistence.save_state, "f", "m", Slow())
            begun.wait(30)
            told = run_in_child(in_child)
            go_on.set()
            saving.result()

            assert told == "{'by': 'child'}"
            assert persistence.load_state("f") == {"by": "parent"}

    def test_objects_in_two_places(self, root: Path) -> None:
        """What one object replaced does not mislead another one that knew it."""
        long = [{"n": n, "text": "word " * 50} for n in range(400)]
        with FlowPersistence(root) as one, FlowPersistence(root) as two:
            for number in range(6):
                state = {"id": "f", "list": long if number % 3 else [], "number": number}
                (one, two)[number % 2].save_state("f", "m", state)
                assert (two, one)[number % 2].load_state("f") == state


class TestFramework:
    def test_is_found_again_by_what_crewai_writes(self, root: Path) -> None:
        """A flow that is written to a checkpoint of CrewAI's comes back with its storage."""
        with FlowPersistence(str(root)) as persistence:
            persistence.save_state("f", "m", {"id": "f"})
            flow: Flow[Any] = Flow(persistence=persistence)
            written = flow.model_dump(mode="json", include={"persistence"})

            again: Flow[Any] = Flow(persistence=written["persistence"])

            assert isinstance(again.persistence, FlowPersistence)
            assert again.persistence.load_state("f") == {"id": "f"}
            again.persistence.close()

    def test_secrets_and_open_stores_are_not_written(self) -> None:
        """A password is not written to a checkpoint of CrewAI's, nor an open store."""
        open_one: Any = MemoryStore(FlowRecord)
        for storage in (open_one, "postgresql://ann:secret@db/agents"):
            persistence = FlowPersistence(storage)
            with pytest.raises(ValueError, match="give") as raised:
                persistence.model_dump(mode="json")
            assert "secret" not in str(raised.value)

    def test_secrets_are_not_shown(self, root: Path) -> None:
        """Neither it nor a flow that has it shows a password, as in a log; it says where it is."""
        with FlowPersistence("postgresql://ann:secret@db/agents?password=secret") as persistence:
            for shown in (repr(persistence), str(persistence), repr(Flow(persistence=persistence))):
                assert "secret" not in shown
                assert "FlowPersistence" in repr(persistence)
        with FlowPersistence(root) as persistence:
            assert str(root) in repr(persistence)

    def test_copy_is_the_same(self, persistence: FlowPersistence) -> None:
        """A deep copy, as of a flow that has it, has the same storage."""
        assert copy.deepcopy({"p": persistence})["p"] is persistence


@pytest.mark.damages_store
def test_damaged_waiting_flow_is_not_taken_for_none(root: Path) -> None:
    """Whichever file is damaged, what a flow waits for is there, or a call raises by name."""
    state = {"id": "f", "list": [{"n": n, "text": "word " * 50} for n in range(400)]}
    with FlowPersistence(root) as persistence:
        persistence.save_pending_feedback("f", context_of("f"), state)
    raised = 0
    for path in root.rglob("*"):
        inside = path.is_file() and not path.is_symlink() and ".aiocheckpoint" not in path.parts
        if not inside or path.suffix == ".backup":
            continue
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with FlowPersistence(root) as persistence:
            try:
                found = persistence.load_pending_feedback("f")
                assert found is not None
                assert found[0] == state
                assert persistence.load_state("f") == state
            except CheckpointError:
                raised += 1
        path.write_bytes(content)
    assert raised > 2


async def test_state_is_small_in_the_store(root: Path) -> None:
    """A state that grows is stored as what was added: 200 saves of it take little more than it."""
    messages: list[Any] = []
    with FlowPersistence(root) as persistence:
        for number in range(200):
            messages.append({"role": "user", "content": f"{number} " + "word " * 600})
            persistence.save_state("f", "m", {"id": "f", "turn": number, "messages": messages})
    store: BlobStore[Any] = open_store(root, record_type=FlowRecord)
    async with store:
        assert len(await store.ids("crewai.f")) == 1

    files = [path for path in root.rglob("*") if ".aiocheckpoint" not in path.parts]
    size = sum(path.stat().st_size for path in files if path.is_file())
    assert size < 2 * 200 * 3_050
