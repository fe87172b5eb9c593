"""Graphs that hypothesis draws: chains of nodes, with others within them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from hypothesis import strategies as st
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

MAX_DEPTH = 2
LISTS = ("log", "notes", "files")


@dataclass(frozen=True)
class Add:
    """A node that adds its name to lists of the state, which are named by their places."""

    lists: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Ask:
    """A node that asks, and adds the answer."""


@dataclass(frozen=True)
class Fail:
    """A node that fails as long as the graph's `Weather` is bad."""


@dataclass(frozen=True)
class Fan:
    """As many nodes side by side, by `Send`, each of which adds its number; some ask before."""

    width: int = 2
    asks: bool = False


@dataclass(frozen=True)
class Sub:
    """A graph within a node: added as one, or invoked by its code, perhaps twice."""

    graph: Chain
    has_memory: bool = False
    calls: int = 0  # none: it is the node


_Way = Callable[[Any], list[Any]]
Node = Add | Ask | Fail | Fan | Sub


@dataclass(frozen=True)
class Chain:
    """
    A graph: groups of nodes one after the other, the nodes of each side by side.

    Attributes:
        groups: the nodes.
        snapshots: of the lists in the state, after how many updates a delta channel stores it
            whole; None for a plain reducer.
    """

    groups: tuple[tuple[Node, ...], ...]
    snapshots: tuple[int | None, ...] = (None, None, None)


@dataclass
class Weather:
    """Whether nodes that may fail do."""

    is_bad: bool = False


def graphs(*, delta_channels: int) -> st.SearchStrategy[Chain]:
    """Draw a graph with so many delta channels at most; most have a memory within a node."""
    inner = _chains(delta_channels, depth=1)
    memories = st.builds(Sub, inner, st.just(True), st.sampled_from((0, 0, 1)))
    before = st.sampled_from(((), ((Add(),),), ((Ask(),),)))
    around = st.builds(
        lambda groups, memory, snapshots: Chain((*groups, (memory,)), snapshots),
        before, memories, _snapshots(delta_channels),
    )  # fmt: skip
    return st.one_of(around, _chains(delta_channels, depth=0))


def _chains(delta_channels: int, depth: int) -> st.SearchStrategy[Chain]:
    beside: list[st.SearchStrategy[Any]] = [
        st.builds(Add, st.sampled_from(((0,), (1,), (2,), (0, 1), (1, 2)))),
        st.just(Ask()),
        st.builds(Fan, st.integers(1, 3), st.booleans()),
    ]
    if depth < MAX_DEPTH:
        within = _chains(delta_channels, depth + 1)
        beside.append(st.builds(Sub, within, st.just(True)))
        beside.append(st.builds(Sub, within, st.booleans(), st.sampled_from((0, 0, 1, 2))))
    # What fails ends what runs beside it, wherever that is: so it runs alone.
    alone = st.one_of(*beside, st.just(Fail())).map(lambda node: (node,))
    several = st.tuples(*[st.one_of(*beside).filter(_never_fails)] * 2)
    groups = st.lists(st.one_of(alone, alone, several), min_size=1, max_size=3 - depth).map(tuple)
    return st.builds(Chain, groups, _snapshots(delta_channels))


def _snapshots(delta_channels: int) -> st.SearchStrategy[tuple[int | None, ...]]:
    plain, delta = st.none(), st.integers(1, 4)
    several = ((plain, plain, plain), (plain, delta, plain), (plain, delta, delta))
    return st.one_of(*(st.tuples(*each) for each in several[: delta_channels + 1]))


def _never_fails(node: Node) -> bool:
    if isinstance(node, Sub):
        return all(_never_fails(each) for group in node.graph.groups for each in group)
    return not isinstance(node, Fail)


class _Shared(TypedDict, total=False):
    turn: str
    begin: int
    rounds: int


