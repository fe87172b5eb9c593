"""The whole API in any order, with faults, kills and power cuts, against a plain model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from aiocheckpoint import (
    AsyncCheckpointWriter,
    CheckpointError,
    DurabilityUnknownError,
    StorageError,
)
from aiocheckpoint._disk.slots import Slots
from tests.crash import oracle
from tests.crash.checker import (
    ROOT_NAME,
    BrokenPromiseError,
    Writer,
    materialise,
    perform,
    require_allowed,
    scratch_directory,
    see_all,
)
from tests.crash.enumeration import same_each_time
from tests.crash.model import LONG, CrashState, Model, crash_states
from tests.crash.operations import Operation, Tree
from tests.crash.oracle import Call, Seen, Version
from tests.crash.recorder import RecordingFiles

pytestmark = [pytest.mark.blocking, pytest.mark.timeout(600)]  # hypothesis looks for the shortest

SESSIONS = st.sampled_from(["a", "b"])
IDS = st.sampled_from(["x", "y", "z"])
_MOST_STATES = 50


class Files(RecordingFiles):
    """Recording files of which a sync may be refused, if there is one."""

    def allow_sync(self) -> None:
        """Refuse none any more."""
        self._refused = ""


class AnyOrder(RuleBasedStateMachine):
    """
    A store, and what it should hold.

    Attributes:
        calls: how many were made, by all machines.
    """

    calls: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._stack.enter_context(same_each_time())
        self._runner = self._stack.enter_context(asyncio.Runner())
        self._serials = itertools.count(1)
        self._start = Tree()
        self._earlier: list[Operation] = []
        self._store: dict[str, Seen] = {}

    @initialize(
        durability=st.sampled_from(["journal", "file"]),
        max_checkpoints=st.sampled_from([None, 2]),
    )
    def begin(self, durability: str, max_checkpoints: int | None) -> None:
        self._options: dict[str, Any] = {
            "durability": durability,
            "max_checkpoints": max_checkpoints,
        }
        self._limit = max_checkpoints
        self._open(Tree())

    def teardown(self) -> None:
        if hasattr(self, "_writer"):
            self._runner.run(self._writer.aclose())
        self._stack.close()

    # Calls

    @rule(session_id=SESSIONS, checkpoint_id=IDS)
    def save(self, session_id: str, checkpoint_id: str) -> None:
        answer = self._call(self._save(session_id, checkpoint_id))
        assert answer == checkpoint_id

    @rule(session_id=SESSIONS, checkpoint_id=IDS)
    def save_whose_sync_fails(self, session_id: str, checkpoint_id: str) -> None:
        save = self._save(session_id, checkpoint_id)
        maybe = oracle.allowed(self._store, [save], self._limit)
        self._files.refuse_sync()
        try:
            self._call(save)
        except DurabilityUnknownError:
            views = self._runner.run(see_all(self._writer))
            require_allowed(views, maybe)
            self._store = dict(views)
            self._call(self._save(session_id, "x"))  # after which it is known
        except StorageError:
            pass  # it was not made
        self._files.allow_sync()

    @rule(session_id=SESSIONS, checkpoint_id=IDS)
    def delete(self, session_id: str, checkpoint_id: str) -> None:
        was_there = checkpoint_id in self._ids(session_id)
        assert self._call(oracle.Delete(session_id, checkpoint_id)) == was_there

    @rule(session_id=SESSIONS, checkpoint_ids=st.sets(IDS))
    def delete_many(self, session_id: str, checkpoint_ids: set[str]) -> None:
        count = len(checkpoint_ids & self._ids(session_id))
        call = oracle.DeleteMany(session_id, tuple(sorted(checkpoint_ids)))
        assert self._call(call) == count

    @rule(session_id=SESSIONS)
    def delete_session(self, session_id: str) -> None:
        was_there = bool(self._ids(session_id))
        assert self._call(oracle.DeleteSession(session_id)) == was_there

    @rule(source_id=SESSIONS, target_id=SESSIONS)
    def copy_session(self, source_id: str, target_id: str) -> None:
        if source_id != target_id:
            count = len(self._ids(source_id))
            assert self._call(oracle.CopySession(target_id, source_id)) == count

    @rule()
    def flush(self) -> None:
        self._call(oracle.Flush())

    @rule(session_id=SESSIONS)
    def recover(self, session_id: str) -> None:
        self._call(oracle.Recover(session_id))

    @rule()
    def reopen(self) -> None:
        self._runner.run(self._writer.aclose())
        self._go_on_with(self._files.tree.copy(), self._operations())

    # Crashes

    @rule(session_id=SESSIONS, checkpoint_id=IDS, data=st.data())
    def crash_in_a_save(self, session_id: str, checkpoint_id: str, data: st.DataObject) -> None:
        self._crash_in(self._save(session_id, checkpoint_id), data)

    @rule(session_id=SESSIONS, checkpoint_id=IDS, data=st.data())
    def crash_in_a_delete(self, session_id: str, checkpoint_id: str, data: st.DataObject) -> None:
        self._crash_in(oracle.Delete(session_id, checkpoint_id), data)

    @rule(session_id=SESSIONS, data=st.data())
    def crash_in_a_delete_of_a_session(self, session_id: str, data: st.DataObject) -> None:
        self._crash_in(oracle.DeleteSession(session_id), data)

    @rule(data=st.data())
    def crash_in_a_flush(self, data: st.DataObject) -> None:
        self._crash_in(oracle.Flush(), data)

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        if hasattr(self, "_writer"):
            sure = {session_id: [seen] for session_id, seen in self._store.items()}
            require_allowed(self._runner.run(see_all(self._writer)), sure)

    # How

    def _save(self, session_id: str, checkpoint_id: str) -> oracle.Save:
        return oracle.Save(session_id, Version(checkpoint_id, next(self._serials), session_id))

    def _ids(self, session_id: str) -> set[str]:
        return {version.checkpoint_id for version in self._store.get(session_id, ())}

    def _call(self, call: Call) -> object:
        AnyOrder.calls += 1
        answer = self._runner.run(perform(self._writer, call))
        self._store = oracle.after(self._store, call, self._limit)
        return answer

    def _crash_in(self, call: Call, data: st.DataObject) -> None:
        store, before = self._store, oracle.allowed(self._store, [call], self._limit)
        begun = len(self._operations())
        self._call(call)
        operations = self._operations()
        model: Model = data.draw(st.sampled_from(["killed", "ext4", "posix"]), label="model")
        point = data.draw(st.integers(begun, len(operations)), label="operations done")
        is_done = point == len(operations)
        after = {session_id: [state] for session_id, state in self._store.items()}
        state = self._state(model, operations[:point], data)
        self._runner.run(self._writer.aclose())  # of what has been left behind
        if model == "killed":
            self._go_on_with(state.tree, operations[:point])
        else:
            self._start = state.tree
            self._go_on_with(state.tree, [])
        views = self._runner.run(see_all(self._writer))
        require_allowed(views, after if is_done else before)
        self._store = dict(views)
        if model == "killed" and not is_done and views != _without_empty(store):
            # What was not acknowledged is seen, and nobody has said that it is durable.
            self._call(self._save(call.session_id, "x"))

    def _state(self, model: Model, operations: list[Operation], data: st.DataObject) -> CrashState:
        states = crash_states(model, self._start, operations, len(operations), LONG)
        some = list(itertools.islice(states, _MOST_STATES))
        return some[data.draw(st.integers(0, len(some) - 1), label="state")]

    def _operations(self) -> list[Operation]:
        return [*self._earlier, *self._files.operations]

    def _go_on_with(self, tree: Tree, earlier: list[Operation]) -> None:
        self._earlier = earlier
        self._open(tree)

    def _open(self, tree: Tree) -> None:
        outer = self._stack.enter_context(scratch_directory())
        materialise(tree, outer)
        self._files = Files(outer, tree)
        self._writer: Writer = AsyncCheckpointWriter(
            outer / ROOT_NAME, files=self._files, **self._options
        )


def _without_empty(store: oracle.Store) -> dict[str, Seen]:
    return {session_id: seen for session_id, seen in store.items() if seen}


def _run(max_examples: int, steps: int, phases: Collection[Phase] = tuple(Phase)) -> None:
    bounds = settings(max_examples=max_examples, stateful_step_count=steps, phases=phases)
    run(AnyOrder, settings=bounds)


@pytest.mark.long
def test_some_orders(record_property: Callable[[str, object], None]) -> None:
    """Whatever is called in whatever order, and wherever it crashes, the model is right."""
    before = AnyOrder.calls

    _run(14, 20)

    record_property("examined", AnyOrder.calls - before)


def test_it_sees_a_broken_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds that a commit is acknowledged before it is durable."""
    monkeypatch.setattr(Slots, "sync", lambda self, slot: None)

    with pytest.raises((BrokenPromiseError, CheckpointError)):
        _run(100, 20, [Phase.generate])


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_many_orders(record_property: Callable[[str, object], None]) -> None:
    """The same over long ones, and thousands of calls."""
    before = AnyOrder.calls

    _run(300, 30)

    record_property("examined", AnyOrder.calls - before)
