"""LangGraph's own conformance kit finds every capability, and every check of it passes."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from aiocheckpoint.adapters.langgraph import CheckpointSaver

pytestmark = pytest.mark.blocking  # the kit's own set-up makes directories on the loop

CHECKS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


@checkpointer_test(name="aiocheckpoint")
async def _savers() -> AsyncIterator[CheckpointSaver]:
    with tempfile.TemporaryDirectory() as directory:
        async with CheckpointSaver(directory) as saver:
            yield saver


async def test_every_check_of_the_kit_passes() -> None:
    """All 81 checks pass, and none is left out because its method was not found."""
    report = await validate(_savers, progress=ProgressCallbacks.quiet())

    failures = {name: found.failures for name, found in report.results.items() if found.failures}
    assert failures == {}
    assert all(found.detected and found.passed for found in report.results.values())
    passed = {name: found.tests_passed for name, found in report.results.items()}
    assert passed == CHECKS
    assert sum(passed.values()) == 81
