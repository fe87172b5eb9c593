"""Steps that hypothesis draws, each taken with a saver and with LangGraph's in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import strategies as st
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from aiocheckpoint.adapters.langgraph import CheckpointSaver
from tests.langgraph import logical_time
from tests.langgraph.differences import plain, require_equal
from tests.langgraph.graphs import thread
from tests.langgraph.places import Place
from tests.langgraph.random_graphs import LISTS, Chain, Weather, built, graphs

Verb = Literal["turn", "answer", "go on", "update", "look", "prune", "restart"]
_VERBS: Sequence[Verb] = ("turn", "answer", "go on", "update", "look", "restart")
_OFTEN: Sequence[Verb] = ("turn", "turn", "answer", "go on", "update")


@dataclass(frozen=True)
class Step:
    """
    What is done with a thread; numbers choose among what there is then.

    Attributes:
        verb: what.
        by: which of two savers does it.
        at: from which checkpoint, counted from the newest; None from the thread's state.
        within: in which graph within a node of it, if there is any; None in the whole.
        durability: of a run.
        is_bad: whether nodes fail that may.
        number: at which group a turn begins, which questions are answered, as which node and what
            is updated, how many checkpoints stay.
        rounds: how many more of them a turn goes.
        halts: whether a run halts after each node.
    """

    verb: Verb
    by: int = 0
    at: int | None = None
    within: int | None = None
    durability: Literal["sync", "async", "exit"] = "sync"
    is_bad: bool = False
    number: int = 0
    rounds: int = 0
    halts: bool = False


@dataclass(frozen=True)
class Script:
    """
    A graph, and what is done with a thread of it.

    Attributes:
        keep_last: of the saver.
    """

    graph: Chain
    steps: tuple[Step, ...]
    keep_last: int | None = None

    @property
    def prunes(self) -> bool:
        """Whether checkpoints are removed."""
        return self.keep_last is not None or any(step.verb == "prune" for step in self.steps)


def scripts(*, pruning: bool, delta_channels: int) -> st.SearchStrategy[Script]:
    """Draw a graph and steps, some of which prune, with at most so many delta channels."""
    few = st.integers(0, 5)
    verbs = (*_VERBS, *_OFTEN, *(("prune",) * 3 if pruning else ()))
    steps = st.builds(
        Step,
        st.sampled_from(verbs),
        st.integers(0, 1),
        st.one_of(st.none(), st.integers(0, 4), st.integers(0, 12)),
        st.one_of(st.none(), st.none(), st.none(), few),
        st.sampled_from(("sync", "async", "exit")),
        st.booleans(),
        few,
        st.sampled_from((0, 0, 0, 1)),
        st.sampled_from((False, False, False, True)),
    )
    return st.builds(
        Script,
        graphs(delta_channels=delta_channels),
        st.lists(steps, min_size=4, max_size=10).map(lambda each: (Step("turn"), *each)),
        st.sampled_from((None, None, 1, 3, 4, 7)) if pruning else st.none(),
    )


_PLACE = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")
_Call = Callable[[Any], Any]
_THREAD: Any = thread("t")


class Side:
    """The graph on one saver, whose clock nobody else uses."""

    def __init__(self, graph: Any, saver: BaseCheckpointSaver[Any]) -> None:
        self._clock = logical_time.Clock()
        self.graph = graph.copy(update={"checkpointer": saver})

    def go_on_with(self, saver: BaseCheckpointSaver[Any]) -> None:
        """Use another saver of the same threads."""
        self.graph = self.graph.copy(update={"checkpointer": saver})

    async def outcome(self, call: _Call, clock: logical_time.Clock | None = None) -> object:
        """Return how a call of the graph ends, in a form that can be compared."""
        logical_time.use(clock or self._clock)
        try:
            return plain(await call(self.graph))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other's is the same
            return f"{type(error).__name__}: {error}"

    async def seen(self, call: _Call) -> object:
        """Return the same of a call that only reads, for which no time passes."""
        return await self.outcome(call, logical_time.Clock())


class Comparison:
    """
    Takes each step on both savers.

    What is looked at to compare is read by a saver of its own, as each remembers what it was
    shown.

    Args:
        script: the graph; and how many checkpoints stay.
        place: where the saver under test keeps them.
    """

    def __init__(self, script: Script, place: Place) -> None:
        self._script = script
        self._place = place
        self._weather = Weather()
        graph: Any = built(script.graph, self._weather).compile(checkpointer=InMemorySaver())
        self._savers = [self._opened(), self._opened()]
        self._reader = self._opened()
        self._known = InMemorySaver()
        self._tested_side = Side(graph, self._savers[0])
        self._known_side = Side(graph, self._known)
        self._reading_side = Side(graph, self._reader)

    def _opened(self) -> CheckpointSaver:
        return CheckpointSaver(self._place.storage(), keep_last=self._script.keep_last)

    async def aclose(self) -> None:
        """Close all savers."""
        for saver in (*self._savers, self._reader):
            await saver.aclose()

    async def take(self, step: Step, number: int) -> None:
        """Take a step on both, and see that they agree."""
        self._weather.is_bad = step.is_bad
        match step.verb:
            case "prune":
                await self._prune(self._savers[step.by], step.number + 1)
            case "restart":
                await self._savers[step.by].aclose()
                self._savers[step.by] = self._opened()
            case _:
                self._tested_side.go_on_with(self._savers[step.by])
                await self._require_equal_outcomes(await self._call(step, number), step)
        await self._require_equal_listings()
        await self._require_equal_states(_THREAD)

    async def _prune(self, saver: CheckpointSaver, keep_last: int) -> None:
        before = [place for place in await _listed(self._reader) if not place[0]]
        await saver.aprune(["t"], keep_last=keep_last)
        after = [place for place in await _listed(self._reader) if not place[0]]
        require_equal(before[:keep_last], after, "what stays")

    async def _require_equal_outcomes(self, call: _Call, step: Step) -> None:
        known = await self._known_side.outcome(call)
        tested = await self._tested_side.outcome(call)
        if not (step.verb == "look" and self._script.prunes):
            require_equal(known, tested, "outcome")

    async def _call(self, step: Step, number: int) -> _Call:
        listed = await _listed(self._reader)
        config = _chosen(step.at, [checkpoint for namespace, checkpoint in listed if not namespace])
        state = await self._state(config)
        # Around what a graph within a node has stored may be pruned: no run can begin there.
        found = [each for each in _within(state) if {*_around(each)} <= {*listed}]
        if step.within is not None and found:
            state = found[step.within % len(found)]
            place = state.config["configurable"]
            config = {"configurable": {key: place[key] for key in _PLACE if key in place}}
        if step.verb == "look":
            return lambda graph: _history(graph, config)
        if step.verb == "update":
            values = _values(step.number, number)
            nodes = (None, *_nodes(self._script.graph))
            node = nodes[step.number % len(nodes)]
            return lambda graph: graph.aupdate_state(config, values, as_node=node)
        given = _given(step, number, state)
        options: dict[str, Any] = {"durability": step.durability}
        if step.halts:
            options["interrupt_after"] = "*"
        return lambda graph: graph.ainvoke(given, config, **options)

    async def _state(self, config: Any) -> Any:
        logical_time.use(logical_time.Clock())
        try:
            return await self._known_side.graph.aget_state(config, subgraphs=True)
        except Exception:  # noqa: BLE001 - of a graph that cannot tell what comes next
            return None

    async def require_equal_history(self) -> None:
        """See that each checkpoint that is listed has the same state, with graphs within."""
        for namespace, checkpoint in await _listed(self._reader):
            if not namespace:
                config = thread("t", checkpoint_ns="", checkpoint_id=checkpoint)
                await self._require_equal_states(config)

    async def _require_equal_states(self, config: Any) -> None:
        def call(graph: Any) -> Any:
            return graph.aget_state(config, subgraphs=True)

        known = await self._known_side.seen(call)
        require_equal(known, await self._reading_side.seen(call), f"state of {config}")

    async def _require_equal_listings(self) -> None:
        known, tested = await _listed(self._known), await _listed(self._reader)
        if not self._script.prunes:
            require_equal(sorted(known), sorted(tested), "checkpoints")
        for place, item in tested.items():
            require_equal(known.get(place), item, f"checkpoint {place}")


async def compare(script: Script, place: Place) -> None:
    """
    Take all steps of a script.

    Raises:
        DifferenceError: the savers do not agree.
    """
    comparison = Comparison(script, place)
    try:
        for number, step in enumerate(script.steps):
            await comparison.take(step, number)
        await comparison.require_equal_history()
    finally:
        await comparison.aclose()


def _chosen(at: int | None, checkpoints: Sequence[str]) -> Any:
    if at is None or not checkpoints:
        return _THREAD
    return thread("t", checkpoint_ns="", checkpoint_id=checkpoints[at % len(checkpoints)])


def _around(state: Any) -> Iterable[tuple[str, str]]:
    """Return the namespaces and ids of the checkpoint of a state, and of those it is within."""
    found: dict[str, str] = state.config["configurable"].get("checkpoint_map", {})
    return found.items()


def _within(state: Any) -> list[Any]:
    """Return the states of graphs within nodes."""
    tasks = () if state is None else state.tasks
    states = [task.state for task in tasks if hasattr(task.state, "values") and task.state.metadata]
    return [each for found in states for each in (found, *_within(found))]


def _given(step: Step, number: int, state: Any) -> Any:
    """Return the input of a run."""
    if step.verb == "turn":
        return {"turn": f"turn {number}", "begin": step.number, "rounds": step.rounds}
    questions = (
        [] if state is None or step.verb == "go on" else [each.id for each in state.interrupts]
    )
    if not questions:
        return None
    if len(questions) == 1 and step.number % 2:
        return Command(resume=f"yes {number}")
    chosen = [each for at, each in enumerate(questions) if step.number >> at & 1] or questions
    return Command(resume=dict.fromkeys(chosen, f"yes {number}"))


def _values(choice: int, number: int) -> Any:
    change = [f"change {number}"]
    changes: Sequence[Any] = (
        dict.fromkeys(LISTS, change),
        {"log": change},
        {"notes": change},
        {},
        None,
    )
    return changes[choice % len(changes)]


def _nodes(chain: Chain) -> list[str]:
    names = [f"n{at}{place}" for at, of in enumerate(chain.groups) for place, _ in enumerate(of)]
    return [*names, "tell"]


async def _history(graph: Any, config: Any) -> list[Any]:
    return [state async for state in graph.aget_state_history(config, limit=3)]


async def _listed(saver: BaseCheckpointSaver[Any]) -> dict[tuple[str, str], Any]:
    """Return what a saver has stored, newest first, by namespace and id."""
    found = {}
    async for item in saver.alist(_THREAD):
        place = item.config["configurable"]
        # Values of delta channels are compared as states have them: which checkpoint names them
        # is up to the saver.
        checkpoint = {k: v for k, v in item.checkpoint.items() if k not in ("ts", "channel_values")}
        values = {k: v for k, v in item.checkpoint["channel_values"].items() if k not in LISTS}
        writes = sorted(
            (task, channel, str(plain(value))) for task, channel, value in item.pending_writes or ()
        )
        found[place["checkpoint_ns"], place["checkpoint_id"]] = plain(
            {
                "checkpoint": checkpoint,
                "values": values,
                "metadata": item.metadata,
                "parent": item.parent_config,
                "writes": writes,
            }
        )
    return found
