"""Random graphs, run by random steps, do and leave with the saver what they do with LangGraph's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings

from tests.langgraph import logical_time, places
from tests.langgraph.random_graphs import Add, Ask, Chain, Sub
from tests.langgraph.random_runs import Script, Step, compare, scripts

pytestmark = pytest.mark.blocking  # each script has a loop of its own


@pytest.fixture(autouse=True, scope="module")
def _logical_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        logical_time.install(patch)
        yield


@settings(max_examples=15)
@given(script=scripts(pruning=False, delta_channels=2))
def test_runs_end_as_in_memory(script: Script) -> None:
    """Runs, forks, answers and updates end alike, and leave equal checkpoints, writes, states."""
    asyncio.run(compare(script, places.memory()))


_TASK_WITHIN_A_MEMORY = Script(
    Chain(
        (
            (Add(),),
            (Sub(Chain(((Sub(Chain(((Ask(),),))),),)), has_memory=True),),
        )
    ),
    (Step("turn"), Step("turn", halts=True), Step("prune"), Step("go on"), Step("answer")),
)


@settings(max_examples=15)
@example(script=_TASK_WITHIN_A_MEMORY)
@given(script=scripts(pruning=True, delta_channels=2))
def test_what_pruning_leaves_is_as_in_memory(script: Script) -> None:
    """Checkpoints that stay have the same states, and runs from them take up the same."""
    asyncio.run(compare(script, places.memory()))
