"""What the interoperability tests need: the real crate, or a visible skip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from aiocheckpoint import AsyncCheckpointWriter, CheckpointData
from tests.conftest import MakeWriter
from tests.interop.driver import Rust, unavailable_reason


@pytest.fixture(name="rust")
def _rust(blockbuster: object) -> Iterator[Rust]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with Rust() as rust:
        yield rust


@pytest.fixture(name="make_writer")
def _make_writer(make_writer: MakeWriter) -> MakeWriter:
    """Make writers whose changes are in files when they return: Rust does not read journals."""
    return partial(make_writer, durability="file")


@pytest.fixture(name="writer")
async def _writer(make_writer: MakeWriter) -> AsyncCheckpointWriter[CheckpointData]:
    return make_writer()
