"""The tests of updates and owners see what they are there for: each broken rule is caught."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from aiocheckpoint import CheckpointError
from aiocheckpoint._engine import fairness
from aiocheckpoint._engine.session_plan import OwnerPlan
from aiocheckpoint._ownership import Ownerships
from aiocheckpoint._staging import Staging
from aiocheckpoint._turns import SessionTurns, Turns
from aiocheckpoint._updates import Updates
from tests.conftest import MakeWriter
from tests.promises import test_ownership, test_updates

_SECONDS = 2.0


class Mutant(NamedTuple):
    """
    A broken version, and a test that fails then.

    Attributes:
        name: what is wrong.
        owner: of the operation.
        operation: that is wrong.
        wrong: in its place.
        test: which fails.
    """

    name: str
    owner: object
    operation: str
    wrong: Callable[..., Any]
    test: Callable[[MakeWriter], Awaitable[None]]


def _at_once(_turns: Turns, _key: str, function: Callable[[], None]) -> None:
    function()


async def _nothing(*args: object) -> None:
    """Do nothing in the place of an operation."""


def _refuses_nobody(*args: object) -> None:
    """Do nothing in the place of a check."""


def _each_by_itself(_waiting: object) -> Callable[[str], str]:
    return lambda session: session


def _keep_all(staging: Any, checkpoint_id: str, save: object, digests: object, blobs: Any) -> None:
    """Stage what was staged before, too."""
    staging._saves[f"{checkpoint_id} {len(staging._saves)}"] = (save, digests)
    staging._blobs.update(blobs)


MUTANTS = (
    Mutant(
        "changes do not wait for updates", Turns, "call", _at_once,
        test_updates.test_other_changes_wait,
    ),
    Mutant(
        "what was seen in memory is not looked at again", Updates, "_require_as_read", _nothing,
        test_updates.test_what_another_writer_has_saved_is_seen,
    ),
    Mutant(
        "nested changes are let through", SessionTurns, "require_no_update", _refuses_nobody,
        test_updates.test_nested_calls_are_refused,
    ),
    Mutant(
        "closing does not wait for updates", SessionTurns, "settle", _nothing,
        test_updates.test_closing_waits_for_updates,
    ),
    Mutant(
        "sessions of one update take turns by themselves", fairness, "_turns", _each_by_itself,
        test_updates.test_many_that_wait_keep_their_order,
    ),
    Mutant(
        "what was staged first counts as well", Staging, "save", _keep_all,
        test_updates.test_retention_counts_the_last_word,
    ),
    Mutant(
        "writes of owners are not checked", OwnerPlan, "is_owned", lambda *_: True,
        test_ownership.test_an_owner_writes,
    ),
    Mutant(
        "who leaves stays the owner", Ownerships, "_leave", _nothing,
        test_ownership.test_not_waiting,
    ),
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_mutant_is_caught(
    mutant: Mutant, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library with one rule of updates and owners broken fails the test of that rule."""
    monkeypatch.setattr(mutant.owner, mutant.operation, mutant.wrong)

    with pytest.raises((AssertionError, CheckpointError, TimeoutError, pytest.fail.Exception)):
        async with asyncio.timeout(_SECONDS):
            await mutant.test(make_writer)
    monkeypatch.undo()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