def built(chain: Chain, weather: Weather, depth: int = 0) -> StateGraph[Any, Any, Any, Any]:
    """
    Return a graph that can be compiled.

    A turn's input tells its `turn`, at which group to `begin` and how many more `rounds` to go.
    What a graph within a node knows in the end it hands over as `told1`, `told2`.
    """
    make_type: Any = TypedDict  # with annotations that are not global
    told = {f"told{n}": Annotated[str, _later] for n in (depth, depth + 1)}
    lists = {
        name: Annotated[list[str], _channel(snapshots)]
        for name, snapshots in zip(LISTS, chain.snapshots, strict=True)
    }
    shared: dict[str, Any] = {"turn": str, "begin": int, "rounds": int}
    builder: Any = StateGraph(
        make_type("State", {**shared, **told, **lists}, total=False),
        input_schema=_Shared,
        output_schema=make_type("Told", {f"told{depth}": told[f"told{depth}"]}, total=False)
        if depth
        else None,
    )
    ways: list[_Way] = [_way_into(at, group) for at, group in enumerate(chain.groups)]
    ways.append(lambda _: ["tell"])
    ends = ["tell"]
    for at, group in enumerate(chain.groups):
        for place, node in enumerate(group):
            builder.add_node(f"n{at}{place}", _action(f"n{at}{place}", node, weather, depth))
        if _spreads(group):
            builder.add_node(f"spread{at}", _nothing)
            ends.append(f"spread{at}")
        ends += [f"n{at}{place}" for place, _ in enumerate(group)]
    for at, group in enumerate(chain.groups):
        for place, _ in enumerate(group):
            builder.add_conditional_edges(f"n{at}{place}", ways[at + 1], ends)
        if _spreads(group):
            builder.add_conditional_edges(f"spread{at}", _spreading(at, group), ends)
    builder.add_node("tell", _teller(depth))
    builder.add_conditional_edges(START, lambda state: ways[_first(state, chain)](state), ends)
    builder.add_conditional_edges(
        "tell", lambda state: ways[0](state) if state["rounds"] >= 0 else END, [*ends, END]
    )
    return builder  # type: ignore[no-any-return]


def _first(state: Mapping[str, Any], chain: Chain) -> int:
    return int(state["begin"]) % len(chain.groups)


def _later(_old: str, new: str) -> str:
    return new


def _channel(snapshots: int | None) -> Any:
    if snapshots is None:
        return operator.add
    return DeltaChannel(_extended, list, snapshot_frequency=snapshots)


def _extended(state: Any, writes: Sequence[Any]) -> list[str]:
    return [*state, *(each for added in writes for each in added)]


def _spreads(group: Sequence[Node]) -> bool:
    return any(isinstance(node, Fan) for node in group)


def _way_into(at: int, group: Sequence[Node]) -> _Way:
    """Return where nodes hand over to a group: to one node that sends, so nothing is sent twice."""
    if _spreads(group):
        return lambda _: [f"spread{at}"]
    return lambda _: [f"n{at}{place}" for place, _ in enumerate(group)]


def _spreading(at: int, group: Sequence[Node]) -> _Way:
    found: list[Any] = []
    for place, node in enumerate(group):
        name = f"n{at}{place}"
        several = [Send(name, number) for number in range(getattr(node, "width", 0))]
        found += several or [name]
    return lambda _: found


async def _nothing(_state: Any) -> None:
    """Only hand over."""


# All are coroutines: others run in threads, and then who is first is not the same each time.


def _teller(depth: int) -> Any:
    async def tell(state: Mapping[str, Any]) -> dict[str, Any]:
        lengths = "/".join(str(len(state.get(name, ()))) for name in LISTS)
        told = f"{state['turn']} {lengths} [{state.get(f'told{depth + 1}')}]"
        return {f"told{depth}": told, "rounds": state["rounds"] - 1}

    return tell


def _action(name: str, node: Node, weather: Weather, depth: int) -> Any:
    match node:
        case Add(lists):
            return _adding(name, lists)
        case Ask():
            return _asking(name)
        case Fail():
            return _failing(name, weather)
        case Fan(_, asks):
            return _numbered(name, asks=asks)
        case Sub(graph, has_memory, calls):
            compiled = built(graph, weather, depth + 1).compile(checkpointer=has_memory or None)
            return _calling(compiled, calls, depth) if calls else compiled


def _adding(name: str, lists: Sequence[int]) -> Any:
    async def add(state: Mapping[str, Any]) -> dict[str, Any]:
        return {LISTS[at]: [f"{state['turn']} {name}"] for at in lists}

    return add


def _asking(name: str) -> Any:
    async def ask(_state: Mapping[str, Any]) -> dict[str, Any]:
        return {"log": [f"{name} {interrupt(name)}"], "notes": [name]}

    return ask


def _failing(name: str, weather: Weather) -> Any:
    async def fail(_state: Mapping[str, Any]) -> dict[str, Any]:
        if weather.is_bad:
            raise ValueError(name)
        return {"log": [name], "files": [name]}

    return fail


def _numbered(name: str, *, asks: bool) -> Any:
    async def add(number: int) -> dict[str, Any]:
        answer = interrupt(f"{name} {number}") if asks and number != 1 else ""
        text = f"{name} {number} {answer}"
        return {"log": [text], "notes": [text], "files": [text]}

    return add


def _calling(compiled: Any, calls: int, depth: int) -> Any:
    async def call(state: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for _ in range(calls):
            told = await compiled.ainvoke({key: state[key] for key in ("turn", "begin", "rounds")})
        return {key: told[key] for key in (f"told{depth + 1}",) if key in told}

    return call
