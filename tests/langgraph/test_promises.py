"""The saver keeps every promise, and no broken saver does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiocheckpoint import AsyncCheckpointWriter
from tests.langgraph.conftest import MakeSaver
from tests.langgraph.promises import Promises, names

_DAMAGING = {"test_damage_is_never_taken_for_nothing", "test_a_failed_put_leaves_what_was_there"}

_LONG = {"test_every_state_that_is_left_is_whole"}  # a hundred turns of two graphs


@pytest.mark.blocking  # the promises read and damage files of the store
@pytest.mark.damages_store
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] if name in _LONG else []) for name in names()],
)
async def test_promise(name: str, make: MakeSaver, root: Path) -> None:
    """Each promise is kept, and the store is sound afterwards."""
    promise: Any = getattr(Promises(), name)

    await promise(make, root) if "root" in promise.__annotations__ else await promise(make)

    if name not in _DAMAGING:
        await make.close()
        async with AsyncCheckpointWriter(root) as checker:
            assert await checker.check() == ()
