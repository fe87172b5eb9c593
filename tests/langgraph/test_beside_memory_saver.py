"""Random graphs, run by random steps, do and leave with the saver what they do with LangGraph's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.langgraph import logical_time, places
from tests.langgraph.places import Place
from tests.langgraph.random_runs import Script, compare, scripts
from tests.some_cases import examples

pytestmark = pytest.mark.blocking  # each script has a loop of its own


@pytest.fixture(autouse=True, scope="module")
def _logical_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        logical_time.install(patch)
        yield


@settings(max_examples=examples(6, 15))
@given(script=scripts(pruning=False, delta_channels=2))
def test_runs_end_as_in_memory(script: Script) -> None:
    """Runs, forks, answers and updates end alike, and leave equal checkpoints, writes, states."""
    asyncio.run(compare(script, places.memory()))


@settings(max_examples=examples(6, 15))
@given(script=scripts(pruning=True, delta_channels=2))
@pytest.mark.long
def test_what_pruning_leaves_is_as_in_memory(script: Script) -> None:
    """Checkpoints that stay have the same states, and runs from them take up the same."""
    asyncio.run(compare(script, places.memory()))


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pruning", [False, True], ids=["all stays", "pruning"])
@pytest.mark.parametrize("is_directory", [False, True], ids=["memory", "directory"])
def test_many_runs(tmp_path: Path, is_directory: bool, pruning: bool) -> None:
    """The same of many more, by `HYPOTHESIS_PROFILE=thorough` of thousands, new ones each time."""

    @given(script=scripts(pruning=pruning, delta_channels=2))
    def compare_each(script: Script) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as path:
            asyncio.run(compare(script, Place(path) if is_directory else places.memory()))

    compare_each()
