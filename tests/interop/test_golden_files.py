"""The golden files are what the crate writes today, and it reads them as the reference says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.golden import GOLDENS, Golden, placed
from tests.interop.comparison import as_rust_reads, comparable
from tests.interop.driver import Rust, RustError
from tests.interop.golden import DOCUMENTS, file_of_rust

pytestmark = pytest.mark.interop

# Made by a crate that was built with another version, or other features, of serde_json.
_BUILT_OTHERWISE = {"rust-serde_json-1.0.145", "rust-preserve_order"}
# What the crate finds the checksum wrong of.
_DAMAGED_TO_RUST = {"rust-serde_json-1.0.145", "rust-floats-misread"}

_OF_RUST = [golden for golden in GOLDENS if golden.name.startswith("rust-")]
_LOADABLE = [golden for golden in GOLDENS if golden.name != "python-own-record"]


def _name(golden: Golden) -> str:
    return golden.name


@pytest.mark.parametrize("golden", _OF_RUST, ids=_name)
async def test_are_what_the_crate_writes(rust: Rust, golden: Golden) -> None:
    """The crate still writes the very bytes of its golden files."""
    written = await asyncio.to_thread(file_of_rust, rust, DOCUMENTS[golden.name])

    assert (written == golden.body) is (golden.name not in _BUILT_OTHERWISE)


@pytest.mark.parametrize("golden", _LOADABLE, ids=_name)
async def test_are_read_by_the_crate(rust: Rust, golden: Golden, root: Path) -> None:
    """The crate loads every golden file as predicted, but for the two kinds that it refuses."""
    path = await asyncio.to_thread(placed, golden, root)
    session = path.parents[1].name

    assert await rust.verify(path) is (golden.name not in _DAMAGED_TO_RUST)
    if golden.name in _DAMAGED_TO_RUST:
        with pytest.raises(RustError, match="checksum"):
            await rust.load(root, session)
    else:
        loaded = await rust.load(root, session)
        assert loaded is not None
        assert comparable(loaded) == as_rust_reads(golden.document)
