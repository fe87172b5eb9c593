"""Every store answers any script of calls, wrong ones among them, as the one in memory does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from aiocheckpoint import ANY_NEWEST, AsyncCheckpointWriter, Expected
from aiocheckpoint.testing import MemoryStore
from aiocheckpoint.testing.scripts import Script, Scripted, outcomes, scripts
from tests.contract import test_mutants as broken
from tests.contract.scripted import BOUNDS, SETTINGS, answers_of_memory
from tests.some_cases import examples

pytestmark = pytest.mark.blocking

_MEMORY = Path("/dev/shm")
_place = str(_MEMORY) if _MEMORY.is_dir() else None
_UNTIL_FOUND = settings(SETTINGS, max_examples=1000, phases=[Phase.generate])


@settings(SETTINGS, max_examples=examples(20, 60))
@given(script=scripts(), max_checkpoints=BOUNDS)
def test_a_directory_answers_as_memory_does(script: Script, max_checkpoints: int | None) -> None:
    """The writer, on a directory of its own."""

    async def answers(path: str) -> list[object]:
        store: Any = AsyncCheckpointWriter(
            path, record_type=Scripted, max_checkpoints=max_checkpoints
        )
        return await outcomes(store, script)

    with tempfile.TemporaryDirectory(dir=_place) as path:
        assert asyncio.run(answers(path)) == answers_of_memory(script, max_checkpoints)


@pytest.mark.parametrize(
    "kind",
    [
        broken.DeletesWhatIsNot,
        broken.AwaitsNothing,
        broken.ReadsOn,
        broken.CollectsAtOnce,
    ],
)
@pytest.mark.few(2)
def test_scripts_notice_a_broken_store(kind: Callable[..., MemoryStore[Any]]) -> None:
    """A store with one fault answers some script otherwise."""

    @_UNTIL_FOUND
    @given(script=scripts())
    def compare(script: Script) -> None:
        assert asyncio.run(outcomes(kind(Scripted), script)) == answers_of_memory(script, None)

    with pytest.raises(AssertionError):
        compare()


class _WithoutBlobs(MemoryStore[Scripted]):
    async def save(self, data: Scripted, /, *, expected: Expected = ANY_NEWEST) -> str:  # type: ignore[override]
        assert not getattr(data, "blob_digests", ())
        return await super().save(data, expected=expected)

    load_blobs = None  # type: ignore[assignment]


@settings(SETTINGS, max_examples=examples(20, 60))
@given(script=scripts(with_blobs=False))
def test_a_store_without_blobs_answers_as_memory_does(script: Script) -> None:
    """Scripts without blobs ask for nothing that a `CheckpointStore` does not have."""
    store: Any = _WithoutBlobs(Scripted)
    assert asyncio.run(outcomes(store, script)) == answers_of_memory(script, None)
